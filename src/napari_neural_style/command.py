"""From what made an image back to its settings, and to the command line that makes it again."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from napari_neural_style import __version__
from napari_neural_style.settings import PRESETS, SETTINGS, StyleSettings
from napari_neural_style.settings_text import to_text


def settings_of(made_by: Mapping[str, Any]) -> StyleSettings:
    """Return the settings that an image was made with.

    Parameters
    ----------
    made_by : mapping
        What :func:`napari_neural_style.files.read_made_by` returns, or a result layer's metadata hold.

    Raises
    ------
    ValueError
        If they are damaged or need a newer version; the message says which.
    """
    try:
        return StyleSettings.from_dict(made_by["settings"])
    except (KeyError, TypeError) as error:
        raise ValueError("This image does not say with which settings it was made.") from error
    except ValueError as error:
        versions = made_by.get("versions")
        version = versions.get("napari-neural-style") if isinstance(versions, Mapping) else None
        other = f" (made by version {version}, this is {__version__})" if version not in (None, __version__) else ""
        raise ValueError(f"The settings of this image cannot be used{other}: {error}") from error


def asked_of(made_by: Mapping[str, Any]) -> StyleSettings:
    """Return the settings that an image was made with, device and precision as they were asked for: perhaps ``"auto"``.

    Raises
    ------
    ValueError
        As :func:`settings_of`.
    """
    auto = made_by.get("auto")
    names = [name for name in ("device", "precision") if isinstance(auto, list) and name in auto]
    left: dict[str, Any] = dict.fromkeys(names, "auto")
    return dataclasses.replace(settings_of(made_by), **left)


def command_of(
    made_by: Mapping[str, Any],
    content: str | os.PathLike[str] | None = None,
    style: str | os.PathLike[str] | None = None,
    start: str | os.PathLike[str] | None = None,
) -> str:
    """Return the command line that makes an image again, quoted for a shell.

    It names the nearest preset and the settings that differ from it. A step before the last comes out in the folder
    ``steps``, as its own file.

    Parameters
    ----------
    made_by : mapping
        As for :func:`settings_of`.
    content, style, start : path, optional
        The images it was made from, and the one it started from if that is another. ``CONTENT.png``, ``STYLE.png``
        and ``START.png`` stand for what is not known.

    Raises
    ------
    ValueError
        As :func:`settings_of`.
    """
    settings = settings_of(made_by)
    if early := early_step(made_by, settings):
        settings = _saving(settings, early)
    preset, changed = min(
        ((name, _changed(settings, preset)) for name, preset in PRESETS.items()), key=lambda pair: len(pair[1])
    )
    words = ["napari-neural-style", "stylize", _path(content or "CONTENT.png"), _path(style or "STYLE.png")]
    words += ["-o", "stylized.png", *(["--steps-dir", "steps"] if early else []), "--preset", preset]
    sources = made_by.get("sources")
    if start is not None or (isinstance(sources, Mapping) and sources.get("initial")):
        words += ["--start-from", _path(start or "START.png")]
    for name in changed:
        words += _option(name, getattr(settings, name))
    return _joined(words)


def early_step(made_by: Mapping[str, Any], settings: StyleSettings) -> int:
    """Return the step after which a picture was kept, 0 for a run's last."""
    step = made_by.get("step")
    return step if isinstance(step, int) and not isinstance(step, bool) and 0 < step < settings.steps else 0


def _joined(words: Sequence[str]) -> str:
    """Return words as the system's shells take them: on Windows both cmd and PowerShell."""
    if sys.platform != "win32":
        return shlex.join(words)
    return " ".join(map(_quoted_on_windows, words))


def _quoted_on_windows(word: str) -> str:
    if re.fullmatch(r"[\w.:=/+-]+", word):  # to PowerShell , and ; mean something, to Git's shell a backslash
        return word
    quoted = subprocess.list2cmdline([word])
    return quoted if quoted.startswith('"') else f'"{quoted}"'


def _saving(settings: StyleSettings, step: int) -> StyleSettings:
    """Return settings that make the same pictures and save one at a step."""
    switched = any("save_every" in turned for turned in settings.changes.values())
    if step % settings.save_every == 0 and not switched:
        return settings
    changes = {
        at: kept
        for at, turned in settings.changes.items()
        if (kept := {name: value for name, value in turned.items() if name != "save_every"})
    }
    return dataclasses.replace(settings, save_every=step, changes=changes)


def _changed(settings: StyleSettings, preset: StyleSettings) -> list[str]:
    # The command line has no preview, and its pictures hold an interval that nobody chose.
    names = [name for name in SETTINGS if name != "preview_interval"]
    return [name for name in names if getattr(settings, name) != getattr(preset, name)]


def _option(name: str, value: Any) -> list[str]:
    option = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{option}" if value else f"--no-{option}"]
    text = to_text(name, value)
    return [f"--{option}={text}"] if text.startswith("-") else [f"--{option}", text]


def _path(path: str | os.PathLike[str]) -> str:
    text = os.fspath(path)
    return f".{os.sep}{text}" if text.startswith(("-", "~")) else text
