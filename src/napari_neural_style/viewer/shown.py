"""How layers were shown when a run was made from them: which plane, and how a single channel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Labels, Layer

from napari_neural_style.viewer.layers import style_plane
from napari_neural_style.viewer.provenance import name_of, open_layer

if TYPE_CHECKING:
    from napari.components import Dims, ViewerModel


def shown_as(
    layers: Iterable[Image | Labels], dims: Dims, stack: Image | None = None, along: Sequence[int] = ()
) -> dict[str, Any]:
    """Return, in JSON types, the planes of stacks and the looks of single channels by the names of their layers.

    Parameters
    ----------
    layers : iterable of napari.layers.Image or Labels
        What a run is made from.
    dims : napari.components.Dims
        The viewer's.
    stack : napari.layers.Image, optional
        The one of which it takes more than the plane that is shown.
    along : sequence of int
        The axes of that along which it takes all.
    """
    layers = list(layers)
    deep = [(layer, _plane_of(layer, dims, along if layer is stack else ())) for layer in layers if layer.ndim > 2]
    found = {
        "planes": {name_of(layer): plane for layer, plane in deep if any(at is not None for at in plane)},
        "looks": {name_of(each): look_of(each) for each in layers if isinstance(each, Image) and not each.rgb},
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
        f"{layer.name} (plane {', '.join(':' if at is None else str(at) for at in then)})"
        for layer, then in _open(sources.get("planes"), viewer)
        if isinstance(then, list) and not _is_at(layer, then, viewer.dims)
    ]
    looks = [
        f"{layer.name} ({_said(then)})"
        for layer, then in _open(sources.get("looks"), viewer)
        if isinstance(then, Mapping) and isinstance(layer, Image) and not layer.rgb and look_of(layer) != then
    ]
    return planes + looks


def _open(by_layer: Any, viewer: ViewerModel) -> Iterator[tuple[Any, Any]]:
    """Yield the layers that are open, and what is kept of them; it may be damaged."""
    layers = [layer for layer in viewer.layers if isinstance(layer, (Image, Labels))]
    for name, then in by_layer.items() if isinstance(by_layer, Mapping) else ():
        layer = open_layer(layers, name, Layer)
        if layer is not None:
            yield layer, then


def _plane_of(layer: Any, dims: Dims, along: Sequence[int] = ()) -> list[int | None]:
    """Return where a layer's plane lies along each axis, None for those that are shown or gone along."""
    plane = style_plane(layer, dims)
    return [None if axis in (*plane.axes, *along) else at for axis, at in enumerate(plane.index)]


def _is_at(layer: Any, then: list[Any], dims: Dims) -> bool:
    """Tell whether the viewer shows the plane of a layer that it showed then, or one of the planes of a stack."""
    try:
        now = _plane_of(layer, dims)
    except ValueError:  # the viewer shows other axes
        return False
    if then.count(None) > 2 and len(then) == len(now):
        return all(before is None or at == before for at, before in zip(now, then, strict=True))
    return now == then


def _said(look: Mapping[Any, Any]) -> str:
    return ", ".join(f"{str(name).replace('_', ' ')} {value}" for name, value in look.items()) or "grey, as stored"
