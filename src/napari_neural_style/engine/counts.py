"""Feature maps as 8-bit integers that count units."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from napari_neural_style.engine.direct import strips

_AT_ONCE = 2**18  # numbers that are rounded at once: what becomes of them stays in a processor's cache
LEAST = 1e-35  # the reciprocal of a smaller value's unit is not finite


@dataclass(frozen=True, eq=False)
class Counts:
    """Maps that are rounded to integers.

    Attributes
    ----------
    values : Tensor
        (B, C, H, W), uint8, channels last.
    unit : float
        What they count.
    """

    values: Tensor
    unit: float


def unit_of(largest: float, most: int) -> float:
    """Return the unit of which the largest value has so many; not a number for one that is not finite."""
    return 1.0 if largest < LEAST else largest / most


def counted(maps: Tensor, border: int = 0, *, mirrored: bool = False) -> Counts:
    """Return maps (B, C, H, W), which are at least 0, with zeros around them or mirrored by one pixel all around.

    The largest becomes 255.
    """
    unit = unit_of(float(maps.amax()), 255)
    values = rounded(maps, unit, 0, border)
    if mirrored:
        for axis in (2, 3):
            for side, source in ((0, 2), (-1, -3)):
                values.select(axis, side).copy_(values.select(axis, source))
    return Counts(values, unit)


def rounded(values: Tensor, unit: float, zero: int, border: int) -> Tensor:
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
