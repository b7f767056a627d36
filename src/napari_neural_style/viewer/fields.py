"""The dock's fields, made from StyleSettings: nothing about a setting is spelled out here."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from functools import cached_property
from typing import Any

from magicgui.widgets import (
    CheckBox,
    ComboBox,
    Container,
    FileEdit,
    FloatSlider,
    FloatSpinBox,
    LineEdit,
    Slider,
    SpinBox,
)
from magicgui.widgets.bases import ValueWidget
from psygnal import Signal
from qtpy.QtWidgets import QComboBox

from napari_neural_style.settings import PRESETS, SETTINGS, StyleSettings
from napari_neural_style.settings_text import from_text, to_text
from napari_neural_style.viewer.choices import device_choices, features_choices, offered
from napari_neural_style.viewer.native import (
    let_scroll,
    let_type,
    look_after_slider,
    show_whole_choices,
    take_either_sign,
)

_DEFAULT = next(iter(PRESETS.values()))
_MOST = 2**31 - 1  # of Qt's spin boxes
_ROUNDING = 1e-5  # of superqt's sliders
# What is to be typed, name=value, stays as it is.
_NAME = re.compile(rf"(?<![\w./\\'-])({'|'.join(name for name in SETTINGS if '_' in name)})(?![\w./\\'=-])")
_CHANGING = {"features": features_choices, "device": device_choices}


def label_of(name: str) -> str:
    """Return a setting's name as a label, with its unit: ``save every (steps)``."""
    unit = SETTINGS[name].unit
    words = name.replace("_", " ")
    return f"{words} ({unit})" if unit and unit not in words else words


def in_words(text: str) -> str:
    """Return a sentence with settings named as the fields' labels name them."""
    return _NAME.sub(lambda found: found[0].replace("_", " "), text)


def _field(name: str) -> ValueWidget[Any]:
    """Return the widget that edits one setting."""
    details, value = SETTINGS[name], getattr(_DEFAULT, name)
    options: dict[str, Any] = {"name": name, "label": label_of(name), "tooltip": in_words(details.tooltip)}
    if name == "size":
        options["tooltip"] += " A width of its own is chosen under Advanced."
    if isinstance(value, bool):
        return CheckBox(value=value, **{**options, "label": "", "text": label_of(name)})
    if name in _CHANGING:
        return Choices(value=value, choices=_CHANGING[name], **options)
    if details.choices:
        return ComboBox(value=value, choices=details.choices, **options)
    if isinstance(value, int) and details.high <= _MOST:
        return SpinBox(value=value, min=int(details.low), max=int(details.high), **options)
    if isinstance(value, float) and details.basic:
        return FloatSlider(value=value, min=details.low, max=details.high, step=0.05, **options)
    # Text for numbers with a point, which a spin box rounds (1e-6 to 0), and for those beyond what it can hold.
    return LineEdit(value=to_text(name, value), **options)


def labelled(*widgets: ValueWidget[Any]) -> Container:
    """Return widgets in a column with their labels aligned."""
    group: Container = Container()
    group.margins = (0, 0, 0, 0)
    put_in(group, 0, widgets)
    return group


def put_in(group: Container, place: int, widgets: Iterable[ValueWidget[Any]]) -> None:
    """Put widgets into a column of such ones, the first at a place."""
    for index, widget in enumerate(widgets, place):
        group.insert(index, widget)
        let_scroll(widget.native)
        if isinstance(widget, ComboBox):
            # Long layer names and reasons must not widen the dock.
            widget.native.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            widget.native.setMinimumContentsLength(13)  # "pretrained (on disk)" in any size
            show_whole_choices(widget.native)
        elif isinstance(widget, (SpinBox, Slider)):
            let_type(widget.native)
        elif isinstance(widget, (FloatSpinBox, FloatSlider)):
            take_either_sign(widget.native)
        if isinstance(widget, (Slider, FloatSlider)):
            look_after_slider(widget.native)


class Choices(ComboBox):
    """A combo box of choices that a function tells; it keeps its value when the words for them change."""

    _seen: list[Any] | None = None

    def reset_choices(self, *args: Any) -> None:
        """Look again what there is to choose from; magicgui asks often, and setting the same anew is slow."""
        seen = list(self.options["choices"](self))
        names = {one[0] if isinstance(one, tuple) else one for one in seen}
        # Where a layer takes another's name, napari tells before it renames one of them, and after.
        if seen == self._seen or len(names) < len(seen):
            return
        self._seen = seen
        kept: Any = self.get_value()
        undecided = kept is None and bool(self.choices)
        with self.changed.blocked():
            super().reset_choices(*args)
            if kept in self.choices:
                self.value = kept
            elif undecided:
                self.native.setCurrentIndex(-1)


