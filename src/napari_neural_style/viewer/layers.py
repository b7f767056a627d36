"""Layers to arrays and arrays to layers: what is seen, and where it lies."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from napari.utils.transforms import Affine

from napari_neural_style.viewer.compare import comparison_in
from napari_neural_style.viewer.world import slider_positions

if TYPE_CHECKING:
    from napari.components import Dims, ViewerModel
    from napari.layers import Image, Labels

    from napari_neural_style.engine.images import FloatImage


Window = tuple[int, int, int, int]
"""Top, left, bottom and right of a part of a plane in pixels; it may reach over the edges."""
SAVED_STEP = "saved step"
"""Name of the axis of saved steps that are one layer."""
SMOOTH = "linear"
"""How results are enlarged on the canvas: their pixels are paint, not measurements."""


@dataclass(frozen=True)
class Plane:
    """The plane of a layer that is shown.

    Attributes
    ----------
    axes : (int, int)
        The layer's axes that run down and across the picture.
    index : tuple of int
        Where the plane lies along every axis of the layer; 0 for `axes`.
    window : (int, int, int, int), optional
        The part of it that is meant, None for all: top, left, bottom, right.
    """

    axes: tuple[int, int]
    index: tuple[int, ...]
    window: Window | None = None


@dataclass(frozen=True)
class Spot:
    """Where a layer lay when it was asked: what becomes of it later does not move what is placed there.

    Attributes
    ----------
    shape : tuple of int
        Of its pixels, channels not counted.
    world : dict
        The keywords of `napari.layers.Image` that say where it lies.
    """

    shape: tuple[int, ...]
    world: dict[str, Any]


def spot_of(layer: Image | Spot) -> Spot:
    """Return where a layer lies now."""
    if isinstance(layer, Spot):
        return layer
    copied = {name: np.array(getattr(layer, name)) for name in ("scale", "translate", "rotate", "shear")}
    copied["affine"] = np.array(layer.affine.affine_matrix)
    shape = tuple(int(n) for n in pixels_of(layer).shape[: layer.ndim])
    return Spot(shape, {**copied, "units": layer.units, "axis_labels": layer.axis_labels})


def shown_plane(layer: Image, dims: Dims | None = None) -> Plane:
    """Return which plane of a layer a viewer shows; without its dims, the first one over the last two axes.

    Raises
    ------
    ValueError
        If the viewer shows three dimensions, or axes that the layer has not got.
    """
    if dims is None:
        return Plane((layer.ndim - 2, layer.ndim - 1), (0,) * layer.ndim)
    if dims.ndisplay != 2:
        raise ValueError("The viewer shows three dimensions. Switch to 2-D (the cube button) to choose a plane.")
    missing = dims.ndim - layer.ndim
    down, across = (axis - missing for axis in dims.displayed)
    if min(down, across) < 0:
        raise ValueError(f"The viewer shows an axis that {layer.name!r} does not have. Show its own two axes.")
    shape, index = pixels_of(layer).shape, [0] * layer.ndim
    for axis, position in slider_positions(layer, dims).items():
        index[axis] = int(np.clip(round(position), 0, shape[axis] - 1))
    return Plane((down, across), tuple(index))


def style_plane(layer: Image, dims: Dims) -> Plane:
    """Return the plane of a style that a viewer shows, or its own first one where the viewer shows other axes."""
    if dims.ndisplay == 2 and min(dims.displayed) < dims.ndim - layer.ndim:
        return shown_plane(layer)
    return shown_plane(layer, dims)


def check_seen(layer: Image, dims: Dims, along: Sequence[int] = ()) -> None:
    """Raise a ValueError if the sliders of a viewer stand where a layer has no plane, but for some of its axes."""
    shape = pixels_of(layer).shape
    for axis, position in slider_positions(layer, dims).items():
        if axis not in along and not 0 <= round(position) < shape[axis]:
            raise ValueError(f"The sliders stand where {layer.name!r} has no plane. Move them to one that is seen.")


def pixels_of(layer: Image | Labels) -> Any:
    """Return a layer's data at full resolution."""
    return layer.data[0] if layer.multiscale else layer.data


def plane_shape(layer: Image, plane: Plane) -> tuple[int, int]:
    """Return (height, width) of a plane in the layer's own pixels."""
    shape = pixels_of(layer).shape
    return int(shape[plane.axes[0]]), int(shape[plane.axes[1]])


def size_of(layer: Image, plane: Plane) -> tuple[int, int]:
    """Return (height, width) of what is meant of a plane: its window, or all of it."""
    if plane.window is None:
        return plane_shape(layer, plane)
    top, left, bottom, right = plane.window
    return bottom - top, right - left


