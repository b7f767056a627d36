"""What a batch can take: image files, and files and folders that hold stacks, whose planes are read one at a time."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_neural_style.engine.sizes import SizeOf, level_for
from napari_neural_style.files import read_image
from napari_neural_style.paths import path_named
from napari_neural_style.planes import Planes, planes_of
from napari_neural_style.reading import (
    NoImageError,
    first_series,
    in_full_range,
    is_tiff,
    pillow_image,
    warn_of_missing,
    why,
)
from napari_neural_style.tiff_colors import colors_of
from napari_neural_style.zarr_images import (
    ChannelsLast,
    Opened,
    Spacing,
    all_named,
    is_zarr,
    spacing_at,
    zarr_array,
)

IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif")
"""What is taken of a folder."""
MOVIES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")
_FRAMES = (".gif", ".webp", ".png")


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
    spacing : tuple of Spacing
        Where pixels lie along every axis; of size 1 from 0 on where it is not known.
    level : int
        Which level of a multiscale image it is, 0 for the finest.
    """

    path: str
    axes: tuple[str, ...]
    shape: tuple[int, ...]
    spacing: tuple[Spacing, ...]
    level: int = 0

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
        with _opened(self.path, self.level) as opened:
            return ChannelsLast(opened.array, opened.axes)[where]

    def spacing_at(self, size: Sequence[int]) -> dict[str, Spacing]:
        """Return where pixels of planes of another (height, width) lie that cover the same, by the names of axes."""
        own = [self.shape[self.axes.index(name)] for name in "yx"]
        return spacing_at(dict(zip(self.axes, self.spacing, strict=True)), own, size)

    def planes(self) -> Planes:
        """Return its planes; one that is no stack has the plane ()."""
        if not self.axes:
            return Planes((), (0, 0), lambda _: read_image(self.path))
        shown = self.axes.index("y"), self.axes.index("x")
        return planes_of(self, self.stacked, channels=self.axes[-1] == "rgb", shown=shown)


def find(words: Iterable[str]) -> list[Path]:
    """Return the files and Zarr folders that words name: paths, patterns, and folders for the images in them.

    Raises
    ------
    ValueError
        If a word names nothing.
    """
    found: dict[Path, None] = {}
    for word in words:
        if not word:
            raise ValueError("An empty name names no image.")
        path = path_named(word)
        if path.is_file() or is_zarr(path):
            matches = [path]
        elif path.is_dir():
            # Hidden are stacks that a batch has not finished, and what macOS keeps beside files.
            seen = (p for p in path.iterdir() if not p.name.startswith("."))
            matches = sorted(p for p in seen if is_zarr(p) or (p.suffix.lower() in IMAGES and not p.is_dir()))
        else:
            every = (Path(match) for match in glob.glob(str(path), recursive=True))  # noqa: PTH207
            matches = sorted(p for p in every if p.is_file() or is_zarr(p))
        if not matches:
            if path.is_dir():
                raise ValueError(f"{word!r} holds no image.")
            raise ValueError(f"{word!r} names no image: there is no such file, or no file matches the pattern.")
        found |= dict.fromkeys(Path(os.path.abspath(match)) for match in matches)  # noqa: PTH100
    return list(found)


def look_at(path: Path, used: SizeOf | None = None) -> Content:
    """Return what a file or folder holds; only headers are read.

    Parameters
    ----------
    path : Path
        Where it is.
    used : callable, optional
        At what size an image of some size is used: of a multiscale image the level that serves it is taken, see
        :func:`~napari_neural_style.engine.sizes.level_for`. Without it that is the finest.

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
        raise ValueError("There is no such file. On a cluster, every worker must see it under the same path.")
    try:
        tiff = path.is_file() and is_tiff(path)
        if not is_zarr(path) and not tiff and path.suffix.lower() not in _FRAMES:
            return Content(str(path), (), (), ())
        content, levels = _level(path, 0)
        if 0 in content.shape:
            raise NoImageError(f"It is empty: its shape is {content.shape}.")
        if content.stacked and tiff:
            _check_stack(path)
        if used is not None and levels > 1:
            content = _serving([content, *(_level(path, number)[0] for number in range(1, levels))], used)
    except NoImageError:
        raise
    except Exception as error:  # a damaged file makes the readers fail in any way
        raise ValueError(f"It cannot be read: {why(error)}") from error
    if not content.stacked and path.is_file():
        return Content(str(path), (), (), ())
    return content


def _check_stack(path: Path) -> None:
    """Raise a NoImageError if a TIFF stack's values are no grey with 0 as black, nor RGB; warn of what is missing."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        warn_of_missing(path, file)
        page = file.pages[0]
        colors = "those of a palette" if getattr(page, "colormap", None) is not None else colors_of(page)
        extra = tuple(getattr(page, "extrasamples", ()))
        if extra[-1:] == (tifffile.EXTRASAMPLE.UNSPECIFIED,) and page.samplesperpixel == 4:
            raise NoImageError("Its fourth channel is not said to be alpha. Save it as RGB, or as RGBA.")
        if extra[:1] == (tifffile.EXTRASAMPLE.ASSOCALPHA,):
            raise NoImageError("Its colours are multiplied with its alpha. Save it with unassociated alpha, or as RGB.")
    if colors:
        raise NoImageError(f"Its colours are {colors}. Save it as RGB, or as grey with 0 as black.")


