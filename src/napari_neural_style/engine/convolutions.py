"""3 × 3 convolutions and their adjoints, done directly or, on CPUs, with fewer multiplications."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_neural_style.engine.devices import cpu_bfloat16

Matrix = Sequence[Sequence[float]]

# (B^T, G, A^T) of Lavin and Gray (2016), equation 12, by the side of a tile of results; for the larger tiles made by
# Cook and Toom's algorithm at 0, 1, -1, 2, 1/2 and infinity. Of each, reversing the taps of a filter reverses the
# order of the points: what is kept for a convolution serves its adjoint too.
_TRANSFORMS: dict[int, tuple[Matrix, Matrix, Matrix]] = {
    2: (
        ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
        ((1, 0, 0), (1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (0, 0, 1)),
        ((1, 1, 1, 0), (0, 1, -1, -1)),
    ),
    4: (
        (
            (1, -5 / 2, 0, 5 / 2, -1, 0),
            (0, 1, -3 / 2, -3 / 2, 1, 0),
            (0, -1, 7 / 2, -7 / 2, 1, 0),
            (0, 1 / 2, -1, -1 / 2, 1, 0),
            (0, 2, -1, -2, 1, 0),
            (0, -1, 5 / 2, 0, -5 / 2, 1),
        ),
        (
            (1, 0, 0),
            (-1, -1, -1),
            (1 / 9, -1 / 9, 1 / 9),
            (4 / 9, 8 / 9, 16 / 9),
            (16 / 9, 8 / 9, 4 / 9),
            (0, 0, 1),
        ),
        ((1, 1, 1, 1 / 4, 1, 0), (0, 1, -1, 1 / 2, 1 / 2, 0), (0, 1, 1, 1, 1 / 4, 0), (0, 1, -1, 2, 1 / 8, 1)),
    ),
}
_REVERSED = {2: (3, 1, 2, 0), 4: (5, 1, 2, 4, 3, 0)}
_STRIP = 4096  # pixels transformed at once: enough for full matrix products, few enough for a processor's cache


class Convolution(Protocol):
    """A 3 × 3 convolution of feature maps and the way back through it."""

    def __call__(self, maps: Tensor, padding: int) -> Tensor:
        """Return the convolution of maps (B, C, H, W) with zeros around them, (B, N, H - 2 + 2 padding, ...)."""

    def back(self, gradient: Tensor, padding: int) -> Tensor:
        """Return the gradient at those maps, (B, C, H, W), of one at what a call returned."""


def convolution(weight: Tensor, bias: Tensor, device: torch.device, dtype: torch.dtype) -> Convolution:
    """Return the way to convolve that is fastest there.

    Parameters
    ----------
    weight : Tensor
        Filters (N, C, 3, 3), float32.
    bias : Tensor
        (N,), float32.
    device : torch.device
        Where to compute.
    dtype : torch.dtype
        Arithmetic of the products.
    """
    if winograd_pays(weight, device, dtype):
        return Winograd(weight.to(device), bias.to(device, dtype), dtype)
    return Direct(weight.to(device, dtype, memory_format=torch.channels_last), bias.to(device, dtype))


def winograd_pays(weight: Tensor, device: torch.device, dtype: torch.dtype) -> bool:
    """Tell whether minimal filtering is faster than a direct convolution, as measured with AVX2 and AVX-512.

    It is not with few channels, whose transforms cost more than the products saved, nor with a processor's matrix
    units. Those with bfloat16 convolve float32 at twice the rate of their matrix products: too little gain for four
    times the numbers that are kept of a filter. A GPU's library chooses by itself.
    """
    most = 256 if dtype == torch.bfloat16 else 128
    if device.type != "cpu" or min(weight.shape[:2]) < 128 or max(weight.shape[:2]) < most:
        return False
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return False
    bfloat16, matrix_units = cpu_bfloat16()
    return not matrix_units and bfloat16 == (dtype == torch.bfloat16)


class Direct:
    """A convolution as its definition says.

    Parameters
    ----------
    weight : Tensor
        Filters (N, C, 3, 3), channels last.
    bias : Tensor
        (N,), of the same dtype.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self._weight, self._bias = weight, bias

    def __call__(self, maps: Tensor, padding: int) -> Tensor:
        """Return the convolution."""
        return F.conv2d(maps, self._weight, self._bias, padding=padding)

    def back(self, gradient: Tensor, padding: int) -> Tensor:
        """Return its adjoint."""
        return F.conv_transpose2d(gradient, self._weight, padding=padding)


