"""What a user does with a window: wait, click, run."""

from __future__ import annotations

import time

from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

KEY = "napari-neural-style"


def wait_until(condition, seconds: float = 120) -> None:
    """Let the event loop run until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        QApplication.processEvents()
        time.sleep(0.005)


def docked(viewer, settings):
    """Return the dock, opened in a viewer."""
    _, widget = viewer.window.add_plugin_dock_widget(KEY, "Style Transfer")
    widget.settings = settings
    return widget


def press(button) -> None:
    """Click a button as a mouse does."""
    assert button.enabled
    QTest.mouseClick(button.native, Qt.MouseButton.LeftButton)


def run_to_the_end(widget) -> None:
    """Press Run and wait until nothing runs or waits any more."""
    press(widget.run)
    wait_until(lambda: widget._job is None)


def endless(widget, save_every: int = 1_000_000) -> None:
    """Choose so many steps that only Stop ends the run."""
    widget.steps.value = 1_000_000
    widget.save_every.value = save_every


def opened(widget, section: str):
    """Press a section's button and return the widget."""
    press(widget._sections[section].toggle)
    return widget


def wait_for_another_picture(layer) -> None:
    """Wait until a live layer shows another picture."""
    before = layer.data
    wait_until(lambda: layer.data is not before)


def result_of(viewer):
    """Return the layer on top."""
    return viewer.layers[-1]
