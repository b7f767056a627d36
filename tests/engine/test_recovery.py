"""Runs whose memory runs out, or whose numbers go wrong, go on and say so."""

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
from napari_neural_style.cli import main
from napari_neural_style.engine.memory import LEAST_TILE, fitting_size
from napari_neural_style.engine.objective import Objective
from napari_neural_style.engine.optimizers import LBFGS, Adam
from napari_neural_style.engine.provenance import made_by
from napari_neural_style.engine.recovery import (
    DivergedError,
    OutOfMemoryError,
    RecoveredWarning,
    is_out_of_memory,
    less_memory,
)
from napari_neural_style.engine.transfer import features_for, go_on

NO_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: error code 12"),
    MemoryError(),
]


@pytest.fixture
def large(quick) -> StyleSettings:
    """Large enough for tiles."""
    return dataclasses.replace(quick, size=160, scales=1, steps=8, save_every=4)


def fail_at(monkeypatch, owner, name: str, errors: dict[int, Exception]) -> None:
    """Let calls of a method fail, counted from 1."""
    real, calls = getattr(owner, name), count(1)

    def method(self, *arguments, **named):
        found = real(self, *arguments, **named)
        if (error := errors.get(next(calls))) is not None:
            raise type(error)(*error.args)
        return found

    monkeypatch.setattr(owner, name, method)


def assert_replayed(pair, end, **given) -> None:
    """A re-run from the provenance, without the fault, gives the same image and is silent."""
    settings = StyleSettings.from_dict(json.loads(json.dumps(made_by(end, {})))["settings"])
    *_, again = stylize(*pair, settings, **given)
    np.testing.assert_array_equal(again.image, end.image)
    assert again.settings == end.settings


