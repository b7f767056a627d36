"""3 × 3 convolutions of 8-bit integers, and the way back through them."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Tensor

from napari_neural_style.engine.counts import LEAST, Counts, counted, rounded, unit_of
from napari_neural_style.engine.direct import Convolution

_MOST = 127  # the largest integer that filters and gradients are rounded to, either way
_ZERO = 128  # what stands for 0 in a gradient, since oneDNN takes maps without a sign
_WHOLE, _WIDE = 64, 8  # filters of so many results, or a multiple, are in one order for all maps of this width and more
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
        return self.of(counted(maps, padding), rectified)

    def mirrored(self, maps: Tensor, rectified: bool = False) -> Tensor:
        """Return the same of maps that are mirrored by one pixel all around."""
        return self.of(counted(maps, 1, mirrored=True), rectified)

    def of(self, counts: Counts, rectified: bool = False) -> Tensor:
        """Return the same of maps that are rounded already, with what is around them."""
        return self._onward.convolve(counts, "relu" if rectified else "none")

    def back(self, gradient: Tensor, padding: int) -> Tensor:
        """Return its adjoint, float32: the convolution with turned filters."""
        unit = unit_of(max(float(gradient.amax()), -float(gradient.amin())), _MOST)
        return self._back.convolve(Counts(rounded(gradient, unit, _ZERO, 2 - padding), unit))


class Filters:
    """Filters (N, C, 3, 3) or (N, C, 1, 1) as integers, in the order that oneDNN wants them in.

    From any other order it brings them into that at every call, which takes up to a hundred times as long as the
    convolution. Which one it is depends on the shape of the maps, but not on the way back.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, zero: int) -> None:
        self._units = weight.abs().amax((1, 2, 3)) / _MOST
        self._units[self._units < LEAST] = 1
        integers = (weight / self._units.view(-1, 1, 1, 1)).round_().to(torch.int8)
        self._zeros = torch.zeros(len(integers), dtype=torch.int64, device=weight.device)
        self._bias, self._zero = bias, zero
        self._rounded = None if zero else integers
        self._arranged: dict[torch.Size | None, Tensor] = {}
        if weight.shape[2] > 1:
            self._arranged[None] = self._arrange(integers, None)

    def _arrange(self, integers: Tensor, shape: torch.Size | None) -> Tensor:
        found: Tensor = _onednn.qconv_prepack(integers, self._units, 1.0, self._zero, _ONE, _NONE, _ONE, 1, shape)
        return found

    def _arranged_for(self, shape: torch.Size) -> Tensor:
        if self._rounded is None or (None in self._arranged and len(self._units) % _WHOLE == 0 and shape[3] >= _WIDE):
            return self._arranged[None]
        if shape not in self._arranged:
            self._arranged[shape] = self._arrange(self._rounded, shape)
        return self._arranged[shape]

    def convolve(self, counts: Counts, then: str = "none") -> Tensor:
        """Return the convolution, float32, of maps that are rounded, with what is around them."""
        maps, unit = counts.values, counts.unit
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
