"""Gram matrices of 8-bit integers, and what a loss of them adds to a gradient."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from napari_neural_style.engine.counts import Counts
from napari_neural_style.engine.images import bands, size_of
from napari_neural_style.engine.quantized import Filters, has_int8_products

FEWEST = 1024
"""Positions from which on products of integers save more than it takes to arrange them."""
_POSITIONS = 2**16
"""Positions that are multiplied at a time: sums of so many products fit into 32 bits."""
_AT_ONCE = 2**22
"""Numbers that are added to a gradient at a time: so few take little memory, and fewer more time."""


@functools.cache
def has_integer_grams() -> bool:
    """Tell whether PyTorch multiplies integers with a sign by others without one, and the processor does so fast."""
    if not has_int8_products():
        return False
    try:
        ones = torch.ones(16, 16, dtype=torch.uint8, device="cpu")
        return bool((torch._int_mm(255 * ones, -ones.view(torch.int8)) == -255 * 16).all())
    except RuntimeError:  # of PyTorch 2.5
        return False


def gram_matrix_of(counts: Counts) -> Tensor:
    """Return the Gram matrix per position, (N, N), float32, of rounded maps (1, N, H, W)."""
    kinds = counts.values.shape[1]
    gram = torch.zeros(kinds, kinds, dtype=torch.float32, device="cpu")
    for rows in bands(size_of(counts.values), _POSITIONS):
        part = counts.values[0, :, rows].permute(1, 2, 0).reshape(-1, kinds)
        # One factor must have a sign: F F^T = F (F - 128)^T + 128 F 1 1^T.
        signed = part.bitwise_xor(128).view(torch.int8)
        sums = torch._int_mm(part.new_ones(1, len(part)), signed) + 128 * len(part)
        gram += torch._int_mm(part.T, signed)
        gram += 128 * sums.T
    return gram.mul_(counts.unit**2 / counts.values[0, 0].numel())


def add_gram_gradient_of(gradient: Tensor, counts: Counts, slope: Tensor) -> None:
    """Add slope · F, (1, N, H, W), of rounded maps F to a gradient; the slope (N, N) is rounded to 8 bits as well."""
    filters = Filters(slope[:, :, None, None], None, 0)
    for rows in bands(size_of(gradient), _AT_ONCE // len(slope)):
        part = counts.values[:, :, rows].contiguous(memory_format=torch.channels_last)
        gradient[:, :, rows] += filters.convolve(Counts(part, counts.unit))
