"""Images of one size out of something larger, read one at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_neural_style.engine.images import check_finite
from napari_neural_style.reading import why

Index = tuple[int, ...]
Pixels = npt.NDArray[Any]


@dataclass(frozen=True)
class Planes:
    """Images of one size that are read when they are needed.

    Attributes
    ----------
    shape : tuple of int
        How many there are along each axis of the stack.
    size : (int, int)
        Height and width of a plane.
    read : callable
        Takes an index along the axes of the stack, returns an image as :func:`stylize` takes it. What it raises
        concerns that plane alone.
    """

    shape: Index
    size: tuple[int, int]
    read: Callable[[Index], Pixels]

    def indices(self) -> list[Index]:
        """Return the index of every plane, the last axis running fastest."""
        return list(product(*(range(n) for n in self.shape)))


def planes_of(
    array: Any,
    axes: Sequence[int],
    *,
    channels: bool = False,
    shown: tuple[int, int] | None = None,
) -> Planes:
    """Return planes of an array; nothing is read before a plane is asked for, and then that plane only.

    Parameters
    ----------
    array : array
        NumPy, Dask, Zarr or anything else with a ``shape`` that slices by integers.
    axes : sequence of int
        The axes of the stack. Of axes that are neither stacked nor shown, index 0 is taken.
    channels : bool
        Whether the last axis is RGB or RGBA.
    shown : (int, int), optional
        The axes down and across a plane; the last two that are not channels by default.

    Raises
    ------
    ValueError
        If the axes are none that the array has, or one is named twice.
    """
    shape = tuple(int(n) for n in array.shape)
    spatial = len(shape) - channels
    down, across = shown or (spatial - 2, spatial - 1)
    named = [*axes, down, across]
    if len(set(named)) < len(named) or not all(0 <= axis < spatial for axis in named):
        raise ValueError(f"Axes {tuple(axes)} cannot be stacked and {down}, {across} shown: the shape is {shape}.")

    def read(index: Index) -> Pixels:
        where: list[Any] = [0] * spatial
        where[down] = where[across] = slice(None)
        for axis, i in zip(axes, index, strict=True):
            where[axis] = i
        plane = np.asarray(array[tuple(where)])
        return plane.swapaxes(0, 1) if down > across else plane

    return Planes(tuple(shape[axis] for axis in axes), (shape[down], shape[across]), read)


class PlaneError(ValueError):
    """A plane cannot be read or is no image; the others may be fine."""


def read_plane(planes: Planes, index: Index) -> Pixels:
    """Read a plane, or raise a PlaneError that says why it cannot be used."""
    try:
        plane = np.asarray(planes.read(index))
    except Exception as error:  # a damaged chunk makes the readers fail in any way
        raise PlaneError(f"It cannot be read: {why(error)}") from error
    try:
        check_finite(plane, "plane")
    except ValueError as error:
        raise PlaneError(str(error)) from error
    if plane.ndim not in (2, 3) or plane.shape[:2] != tuple(planes.size):
        raise PlaneError(f"It has shape {plane.shape}, and the stack {planes.size[0]} × {planes.size[1]} pixels.")
    return plane
