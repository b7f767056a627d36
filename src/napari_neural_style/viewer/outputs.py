"""The layers that a run adds: a live one that follows it, and what is kept of its saved steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from napari.layers import Image
from napari.utils.transforms import Affine

from napari_neural_style.files import KEY
from napari_neural_style.viewer.large import from_disk
from napari_neural_style.viewer.layers import (
    SAVED_STEP,
    SMOOTH,
    Plane,
    Spot,
    add,
    insert_unselected,
    placed_like,
    provide_axes,
)
from napari_neural_style.viewer.world import view_of

if TYPE_CHECKING:
    from napari.components import Dims, ViewerModel

    from napari_neural_style.engine.step import Step
    from napari_neural_style.settings import StyleSettings

STEPS_AS = ("auto", "layers", "one layer")
MOST_LAYERS = 8
"""Saved steps of a run that `auto` keeps as layers of their own: where more are due, all become one with a slider, and
where more come unforeseen, those do."""


@dataclass
class Place:
    """Where a run's pictures go, what they are called, and what they were made from.

    Attributes
    ----------
    spot : Spot
        Where the layer lay on whose plane they lie.
    plane : Plane
        The plane, and the window of it.
    title : str
        First part of their names.
    sources : dict
        Names of the layers that the run is made from, and of the regions and the area in it.
    asked : StyleSettings
        What the run was asked for.
    run : str
        Name of the file to go on from, if the run was stopped.
    large : (int, Path) or None
        The step of a large picture, and where that is on disk.
    """

    spot: Spot
    plane: Plane
    title: str
    sources: dict[str, Any]
    asked: StyleSettings
    run: str = field(default="", init=False)
    large: tuple[int, Path] | None = field(default=None, init=False)


class Outputs:
    """Turns a run's steps into layers; nothing there is overwritten.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Where the layers go.
    place : Place
        Where they lie and what they are called.
    steps_as : str
        One of :data:`STEPS_AS`: how saved steps are kept.
    """

    def __init__(self, viewer: ViewerModel, place: Place, steps_as: str) -> None:
        self._viewer = viewer
        self._place = place
        self._steps_as = steps_as
        self._live: Image | None = None
        self._live_name = ""
        self._shown: Step | None = None
        self._unsettled: tuple[Step, npt.NDArray[np.uint8], dict[str, Any]] | None = None
        self._kept: list[tuple[Image, str]] = []  # with their names
        self._saved = 0
        self._steps: _SavedSteps | None = None

    def show(self, step: Step) -> Iterator[None] | None:
        """Show a step's picture in the live layer; return what does :meth:`settle` part by part if it is saved."""
        from napari_neural_style.engine.images import to_uint8

        self.settle()
        if step.image is None:
            return None
        data, place = placed_like(self._place.spot, self._place.plane, to_uint8(step.image))
        self._shown = step
        keeps = step.saved and step.done < 1 and step.index != self._saved  # a run may stop on a saved step
        if keeps:
            self._saved = step.index
            self._unsettled = step, data, place
        if self._live is None:
            self._live = Image(data, name=f"{self._place.title} · live", interpolation2d=SMOOTH, **place)
            try:
                add(self._viewer, self._live)
            finally:  # what other plugins do when a layer comes may fail
                self._live_name = self._live.name  # with a number where another has it
            if step.settings.mode == "texture":  # which lies beside its style
                self._bring_into_view(self._live)
        else:
            self._live.data = data
        return self._settle_by_parts(step) if keeps else None

    def _bring_into_view(self, layer: Image) -> None:
        """Let the canvas show all layers if the middle of one is out of its sight."""
        axes = self._place.plane.axes
        low, high = view_of(self._viewer, layer, axes)
        middle = np.array([layer.data.shape[axis] for axis in axes]) / 2
        if (middle < low).any() or (middle > high).any():
            self._viewer.reset_view()

    def _settle_by_parts(self, step: Step) -> Iterator[None]:
        if self._live is not None and self._steps is None and self._wants_one_layer(step):
            provide_axes(self._viewer, self._live.ndim + 1)
            yield
        self.settle()

    def settle(self) -> None:
        """Keep the saved step that was shown last, if it is not yet."""
        if self._unsettled is not None:
            unsettled, self._unsettled = self._unsettled, None
            self._keep(*unsettled)

    def _keep(self, step: Step, data: npt.NDArray[np.uint8], place: dict[str, Any]) -> None:
        if self._steps is None and self._wants_one_layer(step):
            self._steps = _SavedSteps(f"{self._place.title} · saved steps", place, self._viewer.dims)
        if self._steps is not None:
            self._steps.add(data, self._made_by(step)[KEY])
            if self._steps.layer is not None and self._steps.layer not in self._viewer.layers:
                self._insert_below_live(self._steps.layer)
            return
        made_by = self._made_by(step)
        kept = Image(data, name=self._name(step), metadata=made_by, visible=False, interpolation2d=SMOOTH, **place)
        try:
            self._insert_below_live(kept)
        finally:
            self._kept.append((kept, kept.name))

    def _wants_one_layer(self, step: Step) -> bool:
        if self._steps_as != "auto":
            return self._steps_as == "one layer"
        # Known from the first one on: napari takes a fifth of a second to remove a layer that turns out one too many.
        due = (step.total - 1) // step.settings.save_every
        return len(self._kept) >= MOST_LAYERS or (not self._kept and due > MOST_LAYERS)

    def _insert_below_live(self, kept: Image) -> None:
        layers = self._viewer.layers
        insert_unselected(self._viewer, layers.index(self._live) if self._live in layers else len(layers), kept)
        if self._live is not None:
            kept.thumbnail = self._live.thumbnail  # the same picture; napari makes none of a hidden layer

    def finish(self) -> None:
        """Make the live layer the layer of the step it shows; if it was deleted, it comes back as that."""
        self.settle()
        if self._live is None or self._shown is None:
            return
        for layer, name in self._kept:
            its_own = layer in self._viewer.layers and layer.name == name  # else a user has given it another
            if its_own and layer.metadata.get(KEY, {}).get("step") == self._shown.index:
                self._viewer.layers.remove(layer)  # the run ended on a saved step: the live layer is it
        if self._place.large is not None and self._place.large[0] == self._shown.index:
            self._live = from_disk(self._viewer, self._live, self._place.large[1], self._place.plane)
        self._live.metadata.update(self._made_by(self._shown))  # assigned, linked layers would take it for theirs
        if self._place.run and self._shown.image is not None:
            size, axes = self._shown.image.shape[:2], self._place.plane.axes
            self._live.metadata[KEY] |= {"run": self._place.run, "run_axes": list(axes), "run_size": list(size)}
        if self._live.name == self._live_name:  # else a user has given it another
            self._live.name = self._name(self._shown)  # which tells all docks that there is a result
        if self._live not in self._viewer.layers:
            add(self._viewer, self._live)
        self._viewer.update_status_from_cursor()  # napari's line holds the layer's name from before

    def words(self, step: Step) -> list[str]:
        """Return how far the run is."""
        scale = f", scale {step.scale} of {step.scales}" if step.scales > 1 else ""
        return [f"Step {step.index} of {step.total}{scale}", f"loss {step.losses.total:.4g}"]

    def how_it_ended(self, stopped: bool) -> str:
        """Return how the run ended, in a sentence."""
        if not stopped:
            return "Done."
        return "Stopped before the first picture." if self._live is None else "Stopped; the picture so far is kept."

    def _name(self, step: Step) -> str:
        return f"{self._place.title} · step {step.index}"

    def _made_by(self, step: Step) -> dict[str, Any]:
        from napari_neural_style.engine.provenance import made_by

        return {KEY: made_by(step, self._place.sources, self._place.asked)}


