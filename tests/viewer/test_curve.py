from __future__ import annotations

import gc
import math
import sys
import time
import weakref

import numpy as np
import pytest
from qtpy.QtWidgets import QApplication

from napari_neural_style.viewer.curve import MOST, LossCurve


@pytest.fixture
def viewer(make_napari_viewer):
    return make_napari_viewer(show=True)


@pytest.fixture
def curve(qtbot):
    """A curve alone: what a viewer has to do with is tested in one."""
    curve = LossCurve()
    qtbot.addWidget(curve)
    with qtbot.waitExposed(curve, timeout=60_000):
        curve.show()
    return curve


def wait_for_drawing(curve: LossCurve) -> None:
    """Let the event loop run until what was added is drawn."""
    end = time.monotonic() + 60
    while curve._timer.isActive():
        assert time.monotonic() < end
        QApplication.processEvents()
        time.sleep(0.01)


def drawn(curve: LossCurve, name: str) -> tuple[np.ndarray, np.ndarray]:
    assert curve.plot is not None
    x, y = curve.plot.lines[name].getData()
    return x, 10**y


def test_what_is_added_is_drawn_against_steps_or_seconds(curve):
    assert not curve.plot.isVisible()
    for step in range(1, 6):
        curve.add(step, step / 8, 300.0 / step, 100.0 / step, 200.0 / step)
    wait_for_drawing(curve)
    assert curve.plot.isVisible()
    for name, first in (("total", 300), ("content", 100), ("style", 200)):
        x, y = drawn(curve, name)
        np.testing.assert_array_equal(x, [1, 2, 3, 4, 5])
        np.testing.assert_allclose(y, first / x)
    assert curve.plot.x_axis.labelText == "step"

    curve.against.setCurrentText("seconds")
    np.testing.assert_array_equal(drawn(curve, "style")[0], np.arange(1, 6) / 8)
    assert curve.plot.x_axis.labelText == "time (s)"

    curve.clear()
    assert not curve.plot.isVisible()
    assert "appears here" in curve.legend.text()


def test_a_million_steps_keep_the_first_the_last_and_an_even_spacing(curve):
    for step in range(1, 1_000_001):
        curve.add(step, step / 10, 1 / step, 0.0, 1 / step)
    points = curve.points()
    assert MOST // 2 <= len(points) <= MOST + 1
    assert points[0, 0] == 1
    assert tuple(points[-1]) == (1_000_000, 100_000.0, 1e-6, 0.0, 1e-6)
    assert set(np.diff(points[:-1, 0])) == {curve._stride}


def test_zero_and_what_is_no_number_leave_gaps(curve):
    values = [0.0, 8.0, math.nan, 4.0, math.inf, 2.0, 1.0]
    for step, value in enumerate(values):
        curve.add(step, step, value, 0.0, math.nan if step % 2 else 1.0)
    wait_for_drawing(curve)
    QApplication.processEvents()
    y = drawn(curve, "total")[1]
    np.testing.assert_allclose(y, [math.nan, 8, math.nan, 4, math.nan, 2, 1])
    assert len(drawn(curve, "content")[0]) == 0
    assert "total" in curve.legend.text()
    assert "content" not in curve.legend.text()
    low, high = curve.plot.y_axis.range
    assert -1 < low < 0 < high < 2


def test_points_at_one_time_can_be_drawn(curve):
    curve.against.setCurrentText("seconds")
    for step in (1, 2):
        curve.add(step, 0.0, 1e-30, 1e30, 1e-30)
    wait_for_drawing(curve)
    curve.plot.grab()
    np.testing.assert_array_equal(drawn(curve, "total")[0], [0, 0])


def test_nothing_is_drawn_while_hidden(curve):
    curve.add(1, 1, 1, 1, 1)
    curve.hide()
    assert not curve._timer.isActive()
    curve.add(2, 2, 2, 2, 2)
    assert not curve._timer.isActive()
    curve.show()
    assert len(drawn(curve, "total")[0]) == 2


def test_every_range_has_legible_ticks(curve):
    axis = curve.plot.y_axis
    for low in np.linspace(-7, 7, 50):
        for height in (0.31, 0.5, 1, 2, 5, 30):
            ((_, ticks),) = axis.tickValues(low, low + height, 90)
            assert 2 <= len(ticks) <= 6
            assert np.diff(sorted(ticks)).min() >= height * 12 / 90
            assert len(set(axis.tickStrings(ticks, 1, 1))) == len(ticks)


def test_the_colours_follow_the_theme(viewer):
    curve = LossCurve()
    viewer.window.add_dock_widget(curve, name="Loss")
    QApplication.processEvents()
    for step in (1, 2):
        curve.add(step, step, 3, 1, 2)
    wait_for_drawing(curve)
    seen = []
    for theme, is_light in (("dark", True), ("light", False), ("dark", True)):
        viewer.theme = theme
        QApplication.processEvents()
        pen = curve.plot.lines["total"].opts["pen"].color()
        assert (pen.lightness() > 127) == is_light
        assert curve.plot.x_axis.textPen().color() == pen
        ground = curve.plot.grab().toImage().pixelColor(2, 2)
        assert (ground.lightness() < 127) == is_light
        seen.append([curve.plot.lines[name].opts["pen"].color().name() for name in ("content", "style")])
        assert all(color in curve.legend.text() for color in seen[-1])
    assert seen[0] == seen[2]
    assert not set(seen[0]) & set(seen[1])


def test_a_sentence_when_pyqtgraph_is_not_installed(viewer, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyqtgraph", None)
    monkeypatch.delitem(sys.modules, "napari_neural_style.viewer.loss_plot", raising=False)
    curve = LossCurve()
    viewer.window.add_dock_widget(curve)
    QApplication.processEvents()
    curve.add(1, 1, 1, 1, 1)
    curve.add(2, 2, 1, 1, 1)
    wait_for_drawing(curve)
    viewer.theme = "light"
    curve.clear()
    assert "pip install" in curve.legend.text()
    assert curve.plot is None


def test_closing_leaves_nothing(viewer):
    curve = LossCurve()
    dock = viewer.window.add_dock_widget(curve)
    QApplication.processEvents()
    for step in (1, 2):
        curve.add(step, step, 3, 1, 2)
    seen = weakref.ref(curve), weakref.ref(curve.plot), weakref.ref(curve._timer)
    viewer.window.remove_dock_widget(dock)
    assert not curve._timer.isActive()
    del curve, dock
    QApplication.processEvents()
    gc.collect()
    assert [ref() for ref in seen] == [None, None, None]
