"""What the user chose for this plugin in napari's Preferences."""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_neural_style.cache import prefer_folder
from napari_neural_style.settings import PRESETS, StyleSettings

LAST_USED = "last used"
ANOTHER_FOLDER = "Preferences › Neural Style names another cache folder."
"""What to do where nothing can be written."""


@dataclass(frozen=True)
class Preferences:
    """The plugin's page of napari's Preferences; the manifest declares the same names and choices.

    Parameters
    ----------
    preset : str
        What the dock starts with: :data:`LAST_USED` or a built-in preset's name.
    device, precision : str
        As in :class:`StyleSettings`; ``"auto"`` is no preference.
    cache_folder : Path, optional
        Where features, stopped runs and stacks are kept; None means the user's own cache folder.
    overlooked : str
        What was chosen and cannot be used, in a sentence.
    """

    preset: str = LAST_USED
    device: str = "auto"
    precision: str = "auto"
    cache_folder: Path | None = None
    overlooked: str = field(default="", compare=False)

    def first_settings(self, last: StyleSettings | None) -> StyleSettings:
        """Return what the dock starts with, given the settings used last."""
        start = last if last is not None and self.preset == LAST_USED else None
        settings = start or PRESETS.get(self.preset) or next(iter(PRESETS.values()))
        preferred: dict[str, Any] = {"device": self.device, "precision": self.precision}
        return dataclasses.replace(settings, **{name: word for name, word in preferred.items() if word != "auto"})


def use_preferences() -> Preferences:
    """Return the present preferences, and let the cache be where they say."""
    preferences = _read()
    prefer_folder(preferences.cache_folder)
    return preferences


def _read() -> Preferences:
    try:
        from napari.settings import get_plugin_settings, get_settings

        # Without a file nothing was chosen, and napari need not build the page's models, which takes it a while.
        if not (Path(get_settings().config_path).parent / "napari-neural-style.yaml").is_file():
            return Preferences()
        page: Any = get_plugin_settings("napari-neural-style")
        start, folder = page.start, page.features.cache_folder
    except Exception:  # a damaged file, or another plugin's fault: the dock opens all the same
        return Preferences()
    return Preferences(start.preset, start.device, start.precision, *_folder(folder))


def _folder(text: str) -> tuple[Path | None, str]:
    """Return the folder that a full path names, or None with why it names none."""
    text = text.strip()
    if not text:
        return None, ""
    with contextlib.suppress(RuntimeError):  # ~ of somebody unknown
        folder = Path(text).expanduser()
        if folder.is_absolute():
            return folder, ""
    return None, f"The cache folder in Preferences, {text!r}, is no full path: the usual one is used."
