"""The ReLU of feature maps and the way back through it."""

from __future__ import annotations

import torch
from torch import Tensor


def rectify(values: Tensor) -> Tensor:
    """Set what is below 0 to 0; return the values."""
    _comparable(values).clamp_min_(0)
    return values


def mask(gradient: Tensor, activations: Tensor, found: Tensor) -> Tensor:
    """Write a gradient where a ReLU let values through, and 0 elsewhere; return what is written."""
    if found.device.type == "mps":  # it may lose what is written to anything but a whole, contiguous tensor
        return found.copy_(torch.where(activations > 0, gradient, 0.0))
    gradient, activations, target = _comparable(gradient), _comparable(activations), _comparable(found)
    torch.ops.aten.threshold_backward.grad_input(gradient, activations, 0, grad_input=target)
    return found


def _comparable(values: Tensor) -> Tensor:
    """Return values, in the same memory, as what a processor compares fastest with 0.

    PyTorch makes float32 of bfloat16 for that, which takes two to nine times as long as to read and write it. Its bits
    as an integer have the sign of the number; those of a NaN count as a number with that sign.
    """
    return values.view(torch.int16) if values.is_cpu and values.dtype == torch.bfloat16 else values