def insert(viewer: ViewerModel, index: int, layer: Image) -> None:
    """Insert a layer, hidden or not; napari 0.9.2 cannot add a hidden RGB layer to a view in 3-D."""
    visible = layer.visible
    layer.visible = visible or viewer.dims.ndisplay == 3
    with _unmoved(viewer):
        viewer.layers.insert(index, layer)
    layer.visible = visible


def provide_axes(viewer: ViewerModel, count: int) -> None:
    """Give a viewer as many axes as a layer has that is inserted in the next turn of the event loop.

    Their sliders take nearly as long as the layer, and what waits for the main thread would wait for both. The scale
    bar of napari 0.9.2 fails where the viewer has more axes than its layers; it is right again when the layer has come.
    """
    if viewer.dims.ndim < count:
        with _unmoved(viewer), _errors_ignored(viewer.dims.events.order):
            known = viewer.dims.range
            viewer.dims.ndim = count
            viewer.dims.range = ((0, 0, 1),) * (count - len(known)) + known


@contextlib.contextmanager
def _errors_ignored(event: Any) -> Iterator[None]:
    """Let nobody hear that what listens to an event fails."""
    before = event.ignore_callback_errors, event.print_callback_errors
    event.ignore_callback_errors, event.print_callback_errors = True, "never"
    try:
        yield
    finally:
        event.ignore_callback_errors, event.print_callback_errors = before


@contextlib.contextmanager
def _unmoved(viewer: ViewerModel) -> Iterator[None]:
    """Leave the canvas where it is, and the keys with their slider: when an axis is new, napari changes both."""
    dims = viewer.dims
    used = dims.last_used - dims.ndim
    with dims.events.order.blocker(viewer.fit_to_view):
        yield
    if dims.ndim + used in dims.not_displayed:
        dims.last_used = dims.ndim + used


def insert_unselected(viewer: ViewerModel, index: int, layer: Image) -> None:
    """Insert a layer and leave the selection as it is.

    Napari selects what is inserted, and shows its controls: a quarter of the time that inserting takes.
    """
    selected = set(viewer.layers.selection)
    with viewer.layers.selection.events.blocker_all():
        insert(viewer, index, layer)
        viewer.layers.selection = selected


def add(viewer: ViewerModel, layer: Image) -> None:
    """Add a layer and select it, unless another is being drawn on; a comparison, which it would lie over, ends."""
    comparison_in(viewer).end()
    if getattr(viewer.layers.selection.active, "mode", "pan_zoom") == "pan_zoom":
        viewer.add_layer(layer)
    else:
        insert_unselected(viewer, len(viewer.layers), layer)


def image_of(layer: Image, plane: Plane | None = None) -> FloatImage:
    """Return what is seen of a layer.

    Parameters
    ----------
    layer : napari.layers.Image
        RGB, RGBA or single-channel; numpy, dask or zarr; multiscale or not. A single channel goes through its
        contrast limits, gamma and colormap; RGB is taken as it is stored.
    plane : Plane, optional
        Which plane of it, see :func:`shown_plane`.

    Returns
    -------
    ndarray
        Shape (H, W, 3), float32 in 0..1, axes in the order shown.

    Raises
    ------
    ValueError
        If the layer has no plane of pixels, or holds NaN or infinite values.
    """
    return reader_of(layer, plane)()


def reader_of(layer: Image, plane: Plane | None = None) -> Callable[[], FloatImage]:
    """Return a function that does :func:`image_of`, safe to call on another thread.

    What the layer looks like now is noted at once; lazy data are read when the function is called.
    """
    if layer.ndim < 2:
        raise ValueError(f"{layer.name!r} has one dimension; an image has two.")
    plane = plane or shown_plane(layer)
    read = pixels_reader_of(layer, plane)
    index, name, value_range = plane.index, layer.name, None if layer.rgb else (0.0, 1.0)

    def read_image() -> FloatImage:
        from napari_neural_style.engine.images import to_rgb

        with reading(name):
            stored = read.stored(index)
        return to_rgb(read.seen(stored), value_range, name=f"layer {name!r}")

    return read_image


@contextlib.contextmanager
def reading(name: str) -> Iterator[None]:
    """Raise a ValueError that says which layer cannot be read, and why; lazy data fail in any way."""
    try:
        yield
    except MemoryError as error:
        raise ValueError(
            f"There is not enough memory to read layer {name!r}. Limit the run to an area of it, or crop it."
        ) from error
    except Exception as error:
        raise ValueError(f"Layer {name!r} cannot be read: {error or type(error).__name__}") from error


