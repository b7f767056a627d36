from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from napari.settings import NapariSettings
from npe2 import PluginManifest

from window import docked, wait_until


@pytest.fixture(autouse=True, scope="session")
def _quick_windows() -> Iterator[None]:
    """Look for plugins once, and keep napari's settings in memory: a window opens in an eighth less time."""
    found = list(PluginManifest.discover())
    with (
        patch.object(PluginManifest, "discover", lambda paths=(): iter(found)),
        patch.object(NapariSettings, "_maybe_save", lambda _: None),
    ):
        yield


@pytest.fixture(autouse=True)
def _little_to_collect() -> None:
    """Keep what is there before a test out of garbage collection: napari collects at every layer that goes."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _nothing_to_learn(learned: Path) -> None:
    """Runs here are short."""


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
