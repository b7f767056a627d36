"""3 × 3 convolutions and their adjoints by minimal filtering, with fewer multiplications."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_neural_style.engine.devices import made_by_intel
from napari_neural_style.engine.direct import Convolution, strips
from napari_neural_style.engine.relu import rectify

Matrix = Sequence[Sequence[float]]

_SIDE, _EDGE = 4, 6  # pixels of a tile's results, and of the maps that they depend on
_STRIP = 4096  # pixels transformed at once: enough for full matrix products, few enough for a processor's cache

# B^T, G and A^T of Lavin and Gray (2016), equation 12, by Cook and Toom's algorithm at 0, ±2/3, ±3/2 and infinity:
# a quarter of the rounding errors at 0, ±1, 2, 1/2 and infinity. Of opposite points x and -x, B^T has the rows e
# and o instead of e + x o and e - x o, and A^T such columns: what the two share is computed once.
_POINTS = _A, _B = 2 / 3, 3 / 2
_TO_TILES = (
    (1, 0, -(_A**2) - _B**2, 0, 1, 0),
    (0, 0, -(_B**2), 0, 1, 0),
    (0, -(_B**2), 0, 1, 0, 0),
    (0, 0, -(_A**2), 0, 1, 0),
    (0, -(_A**2), 0, 1, 0, 0),
    (0, 1, 0, -(_A**2) - _B**2, 0, 1),
)
_OF_FILTERS = (
    (1.0, 0.0, 0.0),
    *(
        (1 / scale, x / scale, x**2 / scale)
        for size, other in ((_A, _B), (_B, _A))
        for scale in [2 * size**2 * (size**2 - other**2)]
        for x in (size, -size)
    ),
    (0.0, 0.0, 1.0),
)
_FROM_TILES = ((1, 1, 0, 1, 0, 0), (0, 0, 1, 0, 1, 0), (0, _A**2, 0, _B**2, 0, 0), (0, 0, _A**2, 0, _B**2, 1))


class Winograd(Convolution):
    """Minimal filtering: 2.25 instead of 9 multiplications a pixel.

    Tiles of the maps are transformed, multiplied by transformed filters, and transformed back:
    Y = A^T [(G g G^T) * (B^T d B)] A.

    Parameters
    ----------
    weight : Tensor
        Filters (N, C, 3, 3), float32.
    bias : Tensor
        (N,), of the dtype.
    dtype : torch.dtype
        Of maps and gradients: bfloat16 or float32.

    References
    ----------
    Lavin and Gray (2016), "Fast algorithms for convolutional neural networks", equation 12.
    """

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> None:
        by_products = dtype == torch.bfloat16 or made_by_intel()
        self._transforms: _Transforms = _Products(dtype) if by_products else _Sums()
        g = weight.new_tensor(_OF_FILTERS)
        filters = torch.einsum("ia,ncab,jb->ijcn", g, weight, g).flatten(0, 1)
        self._filters = filters.to(dtype).contiguous()
        self._bias = bias

    def __call__(self, maps: Tensor, padding: int, rectified: bool = False) -> Tensor:
        """Return the convolution."""
        batch, height, width = len(maps), *(n - 2 + 2 * padding for n in maps.shape[2:])
        below, right = -height % _SIDE, -width % _SIDE
        if padding or below or right:
            maps = F.pad(maps, (padding, padding + right, padding, padding + below))
        maps = maps.permute(0, 2, 3, 1)
        found = maps.new_empty(batch, height + below, width + right, self._filters.shape[2])
        for rows in strips(found, _STRIP, _SIDE):
            tiles = self._transforms.to_tiles(maps[:, rows.start : rows.stop + 2])
            self._transforms.from_tiles(torch.bmm(tiles, self._filters), self._bias, found[:, rows])
        convolved = found[:, :height, :width].permute(0, 3, 1, 2)
        return rectify(convolved) if rectified else convolved

    def back(self, gradient: Tensor, padding: int) -> Tensor:
        """Return its adjoint: the same transposed, in the opposite order."""
        batch, _, height, width = gradient.shape
        below, right = -height % _SIDE, -width % _SIDE
        if below or right:
            gradient = F.pad(gradient, (0, right, 0, below))
        gradient = gradient.permute(0, 2, 3, 1)
        found = gradient.new_zeros(batch, height + below + 2, width + right + 2, self._filters.shape[1])
        for rows in strips(gradient, _STRIP, _SIDE):
            tiles = self._transforms.from_tiles_back(gradient[:, rows])
            products = torch.bmm(tiles, self._filters.transpose(1, 2))
            self._transforms.to_tiles_back(products, found[:, rows.start : rows.stop + 2])
        return found[:, padding : height + 2 - padding, padding : width + 2 - padding].permute(0, 3, 1, 2)


class _Transforms(Protocol):
    """The transforms of tiles, and their adjoints."""

    def to_tiles(self, maps: Tensor) -> Tensor:
        """Return B^T d B, (36, tiles, C), of the tiles of maps (B, H + 2, W + 2, C)."""

    def from_tiles(self, products: Tensor, bias: Tensor, found: Tensor) -> None:
        """Write A^T m A + bias of products (36, tiles, N), which may be changed, to (B, H, W, N)."""

    def from_tiles_back(self, gradient: Tensor) -> Tensor:
        """Return A g A^T, (36, tiles, N), of a gradient (B, H, W, N)."""

    def to_tiles_back(self, products: Tensor, found: Tensor) -> None:
        """Add B m B^T of products (36, tiles, C), which may be changed, to (B, H + 2, W + 2, C).

        All but the first two rows there are zeros.
        """


class _Products:
    """Transforms as products with B^T ⊗ B^T and A^T ⊗ A^T: every number is rounded only once.

    In bfloat16 they are faster than sums too: its products are, while sums of it take as long as those of float32. With
    MKL on Intel's processors they are in float32 as well.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        to_tiles, from_tiles = (torch.empty(side, _EDGE, dtype=torch.float32) for side in (_EDGE, _SIDE))
        _fan(_TO_TILES, torch.eye(_EDGE, dtype=torch.float32), to_tiles)
        _gather(_FROM_TILES, torch.eye(_EDGE, dtype=torch.float32), from_tiles)
        self._to_tiles = torch.kron(to_tiles, to_tiles).to(dtype)
        self._from_tiles = torch.kron(from_tiles, from_tiles).to(dtype)

    def to_tiles(self, maps: Tensor) -> Tensor:
        return self._times(self._to_tiles, _windows(maps, _EDGE))

    def from_tiles(self, products: Tensor, bias: Tensor, found: Tensor) -> None:
        pixels = _windows(found, _SIDE)
        torch.add((self._from_tiles @ products.flatten(1)).view(pixels.shape), bias, out=pixels)

    def from_tiles_back(self, gradient: Tensor) -> Tensor:
        return self._times(self._from_tiles.T.contiguous(), _windows(gradient, _SIDE))

    def to_tiles_back(self, products: Tensor, found: Tensor) -> None:
        pixels = _windows(found, _EDGE)
        parts = (self._to_tiles.T.contiguous() @ products.flatten(1)).view(pixels.shape)
        # Neighbouring windows share two pixels: added are pixels at a time that no two share.
        for rows in (slice(_SIDE), slice(_SIDE, _EDGE)):
            for columns in (slice(_SIDE), slice(_SIDE, _EDGE)):
                pixels[rows, columns].add_(parts[rows, columns])

    @staticmethod
    def _times(matrix: Tensor, windows: Tensor) -> Tensor:
        return (matrix @ windows.reshape(matrix.shape[1], -1)).view(len(matrix), -1, windows.shape[-1])