class Fields:
    """A widget for every field of StyleSettings; those that are folded away are made when they are first needed.

    Attributes
    ----------
    changed : Signal
        Emitted with the name of a setting whose widget changed.
    made : Signal
        Emitted with the field for features and a list with that for a file of them, to be put below it.
    basic : list
        The fields that are always seen.
    """

    changed = Signal(str)
    made = Signal(object, list)

    def __init__(self) -> None:
        self._kept = _DEFAULT
        self._of: dict[str, ValueWidget[Any]] = {}
        self.basic = [self._make(name) for name, details in SETTINGS.items() if details.basic]
        self["features"].changed.connect(self._show_file)

    @cached_property
    def file(self) -> FileEdit:
        """The file that features come from."""
        file = FileEdit(
            mode="r",
            filter="Features (*.safetensors *.pth *.pt)",
            name="features_file",
            label="features file",
            tooltip="A state dict of VGG-19: .pth, .pt or .safetensors.",
            visible=False,
        )
        file.changed.connect(lambda: self.changed.emit("features"))
        self.made.emit(self["features"], [file])
        return file

    @cached_property
    def advanced(self) -> Container[Any]:
        """The fields that are not basic."""
        widgets = [self._make(name) for name, details in SETTINGS.items() if not details.basic]
        self.width.changed.connect(lambda: self.changed.emit("size"))
        with self.changed.blocked():
            self._write_to(widgets, self._kept)
        return labelled(*widgets, self.width)

    @cached_property
    def width(self) -> SpinBox:
        """The width to squeeze both images to, 0 to keep their aspect ratio."""
        return SpinBox(
            value=self._kept.size[1] if isinstance(self._kept.size, tuple) else 0,
            min=0,
            max=int(SETTINGS["size"].high),
            name="width",
            label="squeeze to width (px)",
            tooltip="Squeeze both images to this width, the size being the height. 0 keeps the aspect ratio.",
        )

    def _make(self, name: str) -> ValueWidget[Any]:
        widget = self._of[name] = _field(name)
        widget.changed.connect(lambda: self.changed.emit(name))
        return widget

    def __getitem__(self, name: str) -> Any:
        if name not in self._of:
            _ = self.advanced
        return self._of[name]

    def typing(self, name: str) -> bool:
        """Tell whether a field is one to type in and has the keyboard."""
        widget = self[name]
        return isinstance(widget, (LineEdit, SpinBox)) and bool(widget.native.hasFocus())

    def _show_file(self, features: str) -> None:
        if features == "file" or "file" in self.__dict__:
            self.file.visible = features == "file"

    def read(self) -> StyleSettings:
        """Return the settings that the fields hold.

        Raises
        ------
        ValueError
            If a setting cannot have what its field holds; the message says which.
        """
        values: dict[str, Any] = {name: getattr(self._kept, name) for name in SETTINGS}
        values |= {name: from_text(name, widget.value) for name, widget in self._of.items() if not self._keeps(widget)}
        kept_width = self._kept.size[1] if isinstance(self._kept.size, tuple) else 0
        width = self.width.value if "advanced" in self.__dict__ else kept_width
        if width:
            values["size"] = (values["size"], width)
        if values["features"] == "file":
            path = self.file.value
            if path is None or not path.is_file():
                raise ValueError("Choose a features file, or other features.")
            values["features"] = str(path)
        return StyleSettings(**values)

    def _keeps(self, widget: ValueWidget[Any]) -> bool:
        """Tell whether a slider shows what was written, which it rounds."""
        return isinstance(widget, FloatSlider) and abs(widget.value - getattr(self._kept, widget.name)) < _ROUNDING

    def write(self, settings: StyleSettings) -> None:
        """Let the fields hold settings."""
        self._kept = settings
        self._write_to(self._of.values(), settings)
        if "advanced" in self.__dict__:
            self.width.value = settings.size[1] if isinstance(settings.size, tuple) else 0

    def put(self, name: str, value: Any) -> None:
        """Let one setting have another value, and tell nobody."""
        self._kept = dataclasses.replace(self._kept, **{name: value})
        if name in self._of:
            with self.changed.blocked():
                self._write_to([self._of[name]], self._kept)

    def _write_to(self, widgets: Iterable[ValueWidget[Any]], settings: StyleSettings) -> None:
        for widget in widgets:
            value = getattr(settings, widget.name)
            if widget.name == "size":
                widget.value = value[0] if isinstance(value, tuple) else value
            elif widget.name == "features" and value not in ("auto", "pretrained", "self-taught"):
                self.file.value = value
                widget.value = "file"
            elif isinstance(widget, Choices) and widget.name == "device":
                widget.reset_choices()
                widget.value = offered(value)
            else:
                widget.value = to_text(widget.name, value) if isinstance(widget, LineEdit) else value
                if isinstance(widget, LineEdit):
                    widget.native.setCursorPosition(0)  # a long text shows its beginning
