"""Memory that a run frees and takes again at every step stays with the process while the run lasts."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# glibc's numbers (malloc.h) of what mallopt sets, and what they are by default.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_USUAL = {_TRIM_THRESHOLD: 128 * 1024, _TOP_PAD: 128 * 1024, _MMAP_MAX: 65536}
# A thread's memory lies in pieces of 64 MB, which go back when they are empty unless that many bytes are to spare.
_KEEPING = {_TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 2**26, _MMAP_MAX: 0}

_lock = threading.Lock()
_users = 0


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") and hasattr(library, "mallopt") else None


@contextmanager
def kept_memory() -> Iterator[None]:
    """Keep what is freed until the last user leaves, then give it back to the system.

    Large blocks go back to the system when they are freed; the page faults of taking them again are about a tenth
    of a step on the CPU. Does nothing where the C library is not glibc.
    """
    global _users
    library = _glibc()
    if library is None:
        yield
        return
    with _lock:
        _users += 1
        if _users == 1:
            for name, value in _KEEPING.items():
                library.mallopt(name, value)
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                for name, value in _USUAL.items():
                    library.mallopt(name, value)
                give_back()


def give_back() -> None:
    """Give memory that is free in this process back to the system."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)
        # That leaves the last piece of a thread's memory, which goes when the thread frees 64 kB or more at once.
        bytearray(2**16 + 2**12)
