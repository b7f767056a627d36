from __future__ import annotations

import gc

import pytest

from window import docked, wait_until


@pytest.fixture(autouse=True)
def _little_to_collect() -> None:
    """Keep what is there before a test out of garbage collection: napari collects at every layer that goes."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def viewer(make_napari_viewer, pair):
    viewer = make_napari_viewer(show=True)
    viewer.add_image(pair[1].copy(), name="waves", rgb=True)
    viewer.add_image(pair[0].copy(), name="cat", rgb=True)
    return viewer


@pytest.fixture
def widget(viewer, quick):
    widget = docked(viewer, quick)
    yield widget
    if widget._job is not None:
        job = widget._job
        job.stop()
        assert job.wait(60)
        wait_until(lambda: widget._job is None)
