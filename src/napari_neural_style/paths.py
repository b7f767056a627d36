"""Paths as people type them."""

from __future__ import annotations

from argparse import ArgumentTypeError
from pathlib import Path


def typed(text: str) -> str:
    """Return a path of the command line with a home folder in place of ``~``, which not every shell has put there.

    Raises
    ------
    ArgumentTypeError
        If it is empty, as a variable may be that was never set.
    """
    if not text:
        raise ArgumentTypeError("a path is expected, not nothing")
    return str(path_named(text)) if text.startswith("~") else text


def path_named(text: str) -> Path:
    """Return the path that a text names: as it is if that is there, else with ``~`` for a home folder."""
    path = Path(text)
    try:
        return path if path.exists() else path.expanduser()
    except RuntimeError:  # ~ of somebody unknown
        return path
