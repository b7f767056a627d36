"""What the command line prints; where it cannot be read, the work goes on."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

_logged: set[str] = set()


def have_streams() -> None:
    """Let there be streams to print to, which take what they cannot encode in another form."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by what started this
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - as long as Python
        if hasattr(stream := getattr(sys, name), "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def is_new(record: logging.LogRecord) -> bool:
    """Tell whether a log says something for the first time: tifffile says the same whenever a file is opened."""
    text = record.getMessage()
    new = text not in _logged
    _logged.add(text)
    return new


def tell(text: str, bar: Any = None, stream: TextIO | None = None) -> None:
    """Print a line, above a bar of tqdm's if there is one; a closed pipe or a full disk is no reason to end."""
    stream = stream or sys.stdout
    with suppress(OSError):
        if bar is None:
            print(text, file=stream)
        else:
            bar.write(text, file=stream)
    flush(stream)


def complain(text: object, bar: Any = None) -> None:
    """Print a line about what is wrong."""
    tell(f"napari-neural-style: {text}", bar, sys.stderr)


def flush(stream: TextIO) -> None:
    """Let what was printed go out, if it can."""
    try:
        stream.flush()
    except OSError:
        # What is left of it would fail again when Python ends.
        with suppress(OSError, ValueError), Path(os.devnull).open("w", encoding="utf-8") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())
