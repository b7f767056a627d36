"""Stylised stacks and images on disk: OME-Zarr 0.5 where it has room for the axes, else a plain Zarr array."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_neural_style.files import KEY
from napari_neural_style.whole import part_of, rename, whole_folder
from napari_neural_style.zarr_images import ChannelsLast, Spacing, spacing_at

SMALLEST = 1024
"""Planes whose longer side is above this get smaller copies beside them, each half the one before."""


class StackStore:
    """Planes of a stack that are written one at a time; whole and under its own name when it is published.

    Parameters
    ----------
    path : Path
        Where it will be.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._part = part_of(path)
        self._levels: list[ChannelsLast] = []

    @property
    def there(self) -> Path:
        """Where it is now, if it was begun."""
        return self.path if self.path.exists() else self._part

    @property
    def exists(self) -> bool:
        """Whether there is something to go on with."""
        return self.there.exists()

    @property
    def is_open(self) -> bool:
        """Whether planes can be read and written."""
        return bool(self._levels)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the stack: planes, height, width, 3."""
        return self._levels[0].shape

    def create(
        self, planes: Mapping[str, int], size: tuple[int, int], spacing: Mapping[str, Spacing], made_by: dict[str, Any]
    ) -> None:
        """Begin a new stack in place of any there is.

        Parameters
        ----------
        planes : mapping
            The name of each axis of the stack and how many planes there are along it.
        size : (int, int)
            Height and width of a plane.
        spacing : mapping
            Where pixels lie along each axis.
        made_by : dict
            JSON types, kept with it.
        """
        shutil.rmtree(self._part, ignore_errors=True)
        shutil.rmtree(self.path, ignore_errors=True)
        attributes: dict[str, Any] = {KEY: made_by}
        if list(planes) in (["t"], ["z"], ["t", "z"]):
            self._levels = _create_ome(self._part, planes, size, spacing, attributes)
        else:
            import zarr

            shape = (*planes.values(), *size, 3)
            array = zarr.create_array(
                self._part,
                shape=shape,
                chunks=(1,) * len(planes) + _chunk(size) + (3,),
                dtype="uint8",
                dimension_names=[*planes, "y", "x", "rgb"],
                attributes=attributes,
            )
            self._levels = [ChannelsLast(array, [*planes, "y", "x", "rgb"])]

    def open(self) -> None:
        """Go on with a stack that was begun.

        Raises
        ------
        ValueError
            If it is damaged.
        """
        import zarr

        path = self.there
        try:
            opened: Any = zarr.open(path, mode="r+")
            if not isinstance(opened, zarr.Group):
                self._levels = [ChannelsLast(opened, opened.metadata.dimension_names)]
                return
            ome: Any = opened.attrs["ome"]
            (multiscale,) = ome["multiscales"]
            names = _rgb([axis["name"] for axis in multiscale["axes"]])
            self._levels = [ChannelsLast(opened[dataset["path"]], names) for dataset in multiscale["datasets"]]
        except Exception as error:  # whatever is wrong with it
            raise ValueError(f"{path} is damaged: {error}. Remove it and run the same command again.") from error

    def __getitem__(self, index: tuple[int, ...]) -> npt.NDArray[Any]:
        return self._levels[0][index]

    def __setitem__(self, index: tuple[int, ...], plane: npt.NDArray[np.uint8]) -> None:
        _write(self._levels, index, plane)

    def publish(self) -> None:
        """Give a stack that was begun its own name.

        Raises
        ------
        OSError
            If it was removed meanwhile; zarr makes folders anew where planes are written.
        """
        if self._part.exists():
            if not (self._part / "zarr.json").is_file():
                raise OSError(f"{self._part} was removed during the run. Remove it and run the same command again.")
            rename(self._part, self.path)

    def discard(self) -> None:
        """Remove a stack that was begun and has no plane."""
        shutil.rmtree(self._part, ignore_errors=True)


def write_ome_image(
    path: Path, image: npt.NDArray[np.uint8], made_by: dict[str, Any], spacing: Mapping[str, Spacing]
) -> None:
    """Write one image as OME-Zarr with smaller levels; it appears whole or not at all, in place of any there is.

    Parameters
    ----------
    path : Path
        Where to.
    image : ndarray
        Shape (H, W, 3).
    made_by : dict
        JSON types, kept with it.
    spacing : mapping
        Where pixels lie along ``y`` and ``x``.
    """
    with whole_folder(path) as part:
        _write(_create_ome(part, {}, (image.shape[0], image.shape[1]), spacing, {KEY: made_by}), (), image)


def _create_ome(
    folder: Path,
    planes: Mapping[str, int],
    size: tuple[int, int],
    spacing: Mapping[str, Spacing],
    attributes: dict[str, Any],
) -> list[ChannelsLast]:
    """Begin an OME-Zarr image of no, one or two stacked axes; return its levels."""
    from yaozarrs import v05
    from yaozarrs.write.v05 import prepare_image

    names = [name for name in "tczyx" if name in planes or name in "cyx"]
    datasets, shapes = [], []
    for number, (height, width) in enumerate(_sizes(size)):
        lengths = {**planes, "c": 3, "y": height, "x": width}
        shapes.append((tuple(lengths[name] for name in names), np.uint8))
        here = spacing_at(spacing, size, (height, width))
        there = [here.get(name, Spacing()) for name in names]
        transforms: list[Any] = [v05.ScaleTransformation(scale=[axis.pixel for axis in there])]
        if any(axis.origin for axis in there):
            transforms.append(v05.TranslationTransformation(translation=[axis.origin for axis in there]))
        datasets.append(v05.Dataset(path=str(number), coordinateTransformations=transforms))
    image = v05.Image.model_validate(
        {
            "multiscales": [v05.Multiscale(axes=[_axis(name, spacing) for name in names], datasets=datasets)],
            "omero": {"channels": [_channel(label, color) for label, color in _COLOURS.items()]},
        }
    )
    chunk = dict(zip("cyx", (3, *_chunk(size)), strict=True))
    chunks = tuple(chunk.get(name, 1) for name in names)
    _, arrays = prepare_image(folder, image, shapes, chunks=chunks, writer="zarr", extra_attributes=attributes)
    return [ChannelsLast(array, _rgb(names)) for array in arrays.values()]


def _axis(name: str, spacing: Mapping[str, Spacing]) -> Any:
    from yaozarrs import v05

    if name == "c":
        return v05.ChannelAxis(name=name)
    kind: Any = v05.TimeAxis if name == "t" else v05.SpaceAxis
    with warnings.catch_warnings(action="error"):
        try:
            return kind(name=name, unit=spacing.get(name, Spacing()).unit)
        except (ValueError, Warning):  # none of the units that OME-Zarr names
            return kind(name=name)


def _write(levels: Sequence[ChannelsLast], index: tuple[int, ...], plane: npt.NDArray[np.uint8]) -> None:
    """Write a plane to every level, each made from the one before."""
    for level in levels:
        height, width = level.shape[-3:-1]
        level[index] = plane = _shrunk(plane, (height, width))


_COLOURS = {"Red": "FF0000", "Green": "00FF00", "Blue": "0000FF"}


def _channel(label: str, color: str) -> dict[str, Any]:
    return {"label": label, "color": color, "active": True, "window": {"start": 0, "end": 255, "min": 0, "max": 255}}


def _rgb(names: Sequence[str]) -> list[str]:
    return ["rgb" if name == "c" else name for name in names]


def _chunk(size: tuple[int, int]) -> tuple[int, int]:
    return min(size[0], SMALLEST), min(size[1], SMALLEST)


def _sizes(size: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the size of every level, the finest first."""
    sizes = [size]
    while max(sizes[-1]) > SMALLEST:
        height, width = sizes[-1]
        sizes.append((max(1, height // 2), max(1, width // 2)))
    return sizes


def _shrunk(plane: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    if plane.shape[:2] == size:
        return plane
    from PIL import Image

    return np.asarray(Image.fromarray(plane).resize(size[::-1], Image.Resampling.BOX))
