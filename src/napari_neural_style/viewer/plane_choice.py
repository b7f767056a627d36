"""Which planes of the content a run paints: the one that is shown, or all along some of its axes."""

from __future__ import annotations

import re
from itertools import combinations
from typing import TYPE_CHECKING, Any

from magicgui.widgets import CheckBox, LineEdit

from napari_neural_style.viewer.fields import Choices
from napari_neural_style.viewer.layers import pixels_of

if TYPE_CHECKING:
    import napari
    from napari.components import Dims
    from napari.layers import Image

THIS: tuple[int, ...] = ()
"""The choice of the plane that is shown."""


def axis_names(layer: Image, dims: Dims) -> list[str]:
    """Return a name for every axis of a layer: its own, the viewer's, or ``axis 0`` and so on."""
    above = dims.ndim - layer.ndim
    found = []
    for axis, own in enumerate(layer.axis_labels):
        names = [own, *(dims.axis_labels[above + axis : above + axis + 1] if above >= 0 else ())]
        found.append(next((name for name in names if name and not re.fullmatch(r"-?\d+", name)), f"axis {axis}"))
    return found


def axes_to_stack(layer: Image, dims: Dims) -> list[int]:
    """Return the axes of a layer along which there is more than the plane that is shown."""
    above = dims.ndim - layer.ndim
    shown = [axis - above for axis in dims.order[-2:]]
    if min(shown) < 0:
        return []
    shape = pixels_of(layer).shape
    return [axis for axis in range(layer.ndim) if axis not in shown and shape[axis] > 1]


class PlaneChoice:
    """The fields for planes, seen while the content layer is a stack.

    Attributes
    ----------
    planes : Choices
        Its value is the layer's axes to go along, none for the plane that is shown.
    chained : CheckBox
        Whether planes start from the one before.
    scheduler : LineEdit
        Address of the Dask cluster that paints the planes; empty for this computer.
    """

    def __init__(self, viewer: napari.viewer.Viewer, content: Any) -> None:
        self._viewer = viewer
        self._content = content
        self.planes = Choices(
            name="planes",
            label="planes",
            choices=self._choices,
            tooltip="Paint the plane that is shown, or all planes along axes into one layer with the same sliders. "
            "Along the other axes, the position of the sliders counts.",
            visible=False,
        )
        self.chained = CheckBox(
            name="chained",
            label="",
            text="carry paint to the next plane",
            value=True,
            tooltip="Start each plane from the one before, moved as the content moves, so that a movie or a volume "
            "does not flicker.",
            visible=False,
        )
        self.scheduler = LineEdit(
            name="scheduler",
            label="scheduler",
            tooltip="Address of a Dask cluster that paints the planes. Leave it empty to paint them on this computer.",
            visible=False,
        )
        self.scheduler.native.setPlaceholderText("tcp://host:8786")
        self.planes.changed.connect(self.follow)

    @property
    def axes(self) -> tuple[int, ...]:
        """The content layer's axes to go along; none for the plane that is shown."""
        return tuple(self.planes.value or THIS)

    @property
    def address(self) -> str:
        """Where to paint the planes; nothing for this computer."""
        return str(self.scheduler.value).strip()

    def follow(self) -> None:
        """Offer what the content layer has, and show what is of use now."""
        self.planes.reset_choices()
        self.planes.visible = len(self.planes.choices) > 1
        self.chained.visible = self.scheduler.visible = self.planes.visible and bool(self.axes)

    def choose(self, axes: Any) -> None:
        """Take the axes of a result, where the content layer has them; else the plane that is shown."""
        wanted = tuple(axes) if isinstance(axes, (list, tuple)) else THIS
        self.follow()
        self.planes.value = wanted if wanted in self.planes.choices else THIS

    def _choices(self, widget: Any = None) -> list[tuple[str, tuple[int, ...]]]:
        """Return the words for every set of axes, those with the most planes first."""
        found = [("this plane", THIS)]
        layer, dims = self._content.value, self._viewer.dims
        if layer is None:
            return found
        axes, names = axes_to_stack(layer, dims), axis_names(layer, dims)
        shape = pixels_of(layer).shape
        for count in range(len(axes), 0, -1):
            for chosen in combinations(axes, count):
                planes = 1
                for axis in chosen:
                    planes *= int(shape[axis])
                found.append((f"all {planes} along {' and '.join(names[axis] for axis in chosen)}", chosen))
        return found
