from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref

from napari.utils import progress
from qtpy.QtWidgets import QApplication

from napari_neural_style.viewer.stopped import runs_folder
from napari_neural_style.viewer.worker import Job
from window import docked, endless, press, result_of, run_to_the_end, wait_for_another_picture, wait_until


def test_closing_the_dock_stops_the_run(viewer, widget):
    endless(widget)
    press(widget.run)
    wait_until(lambda: len(viewer.layers) > 2)
    job = widget._job
    viewer.window.remove_dock_widget("all")
    assert job.wait(60)
    assert viewer.layers[-1].name.startswith("cat × waves · step")
    assert not list(runs_folder().glob("*")), "no layer names it: nobody could go on with it"


def assert_released(gone: weakref.ref) -> None:
    for _ in range(5):
        QApplication.processEvents()
        QApplication.sendPostedEvents(None, 52)  # deferred deletions
        gc.collect()
    assert gone() is None


def test_closing_the_viewer_ends_a_paused_run_and_releases_the_widget(viewer, quick):
    widget = docked(viewer, quick)
    endless(widget)
    press(widget.run)
    wait_until(lambda: len(viewer.layers) > 2)
    press(widget.pause)
    gone, job = weakref.ref(widget), widget._job
    viewer.close()
    del widget
    QApplication.sendPostedEvents(None, 52)
    assert job.wait(60)
    assert_released(gone)


def test_closing_another_viewer_ends_no_run(viewer, widget, make_napari_viewer):
    other = make_napari_viewer()  # now the current one, with which napari notes the run
    endless(widget)
    press(widget.run)
    wait_until(lambda: len(viewer.layers) > 2)
    other.close()
    wait_for_another_picture(viewer.layers["cat × waves · live"])


def test_closing_the_dock_in_the_moment_of_a_start(viewer, widget, monkeypatch):
    """Showing progress, napari runs the event loop."""

    def closing(**described):
        viewer.window.remove_dock_widget("all")
        return progress(**described)

    monkeypatch.setattr("napari_neural_style.viewer.runner.progress", closing)
    widget.run.native.click()
    assert not progress._all_instances


def test_a_download_asked_for_in_the_moment_of_a_start_waits_for_nobody(viewer, widget, monkeypatch):
    def clicking(**described):
        widget._download()
        return progress(**described)

    with monkeypatch.context() as patched:
        patched.setattr("napari_neural_style.viewer.runner.progress", clicking)
        run_to_the_end(widget)
    assert result_of(viewer).name.endswith("step 6")


def test_a_saved_step_that_is_not_yet_added_is_kept(viewer, widget, monkeypatch):
    monkeypatch.setattr(Job, "_settle", lambda self, settle: None)
    endless(widget, save_every=5)
    press(widget.run)
    wait_until(lambda: widget._job._unsettled)
    viewer.window.remove_dock_widget("all")
    assert "cat × waves · step 5" in viewer.layers
    wait_until(viewer.window._qt_window.updatesEnabled)


def test_closing_the_dock_releases_the_widget(viewer, quick):
    widget = docked(viewer, quick)
    run_to_the_end(widget)
    gone = weakref.ref(widget)
    viewer.window.remove_dock_widget("all")
    del widget
    assert_released(gone)


CLOSING = """
import napari, numpy as np
from qtpy.QtCore import QTimer
from napari_neural_style import StyleSettings
for way in "close", "quit":
    viewer = napari.Viewer()
    for name in "ab":
        viewer.add_image(np.random.rand(64, 64, 3), name=name, rgb=True)
    _, widget = viewer.window.add_plugin_dock_widget("napari-neural-style", "Style Transfer")
    widget.settings = StyleSettings(size=48, scales=1, steps=100000, save_every=100000, features="self-taught",
        content_layers={"conv2_1": 1.0}, style_layers={"conv1_1": 1.0}, device="cpu")
    widget.run.native.click()
    job = widget._job
    def look():
        if len(viewer.layers) > 2:
            timer.stop()
            print("running", flush=True)
            viewer.window._qt_window.close(quit_app=True) if way == "quit" else viewer.close()
    timer = QTimer(); timer.timeout.connect(look); timer.start(50)
    napari.run()
    print(way, "ended", job.wait(60), flush=True)
"""


def test_closing_the_window_ends_the_process(tmp_path):
    """A real process, two windows after each other: no run must keep it alive."""
    kept = os.environ | {"NAPARI_NEURAL_STYLE_CACHE": str(tmp_path)}
    found = subprocess.run(
        [sys.executable, "-c", CLOSING], capture_output=True, text=True, timeout=240, cwd=tmp_path, env=kept
    )
    assert found.stdout.splitlines() == ["running", "close ended True", "running", "quit ended True"], found.stderr
    assert found.returncode == 0
    assert not list(tmp_path.glob("runs/*")), "no layer names it: nobody could go on with it"
