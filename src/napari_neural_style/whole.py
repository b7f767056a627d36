"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def part_of(path: Path) -> Path:
    """Return where a file or folder is until it is whole."""
    return path.parent / f".{path.name}.part"


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write to; at the end it takes the place of `path`, after a fault it is removed."""
    path = path.resolve()  # of a link, what it leads to is replaced
    part = part_of(path)
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give the path of a folder to write beside `path`, as :func:`whole_file` does for a file."""
    path = path.resolve()
    part, old = part_of(path), path.with_name(f".{path.name}.old")
    shutil.rmtree(part, ignore_errors=True)
    try:
        yield part
        if path.exists():  # no folder takes the place of one that has something in it
            shutil.rmtree(old, ignore_errors=True)
            path.replace(old)
        part.replace(path)
    finally:
        if old.exists() and not path.exists():
            old.replace(path)
        for folder in (part, old):
            shutil.rmtree(folder, ignore_errors=True)
