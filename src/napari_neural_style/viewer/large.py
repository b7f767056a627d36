"""Large results: on disk as OME-Zarr, read by napari as far as they are seen."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.layers import Image

from napari_neural_style.viewer.layers import insert, place_on
from napari_neural_style.viewer.preferences import ANOTHER_FOLDER
from napari_neural_style.viewer.stacks import new_stack_path

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_neural_style.engine.step import Step
    from napari_neural_style.viewer.layers import Plane
    from napari_neural_style.viewer.outputs import Place

LARGE = 4096
"""Pixels a side up to which a result is an array in memory."""


def keep_large(step: Step, place: Place) -> None:
    """Write a step's picture beside the stacks if it is large, and note where: on the thread of the run."""
    from napari_neural_style.engine.images import to_uint8
    from napari_neural_style.engine.provenance import made_by
    from napari_neural_style.stack_store import write_ome_image
    from napari_neural_style.zarr_images import Spacing

    if step.image is None or max(step.image.shape) <= LARGE:
        return
    scale = place_on(place.spot, place.plane, step.image.shape[:2])["scale"]
    spacing = {name: Spacing(abs(float(scale[axis]))) for name, axis in zip("yx", place.plane.axes, strict=True)}
    path = new_stack_path()
    try:
        write_ome_image(path, to_uint8(step.image), made_by(step, place.sources, place.asked), spacing)
    except OSError as error:
        cannot = f"{path.parent} cannot be written to: {error}. {ANOTHER_FOLDER}"
        warnings.warn(f"The result stays in memory, since {cannot}", stacklevel=2)
    else:
        place.large = step.index, path
        # At its first computation, which is napari's on the main thread, dask looks for a cluster: a second of imports.
        with contextlib.suppress(ImportError):
            import distributed  # noqa: F401


def from_disk(viewer: ViewerModel, layer: Image, path: Path, plane: Plane) -> Image:
    """Let a layer that reads its picture from an OME-Zarr take the place of one in memory, and return it.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        The viewer, whether the layer is in it or not.
    layer : napari.layers.Image
        The layer in memory: the other lies where it lies, and looks as it was made to look.
    path : Path
        Holds the same picture.
    plane : Plane
        How the picture lies on the layer.
    """
    state = layer.as_layer_data_tuple()[1]
    found = Image(_levels(path, plane, layer.ndim), **{**state, "multiscale": True})
    layers = viewer.layers
    if layer in layers:
        index = layers.index(layer)
        selected = {found if each == layer else each for each in layers.selection}
        layers.remove(layer)
        insert(viewer, index, found)
        layers.selection = selected
    return found


def _levels(path: Path, plane: Plane, ndim: int) -> list[Any]:
    """Return the levels of an OME-Zarr as lazy arrays with the axes of a layer, and RGB."""
    import dask.array as da
    import zarr

    lazy: Any = da.from_array
    group: Any = zarr.open(path, mode="r")
    levels = []
    for dataset in group.attrs["ome"]["multiscales"][0]["datasets"]:
        stored = group[dataset["path"]]
        pixels = da.moveaxis(lazy(stored, chunks=stored.chunks, name=str(stored.store_path)), 0, -1)
        shown = pixels if plane.axes[0] < plane.axes[1] else pixels.swapaxes(0, 1)
        levels.append(da.expand_dims(shown, [axis for axis in range(ndim) if axis not in plane.axes]))
    return levels
