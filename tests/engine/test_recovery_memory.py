"""Runs whose memory runs out go on and say so, or say what would fit."""

from __future__ import annotations

import dataclasses
import gc
import json
import subprocess
import sys
import weakref
from itertools import count

import numpy as np
import pytest
import torch

from napari_neural_style import StyleSettings, stylize
from napari_neural_style.engine.memory import LEAST_TILE, fitting_size
from napari_neural_style.engine.objective import Objective
from napari_neural_style.engine.optimizers import LBFGS, Adam
from napari_neural_style.engine.provenance import made_by
from napari_neural_style.engine.recovery import OutOfMemoryError, RecoveredWarning, is_out_of_memory, less_memory
from napari_neural_style.engine.transfer import features_for, go_on
from replay import assert_replayed

pytestmark = pytest.mark.usefixtures("learned")

NO_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: error code 12"),
    MemoryError(),
]


def fail_at(monkeypatch, owner, name: str, errors: dict[int, Exception]) -> None:
    """Let calls of a method fail, counted from 1."""
    real, calls = getattr(owner, name), count(1)

    def method(self, *arguments, **named):
        found = real(self, *arguments, **named)
        if (error := errors.get(next(calls))) is not None:
            raise type(error)(*error.args)
        return found

    monkeypatch.setattr(owner, name, method)


@pytest.mark.parametrize(("error", "call"), list(zip(NO_MEMORY, (1, 4, 7), strict=True)))
def test_an_evaluation_without_memory_is_done_in_tiles(pair, large, monkeypatch, error, call):
    with monkeypatch.context() as patched:
        fail_at(patched, Objective, "evaluate", {call: error})
        with pytest.warns(RecoveredWarning, match=f"Memory ran out at step {call}; it goes on with tile"):
            steps = list(stylize(*pair, large))
    end = steps[-1]
    assert [step.index for step in steps] == list(range(1, 9))
    assert end.settings.changes[call].keys() == {"tile"}
    assert len(end.notes) == len(made_by(end, {})["notes"]) == 1
    assert_replayed(pair, end)


def test_an_optimiser_without_memory_remembers_less(pair, large, monkeypatch):
    with monkeypatch.context() as patched:
        fail_at(patched, LBFGS, "_direction", {4: NO_MEMORY[0]})
        with pytest.warns(RecoveredWarning, match="history 16"):
            *_, end = stylize(*pair, large)
    assert end.settings.changes == {4: {"history": 16}}
    assert_replayed(pair, end)


def test_an_update_without_memory_takes_tiles_from_the_next_step_on(pair, large, monkeypatch):
    """Its step's evaluation is done."""
    with monkeypatch.context() as patched:
        fail_at(patched, Adam, "update", {4: NO_MEMORY[0]})
        with pytest.warns(RecoveredWarning, match="Memory ran out at step 4; it goes on with tile 80"):
            *_, end = stylize(*pair, dataclasses.replace(large, optimizer="adam", learning_rate=0.05))
    assert end.settings.changes == {5: {"tile": 80}}


@pytest.mark.parametrize(("name", "call"), [("enlarge", 1), ("at_scale", 2), ("make_optimizer", 2)])
def test_a_scale_that_cannot_be_entered_and_a_picture_that_cannot_be_shown(pair, large, monkeypatch, name, call):
    from napari_neural_style.engine import position

    real, calls = getattr(position, name), count(1)

    def without_memory(*arguments):
        if next(calls) == call:
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 5 bytes.")
        return real(*arguments)

    settings = dataclasses.replace(large, size=128, scales=2, optimizer="adam", learning_rate=0.05, tile=128)
    with monkeypatch.context() as patched:
        patched.setattr(position, name, without_memory)
        with pytest.warns(RecoveredWarning, match="Memory ran out"):
            *_, end = stylize(*pair, dataclasses.replace(settings, size=256))
    assert end.index == 8
    assert end.settings.changes == {2 if name == "enlarge" else 5: {"tile": 64}}
    assert_replayed(pair, end)


@pytest.mark.parametrize("goes_on", [False, True])
def test_memory_that_runs_out_before_there_is_an_optimiser(pair, quick, monkeypatch, goes_on):
    """At a size that no smaller tiles are there for."""
    from napari_neural_style.engine import position

    stopped = stylize(*pair, quick)
    snapshot = [next(stopped).snapshot() for _ in range(4)][-1]

    def run():
        return go_on(snapshot) if goes_on else stylize(*pair, quick)

    real, calls = position.make_optimizer, count(1)

    def without_memory(*arguments):
        if next(calls) == 1:
            raise MemoryError
        return real(*arguments)

    with monkeypatch.context() as patched, pytest.warns(RecoveredWarning, match="history"):
        patched.setattr(position, "make_optimizer", without_memory)
        *_, end = run()
    assert_replayed(pair, end)
    monkeypatch.setattr(position, "make_optimizer", lambda *_: (_ for _ in ()).throw(MemoryError()))
    with pytest.warns(RecoveredWarning), pytest.raises(OutOfMemoryError, match="memory runs out"):
        next(run())


