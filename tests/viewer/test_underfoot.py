"""Layers, docks and viewers that change or go away while a run uses them: no exception, no thread, nothing left."""

from __future__ import annotations

import gc
import random
import weakref

import numpy as np
import psutil
import pytest
from qtpy.QtWidgets import QApplication

from counts import cases, count
from loopback import address
from napari_neural_style.viewer.widget import StyleTransferWidget
from window import KEY, docked, endless, opened, press, run_to_the_end, wait_until


@pytest.fixture
def widget(viewer, widget):
    widget.content.value, widget.style.value = viewer.layers["cat"], viewer.layers["waves"]
    return widget


def remove(viewer, name: str) -> None:
    if name in viewer.layers:
        viewer.layers.remove(name)


def live_of(viewer):
    return next((layer for layer in viewer.layers if "live" in layer.name), None)


def change_live(viewer, change) -> None:
    if (live := live_of(viewer)) is not None:
        change(live)


def with_content(viewer, change) -> None:
    if "cat" in viewer.layers:
        change(viewer.layers["cat"])


MEDDLING = {
    "content deleted": lambda viewer: remove(viewer, "cat"),
    "style deleted": lambda viewer: remove(viewer, "waves"),
    "all deleted": lambda viewer: viewer.layers.clear(),
    "content renamed": lambda viewer: with_content(viewer, lambda cat: setattr(cat, "name", "dog")),
    "layers reordered": lambda viewer: viewer.layers.move(0, len(viewer.layers)),
    "content's pixels edited": lambda viewer: with_content(viewer, lambda cat: cat.data.__setitem__((..., 0), 0)),
    "content of another size": lambda viewer: with_content(
        viewer, lambda cat: setattr(cat, "data", np.zeros((7, 300, 3), np.uint8))
    ),
    "content moved": lambda viewer: with_content(viewer, lambda cat: setattr(cat, "scale", (7, -3))),
    "content hidden": lambda viewer: with_content(viewer, lambda cat: setattr(cat, "visible", False)),
    "live layer deleted": lambda viewer: change_live(viewer, viewer.layers.remove),
    "live layer renamed": lambda viewer: change_live(viewer, lambda live: setattr(live, "name", "mine")),
    "live layer of another size": lambda viewer: change_live(
        viewer, lambda live: setattr(live, "data", np.zeros((5, 5, 3), np.uint8))
    ),
    "metadata emptied": lambda viewer: [layer.metadata.clear() for layer in viewer.layers],
    "three dimensions": lambda viewer: setattr(viewer.dims, "ndisplay", 3),
    "a stack added": lambda viewer: viewer.add_image(np.zeros((3, 4, 20, 20), np.uint8), name="stack"),
    "axes swapped": lambda viewer: setattr(viewer.dims, "order", viewer.dims.order[::-1]),
}


def assert_nothing_left(widget, job) -> None:
    wait_until(lambda: widget._job is None)
    assert job._pool.activeThreadCount() == 0
    assert "unexpected" not in widget.message.value


def two_layers_anew(viewer, widget, pair) -> None:
    viewer.layers.clear()
    viewer.dims.ndisplay, viewer.dims.order = 2, (0, 1)
    viewer.add_image(pair[1], name="waves", rgb=True)
    viewer.add_image(pair[0].copy(), name="cat", rgb=True)
    widget.content.value, widget.style.value = viewer.layers["cat"], viewer.layers["waves"]


@pytest.mark.timeout(900)
def test_meddling_with_layers(viewer, widget, pair):
    endless(widget, save_every=5)
    for what, meddle in MEDDLING.items():
        print(what)  # pytest shows the last where something fails
        two_layers_anew(viewer, widget, pair)
        at = viewer.layers["cat"].data_to_world((79.5, 119.5))
        press(widget.run)
        job = widget._job
        if "live" in what or "metadata" in what:
            wait_until(lambda: len(viewer.layers) > 3)
        meddle(viewer)
        wait_until(lambda: any(layer.name.startswith("cat × waves") for layer in viewer.layers))
        meddle(viewer)
        viewer.dims.ndisplay = 2
        press(widget.stop)
        assert_nothing_left(widget, job)
        last = viewer.layers[-1] if what != "layers reordered" else [v for v in viewer.layers if "×" in v.name][-1]
        count("changes to layers in use")
        results = [layer for layer in viewer.layers if KEY in layer.metadata]
        assert results, "the picture so far is kept"
        if what not in ("live layer of another size", "layers reordered", "a stack added"):
            np.testing.assert_allclose(last.data_to_world((31.5, 47.5)), at)


def test_any_meddling_at_any_time(viewer, widget, pair):
    seed = random.randrange(10**6)
    print(f"seed {seed}")  # pytest shows it where something fails
    chance = random.Random(seed)
    for _ in range(cases(2, 60)):
        two_layers_anew(viewer, widget, pair)
        endless(widget, save_every=chance.choice((1, 7, 1000)))
        press(widget.run)
        job = widget._job
        for _ in range(chance.randrange(1, 6)):
            for _ in range(chance.randrange(60)):
                QApplication.processEvents()
            what = chance.choice(list(MEDDLING))
            MEDDLING[what](viewer)
            count("changes to layers in use")
        viewer.dims.ndisplay = 2
        press(widget.stop)
        assert_nothing_left(widget, job)