def _windows(maps: Tensor, edge: int) -> Tensor:
    """Return the tiles of (B, H, W, C) as (edge, edge, B, rows, columns, C), in the same memory."""
    return maps.unfold(1, edge, _SIDE).unfold(2, edge, _SIDE).permute(4, 5, 0, 1, 2, 3)


class _Sums:
    """Transforms along one axis and then the other, as sums of which opposite points share what they can."""

    def to_tiles(self, maps: Tensor) -> Tensor:
        batch, height, width, channels = maps.shape
        rows, columns = height // _SIDE, width // _SIDE
        wide = maps.new_empty(_EDGE, batch, height, columns, channels)
        _fan(_TO_TILES, maps.unfold(2, _EDGE, _SIDE).unbind(-1), wide)
        tiles = maps.new_empty(_EDGE, _EDGE, batch, rows, columns, channels)
        _fan(_TO_TILES, wide.unfold(2, _EDGE, _SIDE).unbind(-1), tiles)
        return tiles.view(_EDGE**2, -1, channels)

    def from_tiles(self, products: Tensor, bias: Tensor, found: Tensor) -> None:
        pixels = _windows(found, _SIDE)
        across = products.new_empty(_SIDE, _EDGE, *pixels.shape[2:])
        _gather(_FROM_TILES, products.view(_EDGE, _EDGE, *pixels.shape[2:]), across)
        _gather(_FROM_TILES, across.unbind(1), pixels.transpose(0, 1))
        found += bias

    def from_tiles_back(self, gradient: Tensor) -> Tensor:
        batch, height, width, kinds = gradient.shape
        rows, columns = height // _SIDE, width // _SIDE
        wide = gradient.new_empty(_EDGE, batch, rows, width, kinds)
        _fan(_transposed(_FROM_TILES), gradient.unfold(1, _SIDE, _SIDE).unbind(-1), wide)
        tiles = gradient.new_empty(_EDGE, _EDGE, batch, rows, columns, kinds)
        _fan(_transposed(_FROM_TILES), wide.unfold(3, _SIDE, _SIDE).unbind(-1), tiles.unbind(1))
        return tiles.view(_EDGE**2, -1, kinds)

    def to_tiles_back(self, products: Tensor, found: Tensor) -> None:
        batch, height, width, channels = found.shape
        columns = width // _SIDE
        across = products.new_empty(_EDGE, batch, height, columns, channels)
        _overlap(products.view(_EDGE, _EDGE, batch, -1, columns, channels), across)
        above = found[:, :2].clone()
        _overlap(across, found)
        found[:, :2] += above


