"""A run of hours, in minutes: memory stays flat, previews are few, and nothing becomes slower."""

from __future__ import annotations

import time

import numpy as np
import psutil
import pytest

from counts import count
from window import endless, press, wait_until

STEPS = 10_000


@pytest.mark.soak
def test_ten_thousand_steps(viewer, widget):
    """At 64 pixels, with the window open; from the second tenth on, when everything is loaded."""
    endless(widget)
    widget.size.value, widget.steps.value = 64, STEPS
    seconds, resident, shown = {}, {}, []
    process, add = psutil.Process(), widget._runner.curve.add

    def noted(index: int, *values: float) -> None:
        seconds[index] = time.monotonic()
        resident[index] = process.memory_info().rss / 1e6
        add(index, *values)

    widget._runner.curve.add = noted
    press(widget.run)
    wait_until(lambda: len(viewer.layers) > 2)
    viewer.layers[-1].events.data.connect(lambda: shown.append(time.monotonic()))
    wait_until(lambda: widget._job is None, 3600)

    steps = np.array(sorted(seconds))
    times = np.array([seconds[step] for step in steps])

    def rate(low: float, high: float) -> float:
        inside = (steps >= low * STEPS) & (steps <= high * STEPS)
        return float(np.ptp(steps[inside]) / np.ptp(times[inside]))

    first, last = rate(0.05, 0.15), rate(0.9, 1.0)
    early = np.median([resident[step] for step in steps if 0.1 < step / STEPS < 0.2])
    late = np.median([resident[step] for step in steps if step / STEPS > 0.9])
    busiest = max(np.searchsorted(shown, at + 1.0) - i for i, at in enumerate(shown))
    print(f"\n{times[-1] - times[0]:.0f} s; {first:.2f} steps/s in the first tenth, {last:.2f} in the last;", end=" ")
    print(f"memory {early:.0f} MB, then {late:.0f} MB; at most {busiest} previews in a second")
    count("steps of one run", STEPS)
    assert last >= 0.97 * first
    assert late - early <= 20
    assert busiest <= 10
