"""What a batch can take: image files, and files and folders that hold stacks, whose planes are read one at a time."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_neural_style.files import read_image
from napari_neural_style.planes import Planes, planes_of

IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif")
"""What is taken of a folder."""
MOVIES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")
_TIFFS = (".tif", ".tiff")
_FRAMES = (".gif", ".webp", ".png")
_MARKS_OF_ZARR = ("zarr.json", ".zarray", ".zgroup")


@dataclass(frozen=True)
class Content:
    """A file or folder with one image or a stack of them; cheap to send anywhere.

    Attributes
    ----------
    path : str
        Where it is.
    axes : tuple of str
        A name for every axis of what it holds; ``y``, ``x`` and ``rgb``, which is last, make a plane. None for a file
        that :func:`~napari_neural_style.files.read_image` reads.
    shape : tuple of int
        Likewise.
    pixel : tuple of float
        Size of a pixel along every axis; 1 where it is not known.
    """

    path: str
    axes: tuple[str, ...]
    shape: tuple[int, ...]
    pixel: tuple[float, ...]

    @property
    def stacked(self) -> tuple[int, ...]:
        """The axes of the stack: none is a single image."""
        return tuple(
            axis
            for axis, (name, length) in enumerate(zip(self.axes, self.shape, strict=True))
            if name not in ("y", "x", "rgb") and length != 1
        )

    @property
    def chain(self) -> int | None:
        """The stack's axis along which planes resemble each other: time, or depth, but not channels."""
        names = [self.axes[axis] for axis in self.stacked]
        return next((i for i, name in enumerate(names) if name != "channel"), None)

    def __getitem__(self, where: tuple[Any, ...]) -> npt.NDArray[Any]:
        """Read a part, given for all axes but ``rgb``."""
        with _opened(self.path) as (array, axes, _):
            return ChannelsLast(array, axes)[where]

    def planes(self) -> Planes:
        """Return its planes; one that is no stack has the plane ()."""
        if not self.axes:
            return Planes((), (0, 0), lambda _: read_image(self.path))
        shown = self.axes.index("y"), self.axes.index("x")
        return planes_of(self, self.stacked, channels=self.axes[-1] == "rgb", shown=shown)


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


def is_zarr(path: Path) -> bool:
    """Tell whether a folder is a Zarr array or group."""
    return path.is_dir() and any((path / mark).is_file() for mark in _MARKS_OF_ZARR)


def find(words: Iterable[str]) -> list[Path]:
    """Return the files and Zarr folders that words name: paths, patterns, and folders for the images in them.

    Raises
    ------
    ValueError
        If a word names nothing.
    """
    found: dict[Path, None] = {}
    for word in words:
        path = Path(word).expanduser()
        if path.is_file() or is_zarr(path):
            matches = [path]
        elif path.is_dir():
            matches = sorted(p for p in path.iterdir() if is_zarr(p) or p.suffix.lower() in IMAGES)
        else:
            every = (Path(match) for match in glob.glob(str(path), recursive=True))  # noqa: PTH207
            matches = sorted(p for p in every if p.is_file() or is_zarr(p))
        if not matches:
            raise ValueError(f"{word!r} names no image: there is no such file, or no file matches the pattern.")
        found |= dict.fromkeys(Path(os.path.abspath(match)) for match in matches)  # noqa: PTH100
    return list(found)


def look_at(path: Path) -> Content:
    """Return what a file or folder holds; only headers are read.

    Raises
    ------
    ValueError
        If it can hold no image or cannot be read; the message says what to do.
    """
    if path.suffix.lower() in MOVIES:
        raise ValueError(
            f"Movies cannot be read. Make images or a TIFF stack of it first, for example with "
            f"`ffmpeg -i {path.name} frame-%04d.png`."
        )
    if not is_zarr(path) and not path.is_file():
        raise ValueError("There is no such file. A worker elsewhere must see it under the same path.")
    if not is_zarr(path) and path.suffix.lower() not in (*_TIFFS, *_FRAMES):
        return Content(str(path), (), (), ())
    try:
        with _opened(str(path)) as (array, axes, pixel):
            order = sorted(range(len(axes)), key=lambda axis: axes[axis] == "rgb")
            if not {"y", "x"} <= set(axes):
                raise _NoImageError(f"Its axes are {', '.join(axes)}; an image has y and x.")
            named = tuple(axes[axis] for axis in order), tuple(int(array.shape[axis]) for axis in order)
            content = Content(str(path), *named, tuple(pixel[axis] for axis in order))
    except _NoImageError:
        raise
    except Exception as error:  # a damaged file makes the readers fail in any way
        raise ValueError(f"It cannot be read: {error or type(error).__name__}") from error
    if not content.stacked and path.is_file():
        return Content(str(path), (), (), ())
    return content


