"""Runs whose numbers go wrong go on and say so, or say what to do."""

from __future__ import annotations

import dataclasses
import json
import warnings
from contextlib import nullcontext
from itertools import count

import numpy as np
import pytest
import torch

from integers import needs_int8
from napari_neural_style import stylize
from napari_neural_style.cli import main
from napari_neural_style.engine import recovery
from napari_neural_style.engine.losses import Losses
from napari_neural_style.engine.objective import Objective
from napari_neural_style.engine.recovery import DivergedError, RecoveredWarning, Watch, WentWrongError
from napari_neural_style.engine.snapshot import read_snapshot, write_snapshot
from napari_neural_style.engine.tiling import TiledObjective
from napari_neural_style.engine.transfer import features_for, go_on
from napari_neural_style.report import write_report
from replay import assert_replayed

pytestmark = pytest.mark.usefixtures("learned")


def spoil(monkeypatch, owner, name: str, calls_at: set[int], value: float) -> list[None]:
    """Let the gradient of some evaluations hold a wrong number; return a list that grows by one at each."""
    real, calls = getattr(owner, name), []

    def evaluate(self, image):
        values, gradient = real(self, image)
        calls.append(None)
        if len(calls) in calls_at:
            gradient[0, 0, 3, 3] = value
        return values, gradient

    monkeypatch.setattr(owner, name, evaluate)
    return calls


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


def test_a_step_that_is_made_again_raises_the_content_weight_once(pair, large, monkeypatch):
    settings = dataclasses.replace(large, size=48, initial="noise", min_structure=0.95)
    with monkeypatch.context() as patched:
        spoil(patched, Objective, "evaluate", {6}, float("nan"))
        with pytest.warns(RecoveredWarning, match="step 6: the run went back to step 4"):
            steps = list(stylize(*pair, settings))
    assert_replayed(pair, steps[-1])


def test_numbers_that_go_wrong_after_memory_ran_out(pair, large, monkeypatch):
    """The steps that are made again are made in the smaller tiles."""
    real, calls = Objective.evaluate, count(1)

    def evaluate(self, image):
        if next(calls) == 4:
            raise MemoryError
        return real(self, image)

    with monkeypatch.context() as patched:
        patched.setattr(Objective, "evaluate", evaluate)
        spoil(patched, TiledObjective, "evaluate", {1}, float("nan"))
        with pytest.warns(RecoveredWarning) as caught:
            *_, end = stylize(*pair, large)
    assert [str(each.message).partition(";")[0] for each in caught] == [
        "Memory ran out at step 4",
        "Numbers went wrong at step 4: the run went back to step 2",
    ]
    assert_replayed(pair, end)


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


def test_adam_goes_on_where_lbfgs_failed(pair, large, monkeypatch):
    spoil(monkeypatch, Objective, "evaluate", {2, 3, 4}, float("nan"))
    with pytest.warns(RecoveredWarning):
        first, *_, last = stylize(*pair, dataclasses.replace(large, size=48, steps=20, min_structure=0.0))
    assert "optimizer adam" in last.notes[-1]
    assert last.losses.total < first.losses.total / 4


def test_where_the_first_step_goes_wrong_nothing_is_kept(pair, large, monkeypatch):
    """The picture that there is then is the one that it started from."""
    spoil(monkeypatch, Objective, "evaluate", set(range(2, 99)), float("nan"))
    seen = []
    with pytest.warns(RecoveredWarning), pytest.raises(DivergedError):
        for step in stylize(*pair, large):
            seen.append(step.index)
    assert seen == [1]


def test_a_report_tells_losses_that_are_no_numbers_as_null(pair, large, tmp_path):
    step = next(stylize(*pair, large))
    path = tmp_path / "report.json"
    wrong = Losses(["content conv1_1", "style conv1_1"], torch.tensor([float("nan"), 1.0]))
    write_report(path, step, [(1, 1, step.losses, 0.1), (2, 1, wrong, 0.2)], 0.3)
    rows = json.loads(path.read_text(), parse_constant=pytest.fail)["steps"]
    assert (rows[1]["total"], rows[1]["content"], rows[1]["style"]) == (None, None, 1.0)


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


@pytest.mark.parametrize("precision", ["float32", "bfloat16", pytest.param("int8", marks=needs_int8)])
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


def test_a_loss_of_nothing_is_no_fault(pair, quick):
    """At the end of the first scale any loss is many times what it was."""
    *_, last = stylize(pair[0], pair[0], dataclasses.replace(quick, size=64, scales=2, steps=30, color="free"))
    assert last.notes == ()
    assert last.losses.total < 1e-3


def test_the_loss_that_a_scale_begins_with_is_no_explosion(pair, large, monkeypatch):
    """A run that is gone on with near the end of a scale has seen small losses only."""
    monkeypatch.setattr(recovery, "EXPLODED", 10.0)
    settings = dataclasses.replace(large, scales=2, steps=40)
    steps = stylize(*pair, settings)
    snapshot = next(step for step in steps if step.index == 17).snapshot()
    rest = list(go_on(snapshot))
    assert rest[3].losses.total > 10 * max(step.losses.total for step in rest[:3])
    assert rest[-1].notes == ()


@pytest.mark.parametrize("stopped", [2, 4, 5, 7])
def test_a_recovered_run_can_be_stopped_and_gone_on_with(pair, large, monkeypatch, tmp_path, stopped):
    """What is turned depends on the failures before, and where it is turned on the image that was kept."""
    faults, path = {4, 7, 10}, tmp_path / "run.safetensors"
    with monkeypatch.context() as patched, pytest.warns(RecoveredWarning):
        evaluated = spoil(patched, Objective, "evaluate", faults, float("nan"))
        for step in stylize(*pair, dataclasses.replace(large, size=48, precision="bfloat16")):
            if step.index == stopped:
                write_snapshot(path, step.snapshot())
                done = len(evaluated)
    with monkeypatch.context() as patched, warnings.catch_warnings(action="ignore"):
        spoil(patched, Objective, "evaluate", {call - done for call in faults}, float("nan"))
        rest = list(go_on(read_snapshot(path)))
    assert [each.index for each in rest] == list(range(stopped + 1, 9))
    assert len(step.notes) == 3
    assert rest[-1].notes == step.notes
    assert rest[-1].settings == step.settings
    np.testing.assert_array_equal(rest[-1].image, step.image)


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


@pytest.mark.parametrize(
    ("begun", "loss", "explodes", "right"),
    [
        ((1.0, 2.0), 100.0, True, True),
        ((1.0, 2.0), 1e6, True, False),
        ((1.0, 2.0), 1e6, False, True),
        ((1.0, 1e4), 1e6, True, True),
        ((0.0, 0.0), 1.0, True, True),
    ],
)
def test_a_loss_is_beyond_all_measure_by_the_larger_of_the_first_two(begun, loss, explodes, right):
    watch = Watch()
    for each in (*begun, loss):
        watch.evaluated(torch.tensor(each), torch.zeros(3), explodes)
    with nullcontext() if right else pytest.raises(WentWrongError):
        watch.check()


def test_failures_that_are_far_apart_are_not_in_a_row():
    watch, failures = Watch(), []
    for step in (3, 8, 300, 301):
        watch.failed(step)
        failures.append(watch.failures)
    assert failures == [1, 2, 1, 2]


def test_noticing_asks_a_gpu_for_no_number():
    watch, image = Watch(), torch.zeros(1, 3, 4, 4, device="meta")
    for _ in range(4):
        watch.evaluated(image.sum(), image, explodes=True)
        watch.moved(image)
    with pytest.raises(RuntimeError, match="meta tensors"):
        watch.check()
