"""What can be done with a result: use its settings, copy its command, go on with it, compare it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from magicgui.widgets import ComboBox, Container, PushButton
from napari.layers import Image
from psygnal import Signal
from qtpy.QtWidgets import QApplication

from napari_neural_style.command import settings_of
from napari_neural_style.files import KEY
from napari_neural_style.settings_text import to_text
from napari_neural_style.strength import style_strength
from napari_neural_style.viewer.compare import comparison_in
from napari_neural_style.viewer.fields import labelled
from napari_neural_style.viewer.native import note
from napari_neural_style.viewer.outputs import STEPS_AS
from napari_neural_style.viewer.provenance import made_by_of, open_layer, sources_of
from napari_neural_style.viewer.stack_outputs import unfinished
from napari_neural_style.viewer.tasks import go_on_task, missing_task

if TYPE_CHECKING:
    import napari
    from napari.layers import Layer

    from napari_neural_style.viewer.inputs import Inputs


_SELECT = "Select one result in the layer list. A live layer becomes one when its run ends."
_TOLD = ("size", "steps", "color", "style_scale", "features")
"""The settings, beside the style strength, that a result is told apart by."""


def _made_with(made_by: Mapping[str, Any]) -> str:
    """Return what made a result, for people to see what several of one name differ in."""
    try:
        settings = settings_of(made_by)
    except ValueError as error:
        return str(error)
    told = {"style strength": str(round(style_strength(settings)))} if settings.mode == "transfer" else {}
    told |= {name.replace("_", " "): to_text(name, getattr(settings, name)) for name in _TOLD}
    told["features"] = PurePath(told["features"]).name
    turned = sorted({name.replace("_", " ") for each in settings.changes.values() for name in each})
    then = f" Turned on the way: {', '.join(turned)}." if turned else ""
    return f"Made with {', '.join(f'{name} {value}' for name, value in told.items())}.{then}"


class Results:
    """Buttons for the selected result, and what they do.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Whose selected layer it is.
    inputs : Inputs
        The fields for layers, which hold those of a result again.

    Attributes
    ----------
    recalled : Signal
        Emitted with the settings of a result that are to be used again.
    wanted : Signal
        Emitted with a task that is to run.
    told : Signal
        Emitted with what became of a press, in a sentence, or nothing.
    about : Label
        What made the selected result, or which layer to select.
    body : Container
        The buttons.
    """

    recalled = Signal(object)
    wanted = Signal(object)
    told = Signal(str)

    def __init__(self, viewer: napari.viewer.Viewer, inputs: Inputs) -> None:
        self._viewer = viewer
        self._inputs = inputs
        self._comparison = comparison_in(viewer)
        self.use = PushButton(text="Use these settings", tooltip="Fill all fields with what made the selected result.")
        self.copy = PushButton(
            text="Copy as command", tooltip="Copy the command line that makes the selected result again."
        )
        self.go_on = PushButton(text="Go on", tooltip="Go on with the stopped run that the selected layer shows.")
        self.missing = PushButton(
            text="Run missing planes",
            tooltip="Paint the planes that the selected stack does not have: those that failed, or that Stop left out.",
        )
        self.compare = PushButton(
            text="Compare", tooltip="The selected result beside its content, where that is open, and back."
        )
        self.steps_as = ComboBox(
            name="steps_as",
            label="saved steps as",
            choices=STEPS_AS,
            tooltip="Layers of their own, one layer with a slider over the steps, or auto: layers while they are few.",
        )
        pairs = [
            Container(widgets=pair, layout="horizontal", labels=False)
            for pair in ([self.use, self.copy], [self.go_on, self.compare])
        ]
        for pair in pairs:
            pair.margins = (0, 0, 0, 0)
        self.about = note("")
        widgets = [self.about, *pairs, self.missing, labelled(self.steps_as)]
        self.body: Container[Any] = Container(widgets=widgets, labels=False)
        self.body.margins = (0, 0, 0, 0)
        for button, act in (
            (self.use, self._use),
            (self.copy, self._copy),
            (self.go_on, self._go_on),
            (self.missing, self._run_missing),
        ):
            button.changed.connect(partial(self._act, act))
        self.compare.changed.connect(self._toggle_comparison)
        self._comparison.changed.connect(self.update)

    def selected(self) -> Layer | None:
        """Return the selected layer if a run made it."""
        layer = self._viewer.layers.selection.active
        return layer if layer is not None and made_by_of(layer) is not None else None

    def update(self) -> None:
        """Enable what can be done with the selected layer."""
        layer = self.selected()
        made_by = None if layer is None else made_by_of(layer)
        if layer is not None and made_by is not None:
            layer.metadata.setdefault(KEY, made_by)  # opened from a file: saving it again keeps what made it
        self.about.value = _SELECT if made_by is None else _made_with(made_by)
        for button in (self.use, self.copy):
            button.enabled = made_by is not None
        self.go_on.enabled = bool(made_by and made_by.get("run"))
        self.missing.enabled = unfinished(layer) is not None
        self.compare.enabled = self._comparison.on or self._content_of(layer) is not None
        self.compare.text = "End comparing" if self._comparison.on else "Compare"

    def _content_of(self, layer: Layer | None) -> Layer | None:
        """Return the layer that a result was made from, if it is open."""
        if layer is None:
            return None
        sources = sources_of(layer)
        found: Layer | None = open_layer(self._viewer.layers, sources.get("content") or sources.get("style"), Image)
        return found if found is not layer else None

    def _act(self, act: Callable[[Layer], None]) -> None:
        """Do something with the selected result, or tell why it cannot be done."""
        layer = self.selected()
        if layer is None:
            return
        try:
            act(layer)
        except ValueError as error:
            self.told.emit(str(error))

    def _use(self, layer: Layer) -> None:
        from napari_neural_style.viewer.recall import recall

        settings, differs = recall(layer, self._inputs, self._viewer)
        self.recalled.emit(settings)
        self.told.emit(differs)

    def _copy(self, layer: Layer) -> None:
        from napari_neural_style.viewer.recall import command_for

        clipboard = QApplication.clipboard()
        if clipboard is None:
            return
        command, missing = command_for(layer, self._viewer)
        clipboard.setText(command)
        self.told.emit(f"Copied. {missing}".strip())

    def _go_on(self, layer: Layer) -> None:
        self.wanted.emit(go_on_task(layer))

    def _run_missing(self, layer: Layer) -> None:
        self.wanted.emit(missing_task(layer, self._inputs.plane_choice.address))

    def _toggle_comparison(self) -> None:
        """Show content and result side by side, or everything as it was before."""
        layer = self.selected()
        content = self._content_of(layer)
        if self._comparison.on:
            self._comparison.end()
        elif layer is not None and content is not None:
            self._comparison.show(content, layer, by=self)

    def close(self) -> None:
        """End the comparison that was begun here: the button that would is going away."""
        if self._comparison.by is self:
            self._comparison.end()
