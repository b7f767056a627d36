"""What a run leaves on disk when it is over: where it stands if it was stopped, and a large picture with its levels."""

from __future__ import annotations

import contextlib
import shutil
import time
import uuid
import warnings
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from napari_neural_style.cache import cache_folder, newest_first
from napari_neural_style.viewer.large import keep_large
from napari_neural_style.viewer.preferences import ANOTHER_FOLDER
from napari_neural_style.viewer.stacks import LEFT_AFTER

if TYPE_CHECKING:
    from napari_neural_style.engine.step import Step
    from napari_neural_style.viewer.outputs import Place

KEPT_RUNS = 5
"""How many stopped runs can be gone on with; the oldest files go first."""


def runs_folder() -> Path:
    """Return where the files of stopped runs are kept."""
    return cache_folder() / "runs"


def to_go_on(steps: Iterator[Step], place: Place) -> Generator[Step]:
    """Yield steps; when they are stopped, write down where the run stands. A large last picture is written too."""
    for step in steps:
        if step.done >= 1:
            keep_large(step, place)
        try:
            yield step
        except GeneratorExit:
            if step.gave_up:
                next(steps)  # raises why, which whoever stopped it has not seen
            if step.done < 1:
                from napari_neural_style.engine.snapshot import write_snapshot

                run = f"{uuid.uuid4().hex}.safetensors"
                try:
                    write_snapshot(runs_folder() / run, step.snapshot())
                    place.run = run
                    _forget_old_runs()
                except OSError as error:
                    warnings.warn(
                        f"The picture is kept, but cannot be gone on with, since {runs_folder()} cannot be written to: "
                        f"{error}. {ANOTHER_FOLDER}",
                        stacklevel=2,
                    )
                keep_large(step.pictured(), place)
            raise


def _forget_old_runs() -> None:
    for path in newest_first(runs_folder().glob("*.safetensors"))[KEPT_RUNS:]:
        with contextlib.suppress(OSError):  # on Windows one may be in use
            path.unlink()
    for path in runs_folder().glob(".*.part"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > LEFT_AFTER:  # else another process may be writing it
                shutil.rmtree(path)
