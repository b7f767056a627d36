from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest

from napari_neural_style.viewer import clock, rest


def test_the_time_left_is_told_from_what_was_done_while_it_was_watched(monkeypatch):
    now = 100.0
    monkeypatch.setattr(clock, "time", SimpleNamespace(monotonic=lambda: now))
    watching = clock.Clock()
    assert watching.left(0.2) is None
    now += clock.SOONEST_GUESS / 2
    assert watching.left(0.3) is None
    now = 108.0
    assert watching.left(0.2) is None  # nothing was done
    assert watching.left(0.6) == pytest.approx(8.0)
    assert watching.left(1.0) == 0


def test_a_clock_that_goes_in_steps_makes_no_rest_longer(qtbot, monkeypatch):
    """Windows' does before Python 3.13, by 16 ms; here by a second, each time that it is looked at."""
    seconds = itertools.count()
    monkeypatch.setattr(rest, "time", SimpleNamespace(monotonic=seconds.__next__, perf_counter=lambda: 0.0))
    monkeypatch.setattr(rest, "REST", 1)
    after = rest.Rest()
    after.begin()
    qtbot.waitUntil(lambda: after.seconds != rest.FIRST_REST, timeout=60_000)
    assert after.seconds == rest.SHORTEST_REST
