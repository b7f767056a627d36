"""The loss of one image at one size, against targets computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_neural_style.engine.grams import Grams, GramSums
from napari_neural_style.engine.images import denormalize, deviation, normalized_rgb, size_of
from napari_neural_style.engine.integer_grams import FEWEST, has_integer_grams
from napari_neural_style.engine.losses import (
    Losses,
    Target,
    content_constant,
    content_terms,
    style_constant,
    style_terms,
    total_variation,
    total_variation_gradient,
)
from napari_neural_style.engine.preparation import Brush
from napari_neural_style.engine.regions import EVERYWHERE, Guides
from napari_neural_style.engine.tiles import Tile, positions_of, tiles_of
from napari_neural_style.engine.vgg import ForwardPass, Trunk
from napari_neural_style.settings import StyleSettings


@dataclass(frozen=True)
class Weights:
    """α, β and γ with the layers' own weights and the normalization, none of them ``"auto"``."""

    content: float
    style: float
    variation: float
    content_layers: Mapping[str, float]
    style_layers: Mapping[str, float]
    normalization: str

    @property
    def counting(self) -> tuple[bool, bool]:
        """Whether the content term and the style term count: one whose weight is 0 has no targets."""
        return bool(self.content), bool(self.style)


def weights_of(settings: StyleSettings) -> Weights:
    """Return the weights of the terms; a mode is a weight of 0."""
    assert not isinstance(settings.content_layers, str)
    assert not isinstance(settings.style_layers, str)
    return Weights(
        content=settings.content_weight if "content" in settings.terms else 0.0,
        style=settings.style_weight if "style" in settings.terms else 0.0,
        variation=settings.variation_weight,
        content_layers=settings.content_layers,
        style_layers=settings.style_layers,
        normalization=settings.normalization,
    )


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
        Largest side of the tiles that style pictures are gone through in, 0 for whole ones; `content` is no larger.

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
        *,
        side: int = 0,
    ) -> None:
        self._trunk = trunk
        self._size = size_of(content)
        self._side = side
        self._tiles = tiles_of(self._size, side or max(self._size), trunk.layers)
        self._factors = torch.zeros(3, dtype=torch.float32, device=trunk.device)
        self.weigh(weights.content, weights.style, weights.variation)
        self._content: list[Target] = []
        self._style: list[Target] = []
        counts = trunk.counts and guides is None and len(self._tiles) == 1 and has_integer_grams()
        many = {layer for layer in weights.style_layers if positions_of(self._size, layer) >= FEWEST}
        self._counted = many if weights.style and counts else set()
        if weights.content and weights.content_layers:
            self._aim_at_content(content, weights)
        if weights.style:
            self._aim_at_styles(brushes, weights, guides)
        self.names = [f"content {t.layer}" for t in self._content] + [f"style {t.layer}" for t in self._style]
        self.names.append("variation")

    def weigh(self, content: float, style: float, variation: float) -> None:
        """Change α, β and γ."""
        self.varies = variation != 0
        self._factors.copy_(torch.tensor([content, style, variation], dtype=torch.float32))

    def _aim_at_content(self, content: Tensor, weights: Weights) -> None:
        """Compute the content targets."""
        activations = self._activations(content, weights.content_layers)
        for layer, weight in weights.content_layers.items():
            target = activations[layer].clone()
            self._content.append(Target(layer, target, weight * content_constant(target, weights.normalization)))

    def _aim_at_styles(self, brushes: Sequence[Brush], weights: Weights, guides: Guides | None) -> None:
        """Compute the style targets: one for every region, brush that serves it, and layer."""
        layers = list(weights.style_layers)
        self._sums = GramSums(self._size, guides or {EVERYWHERE: None}, layers, self._side)
        shares = {EVERYWHERE: 1.0} if guides is None else {k: guide.mean().item() for k, guide in guides.items()}
        for brush in brushes:
            served = {label: brush.guide(label) for label in shares if brush.serves(label)}
            sums = GramSums(size_of(brush.picture), served, layers, self._side)
            grams = sums.of(self._trunk, brush.picture, normalized_rgb)
            for label in served:
                share = shares[label] * brush.weight / sum(other.weight for other in brushes if other.serves(label))
                for layer, weight in weights.style_layers.items():
                    gram = grams[layer, label]
                    factor = weight * style_constant(gram, weights.normalization) * share
                    factor *= sums.sees(layer, label) and self._sums.sees(layer, label)
                    self._style.append(Target(layer, gram, factor, label))
                    self._sums.near[layer, label] = gram

    @torch.no_grad()
    def _activations(self, picture: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
        return self._trunk(normalized_rgb(picture), layers)

    def __call__(self, image: Tensor) -> tuple[Losses, Tensor, Tensor]:
        """Return the losses at an image, their total and the total's gradient.

        Parameters
        ----------
        image : Tensor
            Normalised, shape (1, C, H, W).
        """
        values, gradient = self.evaluate(image.detach())
        return Losses(self.names, values), values.sum(), gradient

    def evaluate(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weighted terms in the order of `names`, and the gradient of their sum; nothing waits for a GPU."""
        (whole,) = self._tiles
        style: list[Tensor] = []

        def slopes_at(kept: ForwardPass) -> Grams:
            grams = self._sums.parts(whole, {**kept.activations, **kept.counts}) if self._style else {}
            terms, slopes = style_terms(grams, self._style, self._factors[1])
            style.extend(terms)
            return slopes

        content, variation, gradient = self._up_and_back(image, whole, self._content, slopes_at)
        # In one layout always: sums over another come out differently in the last bits.
        return torch.stack([*content, *style, variation]), gradient.contiguous()

    def _up_and_back(
        self, image: Tensor, tile: Tile, targets: Sequence[Target], slopes_at: Callable[[ForwardPass], Grams]
    ) -> tuple[list[Tensor], Tensor, Tensor]:
        """Go up the trunk and back.

        Parameters
        ----------
        image : Tensor
            What a tile sees of the image, on the trunk's device.
        tile : Tile
            Only its own part counts.
        targets : sequence of Target
            The content targets of that part.
        slopes_at : callable
            From a pass up to the derivative of the style term by every Gram matrix.

        Returns
        -------
        tuple
            The weighted content terms, the weighted total variation, and the gradient of all terms at `image`.
        """
        content_weight = self._factors[0]
        kept = self._trunk.forward(as_rgb(image), self._counted)
        differences = [tile.own_at(kept.activations[t.layer], t.layer) - t.value for t in targets]
        content = [content_weight * term for term in content_terms(differences, targets)]
        slopes = slopes_at(kept)

        def add(layer: str, activations: Tensor, gradient: Tensor, share: float) -> None:
            seen = kept.counts.pop(layer, None) or tile.own_at(activations, layer)
            gradient = tile.own_at(gradient, layer)
            if slopes:
                self._sums.add_gradient(tile, layer, seen, gradient, slopes, share)
            for target, difference in zip(targets, differences, strict=True):
                if target.layer == layer:
                    gradient += difference * (2 * target.factor * share * content_weight)

        gradient = _from_rgb(self._trunk.backward(kept, add), image.shape[1])
        variation = self._add_variation(gradient, image, tile) if self.varies else image.new_zeros(())
        return content, variation, gradient

    def _add_variation(self, gradient: Tensor, image: Tensor, tile: Tile) -> Tensor:
        """Return a tile's part of the weighted total variation; it takes one pixel more down and to the right."""
        rows, columns = (slice(own.start, own.stop + 1) for own in (tile.rows.own(), tile.columns.own()))
        part = denormalize(image[..., rows, columns])
        corners = (part.shape[-2] - 1) * (part.shape[-1] - 1)
        if not corners:
            return image.new_zeros(())
        weight = self._factors[2] * (corners / ((self._size[0] - 1) * (self._size[1] - 1)))
        gradient[..., rows, columns] += total_variation_gradient(part) * deviation(image) * weight
        return total_variation(part) * weight


def as_rgb(image: Tensor) -> Tensor:
    """Return a normalised image as normalised RGB: a luminance is the same in all three channels."""
    return image if image.shape[1] == 3 else normalized_rgb(denormalize(image))


def _from_rgb(gradient: Tensor, channels: int) -> Tensor:
    """Return the gradient at a normalised image of so many channels of one at its normalised RGB."""
    if channels == 3:
        return gradient
    by_value = (gradient / deviation(gradient)).sum(1, keepdim=True)
    return by_value * deviation(by_value)
