"""Content and result side by side, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from psygnal import Signal

from napari_neural_style.viewer.world import world_factors

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer


class Comparison:
    """Shows two layers alone in napari's grid, and afterwards everything as it was.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        The viewer.

    Attributes
    ----------
    changed : Signal
        Emitted when it begins and when it ends.
    by : object
        Who shows it, None where nothing is compared.
    """

    changed = Signal()

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._before: tuple[dict[Layer, bool], dict[str, Any], dict[str, Any], tuple[float, ...]] | None = None
        self.by: object = None

    @property
    def on(self) -> bool:
        """Whether two layers are being compared."""
        return self._before is not None

    def show(self, left: Layer, right: Layer, by: object) -> None:
        """Show two layers side by side, all others hidden, where the right one has its plane."""
        self.by = by
        grid, camera = self._viewer.canvas.grid, self._viewer.scene.camera
        layers = list(self._viewer.layers)
        settings = {name: getattr(grid, name) for name in ("enabled", "shape", "stride")}
        view = {name: getattr(camera, name) for name in ("center", "zoom", "angles")}
        dims = self._viewer.dims
        self._before = {layer: layer.visible for layer in layers}, settings, view, dims.point
        places = right.extent.world.T * world_factors(right, dims.units)[:, None]
        for axis, (low, high) in enumerate(places, dims.ndim - right.ndim):
            if low == high:
                dims.set_point(axis, low)
        for layer in layers:
            layer.visible = layer in (left, right)
        order = self._viewer.layers
        grid.stride = 1 if order.index(left) < order.index(right) else -1
        grid.shape = (1, 2)
        grid.enabled = True
        self._viewer.reset_view()  # each has half of the canvas now
        self.changed.emit()

    def end(self) -> None:
        """Show everything as it was."""
        if self._before is None:
            return
        (visible, settings, view, point), self._before = self._before, None
        self.by = None
        now = self._viewer.dims.point
        common = min(len(now), len(point))  # axes come and go at the front
        self._viewer.dims.point = (*now[:-common], *point[-common:])
        for name, value in settings.items():
            setattr(self._viewer.canvas.grid, name, value)
        for name, value in view.items():
            setattr(self._viewer.scene.camera, name, value)
        for layer, was in visible.items():
            if layer in self._viewer.layers:
                layer.visible = was
        self.changed.emit()


_comparisons: WeakValueDictionary[int, Comparison] = WeakValueDictionary()


def comparison_in(viewer: ViewerModel) -> Comparison:
    """Return the comparison of a viewer, the same one for all of its docks."""
    # napari gives every dock a proxy of its own; the hash is that of the viewer.
    return _comparisons.setdefault(hash(viewer), Comparison(viewer))