def test_when_nothing_fits_it_says_what_would_and_keeps_what_there_is(pair, large, monkeypatch):
    fail_at(monkeypatch, Objective, "_up_and_back", dict.fromkeys(range(4, 99), NO_MEMORY[0]))
    seen = []
    with pytest.warns(RecoveredWarning), pytest.raises(OutOfMemoryError, match="Choose a size of 120 or less"):
        for step in stylize(*pair, large):
            seen.append(step)
    assert [(step.index, step.saved, step.gave_up) for step in seen][-2:] == [(3, False, False), (3, True, True)]
    assert np.isfinite(seen[-1].image).all()
    monkeypatch.undo()
    *_, end = stylize(*pair, large)
    assert end.settings.changes == {}


def test_images_that_do_not_fit_are_told_where_a_run_goes_on_too(pair, quick, monkeypatch):
    from napari_neural_style.engine import transfer

    steps = stylize(*pair, quick)
    snapshot = next(steps).snapshot()
    monkeypatch.setattr(transfer, "prepare", lambda *_: (_ for _ in ()).throw(NO_MEMORY[1]))
    for steps in (go_on(snapshot), stylize(*pair, quick)):
        with pytest.raises(OutOfMemoryError, match="memory runs out"):
            next(steps)
    with pytest.raises(OutOfMemoryError, match="memory runs out"):
        features_for(*pair, quick)


def test_what_fits():
    settings = StyleSettings(precision="float32")
    sizes = [fitting_size((4000, 6000), ["conv5_1"], settings, free) for free in (10**6, 10**9, 10**10, 10**11)]
    assert sizes == sorted(sizes)
    assert sizes[0] == 0
    assert sizes[-1] == 4500
    assert less_memory(dataclasses.replace(settings, tile=LEAST_TILE, history=1), 6000, False) == {}


def test_other_errors_are_not_taken_for_memory(pair, large, monkeypatch):
    fail_at(monkeypatch, Objective, "evaluate", {2: RuntimeError("a fault")})
    with pytest.raises(RuntimeError, match="a fault"):
        list(stylize(*pair, large))
    assert is_out_of_memory(NO_MEMORY[0])
    assert is_out_of_memory(RuntimeError("FIND was unable to find an engine to execute this computation"))
    assert not is_out_of_memory(OutOfMemoryError("told already"))


def test_an_adam_without_memory_changes_nothing():
    image = torch.ones(1, 3, 4, 5)
    adam = Adam(image, 0.1)
    before = {name: value.clone() for name, value in adam.state().items()}
    with pytest.MonkeyPatch.context() as patched, pytest.raises(MemoryError):
        patched.setattr(torch, "empty_like", lambda *_, **__: (_ for _ in ()).throw(MemoryError()))
        adam.update(torch.tensor(1.0), torch.ones_like(image))
    assert all(torch.equal(value, before[name]) for name, value in adam.state().items())
    assert torch.equal(image, torch.ones_like(image))


LIMITED = """
import hashlib, json, resource, sys, warnings
import numpy as np, torch
from napari_neural_style import StyleSettings, stylize
import psutil
torch.set_num_threads(1)
random = np.random.default_rng(0)
content, style = random.random((400, 400, 3)), random.random((64, 64, 3))
settings = StyleSettings.from_dict(json.loads(sys.argv[1]))
def run(settings):
    return [step for step in stylize(content, style, settings) if step.saved][-1]
# Before the limit, code is made for the tiles that come after it: oneDNN can crash where there is no room for that.
run(settings.__class__(**{**settings.to_dict(), "tile": 192, "steps": 1}))
process = psutil.Process()
allowed = int(sys.argv[2])
held = []
resource.setrlimit(resource.RLIMIT_AS, (process.memory_info().vms + allowed, resource.RLIM_INFINITY))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for _ in range(3):
        end = run(settings)
        held.append(process.memory_info().rss)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

def digest(step):
    return hashlib.sha256(step.image.tobytes()).hexdigest()

again = run(end.settings)
print(json.dumps({
    "grown": held[-1] - held[0], "notes": [str(w.message) for w in caught],
    "changes": end.settings.to_dict()["changes"], "image": digest(end), "again": digest(again),
}))
"""


def limited(settings: StyleSettings, allowed: int) -> dict:
    arguments = [sys.executable, "-c", LIMITED, json.dumps(settings.to_dict()), str(allowed)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the process's memory as Linux does")
def test_a_limit_of_the_system(quick):
    """Real allocations fail: the run takes tiles, gives memory back, and the next run works."""
    settings = dataclasses.replace(quick, size=400, steps=3, history=3)
    found = limited(settings, 140 * 2**20)
    assert any("Memory ran out" in note for note in found["notes"])
    assert any("tile" in turned for turned in found["changes"].values())
    assert found["image"] == found["again"]
    assert found["grown"] < 20e6


def test_a_run_that_failed_holds_nothing(pair, large, monkeypatch):
    fail_at(monkeypatch, Objective, "_up_and_back", dict.fromkeys(range(3, 99), NO_MEMORY[2]))
    made: list[weakref.ref] = []
    real = Objective.__init__

    def remembered(self, *arguments, **named):
        real(self, *arguments, **named)
        made.append(weakref.ref(self))

    monkeypatch.setattr(Objective, "__init__", remembered)
    with pytest.warns(RecoveredWarning), pytest.raises(OutOfMemoryError):
        list(stylize(*pair, large))
    gc.collect()
    assert made
    assert all(reference() is None for reference in made)
