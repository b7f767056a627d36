"""How long a job will still take."""

from __future__ import annotations

import time

SOONEST_GUESS = 1.0
"""Seconds that a job is watched before the time that is left is told."""


def timed(seconds: float) -> str:
    """Return a time in words that are short: 45 s, 3 min, 2.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Clock:
    """Estimates the time left from the share of the work that is done."""

    def __init__(self) -> None:
        self._started: tuple[float, float] | None = None

    def left(self, done: float) -> float | None:
        """Return the seconds left when a share `done` of the work is done, None if it cannot be told yet."""
        now = time.monotonic()
        if self._started is None:
            self._started = (now, done)
            return None
        since, first = self._started
        if done <= first or now - since < SOONEST_GUESS:
            return None
        return (now - since) * (1 - done) / (done - first)
