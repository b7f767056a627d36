"""Writes docs/settings.md from StyleSettings: python scripts/settings_page.py."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from napari_neural_style.setting import Setting
from napari_neural_style.settings import PRESETS, SETTINGS, StyleSettings
from napari_neural_style.settings_text import to_text

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"

INTRODUCTION = """\
# Settings

This page is made from `StyleSettings` by `python scripts/settings_page.py`. The dock and
`napari-neural-style stylize --help` show the same settings, the latter with dashes: `--save-every`.
"""


def page() -> str:
    """Return the page."""
    rows = [
        (f"`{name}`", details.help, details.unit, _range(details, default), _code(name, default))
        for name, details in SETTINGS.items()
        for default in (getattr(StyleSettings(), name),)
    ]
    live = ", ".join(f"`{name}`" for name, details in SETTINGS.items() if details.live)
    presets = [(f"`{name}`", _differences(preset)) for name, preset in PRESETS.items()]
    return "\n".join(
        [
            INTRODUCTION,
            *_table(("name", "meaning", "unit", "range", "default"), rows),
            f"\nThese can be turned while a run goes on: {live}.\n",
            "## Presets\n",
            *_table(("preset", "differs from the defaults in"), presets),
            "",
        ]
    )


def _range(details: Setting, default: Any) -> str:
    if details.choices:
        return ", ".join(details.choices)
    if isinstance(default, bool):
        return "true, false"
    if not isinstance(default, (int, float)) and not math.isfinite(details.high):
        return ""
    kind = float if isinstance(default, float) else int
    low, high = (_number(kind(limit)) if math.isfinite(limit) else "" for limit in (details.low, details.high))
    return f"{low} to {high}" if high else f"{low} or more"


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


def _code(name: str, value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else to_text(name, value)
    return f"`{text}`" if text else "none"


def _differences(preset: StyleSettings) -> str:
    default = StyleSettings()
    changed = [name for name in SETTINGS if getattr(preset, name) != getattr(default, name)]
    return ", ".join(f"`{name}` {_code(name, getattr(preset, name))}" for name in changed) or "nothing"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    cells = [head, ("---",) * len(head), *rows]
    return ["| " + " | ".join(text.replace("|", "\\|") for text in row) + " |" for row in cells]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
