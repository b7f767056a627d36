"""3 × 3 convolutions and their adjoints, done as their definition says."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_neural_style.engine.relu import rectify

if TYPE_CHECKING:
    from napari_neural_style.engine.counts import Counts

_LONG_STRIP = 65536  # pixels whose way back to colours takes little memory and few operations
_MANY = 65536  # pixels from which on a direct way back is faster without the border, in spite of four small ones for it


class Convolution(ABC):
    """A 3 × 3 convolution of feature maps and the way back through it."""

    @abstractmethod
    def __call__(self, maps: Tensor, padding: int, rectified: bool = False) -> Tensor:
        """Return the convolution of maps (B, C, H, W) with zeros around them, (B, N, H - 2 + 2 padding, ...).

        Where it is `rectified`, what is below 0 is 0.
        """

    def mirrored(self, maps: Tensor, rectified: bool = False) -> Tensor:
        """Return the convolution of maps that are mirrored by one pixel all around instead of padded with zeros."""
        return self(F.pad(maps, (1, 1, 1, 1), mode="reflect"), 0, rectified)

    def of(self, counts: Counts, rectified: bool = False) -> Tensor:
        """Return the convolution of maps that are rounded to integers, with what is around them."""
        return self(counts.values * counts.unit, 0, rectified)

    @abstractmethod
    def back(self, gradient: Tensor, padding: int) -> Tensor:
        """Return the gradient at those maps, (B, C, H, W), of one at what a call returned."""

    def back_mirrored(self, gradient: Tensor) -> Tensor:
        """Return the gradient at maps that were mirrored by one pixel all around instead of padded with zeros."""
        return _folded(3, _folded(2, self.back(gradient, 0)))


class Direct(Convolution):
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

    def __call__(self, maps: Tensor, padding: int, rectified: bool = False) -> Tensor:
        """Return the convolution."""
        found = F.conv2d(maps, self._weight, self._bias, padding=padding)
        return rectify(found) if rectified else found

    def back(self, gradient: Tensor, padding: int) -> Tensor:
        """Return its adjoint."""
        return F.conv_transpose2d(gradient, self._weight, padding=padding)

    def back_mirrored(self, gradient: Tensor) -> Tensor:
        """Return the adjoint of mirroring and convolving."""
        if not gradient.is_cpu or gradient[0, 0].numel() < _MANY:
            return super().back_mirrored(gradient)
        found = self.back(gradient, 1)
        for edge, tap, mirrored in ((slice(0, 1), slice(0, 1), 1), (slice(-1, None), slice(2, 3), -2)):
            row = F.conv_transpose2d(gradient[:, :, edge], self._weight[:, :, tap])
            found[:, :, mirrored] += _folded(3, row)[:, :, 0]
            column = F.conv_transpose2d(gradient[..., edge], self._weight[..., tap], padding=(1, 0))
            found[..., mirrored] += column[..., 0]
        return found


_convolve_arranged: Any = getattr(torch.ops.mkldnn, "_convolution_pointwise", None)


class Arranged(Direct):
    """The same by oneDNN, with the filters in the order that it wants them in, and with the ReLU on the way.

    PyTorch's public function puts them in order at every call, which takes up to half the time of one with small maps
    and many channels. The order depends on the shape of the maps; that for the last one is kept.
    """

    available = _convolve_arranged is not None and torch.backends.cpu.get_cpu_capability().startswith("AVX")

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__(weight, bias)
        self._kept: dict[bool, tuple[object, Tensor]] = {}

    def __call__(self, maps: Tensor, padding: int, rectified: bool = False) -> Tensor:
        """Return the convolution."""
        return self._convolve(maps, padding, then="relu" if rectified else "none")

    def back(self, gradient: Tensor, padding: int) -> Tensor:
        """Return its adjoint: the convolution with turned filters."""
        return self._convolve(gradient, 2 - padding, back=True)

    def _convolve(self, maps: Tensor, padding: int, *, back: bool = False, then: str = "none") -> Tensor:
        sides, one = (padding, padding), (1, 1)
        shape = maps.shape, padding
        if back not in self._kept or self._kept[back][0] != shape:
            weight = self._weight.flip(2, 3).transpose(0, 1) if back else self._weight
            arrange = torch.ops.aten.mkldnn_reorder_conv2d_weight
            self._kept[back] = shape, arrange(weight.to_mkldnn(), sides, one, one, 1, maps.shape)
        filters, bias = self._kept[back][1], None if back else self._bias
        found: Tensor = _convolve_arranged(maps, filters, bias, sides, one, one, 1, then, [], "")
        return found


class FromColors(Direct):
    """A convolution of few channels, whose adjoint is one product for all nine places of the filters.

    A direct one computes results for many channels at once, most of which are not there; matrix units make up for that.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__(weight, bias)
        self._places = weight.permute(2, 3, 1, 0).flatten(0, 2).contiguous()

    def back(self, gradient: Tensor, padding: int) -> Tensor:
        """Return its adjoint, float32."""
        batch, kinds, height, width = gradient.shape
        pixels = gradient.permute(0, 2, 3, 1)
        found = gradient.new_zeros(batch, len(self._places) // 9, height + 2, width + 2, dtype=torch.float32)
        for rows in strips(pixels, _LONG_STRIP):
            strip = pixels[:, rows]
            parts = (self._places @ strip.reshape(-1, kinds).T).view(3, 3, -1, *strip.shape[:3]).transpose(2, 3)
            for row in range(3):
                for column in range(3):
                    found[:, :, rows.start + row : rows.stop + row, column : column + width] += parts[row, column]
        return found[:, :, padding : height + 2 - padding, padding : width + 2 - padding]

    back_mirrored = Convolution.back_mirrored  # the border comes with the one product


def _folded(axis: int, gradient: Tensor) -> Tensor:
    """Return a gradient without its border along an axis, which is added to what it mirrors."""
    for border, mirrored in ((0, 2), (-1, -3)):
        gradient.select(axis, mirrored).add_(gradient.select(axis, border))
    return gradient.narrow(axis, 1, gradient.shape[axis] - 2)


def strips(pixels: Tensor, wanted: int, whole: int = 1) -> Iterator[slice]:
    """Yield rows of (B, H, W, C), about so many pixels and a multiple of some rows, that are worked on at once."""
    height = pixels.shape[1]
    parts = -(-height // whole)
    most = whole * -(-parts // max(1, round(pixels[..., 0].numel() / wanted)))
    for first in range(0, height, most):
        yield slice(first, min(first + most, height))
