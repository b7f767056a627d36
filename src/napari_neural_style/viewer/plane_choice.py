"""Which planes of the content a run paints: the one that is shown, or all along some of its axes."""

from __future__ import annotations

import math
import re
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from magicgui.widgets import CheckBox, LineEdit
from psygnal import Signal

from napari_neural_style.viewer.fields import Choices
from napari_neural_style.viewer.layers import SAVED_STEP, pixels_of

if TYPE_CHECKING:
    import napari
    from napari.components import Dims
    from napari.layers import Image

THIS: tuple[int, ...] = ()
"""The choice of the plane that is shown."""


def axis_names(layer: Image, dims: Dims) -> list[str]:
    """Return a name for every axis of a layer, none of them twice: its own, the viewer's, or ``axis 0`` and so on."""
    above = dims.ndim - layer.ndim
    found = []
    for axis, own in enumerate(layer.axis_labels):
        names = [own, *(dims.axis_labels[above + axis : above + axis + 1] if above >= 0 else ())]
        # That of saved steps is another layer's.
        told = (name for name in names if name and name != SAVED_STEP and not re.fullmatch(r"-?\d+", name))
        found.append(next((name for name in told if name not in found), f"axis {axis}"))
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
    """The fields for planes, made when the content layer first is a stack and seen while it is one, and for a cluster.

    Attributes
    ----------
    changed : Signal
        Emitted when one of them was changed.
    made : Signal
        Emitted with the field for the content and a list of those for planes, to be put below it.
    """

    changed = Signal()
    made = Signal(object, list)

    def __init__(self, viewer: napari.viewer.Viewer, content: Any) -> None:
        self._viewer = viewer
        self._content = content
        self._made: tuple[Choices, CheckBox] | None = None
        self._chosen: WeakKeyDictionary[Image, tuple[int, ...]] = WeakKeyDictionary()

    @property
    def planes(self) -> Choices:
        """Its value is the layer's axes to go along, none for the plane that is shown."""
        return self._fields[0]

    @property
    def chained(self) -> CheckBox:
        """Whether planes start from the one before."""
        return self._fields[1]

    @cached_property
    def scheduler(self) -> LineEdit:
        """Address of the Dask cluster that paints the planes; empty for this computer."""
        scheduler = LineEdit(
            name="scheduler",
            label="Dask scheduler",
            tooltip="Address of a Dask cluster that paints the planes of stacks. Leave it empty to paint them on this "
            "computer.",
        )
        scheduler.native.setPlaceholderText("tcp://host:8786")
        scheduler.changed.connect(lambda: self.changed.emit())
        return scheduler

    @property
    def _fields(self) -> tuple[Choices, CheckBox]:
        if self._made is None:
            self._made = self._make()
            self.made.emit(self._content, list(self._made))
        return self._made

    def _make(self) -> tuple[Choices, CheckBox]:
        planes = Choices(
            name="planes",
            label="planes",
            choices=self._choices,
            tooltip="Paint the plane that is shown, or all planes along axes into one layer with the same sliders. "
            "Along the other axes, the position of the sliders counts.",
            visible=False,
        )
        chained = CheckBox(
            name="chained",
            label="",
            text="carry paint to the next plane",
            value=True,
            tooltip="Start each plane from the one before, moved as the content moves, so that a movie or a volume "
            "does not flicker.",
            visible=False,
        )
        planes.changed.connect(self._choose)
        for field in (planes, chained):
            field.changed.connect(lambda: self.changed.emit())
        return planes, chained

    @property
    def axes(self) -> tuple[int, ...]:
        """The content layer's axes to go along; none for the plane that is shown."""
        return THIS if self._made is None else tuple(self.planes.value or THIS)

    @property
    def address(self) -> str:
        """Where to paint the planes; nothing for this computer."""
        return str(self.scheduler.value).strip() if "scheduler" in self.__dict__ else ""

    def follow(self) -> None:
        """Offer what the content layer has, and show what is of use now."""
        if self._made is None and len(self._choices()) < 2:
            return
        self.planes.reset_choices()
        content = self._content.value
        wanted = None if content is None else self._chosen.get(content)
        if wanted is not None and wanted in self.planes.choices:  # else these axes are not to be had for a while
            with self.planes.changed.blocked():
                self.planes.value = wanted
        self.planes.visible = len(self.planes.choices) > 1
        self.chained.visible = self.planes.visible and bool(self.axes)

    def _choose(self, axes: tuple[int, ...] | None) -> None:
        if self._content.value is not None:
            self._chosen[self._content.value] = axes or THIS
        self.follow()

    def suit(self, mode: str) -> None:
        """Enable what counts in a mode."""
        for field in self._made or ():
            field.enabled = mode != "texture"

    def choose(self, axes: Any) -> bool:
        """Take the axes of a result, where they can be had, else the plane that is shown; return whether they can."""
        wanted = tuple(axes) if isinstance(axes, (list, tuple)) else THIS
        self.follow()
        there = wanted == THIS if self._made is None else wanted in self.planes.choices
        if self._made is not None:
            self.planes.value = wanted if there else THIS
        return there

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
                planes = math.prod(int(shape[axis]) for axis in chosen)
                found.append((f"all {planes} along {' and '.join(names[axis] for axis in chosen)}", chosen))
        return found
