"""Gram matrices of pictures that are seen a tile at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from napari_neural_style.engine.losses import add_gram_gradient, gram_matrix
from napari_neural_style.engine.regions import length, pooled
from napari_neural_style.engine.tiles import Tile, tiles_of
from napari_neural_style.engine.vgg import Trunk, pools_before

Grams = dict[tuple[str, int], Tensor]
"""Gram matrices by layer and label of a region."""


class GramSums:
    """Adds up the Gram matrices of a picture's layers and regions, tile by tile.

    Parameters
    ----------
    size : (int, int)
        The picture's height and width.
    regions : dict
        Label to a guide (1, 1, H, W), or to None for the whole picture.
    layers : sequence of str
        The style layers.
    side : int
        Largest side of a tile in pixels, 0 for the whole picture at once.
    """

    def __init__(
        self, size: tuple[int, int], regions: Mapping[int, Tensor | None], layers: Sequence[str], side: int
    ) -> None:
        self._layers = layers
        self._tiles = tiles_of(size, side or max(size), layers)
        self._size = size
        self._regions = regions
        self._lengths = {
            (layer, label): length(pooled(guide, layer))
            for label, guide in regions.items()
            if guide is not None
            for layer in layers
        }

    @torch.no_grad()
    def of(self, trunk: Trunk, picture: Tensor, see: Callable[[Tensor], Tensor]) -> Grams:
        """Return the Gram matrices of a whole picture; `see` makes normalised RGB of a part of it."""
        grams: Grams = {}
        for tile in self._tiles:
            activations = trunk(see(tile.seen_of(picture).to(trunk.device)), self._layers)
            for at, part in self.parts(tile, activations).items():
                grams[at] = grams[at] + part if at in grams else part
        return grams

    def parts(self, tile: Tile, activations: Mapping[str, Tensor]) -> Grams:
        """Return what a tile adds to every Gram matrix."""
        parts: Grams = {}
        for layer in self._layers:
            features = tile.own_at(activations[layer], layer)
            for label, (guide, share) in self._guides_at(tile, layer, features).items():
                parts[layer, label] = gram_matrix(features, guide) * share
        return parts

    def add_gradient(self, tile: Tile, layer: str, features: Tensor, gradient: Tensor, slopes: Grams) -> None:
        """Add to the gradient at a tile's own features what a loss adds that depends on the Gram matrices.

        Parameters
        ----------
        tile : Tile
            The tile.
        layer : str
            Any layer.
        features, gradient : Tensor
            Shape (1, N, h, w); the second is changed in place.
        slopes : dict
            Derivative of the loss by every Gram matrix.
        """
        if layer in self._layers:
            for label, (guide, share) in self._guides_at(tile, layer, features).items():
                add_gram_gradient(gradient, features, slopes[layer, label] * share, guide)

    def _guides_at(self, tile: Tile, layer: str, features: Tensor) -> dict[int, tuple[Tensor | None, float]]:
        """Return every region's guide at a tile's own features, and the share of the sum that they are without one."""
        if not features.numel():
            return {}  # a last tile can be narrower than one position of a deep layer
        pools = pools_before(layer)
        share = features.shape[-2] * features.shape[-1] / ((self._size[0] >> pools) * (self._size[1] >> pools))
        found: dict[int, tuple[Tensor | None, float]] = {}
        for label, guide in self._regions.items():
            if guide is None:
                found[label] = None, share
            else:
                here = tile.own_at(pooled(tile.seen_of(guide), layer), layer)
                found[label] = (here / self._lengths[layer, label]).flatten(), 1.0
        return found
