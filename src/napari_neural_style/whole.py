"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import platform
import re
import shutil
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""The system's numbers for a full disk."""
_MACHINE = f"{zlib.crc32(platform.node().encode()):08x}"
"""Tells processes of machines apart that write to one disk."""
_DAY = 86400
_HELD = 5.0
"""Seconds for which virus scanners and indexers on Windows may hold what was just written."""


def part_of(path: Path) -> Path:
    """Return where a file or folder is until it is whole, for whoever is the only one to write it."""
    return path.parent / f".{path.name}.part"


def own_part_of(path: Path) -> Path:
    """Return where this process has a file or folder until it is whole; another may write the same."""
    return path.parent / f".{path.name}.{_MACHINE}-{os.getpid()}.part"


def rename(whole: Path, path: Path) -> None:
    """Give a file or folder its name, in place of the file that has it.

    On Windows nothing that is open can be renamed, nor a folder around it; a scanner lets go of it after a moment.
    """
    end = time.monotonic() + _HELD
    while True:
        try:
            whole.replace(path)
            return
        except PermissionError:
            if sys.platform != "win32" or time.monotonic() >= end:
                raise
        time.sleep(0.05)


def why_not(path: Path) -> str:
    """Return why no file can be made where one is to be, or nothing: on Windows only the attempt tells."""
    part = own_part_of(path)
    try:
        part.touch(exist_ok=False)
    except FileExistsError:
        return ""
    except OSError as error:
        return str(error.strerror)
    with suppress(OSError):
        part.unlink()
    return ""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write to; at the end it takes the place of `path`, after a fault it is removed."""
    path = path.resolve()  # of a link, what it leads to is replaced
    _remove_abandoned(path.parent)
    part = own_part_of(path)
    try:
        yield part
        rename(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give the path of a folder to write beside `path`, as :func:`whole_file` does for a file."""
    path = path.resolve()
    _remove_abandoned(path.parent)
    part, old = own_part_of(path), path.with_name(f".{path.name}.old")
    shutil.rmtree(part, ignore_errors=True)
    try:
        yield part
        if path.exists():  # no folder takes the place of one that has something in it
            shutil.rmtree(old, ignore_errors=True)
            rename(path, old)
        rename(part, path)
    finally:
        if old.exists() and not path.exists():
            rename(old, path)
        for folder in (part, old):
            shutil.rmtree(folder, ignore_errors=True)


@cache  # it takes a while where there are very many files, as a batch may make
def _remove_abandoned(folder: Path) -> None:
    """Remove what processes that were killed have left of files and folders in one."""
    for part in folder.glob(".*.part"):
        owner = re.fullmatch(r"(?s)\..+\.([0-9a-f]{8})-(\d+)\.part", part.name)
        with suppress(OSError):
            if owner is not None and _is_abandoned(part, *owner.groups()):
                shutil.rmtree(part) if part.is_dir() else part.unlink()


def _is_abandoned(part: Path, machine: str, process: str) -> bool:
    if machine != _MACHINE:  # whose processes are not seen from here
        return time.time() - part.stat().st_mtime > _DAY
    import psutil

    return not psutil.pid_exists(int(process))
