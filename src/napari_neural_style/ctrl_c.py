"""Ctrl-C during a run: the first ends it after the present step, with its picture; the second ends it at once.

So does SIGTERM, which `kill`, a cluster whose time is up and a container that is stopped send.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

_SAID = b"\nStopping after this step; Ctrl-C again stops at once, without the picture.\n"
_USUAL: dict[int, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
"""What Python does at these signals by itself."""


class CtrlC:
    """Whether it was pressed.

    Attributes
    ----------
    waits : bool
        Whether there is a picture to keep, so that the first does not interrupt.
    pressed : bool
        Whether the run is to end after its present step.
    """

    def __init__(self) -> None:
        self.waits = False
        self.pressed = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.pressed or not self.waits:
            raise KeyboardInterrupt
        self.pressed = True
        with suppress(OSError):
            os.write(2, _SAID)  # print() may be in the midst of its work when a signal comes


def _is_ours(number: int) -> bool:
    """Tell whether a signal is neither ignored nor another's concern, as in a thread."""
    main = threading.current_thread() is threading.main_thread()
    return main and signal.getsignal(number) is _USUAL[number]


def leave_to_the_system() -> None:
    """Let Ctrl-C end the process without a word from now on: nothing is left to do."""
    if _is_ours(signal.SIGINT):
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def followed_ctrl_c(error: BaseException | None) -> bool:
    """Tell whether an exception is what Ctrl-C raised, or came while that was handled.

    Cleaning up may fail where Ctrl-C came in its midst: tqdm gives back a lock that it has not got yet.
    """
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


@contextmanager
def watched_ctrl_c() -> Iterator[CtrlC]:
    """Look out for Ctrl-C and SIGTERM, but for one that is ignored, as Ctrl-C after a shell's &, or another's."""
    found = CtrlC()
    watched = [number for number in _USUAL if _is_ours(number)]
    for number in watched:
        signal.signal(number, found._handle)
    try:
        yield found
    finally:
        for number in watched:
            signal.signal(number, _USUAL[number])
