from __future__ import annotations

import dataclasses
import os
import sys
from unittest.mock import patch

import numpy as np
import pytest

pytest.importorskip("distributed")
from distributed import Client, LocalCluster
from test_stacks import SIDE, Movie, add, by_hand

from napari_neural_style import cluster
from napari_neural_style.viewer.stacks import stacks_folder
from window import KEY, endless, opened, press, run_to_the_end, wait_until

COUNT = 6
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def address():
    """A cluster of two worker processes, each with one thread for PyTorch."""
    workers = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "env": {"OMP_NUM_THREADS": "1"}}
    # Dask leaves its workers' environment in this process too.
    with patch.dict(os.environ), LocalCluster(**workers, dashboard_address=":0", silence_logs=50) as found:
        yield found.scheduler_address


@pytest.fixture
def movie(pair):
    return Movie(pair[0], COUNT)


@pytest.fixture
def dock(viewer, widget, quick):
    widget.settings = dataclasses.replace(quick, size=SIDE, steps=3, save_every=3)
    return widget


def test_a_cluster_paints_the_same_planes_and_a_failed_one_is_run_again(viewer, dock, movie, pair, address):
    content = add(viewer, dock, movie)
    opened(dock, "advanced")
    assert dock.scheduler.native.isVisible()
    assert dock.scheduler.native.accessibleName() == "Dask scheduler"
    dock.scheduler.value = f" {address}"
    movie.damaged = {3}
    run_to_the_end(dock)
    assert dock.message.value.startswith("5 of 6 planes done; 1 failed: t=3: It cannot be read: the chunk is damaged")
    result = viewer.layers[-1]
    assert not result.data[3].any()
    kept = np.asarray(result.data)
    movie.damaged = set()
    viewer.layers.selection = {result}
    dock._sections["results"].open()
    press(dock._results.missing)
    wait_until(lambda: dock._job is None)
    assert dock.message.value == "Done: all 6 planes."
    pixels = np.asarray(result.data)
    np.testing.assert_array_equal(np.delete(pixels, 3, 0), np.delete(kept, 3, 0))
    expected = by_hand(content, viewer, pair[1], dock.settings)
    # Plane 4 was painted while 3 was missing.
    np.testing.assert_array_equal(pixels[:4, ..., :3], expected[:4])
    assert result.metadata[KEY]["features_fingerprint"]
    assert result.metadata[KEY]["settings"]["device"] == "cpu"
    dock.chained.value = False
    run_to_the_end(dock)
    alone = by_hand(content, viewer, pair[1], dock.settings, chain=None)
    np.testing.assert_array_equal(np.asarray(viewer.layers[-1].data)[..., :3], alone)


def executing(client) -> int:
    return sum(client.run(lambda dask_worker: len(dask_worker.state.executing)).values())


def test_stop_and_closing_stop_the_cluster(viewer, dock, movie, address):
    add(viewer, dock, movie)
    dock.scheduler.value = address
    movie.held_at = 3  # of six planes the only one that features are not learned from
    movie.go.clear()
    with Client(address, set_as_default=False) as client:
        press(dock.run)
        wait_until(lambda: len(viewer.layers) == 4 and len(viewer.layers[-1].data.filled) == 3)
        press(dock.stop)
        movie.go.set()
        wait_until(lambda: dock._job is None)
        assert dock.message.value.startswith("Stopped; 3 of 6 planes done.")
        kept = viewer.layers[-1]
        assert kept.metadata[KEY]["stack"]["done"] == 3
        endless(dock)
        dock.chained.value = False
        press(dock.run)
        wait_until(lambda: executing(client) == 2)
        wait_until(lambda: dock.message.value.startswith("0 of 6 planes done, "))
        press(dock.stop)
        wait_until(lambda: dock._job is None)
        assert dock.message.value == "Stopped before the first plane was done."
        wait_until(lambda: not executing(client))
        press(dock.run)
        wait_until(lambda: executing(client) == 2)
        job = dock._job
        viewer.window.remove_dock_widget("all")
        assert job.wait(60)
        wait_until(lambda: not executing(client))
        wait_until(lambda: not any(client.processing().values()))
    assert np.asarray(kept.data)[:3, ..., 3].all()


def test_what_is_wrong_is_told_in_a_sentence(viewer, dock, movie, monkeypatch):
    monkeypatch.setattr(cluster, "PATIENCE", 1)
    add(viewer, dock, movie)

    def told(scheduler: str) -> str:
        dock.scheduler.value = scheduler
        run_to_the_end(dock)
        assert len(viewer.layers) == 3
        assert not stacks_folder().exists() or not list(stacks_folder().iterdir())
        return dock.message.value

    for wrong in ("host", "tcp://host:port", "what://host:1"):
        assert told(wrong) == f"{wrong!r} is not an address of a Dask scheduler, such as tcp://host:8786."
    assert told("tcp://127.0.0.1:9").startswith("No Dask scheduler answers at tcp://127.0.0.1:9: is it running")
    dock.scheduler.value = "tcp://127.0.0.1:8"
    assert dock.message.value == ""
    with patch.dict(os.environ), LocalCluster(n_workers=0, dashboard_address=":0", silence_logs=50) as empty:
        assert told(empty.scheduler_address) == "The scheduler has no workers."
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "distributed", None)
        assert 'pip install "napari-neural-style[cluster]"' in told("tcp://127.0.0.1:9")
    dock.scheduler.value = ""
    run_to_the_end(dock)
    assert dock.message.value == "Done: all 6 planes."
