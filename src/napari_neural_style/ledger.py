"""The list of what is finished in a folder, so that a batch that was stopped, however, goes on where it was."""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from napari_neural_style.files import read_made_by
from napari_neural_style.whole import why_not

NAME = "napari-neural-style.jsonl"
FORMAT = 1
_LONGEST_STEM = 200
"""Bytes of an output's name before its number and suffix; file systems take 255 in all."""


class Ledger:
    """One line of JSON for each thing that is known: the settings, whose an output is, what is begun and finished.

    Lines are only ever added, so that a batch can end at any moment; a last line that is cut off counts as none.

    Parameters
    ----------
    folder : Path
        Where the outputs go.

    Raises
    ------
    ValueError
        If the folder's ledger is damaged or of a newer version.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._made_with: dict[str, Any] | None = None
        self._outputs: dict[tuple[str, str], str] = {}
        self._names: dict[str, str] = {}  # by what file systems may take for the same
        self._finished: dict[str, set[tuple[int, ...]]] = {}
        if self._path.is_file():
            self._read()

    def _read(self) -> None:
        text = self._path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        if len(whole) < len(text):
            with self._path.open("r+b") as file:
                file.truncate(len(whole))
        try:
            for line in whole.splitlines():
                entry = json.loads(line)
                if "format" in entry:
                    if entry["format"] > FORMAT:
                        raise ValueError(f"{self._path} was written by a newer version of napari-neural-style. Update.")
                    self._made_with = entry["made_with"]
                elif "plane" in entry:
                    self._finished.setdefault(entry["finished"], set()).add(tuple(entry["plane"]))
                elif "begun" in entry:
                    self._finished.pop(entry["begun"], None)
                else:
                    self._outputs[_key(entry["content"], entry["style"])] = entry["output"]
                    self._names[_alike(entry["output"])] = entry["output"]
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(
                f"{self._path} is damaged; remove it to begin anew, or choose another folder with -o."
            ) from error

    def begin(self, made_with: Mapping[str, Any]) -> None:
        """Note what the outputs are made with: JSON types.

        Raises
        ------
        ValueError
            If those that are there were made with something else; the message says what differs.
        """
        made_with = json.loads(json.dumps(made_with))
        if self._made_with is None:
            self._made_with = dict(made_with)
            self._add({"format": FORMAT, "made_with": made_with})
            return
        before, now = _flat(self._made_with), _flat(made_with)
        differing = [name for name in dict.fromkeys([*before, *now]) if before.get(name) != now.get(name)]
        if differing:
            name = differing[0]
            if name.startswith("style"):  # hashes, which tell people nothing
                named = ", ".join(dict.fromkeys(Path(style).name for _, style in self._outputs))
                what = "other style images, or these in another order" + (f": {named}, as it was then" if named else "")
            elif name == "features":
                what = "other features than there are now"
            else:
                what = f"other settings: {name} was {before.get(name)!r} and is {now.get(name)!r} now"
                what += f" ({len(differing) - 1} more differ)" if differing[1:] else ""
            raise ValueError(
                f"{self._path.parent} holds a batch that was made with {what}. Choose another folder with -o, or give "
                "the same to go on with that one."
            )

    def output_for(self, content: Path, style: Path, name: str, suffix: str) -> str:
        """Return the name of an output: the one it has, or the first that is free.

        A content that was an image and is a stack now, or the other way round, gets another name; so does one whose
        name was taken by an image of other origin before there was anything to write.
        """
        key = _key(str(content), str(style))
        known = self._outputs.get(key, "")
        if not known.endswith(suffix) or (not self._finished.get(known) and self._taken(known)):
            name = _shortened(name)
            number, output = 1, f"{name}{suffix}"
            while _alike(output) in self._names or (self._path.parent / output).exists():
                number += 1
                output = f"{name}-{number}{suffix}"
            self._outputs[key] = output
            self._names[_alike(output)] = output
            self._add({"content": str(content), "style": str(style), "output": output})
        return self._outputs[key]

    def _taken(self, output: str) -> bool:
        path = self._path.parent / output
        return path.exists() and read_made_by(path) is None

    def outputs(self) -> set[Path]:
        """Return the paths of all outputs, whether they are there or not."""
        names = self._names.values()
        return {self._path.parent / name for name in names if self._finished.get(name) or not self._taken(name)}

    def finished(self, output: str) -> set[tuple[int, ...]]:
        """Return the planes of an output that are finished; an image is the plane ()."""
        return set(self._finished.get(output, ()))

    def begin_output(self, output: str) -> None:
        """Note that an output is begun, before what there was of it is removed: no plane of it is finished."""
        self._finished.pop(output, None)
        self._add({"begun": output})

    def finish(self, output: str, plane: tuple[int, ...]) -> None:
        """Note that a plane is finished."""
        self._finished.setdefault(output, set()).add(plane)
        self._add({"finished": output, "plane": plane})

    def _add(self, entry: Mapping[str, Any]) -> None:
        with self._path.open("ab") as file:
            file.write(json.dumps(entry).encode() + b"\n")


def _key(content: str, style: str) -> tuple[str, str]:
    """Return what an output is known by; on Windows people type a path in small letters or capitals, as it comes."""
    return os.path.normcase(content), os.path.normcase(style)


def _alike(name: str) -> str:
    """Return a name without what Windows and macOS make no difference of: case, and how accents are composed."""
    return unicodedata.normalize("NFC", name).lower()


def _shortened(name: str) -> str:
    """Return what fits of a name; numbers, suffixes and what marks an unfinished file are yet to come."""
    encoded = os.fsencode(name)
    return name if len(encoded) <= _LONGEST_STEM else encoded[:_LONGEST_STEM].decode(errors="ignore")


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested mappings and lists as one mapping, its names joined by dots."""
    pairs: Iterable[tuple[Any, Any]]
    if isinstance(values, Mapping) and values:
        pairs = values.items()
    elif isinstance(values, list) and values:
        pairs = enumerate(values)
    else:
        return {prefix: values}
    return {k: v for name, value in pairs for k, v in _flat(value, f"{prefix}.{name}".lstrip(".")).items()}


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep a second batch out of a folder; the hold ends with the process, however that ends.

    Raises
    ------
    ValueError
        If one is at work there.
    """
    from filelock import FileLock, Timeout

    if reason := why_not(folder / NAME):  # on Windows a lock that cannot be made counts as another's
        raise ValueError(f"{folder} cannot be written to: {reason}. Choose another folder.")
    lock = FileLock(folder / f".{NAME}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise ValueError(f"Another batch is at work in {folder}. Wait for it, or choose another folder.") from error
    except OSError as error:
        raise ValueError(f"{folder} cannot be written to: {error.strerror or error}. Choose another folder.") from error
    try:
        yield
    finally:
        lock.release()
