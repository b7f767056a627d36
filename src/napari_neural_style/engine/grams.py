"""Gram matrices of pictures that are seen a tile at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from napari_neural_style.engine.counts import Counts
from napari_neural_style.engine.images import bands, size_of
from napari_neural_style.engine.integer_grams import add_gram_gradient_of, gram_matrix_of
from napari_neural_style.engine.losses import add_gram_gradient, gram_matrix
from napari_neural_style.engine.regions import EVERYWHERE, SHORTEST, length, pooled
from napari_neural_style.engine.tiles import Tile, positions_of, tiles_of
from napari_neural_style.engine.vgg import Trunk

_POSITIONS = 2**16
"""Positions of a feature map that are copied at a time."""

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

    Attributes
    ----------
    near : dict
        Gram matrices that those to come may resemble; see :func:`~napari_neural_style.engine.losses.gram_matrix`.
    """

    def __init__(
        self, size: tuple[int, int], regions: Mapping[int, Tensor | None], layers: Sequence[str], side: int
    ) -> None:
        self.near: Grams = {}
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

    def sees(self, layer: str, label: int) -> bool:
        """Tell whether a layer has a position in a region: pooling leaves out the last rows and columns."""
        found = self._lengths.get((layer, label))
        return found is None or found.item() > SHORTEST

    @torch.no_grad()
    def of(self, trunk: Trunk, picture: Tensor, see: Callable[[Tensor], Tensor]) -> Grams:
        """Return the Gram matrices of a whole picture; `see` makes normalised RGB of a part of it."""
        grams: Grams = {}
        for tile in self._tiles:
            activations = trunk(see(tile.seen_of(picture).to(trunk.device)), self._layers)
            for at, part in self.parts(tile, activations).items():
                grams[at] = grams[at] + part if at in grams else part
        return grams

    def parts(self, tile: Tile, seen: Mapping[str, Tensor | Counts]) -> Grams:
        """Return what a tile adds to every Gram matrix, from activations; counts are of a whole picture."""
        parts: Grams = {}
        for layer in self._layers:
            features = seen[layer]
            if isinstance(features, Counts):
                parts[layer, EVERYWHERE] = gram_matrix_of(features)
                continue
            features = tile.own_at(features, layer)
            for rows, label, guide, share in self._strips(tile, layer, features):
                part = gram_matrix(features[:, :, rows], guide, self.near.get((layer, label)))
                if share != 1:
                    part *= share
                parts[layer, label] = parts[layer, label] + part if (layer, label) in parts else part
        return parts

    def add_gradient(
        self, tile: Tile, layer: str, seen: Tensor | Counts, gradient: Tensor, slopes: Grams, share: float
    ) -> None:
        """Add to the gradient at a tile's own features what a loss adds that depends on the Gram matrices.

        Parameters
        ----------
        tile : Tile
            The tile.
        layer : str
            Any layer.
        seen : Tensor or Counts
            The features, shape (1, N, h, w); counts are of a whole picture.
        gradient : Tensor
            Of the same shape, changed in place.
        slopes : dict
            Derivative of the loss by every Gram matrix.
        share : float
            What is added is multiplied with it.
        """
        if isinstance(seen, Counts):
            slope = slopes[layer, EVERYWHERE] * (2 * share / positions_of(self._size, layer))
            add_gram_gradient_of(gradient, seen, slope)
        elif layer in self._layers:
            for rows, label, guide, part in self._strips(tile, layer, seen):
                at = layer, label
                add_gram_gradient(gradient[:, :, rows], seen[:, :, rows], slopes[at], guide, share * part)

    def _strips(self, tile: Tile, layer: str, features: Tensor) -> Iterator[tuple[slice, int, Tensor | None, float]]:
        """Yield rows of a tile's own features, with each region's guide there, or their share of all positions.

        A part of a feature map is copied to be multiplied, so that it is taken in strips.
        """
        height, width = size_of(features)
        if not features.numel():
            return  # a last tile can be narrower than one position of a deep layer
        positions = positions_of(self._size, layer)
        whole = features.is_contiguous(memory_format=torch.channels_last)
        most = height * width if whole else _POSITIONS
        for label, guide in self._regions.items():
            here = None if guide is None else tile.own_at(pooled(tile.seen_of(guide), layer), layer)
            for rows in bands((height, width), most):
                if here is None:
                    yield rows, label, None, (rows.stop - rows.start) * width / positions
                else:
                    yield rows, label, (here[..., rows, :] / self._lengths[layer, label]).flatten(), 1.0
