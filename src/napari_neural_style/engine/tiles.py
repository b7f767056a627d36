"""Cutting a picture into tiles of which each sees all that its features need."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil

from torch import Tensor

from napari_neural_style.engine.vgg import layers_up_to, pools_before


def grid_of(layers: Iterable[str]) -> int:
    """Return the pixels a side of one position of the deepest layer: where tiles may begin."""
    return 2 ** max(pools_before(layer) for layer in layers)


def halo_of(layers: Iterable[str]) -> int:
    """Return how far beyond its own pixels a tile has to see, rounded up to the grid.

    Every 3 × 3 convolution looks one position further; at conv5_1 that makes 70 pixels a side.
    """
    names = layers_up_to(layers)
    grid = grid_of(names)
    return ceil(sum(2 ** pools_before(name) for name in names) / grid) * grid


def positions_of(size: tuple[int, int], layer: str) -> int:
    """Return how many positions a layer has of a picture of (height, width)."""
    pools = pools_before(layer)
    return (size[0] >> pools) * (size[1] >> pools)


@dataclass(frozen=True)
class Span:
    """A stretch of one axis in pixels: `start` to `stop` is the tile's own, `first` to `last` what it sees."""

    start: int
    stop: int
    first: int
    last: int

    @property
    def seen(self) -> slice:
        """What the tile sees, in the whole picture."""
        return slice(self.first, self.last)

    def own(self, pools: int = 0) -> slice:
        """Return the tile's own positions after so many poolings, counted from where it begins to see."""
        return slice((self.start - self.first) >> pools, (self.stop - self.first) >> pools)


@dataclass(frozen=True)
class Tile:
    """A part of a picture: rows and columns."""

    rows: Span
    columns: Span

    def seen_of(self, picture: Tensor) -> Tensor:
        """Return what the tile sees of a whole picture (..., H, W), a view of it."""
        return picture[..., self.rows.seen, self.columns.seen]

    def own_at(self, features: Tensor, layer: str) -> Tensor:
        """Return the tile's own part of a layer's features (..., h, w) of what it sees."""
        pools = pools_before(layer)
        return features[..., self.rows.own(pools), self.columns.own(pools)]


def spans(length: int, side: int, layers: Iterable[str]) -> list[Span]:
    """Return an axis in equal stretches of at most `side` pixels, all beginning on the grid of the layers."""
    layers = list(layers)
    grid, halo = grid_of(layers), halo_of(layers)
    step = max(grid, ceil(length / ceil(length / side) / grid) * grid)
    return [
        Span(start, min(start + step, length), max(start - halo, 0), min(start + step + halo, length))
        for start in range(0, length, step)
    ]


def tiles_of(size: tuple[int, int], side: int, layers: Iterable[str]) -> list[Tile]:
    """Return the tiles of a picture.

    Parameters
    ----------
    size : (int, int)
        Height and width in pixels.
    side : int
        Largest side of a tile's own pixels, a multiple of 16.
    layers : iterable of str
        The layers whose features are wanted.
    """
    layers = list(layers)
    return [Tile(rows, columns) for rows in spans(size[0], side, layers) for columns in spans(size[1], side, layers)]