def _overlap(parts: Tensor, found: Tensor) -> None:
    """Write tiles times B along the third axis; neighbours share two pixels, which get the sum of both."""
    found = found.movedim(2, 0)
    whole = len(found) - 2
    found[whole:] = 0
    _gather(_transposed(_TO_TILES), parts.movedim(3, 1), [found[i : i + whole : _SIDE] for i in range(_EDGE)], added=2)


def _transposed(matrix: Matrix) -> Matrix:
    return tuple(zip(*matrix, strict=True))


def _fan(matrix: Matrix, parts: Sequence[Tensor] | Tensor, found: Sequence[Tensor] | Tensor) -> None:
    """Write a matrix times parts, then e + x o and e - x o over the e and o of opposite points."""
    for row, target in zip(matrix, found, strict=True):
        _combine(row, parts, target)
    for number, x in enumerate(_POINTS, 1):
        even, odd = found[2 * number - 1], found[2 * number]
        even.add_(odd, alpha=x)
        torch.add(even, odd, alpha=-2 * x, out=odd)


def _gather(matrix: Matrix, parts: Sequence[Tensor] | Tensor, found: Sequence[Tensor] | Tensor, added: int = 0) -> None:
    """Write a matrix times sums and differences of opposite points, which replace the parts; add the last rows."""
    scales = [1.0] * len(parts)
    for number, x in enumerate(_POINTS, 1):
        plus, minus = parts[2 * number - 1], parts[2 * number]
        plus += minus
        torch.add(plus, minus, alpha=-2, out=minus)
        scales[2 * number] = x
    for number, (row, target) in enumerate(zip(matrix, found, strict=True)):
        scaled = [weight * scale for weight, scale in zip(row, scales, strict=True)]
        if number < len(matrix) - added:
            _combine(scaled, parts, target)
        else:
            _combine([1, *scaled], [target, *parts], target)


def _combine(row: Sequence[float], parts: Sequence[Tensor] | Tensor, target: Tensor) -> None:
    """Write a weighted sum."""
    terms = [(weight, part) for weight, part in zip(row, parts, strict=True) if weight]
    (first, total), *others = sorted(terms, key=lambda term: term[0] != 1)
    if first != 1 or not others:
        total = torch.mul(total, first, out=target)
    for weight, part in others:
        total = torch.add(total, part, alpha=weight, out=target)