def pixels_reader_of(layer: Image, plane: Plane) -> PixelsReader:
    """Return what reads planes of a layer like one of it; what the layer looks like now is noted at once."""
    look = None if layer.rgb else _Look(tuple(layer.contrast_limits), layer.gamma, layer.colormap)
    return PixelsReader(pixels_of(layer), str(layer.name), plane, look)


@dataclass(frozen=True)
class PixelsReader:
    """Reads planes of some data, on any thread.

    Attributes
    ----------
    data : array
        Of all planes; lazy data are read when a plane is.
    name : str
        Of the layer that shows them.
    plane : Plane
        Which axes are shown, and which part.
    """

    data: Any
    name: str
    plane: Plane
    _look: _Look | None

    def __call__(self, index: Sequence[int]) -> npt.NDArray[Any]:
        """Return what is :meth:`seen` of the plane that lies there along every axis."""
        return self.seen(self.stored(index))

    def stored(self, index: Sequence[int]) -> npt.NDArray[Any]:
        """Return the pixels of the plane that lies there along every axis."""
        at: list[Any] = list(index)
        down, across = self.plane.axes
        top, left, bottom, right = self.plane.window or (None,) * 4
        at[down], at[across] = slice(top, bottom), slice(left, right)
        array = np.asarray(self.data[tuple(at)])
        return array.swapaxes(0, 1) if down > across else array

    def seen(self, pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return RGB as it is, one channel in its colours, 0..1."""
        from napari_neural_style.engine.images import check_finite

        if self._look is None:
            return pixels
        check_finite(pixels, f"layer {self.name!r}")
        return self._look.through(pixels)


@dataclass(frozen=True)
class _Look:
    """How a single channel is shown."""

    limits: tuple[float, float]
    gamma: float
    colormap: Any

    def through(self, pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return pixels (H, W) in their colours, (H, W, 3) in 0..1."""
        from napari_neural_style.engine.images import bands

        low, high = self.limits
        found = np.empty((*pixels.shape, 3), np.float32)
        for rows in bands(pixels.shape):
            unit = (pixels[rows].astype(np.float64) - low) / ((high - low) or 1.0)
            colors = np.asarray(self.colormap.map((np.clip(unit, 0, 1) ** self.gamma).ravel()))
            found[rows] = (colors[:, :3] * colors[:, 3:]).reshape(*unit.shape, 3)  # on black, as a lone layer is seen
        return found


def placed_like(
    layer: Image | Spot, plane: Plane, picture: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.uint8], dict[str, Any]]:
    """Return a picture as the data of a layer that lies exactly on a plane of another layer.

    Parameters
    ----------
    layer : napari.layers.Image or Spot
        The layer that the picture was made from, or where it lay.
    plane : Plane
        The plane of it.
    picture : ndarray
        Shape (h, w, 3), of any size.

    Returns
    -------
    data : ndarray
        The picture with an axis of length 1 for every axis of the layer that is not shown.
    keywords : dict
        For `napari.layers.Image`: the place in the world, units, axis labels, rgb.

    Notes
    -----
    A layer's position is the centre of its first pixel. With r = layer pixels / picture pixels along an axis, the
    scale is the layer's times r, and the first pixel's centre moves by (r - 1) / 2 of the layer's pixels.
    """
    down, across = plane.axes
    shown = picture if down < across else picture.swapaxes(0, 1)
    height, width = shown.shape[:2]
    spot = spot_of(layer)
    shape = [1] * len(spot.shape)
    shape[min(down, across)], shape[max(down, across)] = height, width
    return np.ascontiguousarray(shown).reshape(*shape, 3), place_on(spot, plane, picture.shape[:2])


def place_on(layer: Image | Spot, plane: Plane, size: tuple[int, ...]) -> dict[str, Any]:
    """Return the place in the world of a picture of some height and width on a plane, as :func:`placed_like` does."""
    spot, (down, across) = spot_of(layer), plane.axes
    world = spot.world
    top, left, bottom, right = plane.window or (0, 0, spot.shape[down], spot.shape[across])
    ratio = np.ones(len(spot.shape))
    ratio[[down, across]] = np.divide((bottom - top, right - left), size)
    first = np.array(plane.index, dtype=float)
    first[[down, across]] = (ratio[[down, across]] - 1) / 2 + (top, left)
    to_world = Affine(scale=world["scale"], rotate=world["rotate"], shear=world["shear"])
    return {
        **world,
        "rgb": True,
        "scale": world["scale"] * ratio,
        "translate": world["translate"] + to_world.linear_matrix @ first,
    }
