"""The user's own presets and the settings used last, kept between sessions."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from platformdirs import user_config_path

from napari_neural_style.paths import path_named
from napari_neural_style.settings import PRESETS, StyleSettings
from napari_neural_style.whole import whole_file


def config_folder() -> Path:
    """Return the folder that presets and the last settings are kept in; it need not exist.

    The environment variable ``NAPARI_NEURAL_STYLE_CONFIG`` names another than the user's own.
    """
    named = os.environ.get("NAPARI_NEURAL_STYLE_CONFIG")
    return path_named(named) if named else user_config_path("napari-neural-style", appauthor=False)


def own_presets() -> dict[str, StyleSettings]:
    """Return the user's own presets by name, the oldest first; entries that cannot be used are left out."""
    return _read_presets()[0]


def why_left_out() -> str:
    """Return why entries of the presets' file cannot be used, in one sentence each, or nothing."""
    return " ".join(_read_presets()[1])


def save_preset(name: str, settings: StyleSettings) -> str:
    """Keep settings under a name, in place of an own preset of that name.

    Parameters
    ----------
    name : str
        Spaces around it do not count.
    settings : StyleSettings
        What to keep.

    Returns
    -------
    str
        The name as it is kept.

    Raises
    ------
    ValueError
        If the name is empty, not one line of printable text, or a built-in preset's.
    OSError
        If nothing can be written; the message is a sentence for users.
    """
    name = name.strip()
    _check_name(name)
    entries = _entries_or_set_aside()
    entries[name] = settings.to_dict()
    _write_presets(entries)
    return name


def delete_preset(name: str) -> None:
    """Remove one of the user's own presets, also one that cannot be used.

    Raises
    ------
    ValueError
        If there is none of that name, or the file of the presets is damaged.
    OSError
        If nothing can be written; the message is a sentence for users.
    """
    if not name:
        raise ValueError("Give the name of the preset to delete.")
    entries = _read_object(_presets_path()) or {}
    if name not in entries:
        raise ValueError(f"There is no preset of your own called {name!r}.")
    del entries[name]
    _write_presets(entries)


def last_settings() -> StyleSettings | None:
    """Return the settings that were used last, or None where none are known."""
    try:
        values = _read_object(_last_path())
        return None if values is None else StyleSettings.from_dict(values)
    except ValueError:
        return None


def remember(settings: StyleSettings) -> None:
    """Keep the settings used last; where nothing can be written, nothing is kept."""
    with contextlib.suppress(OSError):
        _write(_last_path(), settings.to_dict())


def _presets_path() -> Path:
    return config_folder() / "presets.json"


def _last_path() -> Path:
    return config_folder() / "last.json"


def _check_name(name: str) -> None:
    if not name:
        raise ValueError("Give the preset a name.")
    if not name.isprintable():
        raise ValueError("The name of a preset must be one line of printable text.")
    if name.casefold() == "changed":
        raise ValueError("'changed' is what the dock shows where no preset is in force; choose another name.")
    if name.casefold() in (preset.casefold() for preset in PRESETS):
        raise ValueError(f"{name!r} is the name of a built-in preset; choose another.")


def _read_presets() -> tuple[dict[str, StyleSettings], list[str]]:
    """Return the presets that can be used, and a sentence for each entry that cannot."""
    path = _presets_path()
    try:
        entries = _read_object(path) or {}
    except ValueError as error:
        return {}, [str(error)]
    presets, reasons = {}, []
    for name, values in entries.items():
        try:
            _check_name(name)
            presets[name] = StyleSettings.from_dict(values)
        except ValueError as error:
            reasons.append(f"The preset {name!r} in {path} was left out: {error}")
    return presets, reasons


def _read_object(path: Path) -> dict[str, Any] | None:
    """Return the JSON object that a file holds, or None if there is no such file.

    Raises
    ------
    ValueError
        If the file cannot be read or holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))  # editors on Windows begin files with a mark
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read: {error}.") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} cannot be read: it holds no JSON object.")
    return found


def _entries_or_set_aside() -> dict[str, Any]:
    """Return the entries of the presets' file; one that cannot be read is renamed, so that nothing in it is lost."""
    path = _presets_path()
    try:
        return _read_object(path) or {}
    except ValueError:
        with _sentence_for_faults():
            number, aside = 1, path.with_suffix(".damaged.json")
            while aside.exists():
                number += 1
                aside = path.with_suffix(f".damaged-{number}.json")
            path.replace(aside)
        return {}


def _write_presets(entries: Mapping[str, Any]) -> None:
    with _sentence_for_faults():
        _write(_presets_path(), entries)


@contextlib.contextmanager
def _sentence_for_faults() -> Iterator[None]:
    """Turn a fault in writing into one that says what to do."""
    try:
        yield
    except OSError as error:
        raise OSError(
            f"Presets cannot be written to {config_folder()} ({error.strerror}). Set NAPARI_NEURAL_STYLE_CONFIG to a "
            "folder that can be."
        ) from error


def _write(path: Path, values: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as part:
        part.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