class _SavedSteps:
    """Saved steps in one layer, with a slider over them."""

    def __init__(self, name: str, place: dict[str, Any], dims: Dims) -> None:
        self._name = name
        self._place = _with_steps(place, dims)
        self._pictures = np.empty(0, np.uint8)
        self._made_by: list[dict[str, Any]] = []
        self.layer: Image | None = None

    def add(self, picture: npt.NDArray[np.uint8], made_by: dict[str, Any]) -> None:
        """Add a step behind the others."""
        count = len(self._made_by)
        if count == len(self._pictures):
            room = np.empty((2 * count or MOST_LAYERS, *picture.shape), np.uint8)
            if count:
                room[:count] = self._pictures
            self._pictures = room
        self._pictures[count] = picture
        self._made_by.append(made_by)
        data = self._pictures[: count + 1]
        if self.layer is None:
            self.layer = Image(data, name=self._name, visible=False, interpolation2d=SMOOTH, **self._place)
        else:
            with self.layer.events.affine.blocker():  # linked layers would take it for theirs
                self.layer.affine = self.layer.affine  # else a hidden layer still has the extent it had
            self.layer.data = data  # of whose extent the viewer's slider hears
        self.layer.metadata[KEY] = {**self._made_by[-1], "steps": [each["step"] for each in self._made_by]}


def _with_steps(place: dict[str, Any], dims: Dims) -> dict[str, Any]:
    """Return a place with an axis of saved steps before the others.

    Where the viewer has an axis there already, it has that one's unit, with others napari would show all without any,
    and its steps, with others the slider would have positions between the planes of what is there.
    """
    count = len(place["scale"])
    own = Affine(**{name: place[name] for name in ("scale", "translate", "rotate", "shear")})
    affine = np.eye(count + 2)
    affine[1:, 1:] = place["affine"] @ own.affine_matrix
    if dims.ndim > count:
        affine[0, -1], _, affine[0, 0] = dims.range[-count - 1]
    unit = "pixel" if dims.units is None or len(dims.units) <= count else dims.units[-count - 1]
    return {
        "rgb": True,
        "affine": affine,
        "units": (unit, *place["units"]),
        "axis_labels": (SAVED_STEP, *place["axis_labels"]),
    }