class _NoImageError(ValueError):
    """A file was read, but holds no image."""


@contextmanager
def _opened(path: str) -> Iterator[tuple[Any, tuple[str, ...], tuple[float, ...]]]:
    """Open a stack; give the array, the names of its axes and the sizes of its pixels."""
    import zarr

    if is_zarr(Path(path)):
        yield _zarr_array(zarr.open(path, mode="r"))
    elif Path(path).suffix.lower() in _TIFFS:
        import tifffile

        with tifffile.TiffFile(path) as file:
            series = file.series[0]
            array = zarr.open(series.aszarr(level=0), mode="r")
            letters = {"Y": "y", "X": "x", "S": "rgb", "T": "t", "Z": "z", "C": "channel"}
            axes = _named([letters.get(letter, "") for letter in series.axes])
            yield array, axes, (1.0,) * len(axes)
    else:
        from PIL import Image

        with Image.open(path) as image:
            frames = _Frames(image)
            yield frames, ("t", "y", "x", "rgb"), (1.0,) * 4


class _Frames:
    """The frames of an animated image file."""

    def __init__(self, image: Any) -> None:
        self._image = image
        self.shape = (getattr(image, "n_frames", 1), image.height, image.width, 4)

    def __getitem__(self, where: tuple[Any, ...]) -> npt.NDArray[Any]:
        self._image.seek(where[0])
        pixels: npt.NDArray[Any] = np.asarray(self._image.convert("RGBA"))[where[1:]]
        return pixels


def _zarr_array(opened: Any) -> tuple[Any, tuple[str, ...], tuple[float, ...]]:
    """Return the array of a Zarr folder, the finest if it is an OME-Zarr image."""
    import zarr

    if isinstance(opened, zarr.Array):
        names: Sequence[Any] = getattr(opened.metadata, "dimension_names", None) or [None] * opened.ndim
        known = [name if name in ("t", "z", "y", "x", "rgb", "channel") else "" for name in names]
        if opened.ndim < 2:
            raise _NoImageError("It has one axis; an image has two.")
        if "y" not in known and "x" not in known:
            rgb = opened.ndim > 2 and opened.shape[-1] in (3, 4)
            known[-2 - rgb :] = ["y", "x", "rgb"][: 2 + rgb]
        return opened, _named(known), (1.0,) * opened.ndim
    ome = opened.attrs.get("ome", opened.attrs)
    try:
        (multiscale, *_) = ome["multiscales"]
        named = [axis["name"] for axis in multiscale["axes"]]
        finest = multiscale["datasets"][0]
        array = opened[finest["path"]]
    except (KeyError, TypeError, ValueError) as error:
        arrays = ", ".join(sorted(opened.array_keys())[:5])
        raise _NoImageError(
            f"It is a Zarr group and no OME-Zarr image; name one array in it{f' ({arrays})' if arrays else ''}."
        ) from error
    channel = "rgb" if _is_rgb(ome) and array.dtype == np.uint8 else "channel"
    axes = tuple({"c": channel}.get(name, name) for name in named)
    transforms = finest.get("coordinateTransformations", [])
    scale = next((t["scale"] for t in transforms if t.get("type") == "scale"), [1.0] * len(axes))
    return array, axes, tuple(float(s) for s in scale)


def _is_rgb(ome: Any) -> bool:
    channels = (ome.get("omero") or {}).get("channels", [])
    return [str(channel.get("color", "")).upper() for channel in channels] == ["FF0000", "00FF00", "0000FF"]


def _named(axes: Sequence[str]) -> tuple[str, ...]:
    """Give names to axes without one: time first, then depth, then numbers."""
    free = iter([name for name in ("t", "z") if name not in axes])
    return tuple(name or next(free, f"axis{number}") for number, name in enumerate(axes))