class Winograd:
    """Minimal filtering: 4 instead of 9 multiplications a pixel in bfloat16, 2.25 in float32.

    Tiles of the maps are transformed, multiplied by transformed filters, and transformed back:
    Y = A^T [(G g G^T) * (B^T d B)] A. bfloat16 has too few digits for the larger tiles' transforms.

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
        self._side = 2 if dtype == torch.bfloat16 else 4
        g = weight.new_tensor(_TRANSFORMS[self._side][1])
        filters = torch.einsum("ia,ncab,jb->ijcn", g, weight, g).flatten(0, 1)
        self._filters = filters.to(dtype).contiguous()
        self._bias = bias

    def __call__(self, maps: Tensor, padding: int) -> Tensor:
        """Return the convolution."""
        to_tiles, _, from_tiles = _TRANSFORMS[self._side]
        return _filtered(maps, padding, self._filters, self._bias, to_tiles, from_tiles)

    def back(self, gradient: Tensor, padding: int) -> Tensor:
        """Return its adjoint: a convolution with filters turned by 180 degrees."""
        to_tiles, _, from_tiles = _TRANSFORMS[self._side]
        order = _REVERSED[self._side]
        to_tiles, from_tiles = [to_tiles[i] for i in order], [[row[i] for i in order] for row in from_tiles]
        return _filtered(gradient, 2 - padding, self._filters.transpose(1, 2), None, to_tiles, from_tiles)


def _filtered(
    maps: Tensor, padding: int, filters: Tensor, bias: Tensor | None, to_tiles: Matrix, from_tiles: Matrix
) -> Tensor:
    side, edge = len(from_tiles), len(to_tiles)
    batch, height, width = len(maps), *(n - 2 + 2 * padding for n in maps.shape[2:])
    rows, columns = -(-height // side), -(-width // side)
    below, right = side * rows - height, side * columns - width
    if padding or below or right:
        maps = F.pad(maps, (padding, padding + right, padding, padding + below))
    maps = maps.permute(0, 2, 3, 1)
    channels, kinds = filters.shape[1:]
    found = maps.new_empty(batch, side * rows, side * columns, kinds)
    n = -(-rows // max(1, round(found[..., 0].numel() / _STRIP)))
    wide = maps.new_empty(edge, batch, side * n + 2, columns, channels)
    tiles = maps.new_empty(edge, edge, batch, n, columns, channels)
    products = maps.new_empty(edge, edge, batch, n, columns, kinds)
    across = maps.new_empty(side, edge, batch, n, columns, kinds)
    for first in range(0, rows, n):
        first = side * min(first, rows - n)
        _combine(to_tiles, maps[:, first : first + side * n + 2].unfold(2, edge, side).unbind(-1), wide)
        _combine(to_tiles, wide.unfold(2, edge, side).unbind(-1), tiles)
        by_point = products.view(edge * edge, -1, kinds)
        torch.bmm(tiles.view(edge * edge, -1, channels), filters, out=by_point)
        if bias is not None:
            by_point[edge + 1] += bias  # of the second point each way, every pixel of a tile has one part
        _combine(from_tiles, products, across)
        pixels = found[:, first : first + side * n].view(batch, n, side, columns, side, kinds)
        _combine(from_tiles, across.unbind(1), pixels.permute(4, 2, 0, 1, 3, 5))
    return found[:, :height, :width].permute(0, 3, 1, 2)


def _combine(matrix: Matrix, parts: Sequence[Tensor] | Tensor, found: Sequence[Tensor] | Tensor) -> None:
    """Write the product of a small matrix and a column of tensors."""
    for row, target in zip(matrix, found, strict=True):
        terms = [(weight, part) for weight, part in zip(row, parts, strict=True) if weight]
        (_, total), *others = sorted(terms, key=lambda term: term[0] != 1)
        for weight, part in others:
            total = torch.add(total, part, alpha=weight, out=target)
