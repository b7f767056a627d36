"""How long the viewer rests after a picture, so that drawing pictures does not slow the job down that makes them."""

from __future__ import annotations

import time

from qtpy.QtCore import QTimer

SHORTEST_REST = 0.1
"""Seconds between two saved steps or previews at least."""
REST = 70
"""After a preview the viewer rests this many times as long as it took to show, so that a slow canvas, which is drawn on
the job's own processor cores, does not slow the job down."""
DRAWN_MS = 5
"""Qt draws what changed a moment after it has; a timer of so many milliseconds comes when that is over."""
LONGEST_REST = 3.0
"""Seconds of rest at most, so that the picture is seen to go on."""
FIRST_REST = 0.5
"""Seconds of rest before the first preview has told what one takes; a picture with a layer to add tells nothing."""


class Rest:
    """Tells when the next preview may be shown.

    Attributes
    ----------
    seconds : float
        How long the viewer rests.
    until : float
        When it has rested (:func:`time.monotonic`).
    """

    def __init__(self) -> None:
        self.until = 0.0
        self.seconds = FIRST_REST

    @property
    def over(self) -> bool:
        """Whether a preview may be shown."""
        return time.monotonic() >= self.until

    def begin(self) -> None:
        """Show no preview before what is shown now is drawn, and for a while after."""
        started = time.perf_counter()  # before Python 3.13 Windows' monotonic clock goes in steps of 16 ms

        def drawn() -> None:
            taken = time.perf_counter() - started - DRAWN_MS / 1000
            self.seconds = min(max(REST * taken, SHORTEST_REST), LONGEST_REST)
            self.begin_again()

        self.until = time.monotonic() + LONGEST_REST  # until it is known
        QTimer.singleShot(DRAWN_MS, drawn)

    def begin_again(self) -> None:
        """Show no preview for as long as after the last one."""
        self.until = time.monotonic() + self.seconds
