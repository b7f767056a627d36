from __future__ import annotations

from types import SimpleNamespace

import pytest

from napari_neural_style.viewer import clock


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
