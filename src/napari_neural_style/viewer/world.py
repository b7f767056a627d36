"""Where layers lie in the world that a viewer shows, in the units that it shows it in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from napari.utils.transforms import Affine

if TYPE_CHECKING:
    from napari.components import Dims, ViewerModel
    from napari.layers import Layer

Units = Sequence[Any] | None
"""A viewer's units for all its axes, ``dims.units``; None where layers are drawn in their own."""


def to_world(layer: Layer, units: Units) -> Affine:
    """Return the transform from a layer's data to the world, in its units as far as it has the layer's axes."""
    own = Affine(scale=layer.scale, translate=layer.translate, rotate=layer.rotate, shear=layer.shear)
    factors = world_factors(layer, units)
    matrix = np.diag([*factors, 1.0]) @ layer.affine.affine_matrix @ own.affine_matrix
    return Affine(affine_matrix=matrix)


def world_factors(layer: Layer, units: Units) -> npt.NDArray[np.float64]:
    """Return how many of the world's units one of a layer's is, along every axis of it."""
    if units is None or len(units) < layer.ndim:
        return np.ones(layer.ndim)
    pairs = zip(layer.units, units[-layer.ndim :], strict=True)
    return np.array([1.0 if own == world else (1 * own).to(world).magnitude for own, world in pairs])


def slider_positions(layer: Layer, dims: Dims) -> dict[int, float]:
    """Return where a viewer's sliders stand in a layer's data, for its axes that are not displayed."""
    missing = dims.ndim - layer.ndim
    axes = [axis for axis in range(layer.ndim) if axis + missing not in dims.displayed]
    if not axes:
        return {}
    # Of a layer that is turned out of the displayed plane, napari shows what it would without that turn.
    to_data = to_world(layer, dims.units).inverse.set_slice(axes)
    found = to_data(np.array([dims.point[axis + missing] for axis in axes]))
    return dict(zip(axes, np.ravel(found).tolist(), strict=True))


def view_of(viewer: ViewerModel, layer: Layer, axes: Sequence[int]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return the first and last place in a layer's data, along two displayed axes, that the canvas shows."""
    camera = viewer.scene.camera
    half = np.array(viewer.canvas.viewbox_size(viewer.layers)) / (2 * camera.zoom)
    corners = np.array(camera.center[-2:]) + half * [[-1, -1], [-1, 1], [1, -1], [1, 1]]
    found = to_world(layer, viewer.dims.units).set_slice(list(axes)).inverse(corners)
    return found.min(0), found.max(0)