@pytest.mark.parametrize("error", NO_MEMORY, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("call", [1, 4, 7])
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
        with pytest.warns(RecoveredWarning, match="history 10"):
            *_, end = stylize(*pair, large)
    assert end.settings.changes == {4: {"history": 10}}
    assert_replayed(pair, end)


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


def test_when_nothing_fits_it_says_what_would_and_keeps_what_there_is(pair, large, monkeypatch):
    fail_at(monkeypatch, Objective, "_up_and_back", dict.fromkeys(range(4, 99), NO_MEMORY[0]))
    seen = []
    with pytest.warns(RecoveredWarning), pytest.raises(OutOfMemoryError, match="Choose a size of 120 or less"):
        for step in stylize(*pair, large):
            seen.append(step)
    assert [(step.index, step.saved) for step in seen][-1] == (3, True)
    assert np.isfinite(seen[-1].image).all()
    monkeypatch.undo()
    *_, end = stylize(*pair, large)
    assert end.settings.changes == {}


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
    assert not is_out_of_memory(OutOfMemoryError("told already"))


def spoil(monkeypatch, owner, name: str, calls_at: set[int], value: float) -> None:
    """Let the gradient of some evaluations hold a wrong number."""
    real, calls = getattr(owner, name), count(1)

    def evaluate(self, image):
        values, gradient = real(self, image)
        if next(calls) in calls_at:
            gradient[0, 0, 3, 3] = value
        return values, gradient

    monkeypatch.setattr(owner, name, evaluate)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("call", [1, 3, 7])
@pytest.mark.parametrize("changes", [{}, {"optimizer": "adam", "learning_rate": 0.1}, {"precision": "bfloat16"}])
def test_a_gradient_that_goes_wrong_once(pair, large, monkeypatch, value, call, changes):
    settings = dataclasses.replace(large, preview_interval=0.1, size=48, **changes)
    with monkeypatch.context() as patched:
        spoil(patched, Objective, "evaluate", {call}, value)
        with pytest.warns(RecoveredWarning, match=f"Numbers went wrong at step {call}"):
            steps = list(stylize(*pair, settings))
    assert [step.index for step in steps] == list(range(1, 9))
    assert all(np.isfinite(step.image).all() for step in steps if step.image is not None)
    assert all(np.isfinite(step.losses.total) for step in steps)
    (turned,) = steps[-1].settings.changes.values()
    divided = 1 if "precision" in changes else 4 if "optimizer" in changes else 2
    assert turned["learning_rate"] == settings.learning_rate / divided
    assert turned.get("precision") == ("float32" if "precision" in changes else None)
    assert_replayed(pair, steps[-1])


def test_a_gradient_that_stays_wrong_ends_in_a_sentence(pair, large, monkeypatch):
    spoil(monkeypatch, Objective, "evaluate", set(range(6, 99)), float("nan"))
    seen = []
    with pytest.warns(RecoveredWarning) as caught, pytest.raises(DivergedError, match="Choose smaller"):
        for step in stylize(*pair, large):
            seen.append(step)
    assert any("optimizer adam" in str(each.message) for each in caught)
    assert seen[-1].saved
    assert np.isfinite(seen[-1].image).all()
    assert 0.05 < seen[-1].image.mean() < 0.95


def test_a_gpus_numbers_are_looked_at_now_and_then(pair, large, monkeypatch):
    """Steps that were told already are made again in silence; no picture is shown before it is known to be right."""
    settings = dataclasses.replace(large, preview_interval=3600.0, scales=1, steps=12, save_every=100)
    monkeypatch.setattr(
        "napari_neural_style.engine.recovery.Watch.due", lambda self, index, image: index % 5 == 0 or self.failures > 0
    )
    with monkeypatch.context() as patched:
        spoil(patched, Objective, "evaluate", {7}, float("nan"))
        with pytest.warns(RecoveredWarning, match="step 10: the run went back to step 4"):
            steps = list(stylize(*pair, settings))
    assert [step.index for step in steps] == list(range(1, 13))
    assert np.isfinite(steps[-1].image).all()
    assert_replayed(pair, steps[-1])


@pytest.mark.parametrize("changes", [{"learning_rate": 1e3}, {"learning_rate": 1e3, "optimizer": "adam"}], ids=str)
def test_steps_that_explode(pair, large, changes):
    settings = dataclasses.replace(large, size=48, preview_interval=0.1, **changes)
    with pytest.warns(RecoveredWarning, match="Numbers went wrong"):
        steps = list(stylize(*pair, settings))
    assert_sound(steps)
    assert_replayed(pair, steps[-1])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("changes", [{"style_weight": 1e12}, {"changes": {5: {"style_weight": 1e12}}}], ids=str)
def test_a_loss_that_overflows(pair, large, precision, changes):
    """Filters of a file whose numbers are far too large, and the largest weights that can be set."""
    layers = {"conv1_1": 1e12, "conv2_1": 1e12}
    settings = dataclasses.replace(
        large, size=48, precision=precision, style_layers=layers, normalization="paper", **changes
    )
    features = features_for(*pair, settings)
    blown = {name: (w * 1e4 ** (name == "conv1_1"), b * 1e4) for name, (w, b) in features.convolutions.items()}
    features = dataclasses.replace(features, convolutions=blown)
    with pytest.warns(RecoveredWarning, match="Numbers went wrong") as caught:
        steps = list(stylize(*pair, settings, features=features))
    assert any("style_weight" in str(each.message) for each in caught)
    assert_sound(steps)
    assert_replayed(pair, steps[-1], features=features)


def assert_sound(steps) -> None:
    assert [step.index for step in steps] == list(range(1, 9))
    assert all(np.isfinite(step.image).all() for step in steps if step.image is not None)
    assert 0.05 < steps[-1].image.mean() < 0.95
    assert steps[-1].image.std() > 0.05


def test_a_recovered_run_can_be_stopped_and_gone_on_with(pair, large, monkeypatch):
    with monkeypatch.context() as patched:
        spoil(patched, Objective, "evaluate", {3}, float("nan"))
        with pytest.warns(RecoveredWarning):
            for step in stylize(*pair, dataclasses.replace(large, precision="bfloat16")):
                if step.index == 5:
                    snapshot = step.snapshot()
    *_, end = go_on(snapshot)
    np.testing.assert_array_equal(end.image, step.image)


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
run(settings.__class__(**{**settings.to_dict(), "size": 64}))
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
    settings = dataclasses.replace(quick, size=400, steps=3, history=4)
    found = limited(settings, 210 * 2**20)
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


@pytest.mark.filterwarnings("default::napari_neural_style.engine.recovery.RecoveredWarning")
def test_command_line(pair, quick, tmp_path, monkeypatch, capsys):
    from PIL import Image

    for name, picture in zip(("content.png", "style.png"), pair, strict=True):
        Image.fromarray(np.asarray(picture, np.uint8)).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    words = ["stylize", "content.png", "style.png", "-o", "out.png", "--report", "report.json"]
    words += ["--size", "48", "--steps", "6"]
    words += ["--features", "self-taught", "--precision", "float32", "--device", "cpu"]
    words += ["--content-layers", "conv2_1=1", "--style-layers", "conv1_1=1,conv2_1=1"]
    with monkeypatch.context() as patched:
        spoil(patched, Objective, "evaluate", {3}, float("nan"))
        assert main(words) == 0
    assert "Numbers went wrong at step 3" in capsys.readouterr().err
    report = json.loads((tmp_path / "report.json").read_text())
    assert len(report["notes"]) == 1
    assert report["threads"] == torch.get_num_threads()
    assert [row["step"] for row in report["steps"]] == list(range(1, 7))
    spoil(monkeypatch, Objective, "evaluate", set(range(3, 99)), float("nan"))
    (tmp_path / "out.png").unlink()
    assert main(words) == 1
    assert "Choose smaller weights" in capsys.readouterr().err
    assert (tmp_path / "out.png").is_file()
