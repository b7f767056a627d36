"""Where on a layer to paint: a window of its plane, and labels from other layers, pixel by pixel."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from napari.layers import Shapes

from napari_neural_style.viewer.layers import Plane, Window, pixels_of, plane_shape, reading, size_of
from napari_neural_style.viewer.world import slider_positions, to_world, view_of

if TYPE_CHECKING:
    from napari.components import Dims, ViewerModel
    from napari.layers import Image, Labels, Layer

WHOLE, VIEW = "whole layer", "field of view"
_LEAST = 8
_OFF = 1.0
"""Pixels, the larger ones of two pictures, by which one may miss the edge of what it is to cover."""
_CHUNK = 256

Labels2D = npt.NDArray[np.int64]
Reader = Callable[[], Labels2D]


def area_choices(layers: Sequence[Layer]) -> list[tuple[str, Any]]:
    """Return what a run can be limited to: the view, or a Shapes layer."""
    named = [(told_apart(layer, (WHOLE, VIEW)), layer) for layer in layers if isinstance(layer, Shapes)]
    return [(WHOLE, WHOLE), (VIEW, VIEW), *named]


def told_apart(layer: Layer, words: Sequence[str]) -> str:
    """Return a layer's name, in quotes if it is one of some words that mean something else."""
    return repr(layer.name) if layer.name in words else str(layer.name)


def window_of(area: Any, layer: Image, plane: Plane, viewer: ViewerModel, along: Sequence[int] = ()) -> Window | None:
    """Return the part of a plane that an area covers, None for all of it.

    Parameters
    ----------
    area : str, Shapes or None
        One of :func:`area_choices`; None means the whole layer.
    layer : Image
        The layer.
    plane : Plane
        The plane of it.
    viewer : ViewerModel
        The viewer that shows it.
    along : sequence of int
        The layer's axes whose planes are all meant: shapes count wherever they lie along these.

    Raises
    ------
    ValueError
        If too little of the layer lies in it.
    """
    if area in (None, WHOLE):
        return None
    if area == VIEW:
        low, high = (corner + 0.5 for corner in view_of(viewer, layer, plane.axes))
        what = "the field of view"
    else:
        outlines = _outlines(area, layer, plane, viewer.dims, along)
        if not outlines:
            raise ValueError(f"{area.name!r} holds no shape with an area here. Draw a rectangle, ellipse or polygon.")
        points = np.concatenate(outlines)
        low, high = points.min(0) + 0.5, points.max(0) + 0.5
        what = f"{area.name!r}"
    height, width = plane_shape(layer, plane)
    top, left = (max(0, int(np.floor(v))) for v in low)
    bottom, right = (min(n, int(np.ceil(v))) for v, n in zip(high, (height, width), strict=True))
    if bottom - top < _LEAST or right - left < _LEAST:
        raise ValueError(f"Less than {_LEAST} × {_LEAST} pixels of {layer.name!r} lie in {what}.")
    if (top, left, bottom, right) == (0, 0, height, width):
        return None
    return top, left, bottom, right


def shapes_reader(
    area: Any, layer: Image, plane: Plane, dims: Dims | None = None, along: Sequence[int] = ()
) -> Reader | None:
    """Return what gives the labels of a Shapes layer on a plane: 1 inside, 0 outside; None for other areas."""
    if not isinstance(area, Shapes):
        return None
    outlines = _outlines(area, layer, plane, dims, along)
    shape, (top, left) = _window_shape(layer, plane)
    name, below = area.name, layer.name

    def read() -> Labels2D:
        from skimage.draw import polygon2mask

        found = np.zeros(shape, np.int64)
        for outline in outlines:
            found |= polygon2mask(shape, outline - (top, left))
        if not found.any():
            raise ValueError(f"{name!r} covers no pixel of {below!r}. Draw a larger shape.")
        return found

    return read


def labels_reader(labels: Labels | None, layer: Image, plane: Plane, dims: Dims | None = None) -> Reader | None:
    """Return what gives a Labels layer's labels at the pixels of a plane of another layer, wherever both lie.

    The layers' places are noted at once, and the labels that can be painted over; lazy ones are read when the function
    is called, on any thread.
    """
    if labels is None:
        return None
    data, name = pixels_of(labels), labels.name
    there = f"over {layer.name!r}" + ("" if plane.window is None else ", in the area")
    there += " and the sliders stand" if labels.ndim > 2 else ""
    (height, width), (top, left) = _window_shape(layer, plane)
    start, steps = _path(layer, labels, plane, dims)
    first = np.zeros(len(start), int)
    if isinstance(data, np.ndarray):
        ends = [(row, column) for row in (top, top + height) for column in (left, left + width)]
        corners = np.array([start + row * steps[0] + column * steps[1] for row, column in ends])
        bounds = np.floor(corners.min(0)), np.ceil(corners.max(0)) + 1
        first, last = (np.clip(bound, 0, data.shape).astype(int) for bound in bounds)
        data = data[tuple(map(slice, first, last))].copy()

    def read() -> Labels2D:
        found = np.zeros((height, width), np.int64)
        columns = np.arange(left, left + width)
        for row in range(0, height, _CHUNK):
            rows = np.arange(row, min(row + _CHUNK, height))
            grid = start + (rows + top)[:, None, None] * steps[0] + columns[None, :, None] * steps[1]
            index = np.round(grid).astype(np.int64) - first
            inside = ((index >= 0) & (index < data.shape)).all(-1)
            part = np.zeros(inside.shape, np.int64)
            if inside.any():
                low, high = index[inside].min(0), index[inside].max(0) + 1
                with reading(name):
                    block = np.asarray(data[tuple(slice(a, b) for a, b in zip(low, high, strict=True))])
                part[inside] = block[tuple((index[inside] - low).T)]
            found[rows] = part
        if not (found > 0).any():
            raise ValueError(f"{name!r} has no label above 0 where it lies {there}. Move it, or choose another.")
        return found

    return read