def _level(path: Path, number: int) -> tuple[Content, int]:
    """Return one level of a stack or Zarr image, and how many levels there are."""
    with _opened(str(path), number) as (array, axes, spacing, levels):
        order = sorted(range(len(axes)), key=lambda axis: axes[axis] == "rgb")
        if not {"y", "x"} <= set(axes):
            raise NoImageError(f"Its axes are {', '.join(axes)}; an image has y and x.")
        named = tuple(axes[axis] for axis in order), tuple(int(array.shape[axis]) for axis in order)
        return Content(str(path), *named, tuple(spacing[axis] for axis in order), number), levels


def _serving(levels: Sequence[Content], used: SizeOf) -> Content:
    """Return the level that serves an image's use; one with fewer planes than the finest holds other images."""
    finest = levels[0]
    down, across = finest.axes.index("y"), finest.axes.index("x")
    lengths = [[n for axis, n in enumerate(level.shape) if axis not in (down, across)] for level in levels]
    same = [level for level, length in zip(levels, lengths, strict=True) if length == lengths[0]]
    level = same[level_for([(level.shape[down], level.shape[across]) for level in same], used)]
    # All levels cover the same extent, whatever became of a last odd pixel.
    spacing = finest.spacing_at((level.shape[down], level.shape[across]))
    return replace(level, spacing=tuple(spacing[name] for name in level.axes))


@contextmanager
def _opened(path: str, level: int = 0) -> Iterator[Opened]:
    """Open a stack, or a level of one."""
    import zarr

    if is_zarr(Path(path)):
        yield zarr_array(zarr.open(path, mode="r"), level)
    elif is_tiff(Path(path)):
        import tifffile

        with tifffile.TiffFile(path) as file:
            series = first_series(file)
            array: Any = zarr.open(series.aszarr(level=0), mode="r")
            bits = getattr(file.pages[0], "bitspersample", None)
            if array.dtype.kind == "u" and isinstance(bits, int) and bits < 8 * array.dtype.itemsize:
                array = _FewBits(array, bits)
            letters = {"Y": "y", "X": "x", "S": "rgb", "T": "t", "Z": "z", "C": "channel"}
            axes = all_named([letters.get(letter, "") for letter in series.axes])
            yield Opened(array, axes, (Spacing(),) * len(axes))
    else:
        with pillow_image(path) as image:
            yield Opened(_Frames(image), ("t", "y", "x", "rgb"), (Spacing(),) * 4)


class _FewBits:
    """Numbers that have fewer bits than their dtype, in the range of that."""

    def __init__(self, array: Any, bits: int) -> None:
        self._array, self._bits = array, bits
        self.shape, self.dtype = array.shape, array.dtype

    def __getitem__(self, where: tuple[Any, ...]) -> npt.NDArray[Any]:
        return in_full_range(np.asarray(self._array[where]), self._bits)


class _Frames:
    """The frames of an animated image file."""

    def __init__(self, image: Any) -> None:
        self._image = image
        self.shape = (getattr(image, "n_frames", 1), image.height, image.width, 4)

    def __getitem__(self, where: tuple[Any, ...]) -> npt.NDArray[Any]:
        self._image.seek(where[0])
        pixels: npt.NDArray[Any] = np.asarray(self._image.convert("RGBA"))[where[1:]]
        return pixels
