"""Keeps Python's garbage collector, for which all threads stand still, from going through all there is during a run."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

_passed_over = False


def pass_over() -> None:
    """Let the collector pass over all there is until :func:`look_again`, and see only what comes after.

    Every dozen added layers lead it through the whole of napari and PyTorch, a quarter of a second on two loaded cores.
    """
    global _passed_over
    if _passed_over or not gc.get_freeze_count():  # what another program froze is that program's to thaw
        gc.freeze()
        _passed_over = True


def look_again() -> None:
    """Let the collector see everything."""
    global _passed_over
    if _passed_over:
        gc.unfreeze()
        _passed_over = False


def collect() -> None:
    """Collect all there is now."""
    look_again()
    gc.collect()


@contextlib.contextmanager
def lasting() -> Iterator[None]:
    """Collect nothing while things are made that are to last, and let them come to be old unseen."""
    collected = gc.isenabled()
    gc.disable()
    try:
        yield
        during_a_run = _passed_over
        pass_over()
        if not during_a_run:
            look_again()
    finally:
        if collected:
            gc.enable()
