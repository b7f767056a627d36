"""How layers were shown when a run was made from them: which plane, and how a single channel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image

from napari_neural_style.viewer.layers import style_plane
from napari_neural_style.viewer.provenance import name_of, open_layer

if TYPE_CHECKING:
    from napari.components import Dims, ViewerModel


def shown_as(layers: Iterable[Image], dims: Dims, stack: Image | None = None) -> dict[str, Any]:
    """Return, in JSON types, the planes of stacks and the looks of single channels by the names of their layers.

    Parameters
    ----------
    layers : iterable of napari.layers.Image
        What a run is made from.
    dims : napari.components.Dims
        The viewer's.
    stack : napari.layers.Image, optional
        The one of which it takes more than the plane that is shown.
    """
    layers = list(layers)
    planes = [(layer, style_plane(layer, dims)) for layer in layers if layer.ndim > 2 and layer is not stack]
    found = {
        "planes": {name_of(layer): list(plane.index) for layer, plane in planes},
        "looks": {name_of(layer): look_of(layer) for layer in layers if not layer.rgb},
    }
    return {name: by_layer for name, by_layer in found.items() if by_layer}


def look_of(layer: Image) -> dict[str, Any]:
    """Return what sets the look of a single channel apart from grey with black and white at the ends of its dtype."""
    kind = np.dtype(layer.dtype)
    plain = [float(np.iinfo(kind).min), float(np.iinfo(kind).max)] if kind.kind in "iu" else [0.0, 1.0]
    look = {
        "contrast_limits": [float(limit) for limit in layer.contrast_limits],
        "gamma": float(layer.gamma),
        "colormap": str(layer.colormap.name),
    }
    usual = {"contrast_limits": plain, "gamma": 1.0, "colormap": "gray"}
    return {name: value for name, value in look.items() if value != usual[name]}


def shown_otherwise(sources: Mapping[str, Any], viewer: ViewerModel) -> list[str]:
    """Return the layers that are shown otherwise now than what is kept with a result tells, and how they were then."""
    planes = [
        f"{layer.name} (plane {', '.join(map(str, then))})"
        for layer, then in _open(sources.get("planes"), viewer)
        if isinstance(then, list) and _plane_of(layer, viewer.dims) != then
    ]
    looks = [
        f"{layer.name} ({_said(then)})"
        for layer, then in _open(sources.get("looks"), viewer)
        if isinstance(then, Mapping) and not layer.rgb and look_of(layer) != then
    ]
    return planes + looks


def _open(by_layer: Any, viewer: ViewerModel) -> Iterator[tuple[Image, Any]]:
    """Yield the layers that are open, and what is kept of them; it may be damaged."""
    for name, then in by_layer.items() if isinstance(by_layer, Mapping) else ():
        layer = open_layer(viewer.layers, name, Image)
        if layer is not None:
            yield layer, then


def _plane_of(layer: Image, dims: Dims) -> list[int] | None:
    try:
        return list(style_plane(layer, dims).index)
    except ValueError:  # the viewer shows other axes
        return None


def _said(look: Mapping[Any, Any]) -> str:
    return ", ".join(f"{str(name).replace('_', ' ')} {value}" for name, value in look.items()) or "grey, as stored"
