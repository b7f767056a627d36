"""Which way to do a 3 × 3 convolution is fastest."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_neural_style.engine.devices import cpu_bfloat16, layout_of, made_by_intel
from napari_neural_style.engine.direct import Arranged, Convolution, Direct, FromColors
from napari_neural_style.engine.factored import Factored, factoring_pays, factors_of
from napari_neural_style.engine.quantized import Quantized
from napari_neural_style.engine.winograd import Winograd

_COLORS = 4  # channels of maps that a convolution's way back has too few of to be fast


def convolution(
    weight: Tensor, bias: Tensor, device: torch.device, dtype: torch.dtype, rank: int | None = None
) -> Convolution:
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
        Arithmetic of the products; with int8 those of colours, which have a sign, are float32.
    rank : int, optional
        The most that the filters have as a matrix (N, 9 C), where that is known to be few.
    """
    maps = dtype_of_maps(dtype)
    filtered = winograd_pays(weight, device, maps)
    if rank is not None and device.type == "cpu" and not _in_matrix_units(dtype) and factoring_pays(weight, rank):
        sums, patterns = factors_of(weight, rank)
        few = _convolution(patterns, bias.new_zeros(rank), device, dtype, filtered)
        return Factored(few, sums.to(maps), bias.to(maps))
    return _convolution(weight, bias, device, dtype, filtered)


def _convolution(weight: Tensor, bias: Tensor, device: torch.device, dtype: torch.dtype, filtered: bool) -> Convolution:
    if dtype == torch.int8 and weight.shape[1] > _COLORS:
        return Quantized(weight, bias)
    dtype = dtype_of_maps(dtype)
    if filtered:
        return Winograd(weight.to(device), bias.to(device, dtype), dtype)
    kind = Direct
    if device.type == "cpu" and _in_matrix_units(dtype):
        kind = Arranged if Arranged.available else Direct
    elif device.type == "cpu" and weight.shape[1] <= _COLORS:
        kind = FromColors
    return kind(weight.to(device, dtype, memory_format=layout_of(device)), bias.to(device, dtype))


def dtype_of_maps(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of maps and gradients between convolutions whose products are of some dtype."""
    return torch.float32 if dtype == torch.int8 else dtype


def winograd_pays(weight: Tensor, device: torch.device, dtype: torch.dtype) -> bool:
    """Tell whether minimal filtering is faster than a direct convolution, as measured with AVX2, AVX-512 and AMX.

    It is not with few channels, whose transforms cost more than the products saved, nor in matrix units, whose products
    cost next to nothing. It takes more channels where AVX-512 makes direct convolutions of float32 cheap: on Intel's
    processors that is so beside matrix units. A GPU's library chooses by itself.
    """
    capability = torch.backends.cpu.get_cpu_capability()
    if device.type != "cpu" or not capability.startswith("AVX") or _in_matrix_units(dtype):
        return False
    if dtype == torch.bfloat16 and not any(cpu_bfloat16()):
        return False
    cheap = dtype == torch.float32 and capability != "AVX2" and (cpu_bfloat16()[1] or not made_by_intel())
    return min(weight.shape[:2]) >= (256 if cheap else 128)


def _in_matrix_units(dtype: torch.dtype) -> bool:
    """Tell whether the processor multiplies numbers of that kind in matrix units."""
    return dtype == torch.bfloat16 and cpu_bfloat16()[1]
