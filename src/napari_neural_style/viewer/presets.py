"""The presets in the dock: those that come with the plugin, and the user's own."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import Any

from magicgui.widgets import ComboBox, Container, LineEdit, PushButton, Slider

from napari_neural_style import store
from napari_neural_style.settings import PRESETS, StyleSettings
from napari_neural_style.viewer.fields import Choices, labelled
from napari_neural_style.viewer.preferences import use_preferences


def _all() -> dict[str, StyleSettings]:
    return PRESETS | store.own_presets()


def _names(widget: Any = None) -> list[str]:
    return list(_all())


def _chosen(preset: StyleSettings, device: str) -> StyleSettings:
    """Return the settings that choosing a preset gives: on a device, with the preferred precision."""
    precision = use_preferences().precision
    precision = preset.precision if precision == "auto" else precision
    return dataclasses.replace(preset, device=device, precision=precision)


class PresetFields:
    """The choice of a preset, the style strength, and the fields to keep presets of one's own.

    Attributes
    ----------
    preset : ComboBox
        All presets by name; None while the settings are none of them.
    strength : Slider
        Style strength, 0 to 100.
    """

    def __init__(self) -> None:
        self.preset: ComboBox = Choices(
            name="preset",
            choices=_names,
            tooltip="Sets all the fields below at once; you can change them afterwards. Balanced takes ten seconds to "
            "a minute on two cores, fast a few seconds; paper follows Gatys et al. (2016), written a plain procedure "
            "with Adam.",
        )
        self.preset.native.setPlaceholderText("changed")
        self.strength = Slider(
            name="style_strength",
            label="style strength",
            value=50,
            min=0,
            max=100,
            tooltip="More gives a stronger style: style weight against content weight, 0 to 100; every 20 points are a "
            "factor of ten. Only mode transfer has both.",
        )

    @cached_property
    def own(self) -> Container[Any]:
        """A name, and buttons that keep and delete."""
        buttons: Container[Any] = Container(widgets=[self.save, self.delete], layout="horizontal", labels=False)
        own: Container[Any] = Container(widgets=[labelled(self.name), buttons], labels=False)
        own.margins = buttons.margins = (0, 0, 0, 0)
        return own

    @cached_property
    def name(self) -> LineEdit:
        """What to call the present settings."""
        return LineEdit(name="preset_name", label="name", tooltip="What to call the present settings.")

    @cached_property
    def save(self) -> PushButton:
        """Keeps the present settings."""
        return PushButton(text="Save preset", tooltip="Keep the present settings under this name.")

    @cached_property
    def delete(self) -> PushButton:
        """Forgets an own preset."""
        return PushButton(text="Delete preset", tooltip="Forget your own preset of this name.")

    def settings_of(self, name: str, device: str) -> StyleSettings:
        """Return the settings that choosing a preset gives, on a device.

        Raises
        ------
        ValueError
            If there is none of that name any more.
        """
        preset = _all().get(name)
        if preset is None:
            raise ValueError(f"There is no preset called {name!r} any more.")
        return _chosen(preset, device)

    def keep(self, settings: StyleSettings) -> str:
        """Keep settings under the name in the field, and return it.

        Raises
        ------
        ValueError, OSError
            As :func:`napari_neural_style.store.save_preset`.
        """
        name = store.save_preset(self.name.value, settings)
        self._choose(name)
        return name

    def forget(self) -> str:
        """Forget the preset of the name in the field, and return that.

        Raises
        ------
        ValueError, OSError
            As :func:`napari_neural_style.store.delete_preset`.
        """
        name = self.name.value.strip()
        store.delete_preset(name)
        self._choose(None)
        return name

    def show(self, settings: StyleSettings) -> None:
        """Let the choice be the preset that settings are, or none."""
        names = [name for name, preset in _all().items() if _chosen(preset, settings.device) == settings]
        if self.preset.value not in names:
            self._choose(names[0] if names else None)

    def _choose(self, name: str | None) -> None:
        with self.preset.changed.blocked():
            self.preset.reset_choices()
            if name is None:
                self.preset.native.setCurrentIndex(-1)  # choosing the same one again brings it back
            else:
                self.preset.value = name
