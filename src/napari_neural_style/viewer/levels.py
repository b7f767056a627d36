"""Which level of a multiscale layer a run reads."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from napari.layers import Image

from napari_neural_style.engine.sizes import level_for
from napari_neural_style.viewer.layers import Plane, Window, place_on, plane_shape

if TYPE_CHECKING:
    from napari_neural_style.engine.sizes import Size, SizeOf


def at_level(layer: Image, plane: Plane, used: SizeOf) -> tuple[Image, Plane]:
    """Return a multiscale layer at the level that serves the size it is used at, and the plane of it.

    The level is a layer of its own, in no viewer, that covers just what the whole layer covers and looks the same: what
    can be asked of a layer can be asked of it. Nothing is read before its data are asked for.

    Parameters
    ----------
    layer : napari.layers.Image
        Any; one that is not multiscale is returned as it is.
    plane : Plane
        A plane of it. Its window grows to whole pixels of the level.
    used : callable
        At what size a picture of some (height, width) is used.
    """
    if not layer.multiscale:
        return layer, plane
    others = [axis for axis in range(layer.ndim) if axis not in plane.axes]
    shapes = [tuple(int(n) for n in level.shape) for level in layer.data]
    # A level with fewer planes than the layer holds other pictures.
    numbers = [k for k, shape in enumerate(shapes) if all(shape[axis] == shapes[0][axis] for axis in others)]
    height, width = plane_shape(layer, plane)
    window = plane.window or (0, 0, height, width)
    windows = [_scaled(window, (height, width), (shapes[k][plane.axes[0]], shapes[k][plane.axes[1]])) for k in numbers]
    sizes = [(bottom - top, right - left) for top, left, bottom, right in windows]
    # A window that grew need not be used at the size that it is used at in full resolution.
    found = level_for(sizes, used if plane.window is None else lambda _: used(sizes[0]))
    if found == 0:
        return layer, plane
    there = dataclasses.replace(plane, window=None if plane.window is None else windows[found])
    return _level(layer, plane, numbers[found]), there


def _scaled(window: Window, size: Size, other: Size) -> Window:
    """Return a window of a plane of one (height, width) where that has another, grown to whole pixels."""
    top, left, bottom, right = window
    (height, width), (high, wide) = size, other
    return top * high // height, left * wide // width, -(-bottom * high // height), -(-right * wide // width)


def _level(layer: Image, plane: Plane, number: int) -> Image:
    data = layer.data[number]
    place = place_on(layer, Plane(plane.axes, (0,) * layer.ndim), tuple(data.shape[axis] for axis in plane.axes))
    look: dict[str, Any] = {"rgb": layer.rgb}
    if not layer.rgb:
        look |= {"contrast_limits": layer.contrast_limits, "gamma": layer.gamma, "colormap": layer.colormap}
    # Hidden, it does not read what it would show.
    return Image(data, name=layer.name, multiscale=False, visible=False, **(place | look))
