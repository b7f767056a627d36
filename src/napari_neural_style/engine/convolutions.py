"""3 × 3 convolutions and their adjoints, done directly or, on CPUs, with fewer multiplications."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_neural_style.engine.devices import cpu_bfloat16

Matrix = Sequence[Sequence[float]]


class _Filtering(NamedTuple):
    """B^T, G and A^T of Lavin and Gray (2016), equation 12, and the points x whose opposites -x are points too.

    For those, the second and third rows of B^T (the fourth and fifth, ...) and columns of A^T are e and o instead of
    e + x o and e - x o: what the two points share is computed once.
    """

    points: tuple[float, ...]
    to_tiles: Matrix
    of_filters: Matrix
    from_tiles: Matrix


def _four() -> _Filtering:
    """Return the filtering for 4 × 4 results by Cook and Toom's algorithm at 0, ±2/3, ±3/2 and infinity.

    Its rounding errors are a quarter of those at 0, ±1, 2, 1/2 and infinity.
    """
    a, b = 2 / 3, 3 / 2
    to_tiles = (
        (1, 0, -(a**2) - b**2, 0, 1, 0),
        (0, 0, -(b**2), 0, 1, 0),
        (0, -(b**2), 0, 1, 0, 0),
        (0, 0, -(a**2), 0, 1, 0),
        (0, -(a**2), 0, 1, 0, 0),
        (0, 1, 0, -(a**2) - b**2, 0, 1),
    )
    of_filters = [[1.0, 0.0, 0.0]]
    for x, y in ((a, b), (b, a)):
        scale = 2 * x**2 * (x**2 - y**2)
        of_filters += [[1 / scale, sign * x / scale, x**2 / scale] for sign in (1, -1)]
    of_filters += [[0.0, 0.0, 1.0]]
    from_tiles = ((1, 1, 0, 1, 0, 0), (0, 0, 1, 0, 1, 0), (0, a**2, 0, b**2, 0, 0), (0, 0, a**2, 0, b**2, 1))
    return _Filtering((a, b), to_tiles, of_filters, from_tiles)


_FILTERINGS = {
    2: _Filtering(  # at 0, 1, -1 and infinity, whose rows are too short for anything to be shared
        (),
        ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, -1, 0, 1)),
        ((1, 0, 0), (1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (0, 0, 1)),
        ((1, 1, 1, 0), (0, 1, -1, 1)),
    ),
    4: _four(),
}
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
        self._filtering = _FILTERINGS[self._side]
        g = weight.new_tensor(self._filtering.of_filters)
        filters = torch.einsum("ia,ncab,jb->ijcn", g, weight, g).flatten(0, 1)
        self._filters = filters.to(dtype).contiguous()
        self._bias = bias

    def __call__(self, maps: Tensor, padding: int) -> Tensor:
        """Return the convolution."""
        batch, height, width = len(maps), *(n - 2 + 2 * padding for n in maps.shape[2:])
        below, right = -height % self._side, -width % self._side
        if padding or below or right:
            maps = F.pad(maps, (padding, padding + right, padding, padding + below))
        maps = maps.permute(0, 2, 3, 1)
        found = maps.new_empty(batch, height + below, width + right, self._filters.shape[2])
        for rows in self._strips(found):
            within = slice(rows.start, rows.stop + 2)
            _filtered(maps[:, within], self._filtering, self._filters, self._bias, found[:, rows])
        return found[:, :height, :width].permute(0, 3, 1, 2)

    def back(self, gradient: Tensor, padding: int) -> Tensor:
        """Return its adjoint: the same transposed, in the opposite order."""
        batch, _, height, width = gradient.shape
        below, right = -height % self._side, -width % self._side
        if below or right:
            gradient = F.pad(gradient, (0, right, 0, below))
        gradient = gradient.permute(0, 2, 3, 1)
        found = gradient.new_empty(batch, height + below + 2, width + right + 2, self._filters.shape[1])
        found[:, :2] = 0
        for rows in self._strips(gradient):
            within = slice(rows.start, rows.stop + 2)
            _pulled_back(gradient[:, rows], self._filtering, self._filters, found[:, within])
        return found[:, padding : height + 2 - padding, padding : width + 2 - padding].permute(0, 3, 1, 2)

    def _strips(self, pixels: Tensor) -> Iterator[slice]:
        """Yield rows of (B, H, W, C) that are transformed at once."""
        height = pixels.shape[1]
        tiles = height // self._side
        most = self._side * -(-tiles // max(1, round(pixels[..., 0].numel() / _STRIP)))
        for first in range(0, height, most):
            yield slice(first, min(first + most, height))


def _filtered(maps: Tensor, filtering: _Filtering, filters: Tensor, bias: Tensor, found: Tensor) -> None:
    """Write the convolution of maps (B, H + 2, W + 2, C) to (B, H, W, N), both whole tiles."""
    points, to_tiles, _, from_tiles = filtering
    edge, side = len(to_tiles), len(from_tiles)
    batch, height, width, kinds = found.shape
    rows, columns, channels = height // side, width // side, maps.shape[3]
    wide = maps.new_empty(edge, batch, height + 2, columns, channels)
    _fan(to_tiles, points, maps.unfold(2, edge, side).unbind(-1), wide)
    tiles = maps.new_empty(edge, edge, batch, rows, columns, channels)
    _fan(to_tiles, points, wide.unfold(2, edge, side).unbind(-1), tiles)
    products = maps.new_empty(edge, edge, batch, rows, columns, kinds)
    torch.bmm(tiles.view(edge**2, -1, channels), filters, out=products.view(edge**2, -1, kinds))
    across = maps.new_empty(side, edge, batch, rows, columns, kinds)
    _gather(from_tiles, points, products, across)
    pixels = found.view(batch, rows, side, columns, side, kinds).permute(4, 2, 0, 1, 3, 5)
    _gather(from_tiles, points, across.unbind(1), pixels)
    found += bias


def _pulled_back(gradient: Tensor, filtering: _Filtering, filters: Tensor, found: Tensor) -> None:
    """Write the gradient at maps, (B, H + 2, W + 2, C), of one at whole tiles, (B, H, W, N).

    The first two rows are added to what is there.
    """
    points, edge, side = filtering.points, len(filtering.to_tiles), len(filtering.from_tiles)
    to_tiles, from_tiles = (list(zip(*m, strict=True)) for m in (filtering.from_tiles, filtering.to_tiles))
    batch, height, width, kinds = gradient.shape
    rows, columns, channels = height // side, width // side, found.shape[3]
    wide = gradient.new_empty(edge, batch, rows, width, kinds)
    _fan(to_tiles, points, gradient.view(batch, rows, side, width, kinds).unbind(2), wide)
    tiles = gradient.new_empty(edge, edge, batch, rows, columns, kinds)
    _fan(to_tiles, points, wide.view(edge, batch, rows, columns, side, kinds).unbind(4), tiles.unbind(1))
    products = gradient.new_empty(edge, edge, batch, rows, columns, channels)
    torch.bmm(tiles.view(edge**2, -1, kinds), filters.transpose(1, 2), out=products.view(edge**2, -1, channels))
    across = gradient.new_empty(edge, batch, height + 2, columns, channels)
    _overlap(from_tiles, points, products, across)
    above = found[:, :2].clone()
    _overlap(from_tiles, points, across, found)
    found[:, :2] += above


def _overlap(matrix: Matrix, points: Sequence[float], parts: Tensor, found: Tensor) -> None:
    """Write gathered tiles along the third axis; neighbours share two pixels, which get the sum of both."""
    found, side = found.movedim(2, 0), len(matrix) - 2
    whole = len(found) - 2
    found[whole:] = 0
    _gather(matrix, points, parts.movedim(3, 1), [found[i : i + whole : side] for i in range(side + 2)], added=2)


def _fan(matrix: Matrix, points: Sequence[float], parts: Sequence[Tensor], found: Sequence[Tensor] | Tensor) -> None:
    """Write a matrix times parts, then e + x o and e - x o over the e and o of opposite points."""
    for row, target in zip(matrix, found, strict=True):
        _combine(row, parts, target)
    for number, x in enumerate(points, 1):
        even, odd = found[2 * number - 1], found[2 * number]
        even.add_(odd, alpha=x)
        torch.add(even, odd, alpha=-2 * x, out=odd)


def _gather(
    matrix: Matrix,
    points: Sequence[float],
    parts: Sequence[Tensor] | Tensor,
    found: Sequence[Tensor] | Tensor,
    added: int = 0,
) -> None:
    """Write a matrix times sums and differences of opposite points, which replace the parts; add the last rows."""
    scales = [1.0] * len(parts)
    for number, x in enumerate(points, 1):
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