def _window_shape(layer: Image, plane: Plane) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return (height, width) and (top, left) of what is painted of a plane."""
    return size_of(layer, plane), (plane.window or (0, 0))[:2]


def part_under(layer: Image, plane: Plane, other: Image, there: Plane, dims: Dims) -> Plane:
    """Return the part of a plane of another layer that lies where the window of a plane does.

    Raises
    ------
    ValueError
        If it does not cover that, straight and not mirrored.
    """
    assert plane.window is not None
    origin, (down, across) = np.array(plane.index, dtype=float), plane.axes
    points = np.stack([origin] * 3)
    edges = np.array(plane.window) - 0.5
    points[:, down], points[:, across] = edges[[0, 0, 2]], edges[[1, 3, 3]]
    first, corner, last = _between(points, layer, other, dims)[:, list(there.axes)] + 0.5
    size = np.array(plane_shape(other, there))
    off = np.maximum(_OFF, (last - first) / size_of(layer, plane))
    straight = (np.abs(corner - (first[0], last[1])) < off).all()
    if not straight or (first < -off).any() or (last > size + off).any() or (last - first < 1).any():
        raise ValueError(f"{other.name!r} does not cover the area: start from another, or paint the whole layer.")
    (top, left), (bottom, right) = np.clip(np.round([first, last]), 0, size).astype(int).tolist()
    return dataclasses.replace(there, window=(top, left, bottom, right))


def _path(layer: Image, other: Layer, plane: Plane, dims: Dims | None) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return where pixel (0, 0) of a plane lies in another layer's data, and how far a pixel down and across is."""
    origin = np.array(plane.index, dtype=float)
    points = np.stack([origin, origin, origin])
    points[1, plane.axes[0]] += 1
    points[2, plane.axes[1]] += 1
    there = _between(points, layer, other, dims)
    return there[0], there[1:] - there[0]


def _outlines(
    shapes: Shapes, layer: Image, plane: Plane, dims: Dims | None, along: Sequence[int]
) -> list[npt.NDArray[Any]]:
    """Return the outlines of a Shapes layer's areas that lie on a plane, in its pixels, (n, 2) each."""
    found = []
    # Axes that the shapes do not have are those before theirs: they lie on all planes along these.
    first = layer.ndim - shapes.ndim
    across = [axis for axis in range(max(0, first), layer.ndim) if axis not in (*plane.axes, *along)]
    # Along axes that the layer does not have, a shape lies where the viewer's sliders stand or is not seen.
    sliders = {} if first >= 0 or dims is None else slider_positions(shapes, dims)
    further = [axis for axis in range(-first) if axis in sliders]
    for kind, vertices in zip(shapes.shape_type, shapes.data, strict=True):
        points = np.asarray(vertices, dtype=float)
        if kind in ("line", "path") or any(round(points[:, axis].mean()) != round(sliders[axis]) for axis in further):
            continue
        if kind == "ellipse":
            centre = points.mean(0)
            right, down = (points[1] - points[0]) / 2, (points[3] - points[0]) / 2
            angles = np.linspace(0, 2 * np.pi, 72, endpoint=False)[:, None]
            points = centre + np.cos(angles) * right + np.sin(angles) * down
        points = _between(points, shapes, layer, dims)
        if np.array_equal(np.round(points[:, across].mean(0)), np.array(plane.index)[across]):
            found.append(points[:, list(plane.axes)])
    return found


def _between(points: npt.NDArray[Any], layer: Layer, other: Layer, dims: Dims | None) -> npt.NDArray[Any]:
    """Return where points (n, d) of a layer's data lie in another layer's data, as a viewer shows both.

    Axes are counted from the last. Along those that the layer does not have, it is where the sliders stand.
    """
    units = None if dims is None else dims.units
    world = to_world(layer, units)(points)[:, -other.ndim :]
    missing = max(0, other.ndim - layer.ndim)
    sliders = [0.0] * missing + ([] if dims is None else list(dims.point[: dims.ndim - layer.ndim]))
    first = np.tile(sliders[len(sliders) - missing :], (len(world), 1))
    return np.asarray(to_world(other, units).inverse(np.concatenate([first, world], axis=1)))
