"""The settings as options of the command line, made from StyleSettings."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from typing import Any

from napari_neural_style.settings import PRESETS, SETTINGS, StyleSettings
from napari_neural_style.settings_text import from_text


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add the presets, and an option for every field of StyleSettings; those not given keep the preset's value."""
    parser.add_argument("--preset", choices=list(PRESETS), default=next(iter(PRESETS)), help="default: %(default)s")
    group = parser.add_argument_group("settings (default: the preset's)")
    for name, details in SETTINGS.items():
        default = getattr(PRESETS["balanced"], name)
        text = details.tooltip.replace("%", "%%")
        option: dict[str, Any] = {"default": None, "dest": name, "help": text}
        if isinstance(default, bool):
            option["action"] = argparse.BooleanOptionalAction
        elif details.choices:
            option["choices"] = details.choices
        else:
            option["metavar"] = details.unit.upper() or name.upper().replace("_", "-")
        group.add_argument(f"--{name.replace('_', '-')}", **option)


def settings_from(values: Mapping[str, Any], preset: str) -> StyleSettings:
    """Return a preset's settings with those that were given as text.

    Raises
    ------
    ValueError
        If a setting cannot have its value.
    """
    given = {name: from_text(name, values[name]) for name in SETTINGS if values.get(name) is not None}
    return dataclasses.replace(PRESETS[preset], **given)
