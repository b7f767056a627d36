"""The loss of one image at one size, against targets computed once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_neural_style.engine.grams import GramSums
from napari_neural_style.engine.images import denormalize, normalized_rgb, size_of
from napari_neural_style.engine.losses import (
    Losses,
    Target,
    content_constant,
    content_terms,
    style_constant,
    style_terms,
    total_variation,
)
from napari_neural_style.engine.preparation import Brush
from napari_neural_style.engine.regions import EVERYWHERE, Guides, carried
from napari_neural_style.engine.vgg import Trunk


@dataclass(frozen=True)
class Weights:
    """α, β and γ with the layers' own weights and the normalization, none of them ``"auto"``."""

    content: float
    style: float
    variation: float
    content_layers: Mapping[str, float]
    style_layers: Mapping[str, float]
    normalization: str


class Objective:
    """total = α Σ k_c ‖F - P‖² + β Σ w k_l ‖G - A‖² + γ TV, and its gradient.

    Parameters
    ----------
    trunk : Trunk
        The network.
    content : Tensor
        Content image in 0..1, shape (1, C, H, W), C 3 or 1 (luminance).
    brushes : sequence of Brush
        Style pictures with their weights; in every region the weights are shared out so that they sum to 1.
    weights : Weights
        The weights of the terms.
    guides : dict, optional
        The content's regions; each one's style terms weigh as much as its share of the picture.
    side : int
        Side of the tiles that style pictures are gone through in, 0 for whole ones.

    Attributes
    ----------
    content_weight, style_weight, variation_weight : float
        α, β and γ; they can be changed between two calls.

    References
    ----------
    Gatys, Ecker and Bethge (2016), equation 7.
    """

    def __init__(
        self,
        trunk: Trunk,
        content: Tensor,
        brushes: Sequence[Brush],
        weights: Weights,
        guides: Guides | None = None,
        *,
        side: int = 0,
    ) -> None:
        self._trunk = trunk
        self._side = side
        self.content_weight = weights.content
        self.style_weight = weights.style
        self.variation_weight = weights.variation
        self._content: list[Target] = []
        self._style: list[Target] = []
        self._guides: dict[tuple[str, int], Tensor] = {}
        if weights.content and weights.content_layers:
            self._aim_at_content(content, weights)
        if weights.style:
            self._aim_at_styles(brushes, weights, guides)
        self._names = [f"content {t.layer}" for t in self._content] + [f"style {t.layer}" for t in self._style]
        self._names.append("variation")

    def _aim_at_content(self, content: Tensor, weights: Weights) -> None:
        """Compute the content targets."""
        activations = self._activations(content, weights.content_layers)
        for layer, weight in weights.content_layers.items():
            target = activations[layer].clone()
            self._content.append(Target(layer, target, weight * content_constant(target, weights.normalization)))

    def _aim_at_styles(self, brushes: Sequence[Brush], weights: Weights, guides: Guides | None) -> None:
        """Compute the style targets: one for every region, brush that serves it, and layer."""
        self._look_through(guides or {}, list(weights.style_layers))
        shares = {EVERYWHERE: 1.0} if guides is None else {k: guide.mean().item() for k, guide in guides.items()}
        for brush in brushes:
            served = {label: brush.guide(label) for label in shares if brush.serves(label)}
            size = size_of(brush.picture)
            sums = GramSums(size, served, list(weights.style_layers), self._side)
            grams = sums.whole(self._trunk, brush.picture, normalized_rgb)
            for label in served:
                share = shares[label] * brush.weight / sum(other.weight for other in brushes if other.serves(label))
                for layer, weight in weights.style_layers.items():
                    gram = grams[layer, label]
                    factor = weight * style_constant(gram, weights.normalization) * share
                    self._style.append(Target(layer, gram, factor, label))

    def _look_through(self, guides: Guides, layers: Sequence[str]) -> None:
        """Carry the content's regions to the style layers."""
        self._guides = {(layer, label): carried(guide, layer) for label, guide in guides.items() for layer in layers}

    @torch.no_grad()
    def _activations(self, picture: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
        return self._trunk(normalized_rgb(picture), layers)

    def _variation(self, image: Tensor) -> Tensor:
        if not self.variation_weight:
            return image.new_zeros(())
        return self.variation_weight * total_variation(denormalize(image))

    def __call__(self, image: Tensor) -> tuple[Losses, Tensor, Tensor]:
        """Return the losses at an image, their total and the total's gradient.

        Parameters
        ----------
        image : Tensor
            Normalised, shape (1, C, H, W).
        """
        with torch.enable_grad():
            image = image.detach().requires_grad_()
            activations = self._trunk(as_rgb(image))
            terms = [self.content_weight * term for term in content_terms(activations, self._content)]
            terms += [self.style_weight * term for term in style_terms(activations, self._style, self._guides)]
            terms.append(self._variation(image))
            values = torch.stack(terms)
            total = values.sum()
        (gradient,) = torch.autograd.grad(total, image)
        # In one layout always: sums over another come out differently in the last bits.
        return Losses(self._names, values.detach()), total.detach(), gradient.contiguous()


def as_rgb(image: Tensor) -> Tensor:
    """Return a normalised image as normalised RGB: a luminance is the same in all three channels."""
    return image if image.shape[1] == 3 else normalized_rgb(denormalize(image))
