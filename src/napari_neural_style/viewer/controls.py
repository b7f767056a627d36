"""The fields of the settings, the presets and the style strength, each following the others."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from magicgui.widgets import Container
from psygnal import Signal
from qtpy.QtCore import QTimer

from napari_neural_style.settings import SETTINGS, StyleSettings
from napari_neural_style.settings_text import from_text
from napari_neural_style.strength import style_strength, style_weight_of
from napari_neural_style.viewer.fields import Fields
from napari_neural_style.viewer.preferences import use_preferences
from napari_neural_style.viewer.presets import PresetFields

TYPING_MS = 500
"""How long nothing must be typed before a run takes a number that is being typed, in milliseconds."""


class Controls:
    """The fields of the settings, and what turns several of them at once.

    Parameters
    ----------
    turn : callable
        Called with the name and the value of a setting that a run can have from its next step on.

    Attributes
    ----------
    changed : Signal
        Emitted when a setting was changed.
    filled : Signal
        Emitted when all fields were filled.
    told : Signal
        Emitted with what became of a press, in a sentence, or nothing.
    fields : Fields
        A field for every setting.
    presets : PresetFields
        The choice of a preset, the style strength, and the fields to keep presets of one's own.
    """

    changed = Signal()
    filled = Signal()
    told = Signal(str)

    def __init__(self, turn: Callable[[str, Any], None]) -> None:
        self._turn = turn
        self._filling = False
        self._typed: set[str] = set()
        self.fields = Fields()
        self.presets = PresetFields()
        self._pause = QTimer(self.presets.preset.native, singleShot=True, interval=TYPING_MS)  # goes with the fields
        self._pause.timeout.connect(self._turn_typed)
        self.presets.preset.changed.connect(self._apply_preset)
        self.presets.strength.changed.connect(self._apply_strength)
        self.fields.changed.connect(self._on_field)

    def own_presets(self) -> Container[Any]:
        """Return the fields to keep presets of one's own."""
        self.presets.save.changed.connect(self._save_preset)
        self.presets.delete.changed.connect(self._delete_preset)
        return self.presets.own

    def read(self) -> StyleSettings:
        """Return the settings that the fields hold.

        Raises
        ------
        ValueError
            If a field holds no value that its setting can have.
        """
        return self.fields.read()

    def write(self, settings: StyleSettings) -> None:
        """Let the fields hold settings."""
        self._filling = True
        try:
            self.fields.write(settings)
        finally:
            self._filling = False
        self._show_strength()
        self._show_preset()
        self.filled.emit()

    def restore_defaults(self) -> None:
        """Give all settings the values that the dock first came with."""
        self.write(use_preferences().first_settings(None))

    def _apply_preset(self, name: str) -> None:
        try:
            settings = self.presets.settings_of(name, self.fields["device"].value)
        except ValueError as error:
            self._show_preset()
            self.told.emit(str(error))
        else:
            self.write(settings)

    def _save_preset(self) -> None:
        try:
            self.told.emit(f"Kept as {self.presets.keep(self.read())!r}.")
        except (ValueError, OSError) as error:
            self.told.emit(str(error))

    def _delete_preset(self) -> None:
        try:
            name = self.presets.forget()
            self._show_preset()
            self.told.emit(f"Deleted {name!r}.")
        except (ValueError, OSError) as error:
            self.told.emit(str(error))

    def _apply_strength(self, strength: float) -> None:
        try:
            settings = self.read()
        except ValueError:
            return
        if not settings.content_weight:  # the style is all there is, whatever its weight
            self._show_strength()
            return
        weight = min(float(f"{style_weight_of(strength, settings):.6g}"), SETTINGS["style_weight"].high)
        self.fields.put("style_weight", weight)
        self._turn("style_weight", weight)
        self._show_preset()
        self.changed.emit()

    def _show_strength(self) -> None:
        try:
            strength = style_strength(self.read())
        except ValueError:
            return
        with self.presets.strength.changed.blocked():
            self.presets.strength.value = round(strength)

    def _show_preset(self) -> None:
        with contextlib.suppress(ValueError):
            self.presets.show(self.read())

    def _on_field(self, name: str) -> None:
        if self._filling:
            return
        if name in ("style_weight", "content_weight", "normalization"):
            self._show_strength()
        self._show_preset()
        if SETTINGS[name].live:
            self._typed.add(name)
            if self.fields.typing(name):
                self._pause.start()
            else:
                self._turn_typed()
        self.changed.emit()

    def _turn_typed(self) -> None:
        """Let a run have what was put in, one field by itself: another may hold nothing that can be used."""
        while self._typed:
            name = self._typed.pop()
            with contextlib.suppress(ValueError):
                self._turn(name, from_text(name, self.fields[name].value))
