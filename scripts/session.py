"""A napari window with the dock, used as people do, for pictures of it; it needs a screen."""

# ruff: noqa: E402 - napari is imported when its settings are not the user's own any more
from __future__ import annotations

import dataclasses
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_own = tempfile.TemporaryDirectory(prefix="pictures-")
# Before napari is imported: neither its settings nor the plugin's are the user's own.
os.environ["NAPARI_CONFIG"] = f"{_own.name}/settings.yaml"
os.environ["NAPARI_NEURAL_STYLE_CONFIG"] = f"{_own.name}/config"
os.environ["NAPARI_NEURAL_STYLE_CACHE"] = f"{_own.name}/cache"

import napari
import numpy as np
from PIL import Image
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QWidget

from napari_neural_style import PRESETS

FOLDER = Path(__file__).parents[1] / "docs" / "pictures" / "guide"
PLUGIN = "napari-neural-style"
MOST_BYTES = 150_000
QUICK = {"size": 256, "scales": 2, "steps": 80, "save_every": 1000, "features": "self-taught"}


class Window:
    """A napari window of 1280 × 720 pixels with the dock, used as people do.

    Parameters
    ----------
    samples : str
        Keys of the sample pairs to open.
    settings : Any
        Settings other than those of a quick run.
    """

    def __init__(self, *samples: str, **settings: Any) -> None:
        self.viewer = napari.Viewer()
        self.native = self.viewer.window._qt_window
        self.native.resize(1280, 720)
        for key in samples:
            self.viewer.open_sample(PLUGIN, key)
        _, self.dock = self.viewer.window.add_plugin_dock_widget(PLUGIN, "Style Transfer")
        self.inputs, self.results = self.dock._inputs, self.dock._results
        # Not from the settings that the picture before was made with, which the dock holds again.
        self.dock.settings = dataclasses.replace(PRESETS["balanced"], **{**QUICK, **settings})
        self.wait(0.5)

    def choose(self, **settings: Any) -> None:
        """Fill fields."""
        self.dock.settings = dataclasses.replace(self.dock.settings, **settings)

    def open(self, section: str) -> Any:
        """Open a section of the dock, scroll to it, and return it."""
        found = self.dock._sections[section]
        found.open()
        self.wait(0.3)
        self.dock._scroll_area.verticalScrollBar().setValue(found.native.y())
        return found

    def press(self, control: Any) -> None:
        """Click a control, of magicgui or Qt."""
        native = getattr(control, "native", control)
        assert native.isEnabled()
        QTest.mouseClick(native, Qt.MouseButton.LeftButton)

    def run(self, **settings: Any) -> Any:
        """Press Run, wait for the end, and return the result's layer."""
        self.choose(**settings)
        self.press(self.dock.run)
        self.until(lambda: self.dock._job is None)
        return self.viewer.layers[-1]

    def until_step(self, step: int) -> None:
        """Wait until a run has reached a step."""
        points = self.dock._runner.curve.points
        self.until(lambda: len(points()) > 0 and points()[-1, 0] >= step)

    def until(self, condition: Callable[[], bool], seconds: float = 900) -> None:
        """Let the event loop run until a condition holds."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "waited in vain"
            QApplication.processEvents()
            time.sleep(0.005)

    def wait(self, seconds: float) -> None:
        """Let the event loop run."""
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() > end)

    def show_only(self, *layers: Any) -> None:
        """Hide all layers but some."""
        for layer in self.viewer.layers:
            layer.visible = layer in layers

    def look_at(self, layer: Any) -> None:
        """Let a layer fill the canvas."""
        (top, left), (bottom, right) = layer.extent.world
        self.viewer.scene.camera.center = ((top + bottom) / 2, (left + right) / 2)
        self.viewer.scene.camera.zoom = 0.95 * min(self.viewer.canvas.size / np.array([bottom - top, right - left]))

    def in_grid(self, rows: int, layers: dict[str, Any]) -> None:
        """Show layers under names of their own in napari's grid, the first at the bottom of the layer list."""
        self.show_only(*layers.values())
        for name, layer in layers.items():
            layer.name = name
            layer.name_overlay.visible = True
        grid = self.viewer.canvas.grid
        grid.stride, grid.shape, grid.enabled = 1, (rows, -1), True
        self.wait(0.5)
        self.viewer.reset_view()

    def save(self, name: str, part: Any = None) -> None:
        """Save the window with its menus, or the part of it where a widget is."""
        self.wait(1)
        image = Image.fromarray(self.viewer.screenshot(canvas_only=False, flash=False)).convert("RGB")
        origin = self.native.mapToGlobal(QPoint(0, 0))
        for menu in QApplication.topLevelWidgets():
            if menu.isVisible() and menu.windowType() == Qt.WindowType.Popup:
                at = menu.mapToGlobal(QPoint(0, 0)) - origin
                image.paste(grabbed(menu), (at.x(), at.y()))
        if part is not None:
            native = getattr(part, "native", part)
            at = native.mapTo(self.native, QPoint(0, 0))
            image = image.crop((at.x(), at.y(), at.x() + native.width(), at.y() + native.height()))
        write(image, name)

    def close(self) -> None:
        """End the run and close the window."""
        self.dock._queue.clear()
        if self.dock._job is not None:
            self.dock._job.stop()
            self.until(lambda: self.dock._job is None)
        self.viewer.close()
        self.wait(0.2)


@contextmanager
def window(*samples: str, **settings: Any) -> Iterator[Window]:
    """Open a window and close it after."""
    opened = Window(*samples, **settings)
    try:
        yield opened
    finally:
        opened.close()


def grabbed(widget: QWidget) -> Image.Image:
    """Return a picture of a widget alone."""
    path = f"{_own.name}/grabbed.png"
    widget.grab().save(path)
    return Image.open(path).convert("RGB")


def write(image: Image.Image, name: str) -> None:
    """Save a picture for docs/guide.md in as good a quality as its size allows."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / name
    for quality in (85, 78, 70, 60, 50):
        image.save(path, quality=quality, optimize=True)
        if path.stat().st_size <= MOST_BYTES:
            break
    print(f"{path.name}: {image.width} × {image.height}, {path.stat().st_size / 1000:.0f} kB", flush=True)
