"""The loss of one image at one size, against targets computed once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_neural_style.engine.images import denormalize, normalized_rgb
from napari_neural_style.engine.losses import (
    Losses,
    Target,
    add_gram_gradient,
    content_constant,
    content_terms,
    gram_matrix,
    style_constant,
    style_terms,
    total_variation,
)
from napari_neural_style.engine.preparation import Brush
from napari_neural_style.engine.regions import EVERYWHERE, Guides, carried
from napari_neural_style.engine.vgg import Trunk

Grams = dict[tuple[str, int], Tensor]
"""Gram matrices by layer and region."""


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

    Attributes
    ----------
    names : list of str
        What the weighted terms are called, in their order.

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
    ) -> None:
        self._trunk = trunk
        self._factors = torch.zeros(3, device=content.device)
        self.weigh(weights.content, weights.style, weights.variation)
        self._content: list[Target] = []
        self._style: list[Target] = []
        self._guides: dict[tuple[str, int], Tensor] = {}
        if weights.content and weights.content_layers:
            activations = self._activations(content)
            for layer, weight in weights.content_layers.items():
                target = activations[layer].clone()
                factor = weight * content_constant(target, weights.normalization)
                self._content.append(Target(layer, target, factor))
            del activations
        if weights.style:
            self._aim_at_styles(brushes, weights, guides)
        self.names = [f"content {t.layer}" for t in self._content] + [f"style {t.layer}" for t in self._style]
        self.names.append("variation")

    def weigh(self, content: float, style: float, variation: float) -> None:
        """Change α, β and γ."""
        self.varies = variation != 0
        self._factors.copy_(torch.tensor([content, style, variation]))

    def _aim_at_styles(self, brushes: Sequence[Brush], weights: Weights, guides: Guides | None) -> None:
        """Compute the style targets: one for every region, brush that serves it, and layer."""
        for label, guide in (guides or {}).items():
            for layer in weights.style_layers:
                self._guides[layer, label] = carried(guide, layer)
        shares = {EVERYWHERE: 1.0} if guides is None else {k: guide.mean().item() for k, guide in guides.items()}
        for brush in brushes:
            activations = self._activations(brush.picture)
            for label, share in shares.items():
                if not brush.serves(label):
                    continue
                share *= brush.weight / sum(other.weight for other in brushes if other.serves(label))
                for layer, weight in weights.style_layers.items():
                    region = brush.guide(label)
                    gram = gram_matrix(activations[layer], None if region is None else carried(region, layer))
                    factor = weight * style_constant(gram, weights.normalization) * share
                    self._style.append(Target(layer, gram, factor, label))
            del activations

    @torch.no_grad()
    def _activations(self, picture: Tensor) -> dict[str, Tensor]:
        return self._trunk(normalized_rgb(picture))

    def __call__(self, image: Tensor) -> tuple[Losses, Tensor, Tensor]:
        """Return the losses at an image, their total and the total's gradient.

        Parameters
        ----------
        image : Tensor
            Normalised, shape (1, C, H, W).
        """
        values, gradient = self.evaluate(image)
        return Losses(self.names, values), values.sum(), gradient

    def evaluate(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weighted terms in the order of `names`, and the gradient of their sum; nothing waits for a GPU."""
        content_weight, style_weight, variation_weight = self._factors
        with torch.enable_grad():
            image = image.detach().requires_grad_()
            rgb = _as_rgb(image)
            variation = variation_weight * total_variation(denormalize(image)) if self.varies else image.new_zeros(())
        kept = self._trunk.forward(rgb.detach())
        content = [content_weight * term for term in content_terms(kept.activations, self._content)]
        style, slopes = self._style_and_slopes(self._grams(kept.activations), style_weight)

        def add(layer: str, activations: Tensor, gradient: Tensor) -> None:
            for (name, label), slope in slopes.items():
                if name == layer:
                    add_gram_gradient(gradient, activations, slope, self._guides.get((layer, label)))
            for target in self._content:
                if target.layer == layer:
                    gradient += (activations - target.value) * (2 * target.factor * content_weight)

        pulled = self._trunk.backward(kept, add)
        outputs = [rgb, variation] if self.varies else [rgb]
        (gradient,) = torch.autograd.grad(outputs, image, [pulled, torch.ones_like(variation)][: len(outputs)])
        # In one layout always: sums over another come out differently in the last bits.
        return torch.stack([*content, *style, variation.detach()]), gradient.contiguous()

    def _grams(self, activations: Mapping[str, Tensor]) -> Grams:
        """Return the Gram matrix of every layer and region with a target, each computed once."""
        wanted = dict.fromkeys((target.layer, target.label) for target in self._style)
        return {at: gram_matrix(activations[at[0]], self._guides.get(at)) for at in wanted}

    def _style_and_slopes(self, grams: Grams, weight: Tensor) -> tuple[list[Tensor], Grams]:
        """Return the weighted style terms, and the derivative of their sum by every Gram matrix."""
        if not grams:
            return [], {}
        with torch.enable_grad():
            for gram in grams.values():
                gram.requires_grad_()
            terms = [weight * term for term in style_terms(grams, self._style)]
            slopes = torch.autograd.grad(torch.stack(terms).sum(), list(grams.values()))
        return [term.detach() for term in terms], dict(zip(grams, slopes, strict=True))


def _as_rgb(image: Tensor) -> Tensor:
    """Return a normalised image as normalised RGB: a luminance is the same in all three channels."""
    return image.view_as(image) if image.shape[1] == 3 else normalized_rgb(denormalize(image))
