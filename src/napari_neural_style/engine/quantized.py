"""3 × 3 convolutions of 8-bit integers, and the way back through them."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Tensor

from napari_neural_style.engine.direct import Convolution, strips

_AT_ONCE = 2**18  # numbers that are rounded at once: what becomes of them stays in a processor's cache
_MOST = 127  # the largest integer that filters and gradients are rounded to, either way
_ZERO = 128  # what stands for 0 in a gradient, since oneDNN takes maps without a sign
_WHOLE, _WIDE = 64, 8  # filters of so many results, or a multiple, are in one order for all maps of this width and more
_LEAST = 1e-35  # the reciprocal of a smaller value's unit is not finite
_ONE, _NONE = (1, 1), (0, 0)
_onednn: Any = torch.ops.onednn


class Quantized(Convolution):
    """A convolution of maps and filters that are rounded to 8 bits; their sums are exact.

    The largest value of maps, which are at least 0, becomes 255; the largest of a gradient, and of the filters of each
    result, 127 or -127.

    Parameters
    ----------
    weight : Tensor
        Filters (N, C, 3, 3), float32.
    bias : Tensor
        (N,), float32.

    References
    ----------
    Jacob, Kligys, Chen, Zhu, Tang, Howard, Adam and Kalenichenko (2018), "Quantization and training of neural networks
    for efficient integer-arithmetic-only inference", section 2.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self._onward = Filters(weight, bias, 0)
        self._back = Filters(weight.flip(2, 3).transpose(0, 1), None, _ZERO)

    def __call__(self, maps: Tensor, padding: int, rectified: bool = False) -> Tensor:
        """Return the convolution, float32, of maps that are at least 0."""
        return self._convolve(maps, padding, rectified)

    def mirrored(self, maps: Tensor, rectified: bool = False) -> Tensor:
        """Return the same of maps that are mirrored by one pixel all around."""
        return self._convolve(maps, 1, rectified, mirrored=True)

    def back(self, gradient: Tensor, padding: int) -> Tensor:
        """Return its adjoint, float32: the convolution with turned filters."""
        unit = _unit(max(float(gradient.amax()), -float(gradient.amin())), _MOST)
        return self._back.convolve(_rounded(gradient, unit, _ZERO, 2 - padding), unit)

    def _convolve(self, maps: Tensor, border: int, rectified: bool, *, mirrored: bool = False) -> Tensor:
        unit = _unit(float(maps.amax()), 255)
        rounded = _rounded(maps, unit, 0, border)
        if mirrored:
            for axis in (2, 3):
                for side, source in ((0, 2), (-1, -3)):
                    rounded.select(axis, side).copy_(rounded.select(axis, source))
        return self._onward.convolve(rounded, unit, "relu" if rectified else "none")


class Filters:
    """Filters (N, C, 3, 3) as integers, in the order that oneDNN wants them in.

    From any other order it brings them into that at every call, which takes up to a hundred times as long as the
    convolution. Which one it is depends on the shape of the maps, but not on the way back.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, zero: int) -> None:
        self._units = weight.abs().amax((1, 2, 3)) / _MOST
        self._units[self._units < _LEAST] = 1
        rounded = (weight / self._units.view(-1, 1, 1, 1)).round_().to(torch.int8)
        self._zeros = torch.zeros(len(rounded), dtype=torch.int64, device=weight.device)
        self._bias, self._zero = bias, zero
        self._rounded = None if zero else rounded
        self._arranged: dict[torch.Size | None, Tensor] = {None: self._arrange(rounded, None)}

    def _arrange(self, rounded: Tensor, shape: torch.Size | None) -> Tensor:
        found: Tensor = _onednn.qconv_prepack(rounded, self._units, 1.0, self._zero, _ONE, _NONE, _ONE, 1, shape)
        return found

    def _arranged_for(self, shape: torch.Size) -> Tensor:
        if self._rounded is None or (len(self._units) % _WHOLE == 0 and shape[3] >= _WIDE):
            return self._arranged[None]
        if shape not in self._arranged:
            self._arranged[shape] = self._arrange(self._rounded, shape)
        return self._arranged[shape]

    def convolve(self, maps: Tensor, unit: float, then: str = "none") -> Tensor:
        """Return the convolution, float32, of maps (B, C, H, W) of integers that count units."""
        filters = self._arranged_for(maps.shape), self._units, self._zeros, self._bias, _ONE, _NONE, _ONE, 1
        found: Tensor = _onednn.qconv2d_pointwise(maps, unit, self._zero, *filters, 1.0, 0, torch.float32, then, [], "")
        # No integer stands for what is not finite.
        return found if math.isfinite(unit) else found.fill_(math.nan)


@functools.cache
def has_int8_products() -> bool:
    """Tell whether the processor multiplies 8-bit integers and sums the products at once: four times float32's rate.

    Where it does not (Intel's and AMD's without VNNI), oneDNN sums pairs of products in 16 bits, which the largest
    exceed: a convolution of those tells.
    """
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return False
    channels = 64
    try:
        ones = torch.ones(channels, channels, 3, 3, device="cpu")
        convolve = Quantized(ones, torch.zeros(channels, device="cpu"))
        return bool((convolve(ones[:1], 0) - 9 * channels).abs().max() < 1)
    except (AttributeError, RuntimeError):  # an operator that this PyTorch lacks, or that takes something else
        return False


def _unit(largest: float, most: int) -> float:
    """Return the unit of which the largest value has so many; not a number for one that is not finite."""
    return 1.0 if largest < _LEAST else largest / most


def _rounded(values: Tensor, unit: float, zero: int, border: int) -> Tensor:
    """Return values (B, C, H, W) as the nearest integers in units above `zero`, with that all around; channels last."""
    pixels = values.permute(0, 2, 3, 1)
    batch, height, width, channels = pixels.shape
    # To fill all takes less time than to fill the border: during many small operations threads fall asleep.
    found = values.new_full((batch, height + 2 * border, width + 2 * border, channels), zero, dtype=torch.uint8)
    within = found[:, border : border + height, border : border + width]
    half = values.new_tensor(zero + 0.5)
    many = next(strips(pixels, _AT_ONCE // channels)).stop
    # Written over rather than replaced, so that they are in the cache. To 16 bits and then to 8 takes a third of the
    # time that PyTorch takes from float32 to 8 bits at once.
    floats = torch.empty_like(pixels[:, :many])
    shorts = torch.empty_like(floats, dtype=torch.int16)
    for part, target in zip(torch.split(pixels, many, 1), torch.split(within, many, 1), strict=True):
        if part.shape != floats.shape:
            floats, shorts = floats[:, : part.shape[1]], shorts[:, : part.shape[1]]
        torch.add(half, part, alpha=1 / unit, out=floats)
        shorts.copy_(floats)
        target.copy_(shorts)
    return found.permute(0, 3, 1, 2)
