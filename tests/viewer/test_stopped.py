"""What a run leaves on disk when it is stopped, without a window."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

from napari_neural_style import StyleSettings, stylize
from napari_neural_style.engine.objective import Objective
from napari_neural_style.engine.recovery import OutOfMemoryError, RecoveredWarning
from napari_neural_style.viewer import stopped
from napari_neural_style.viewer.layers import Plane, Spot
from napari_neural_style.viewer.outputs import Place
from napari_neural_style.viewer.stacks import LEFT_AFTER, new_stack_path, stacks_folder
from napari_neural_style.viewer.stopped import runs_folder, to_go_on


@pytest.fixture
def place() -> Place:
    return Place(Spot((48, 48), {}), Plane((0, 1), ()), "", {}, StyleSettings())


def test_a_stopped_run_that_cannot_be_written_down_keeps_its_picture(pair, quick, monkeypatch, tmp_path, place):
    (tmp_path / "file").write_bytes(b"no folder")
    monkeypatch.setenv("NAPARI_NEURAL_STYLE_CACHE", str(tmp_path / "file"))
    steps = to_go_on(stylize(*pair, quick), place)
    next(steps)
    with pytest.warns(UserWarning, match="The picture is kept, but cannot be gone on with"):
        steps.close()
    assert not place.run


def test_a_run_that_is_stopped_as_it_gives_up_says_why(pair, quick, monkeypatch, place):
    steps = to_go_on(stylize(*pair, quick), place)
    next(steps)
    monkeypatch.setattr(Objective, "evaluate", lambda *_: (_ for _ in ()).throw(MemoryError()))
    with pytest.warns(RecoveredWarning):
        assert next(steps).gave_up
    with pytest.raises(OutOfMemoryError, match="Choose"):
        steps.close()
    assert not place.run
    assert not runs_folder().exists()


@pytest.mark.parametrize("in_use", [False, True])
def test_old_runs_are_removed_and_those_that_cannot_be_do_no_harm(pair, quick, monkeypatch, place, in_use):
    """As on Windows, where one is in use."""
    monkeypatch.setattr(stopped, "KEPT_RUNS", 1)
    if in_use:
        monkeypatch.setattr(Path, "unlink", Mock(side_effect=PermissionError(13, "in use")))
    for _ in range(2):
        steps = to_go_on(stylize(*pair, quick), place)
        next(steps)
        steps.close()
    assert len(list(runs_folder().iterdir())) == 1 + in_use


def test_what_killed_processes_were_writing_is_removed_and_what_others_write_is_not():
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    names = [f".{dead.pid}-a.ome.zarr.part", f".{dead.pid}-b.ome.zarr.old", f".{os.getpid()}-c.ome.zarr.part"]
    parts = [runs_folder() / ".a.safetensors.part", *(stacks_folder() / name for name in names)]
    for path in parts:
        path.mkdir(parents=True)
    for now, left in ((0, parts), (2 * LEFT_AFTER, parts[3:])):
        for path in parts:
            os.utime(path, (path.stat().st_mtime - now,) * 2)
        stopped._forget_old_runs()
        new_stack_path()
        assert [path for path in parts if path.exists()] == left
