"""The window around a docked widget: its canvas's OpenGL, when it is drawn, and what goes when a dock is closed."""

from __future__ import annotations

from collections.abc import Iterator

from qtpy import PYSIDE6
from qtpy.QtCore import QPoint, Qt, QTimer
from qtpy.QtOpenGLWidgets import QOpenGLWidget
from qtpy.QtWidgets import QDockWidget, QLabel, QListView, QMainWindow, QWidget

from napari_neural_style.viewer.garbage import collect


def make_canvas_current(docked: QWidget) -> None:
    """Make the OpenGL context of the canvas beside a docked widget the current one.

    napari 0.9.2 deletes a removed layer's OpenGL objects in whichever context is current. That can be the one Qt
    composes the window in; the next drawing then reads freed memory, which ends the process.
    """
    window = _window_of(docked)
    if isinstance(window, QMainWindow) and window.centralWidget() is not None:
        canvas = window.centralWidget().findChild(QOpenGLWidget)
        if canvas is not None:
            canvas.makeCurrent()


def let_go(closed: QWidget) -> None:
    """Delete a widget whose dock was closed where nothing else would.

    Python's collector does not see that PySide6's widgets hold those inside them, and so never frees one of them that
    something inside refers to. Until what is left is collected, napari would tell it of every change.
    """
    if PYSIDE6:
        closed.destroyed.connect(lambda: QTimer.singleShot(0, collect))
        closed.deleteLater()


def draw_later(docked: QWidget, milliseconds: int) -> None:
    """Let the window of a docked widget be drawn again after a while, in a turn of the event loop of its own.

    Qt draws right after what changes, and what waits for the main thread waits for both.
    """
    window = _window_of(docked)
    window.setUpdatesEnabled(False)
    turn = QTimer(window, singleShot=True)  # the window's, which may be gone by then: nothing else may hold it
    turn.timeout.connect(lambda: turn.parent().setUpdatesEnabled(True))
    turn.timeout.connect(turn.deleteLater)
    turn.start(milliseconds)


def lay_out_now(docked: QWidget) -> None:
    """Lay out now what Qt would later, in the window of a docked widget, so that all that changed is drawn at once.

    New words move up through the layouts around them, one in each turn of the event loop, and the list of layers takes
    one more; Qt would compose the whole window in every one of them.
    """
    for widget in _upwards(docked):
        if widget.layout() is not None:
            widget.layout().activate()
    dock = _window_of(docked).findChild(QDockWidget, "layer list", Qt.FindChildOption.FindDirectChildrenOnly)
    layers = dock.findChild(QListView) if dock is not None else None
    if layers is not None:
        layers.indexAt(QPoint())  # a list is laid out before it answers


def hold_animations(docked: QWidget) -> None:
    """Hold napari's sign that something is in progress still, in the window of a docked widget.

    Qt composes the whole window for each of its frames; software OpenGL does that on the cores that a run needs. The
    animations of other plugins are left alone.
    """
    window = _window_of(docked)
    for label in window.statusBar().findChildren(QLabel) if isinstance(window, QMainWindow) else ():
        if (movie := label.movie()) is not None:
            movie.setPaused(True)


def _upwards(docked: QWidget) -> Iterator[QWidget]:
    above = docked
    while above is not None:
        yield above
        above = above.parentWidget()


def _window_of(docked: QWidget) -> QWidget:
    *_, window = _upwards(docked)  # a floating dock's is the window
    return window
