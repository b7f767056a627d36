"""Zarr arrays and OME-Zarr images: which array holds the pixels, and what its axes are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from napari_neural_style.reading import NoImageError

_TRANSFORMS = "coordinateTransformations"
_NAMES = {name: name for name in ("t", "z", "y", "x", "rgb", "channel")}
_NAMES |= {"time": "t", "depth": "z", "c": "channel", "ch": "channel", "channels": "channel"}
"""What an axis of a plain array is, by its name in lower case."""

_MARKS_OF_ZARR = ("zarr.json", ".zarray", ".zgroup")


def is_zarr(path: Path) -> bool:
    """Tell whether a folder is a Zarr array or group."""
    try:
        return path.is_dir() and any((path / mark).is_file() for mark in _MARKS_OF_ZARR)
    except PermissionError:  # somebody else's, such as lost+found
        return False


class Spacing(NamedTuple):
    """Where pixels lie along an axis: the size of one, the centre of the first, and their unit, if it is known."""

    pixel: float = 1.0
    origin: float = 0.0
    unit: str | None = None

    def resampled(self, ratio: float) -> Spacing:
        """Return the same length in pixels of `ratio` times the size."""
        return self._replace(pixel=self.pixel * ratio, origin=self.origin + self.pixel * (ratio - 1) / 2)


def spacing_at(spacing: Mapping[str, Spacing], size: Sequence[int], there: Sequence[int]) -> dict[str, Spacing]:
    """Return where pixels of planes lie that are of (height, width) `there` and cover the same as those of `size`."""
    found = dict(spacing)
    for name, before, after in zip("yx", size, there, strict=True):
        found[name] = found.get(name, Spacing()).resampled(before / after)
    return found


class Opened(NamedTuple):
    """An array, the names of its axes, where its pixels lie, and how many levels of resolution there are."""

    array: Any
    axes: tuple[str, ...]
    spacing: tuple[Spacing, ...]
    levels: int = 1


class ChannelsLast:
    """An array whose axis ``rgb`` can be anywhere, as one whose last axis it is.

    Parameters
    ----------
    array : array
        To read and write by index.
    axes : sequence of str
        The name of every axis.
    """

    def __init__(self, array: Any, axes: Sequence[str]) -> None:
        self._array = array
        self._rgb = axes.index("rgb") if "rgb" in axes else len(axes)
        self._last = self._rgb >= len(axes) - 1
        self.shape = tuple(n for axis, n in enumerate(array.shape) if axis != self._rgb)
        self.shape += tuple(array.shape[self._rgb : self._rgb + 1])

    def _there(self, where: tuple[Any, ...]) -> tuple[tuple[Any, ...], int]:
        """Return an index of the array, and which axis of what it gives is ``rgb``."""
        where = (*where, *[slice(None)] * (len(self.shape) - 1 - len(where)))
        before = sum(isinstance(part, slice) for part in where[: self._rgb])
        return (*where[: self._rgb], slice(None), *where[self._rgb :]), before

    def __getitem__(self, where: tuple[Any, ...]) -> npt.NDArray[Any]:
        if self._last:
            return np.asarray(self._array[where])
        there, axis = self._there(where)
        return np.moveaxis(np.asarray(self._array[there]), axis, -1)

    def __setitem__(self, where: tuple[Any, ...], pixels: npt.NDArray[Any]) -> None:
        if self._last:
            self._array[where] = pixels
        else:
            there, axis = self._there(where)
            self._array[there] = np.moveaxis(pixels, -1, axis)


def zarr_array(opened: Any, level: int) -> Opened:
    """Return the array of an opened Zarr folder, or a level of it if it is an OME-Zarr image.

    Raises
    ------
    NoImageError
        If there is none; the message says what to do.
    """
    import zarr

    if isinstance(opened, zarr.Array):
        names: Sequence[Any] = getattr(opened.metadata, "dimension_names", None) or [None] * opened.ndim
        known = [_NAMES.get(str(name).lower(), "") for name in names]
        known = ["" if name in known[:axis] else name for axis, name in enumerate(known)]
        if opened.ndim < 2:
            raise NoImageError("It has one axis; an image has two.")
        colors = opened.ndim > 2 and opened.shape[-1] in (3, 4) and "rgb" not in known[:-1]
        if "y" not in known and "x" not in known:
            known[-2 - colors :] = ["y", "x", "rgb"][: 2 + colors]
        elif colors and known[-1] == "channel":
            known[-1] = "rgb"
        return Opened(opened, all_named(known), (Spacing(),) * opened.ndim)
    ome = opened.attrs.get("ome", opened.attrs)
    try:
        (multiscale, *_) = ome["multiscales"]
        # Version 0.3 has names alone, and the ones before it always the same five.
        axes = [{"name": axis} if isinstance(axis, str) else axis for axis in multiscale.get("axes", "tczyx")]
        datasets = multiscale["datasets"]
        array = opened[datasets[level]["path"]]
        named = [axis["name"] for axis, _ in zip(axes, array.shape, strict=True)]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        arrays, groups = (sorted(keys)[:5] for keys in (opened.array_keys(), opened.group_keys()))
        held = f"one of its {'arrays' if arrays else 'groups'} ({', '.join(arrays or groups)})"
        raise NoImageError(
            "It is a Zarr group but not an OME-Zarr image"
            f"{f'; give the path of {held}' if arrays or groups else ', and empty'}."
        ) from error
    channel = "rgb" if _is_rgb(ome) and array.dtype == np.uint8 else "channel"
    pixels, origins = np.ones(len(axes)), np.zeros(len(axes))
    for transform in (*datasets[level].get(_TRANSFORMS, ()), *multiscale.get(_TRANSFORMS, ())):
        if transform.get("type") == "scale":
            pixels, origins = pixels * transform["scale"], origins * transform["scale"]
        elif transform.get("type") == "translation":
            origins = origins + transform["translation"]
    units = [axis.get("unit") for axis in axes]
    spacing = (Spacing(float(p), float(o), unit) for p, o, unit in zip(pixels, origins, units, strict=True))
    return Opened(array, tuple({"c": channel}.get(name, name) for name in named), tuple(spacing), len(datasets))


def _is_rgb(ome: Any) -> bool:
    channels = (ome.get("omero") or {}).get("channels", [])
    return [str(channel.get("color", "")).upper() for channel in channels] == ["FF0000", "00FF00", "0000FF"]


def all_named(axes: Sequence[str]) -> tuple[str, ...]:
    """Give names to axes without one: time first, then depth, then numbers."""
    free = iter([name for name in ("t", "z") if name not in axes])
    return tuple(name or next(free, f"axis{number}") for number, name in enumerate(axes))