def test_stop_at_any_moment(widget, learned):
    endless(widget)
    said = []
    widget._runner.said.connect(said.append)
    for moment in ("at once", "Loading", "Learning", "Step 1 "):
        print(moment)  # pytest shows the last where something fails
        for path in learned.iterdir():
            path.unlink()
        said.clear()
        press(widget.run)
        job = widget._job
        if moment != "at once":
            wait_until(lambda moment=moment: any(words.startswith((moment, "Step")) for words in said))
        press(widget.stop)
        assert_nothing_left(widget, job)
        assert "Stopped" in widget.message.value
        assert widget.run.enabled
        count("stops")


def test_stop_during_a_download(widget, monkeypatch, server, whole_file):
    """The address is the server's; it sends a piece every 50 ms."""
    from napari_neural_style.engine import download

    monkeypatch.setattr(download, "torchvision_url", lambda: f"{address(server, whole_file)}?slow")
    widget.features.value = "pretrained"
    press(widget.download)
    job = widget._job
    wait_until(lambda: "Downloading" in widget.message.value)
    press(widget.stop)
    assert_nothing_left(widget, job)
    press(widget.download)
    wait_until(lambda: widget._job is None)
    assert widget.message.value == "Done."
    assert server.asked[-1][1].startswith("bytes=")
    count("stops")


def test_run_pressed_five_times(viewer, widget):
    widget.save_every.value = 6
    for _ in range(5):
        press(widget.run)
    wait_until(lambda: widget._job is None)
    assert sum("step 6" in layer.name for layer in viewer.layers) == 5


def test_two_docks_at_once(viewer, widget, quick):
    other = StyleTransferWidget(viewer)
    viewer.window.add_dock_widget(other, name="another")
    other.settings = quick
    press(widget.run)
    press(other.run)
    jobs = widget._job, other._job
    wait_until(lambda: widget._job is None and other._job is None)
    assert not any(job._pool.activeThreadCount() for job in jobs)
    assert sum("step 6" in layer.name for layer in viewer.layers) == 2
    opened(other, "results")
    run_to_the_end(widget)
    assert other._results.use.enabled


def test_two_docks_compare_as_one(viewer, widget):
    run_to_the_end(widget)
    other = StyleTransferWidget(viewer)
    dock = viewer.window.add_dock_widget(other, name="another")
    visible = [layer.visible for layer in viewer.layers]
    press(opened(widget, "results")._results.compare)
    press(opened(other, "results")._results.compare)
    assert widget._results.compare.text == "Compare"
    assert [layer.visible for layer in viewer.layers] == visible
    assert not viewer.canvas.grid.enabled
    press(other._results.compare)
    run_to_the_end(widget)
    assert not viewer.canvas.grid.enabled
    run_to_the_end(other)
    press(widget._results.compare)
    viewer.window.remove_dock_widget(dock)
    assert viewer.canvas.grid.enabled
    del other, dock
    QApplication.sendPostedEvents(None, 52)  # PySide6's is deleted, and is told of nothing any more
    QApplication.processEvents()
    press(widget._results.compare)
    assert not viewer.canvas.grid.enabled
    press(widget._results.compare)
    viewer.window.remove_dock_widget("all")
    assert not viewer.canvas.grid.enabled


def test_dock_closed_and_opened_again(viewer, widget, quick):
    for _ in range(cases(2, 20)):
        endless(widget)
        press(widget.run)
        job = widget._job
        wait_until(lambda: live_of(viewer) is not None)
        viewer.window.remove_dock_widget("all")
        assert job.wait(60)
        job.join()
        widget = docked(viewer, quick)
        count("docks closed during a run")
    press(widget.run)
    wait_until(lambda: widget._job is None)
    assert widget.message.value == "Done."


def test_runs_leave_no_memory(viewer, widget, monkeypatch):
    """A run grows the process by 1 MB at the most."""
    widget.steps.value = 3
    left: list[weakref.ref] = []
    begin = widget._runner.begin

    def noting(task, *others) -> bool:
        left.append(weakref.ref(task))
        return begin(task, *others)

    monkeypatch.setattr(widget._runner, "begin", noting)

    def run() -> None:
        press(widget.run)
        left.extend(map(weakref.ref, (widget._runner._outputs, widget._runner._steering)))
        wait_until(lambda: widget._job is None)
        for layer in [layer for layer in viewer.layers if "×" in layer.name]:
            viewer.layers.remove(layer)
        clear()

    def clear() -> None:
        QApplication.processEvents()
        QApplication.sendPostedEvents(None, 52)  # deferred deletions; napari.run()'s loop makes them by itself

    def megabytes() -> float:
        for _ in range(3):
            clear()
            gc.collect()
        return psutil.Process().memory_info().rss / 1e6

    def growth(times: int) -> float:
        before = megabytes()
        for _ in range(times):
            run()
        return megabytes() - before

    growth(3)  # loads what is loaded once
    runs = cases(5, 20)
    # What grows once is not left by every run.
    grown = min(growth(runs), growth(runs))
    print(f"{grown:.1f} MB")
    assert grown <= runs
    assert not [ref for ref in left if ref() is not None]
    count("runs watched for memory", 2 * runs)
