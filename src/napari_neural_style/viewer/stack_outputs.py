"""The one layer that a run over a stack adds, and fills plane by plane."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.layers import Image

from napari_neural_style.files import KEY
from napari_neural_style.viewer.layers import SMOOTH, add, place_on, shown_plane
from napari_neural_style.viewer.stack_array import StackArray
from napari_neural_style.viewer.stacks import Stack, StackStep

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_neural_style.engine.step import Step
    from napari_neural_style.planes import Index

MOST_NAMED = 8
"""Failed planes of one reason that are named; the layer's metadata hold all."""


class StackOutputs:
    """Shows planes in a layer as they are painted.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Where the layer goes.
    stack : Stack
        What is painted.
    title : str
        First part of the layer's name.
    sources : dict
        Names of what it is made from.
    layer : napari.layers.Image, optional
        The layer of an earlier run of the same stack.
    """

    def __init__(
        self, viewer: ViewerModel, stack: Stack, title: str, sources: dict[str, Any], layer: Image | None = None
    ) -> None:
        self._viewer = viewer
        self._stack = stack
        self._title = title
        self._sources = sources
        self._layer = layer
        self._live_name = ""

    def show(self, step: StackStep) -> None:
        """Show what a step has painted, if the viewer is at its plane."""
        from napari_neural_style.engine.images import to_uint8

        array, plane = self._stack.array, step.plane
        if array is None:
            return
        if plane.failure:
            self._stack.failures[plane.index] = plane.failure
        elif plane.over:
            self._stack.failures.pop(plane.index, None)
        shown = self._shown()
        if plane.over:
            array.preview = None
        elif step.image is not None:
            array.preview = plane.index, to_uint8(step.image)
        if self._layer is None:
            self._add(array, step)
        elif (plane.over or step.image is not None) and shown in (None, plane.index):
            self._layer.refresh(extent=False, thumbnail=plane.over)
        if plane.over:
            self._note(step.plane.step)

    def _shown(self) -> Index | None:
        """Return the index of the plane that the viewer shows; None if it shows none, or parts of several."""
        if self._layer is None:
            return None
        try:
            plane = shown_plane(self._layer, self._viewer.dims)
        except ValueError:
            return None
        return tuple(plane.index[axis] for axis in self._stack.axes) if plane.axes == self._stack.plane.axes else None

    def _add(self, array: StackArray, step: StackStep) -> None:
        place = place_on(self._stack.spot, self._stack.plane, array.planes.shape[-3:-1])
        name = f"{self._title} · live"
        self._layer = Image(array, name=name, multiscale=False, interpolation2d=SMOOTH, **place)
        self._note(step.plane.step)
        try:
            add(self._viewer, self._layer)
        finally:  # what other plugins do when a layer comes may fail
            self._live_name = self._layer.name  # with a number where another has it

    def _note(self, one: Step | None = None) -> None:
        """Keep in the layer's metadata how far the stack is and what makes the planes, one of which took a step."""
        from napari_neural_style.engine.provenance import left_open, versions

        stack = self._stack
        assert self._layer is not None
        made_by = self._layer.metadata.get(KEY)
        if one is not None or not isinstance(made_by, dict):  # somebody may have emptied it
            made_by = {
                "settings": (one or stack).settings.to_dict(),
                "sources": dict(self._sources),
                "features_fingerprint": "" if one is None else one.fingerprint,
                "versions": versions(),
                "auto": left_open(stack.settings),
            }
        fixed = {
            str(axis): i for axis, i in enumerate(stack.plane.index) if axis not in (*stack.axes, *stack.plane.axes)
        }
        noted = {
            "axes": list(stack.axes),
            "names": stack.names,
            "planes": list(stack.shape),
            "position": fixed,
            "chained": None if stack.chain is None else stack.names[stack.chain],
            "done": stack.done,
            "failed": {self._named(index): reason for index, reason in sorted(stack.failures.items())},
            "path": str(stack.path),
        }
        self._layer.metadata[KEY] = {**made_by, "stack": noted}

    def words(self, step: StackStep) -> list[str]:
        """Return how far the run is."""
        plane = step.plane
        if plane.elsewhere is not None:
            now = f", {plane.elsewhere} on the cluster" if plane.elsewhere else ""
            return [f"{plane.done} of {plane.total} planes done{now}"]
        number = plane.done + (not plane.over)
        words = [f"Plane {number} of {plane.total} ({self._named(plane.index)})"]
        if plane.step is not None and not plane.over:
            words.append(f"step {plane.step.index} of {plane.step.total}")
        return words

    def how_it_ended(self, stopped: bool) -> str:
        """Return what there is and what is missing."""
        stack = self._stack
        if stopped and not stack.done:
            return "Stopped before the first plane was done."
        if stack.done == stack.total:
            return f"Done: all {stack.total} planes." if stack.total > 1 else "Done: 1 plane."
        words = f"{stack.done} of {stack.total} planes done"
        if stack.failures:
            words += f"; {len(stack.failures)} failed: {self._failures()}"
        if stopped:
            words = f"Stopped; {words}"
        if not stack.done:
            return f"{words.rstrip('.')}."
        return f"{words.rstrip('.')}. Results › Run missing planes does the others."

    def _failures(self) -> str:
        by_reason: dict[str, list[Index]] = {}
        for index, reason in sorted(self._stack.failures.items()):
            by_reason.setdefault(reason, []).append(index)
        return " ".join(f"{self._list(planes)}: {reason}" for reason, planes in by_reason.items())

    def _list(self, planes: Iterable[Index]) -> str:
        named = [self._named(index) for index in planes]
        more = f" and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
        return "; ".join(named[:MOST_NAMED]) + more

    def _named(self, index: Index) -> str:
        return ", ".join(f"{name}={i}" for name, i in zip(self._stack.names, index, strict=True))

    def finish(self) -> None:
        """Give the layer its last name; one that has no plane goes, one that was deleted comes back."""
        stack, layer = self._stack, self._layer
        if stack.array is not None:
            stack.array.preview = None
        if layer is None:
            return
        if not stack.done:
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)
            return
        self._note()
        if stack.done == stack.total:
            stack.release()
        if layer.name == self._live_name:  # else a user has given it another
            layer.name = f"{self._title} · planes"  # which tells all docks what is missing
        else:
            layer.events.name()
        if layer not in self._viewer.layers:
            add(self._viewer, layer)
        layer.refresh(extent=False)
        self._viewer.update_status_from_cursor()  # napari's line holds the layer's name from before


def unfinished(layer: Layer | None) -> Stack | None:
    """Return the stack that a layer shows, if planes of it are missing."""
    data = None if layer is None else layer.data
    return data.stack if isinstance(data, StackArray) and data.filled else None
