"""Stopping, going on, and turning controls on the way."""

from __future__ import annotations

import dataclasses
import gc
import sys
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from integers import needs_int8
from napari_neural_style import StyleSettings, stylize
from napari_neural_style.engine import feature_cache, self_taught, transfer
from napari_neural_style.engine.recovery import RecoveredWarning
from napari_neural_style.engine.snapshot import read_snapshot, write_snapshot
from napari_neural_style.engine.steering import Steering
from napari_neural_style.engine.transfer import features_for, go_on

pytestmark = pytest.mark.usefixtures("learned")

STEPS = 14


def longer(quick: StyleSettings, **changes) -> StyleSettings:
    return dataclasses.replace(quick, **{"size": 64, "scales": 2, "steps": STEPS, "save_every": 100, **changes})


def snapshot_after(index: int, steps):
    for step in steps:
        if step.index == index:
            return step.snapshot()
    raise AssertionError


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer": "adam", "learning_rate": 0.05},
        {"precision": "bfloat16", "color": "content", "min_structure": 0.95},
        pytest.param({"precision": "int8"}, marks=needs_int8),
        {"changes": {3: {"color": "free"}, 5: {"style_weight": 90.0}, 12: {"color": "content"}}},
        {"changes": {2: {"content_weight": 0.0}, 4: {"content_weight": 1.0, "style_weight": 0.0}}},
        {"initial": "noise", "scales": 1, "min_structure": 0.0, "min_improvement": 0.095},  # stops at step 13
    ],
    ids=str,
)
def test_a_run_gone_on_with_gives_the_same_image(pair, quick, tmp_path, changes):
    settings = longer(quick, **changes)
    straight = list(stylize(*pair, settings))
    stopped = {}
    for step in stylize(*pair, settings):
        if step.index in (1, 6, 7, 11):
            stopped[step.index] = tmp_path / f"{step.index}.safetensors"
            write_snapshot(stopped[step.index], step.snapshot())
    for at, path in stopped.items():
        rest = list(go_on(read_snapshot(path)))
        assert [s.index for s in rest] == [s.index for s in straight[at:]], at
        assert [s.losses.total for s in rest] == [s.losses.total for s in straight[at:]], at
        np.testing.assert_array_equal(rest[-1].image, straight[-1].image, f"from step {at} on")
        assert rest[-1].settings == straight[-1].settings


def test_with_regions_and_a_first_picture(pair, quick, tmp_path):
    labels, style_labels = np.zeros(pair[0].shape[:2], int), np.full(pair[1].shape[:2], 3)
    labels[:, :20], labels[:, 20:50], labels[:, 50:90] = 2, 10, 3
    style_labels[:30], style_labels[30:, :20] = 10, 2
    given = {"content_regions": labels, "style_regions": style_labels, "initial": pair[1]}
    *_, straight = stylize(*pair, longer(quick), **given)
    path = tmp_path / "run.safetensors"
    snapshot = snapshot_after(5, stylize(*pair, longer(quick), **given))
    write_snapshot(path, snapshot)
    read = read_snapshot(path)
    assert list(read.sources.guides) == list(snapshot.sources.guides) == [2, 3, 10]
    *_, end = go_on(read)
    np.testing.assert_array_equal(end.image, straight.image)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at the process's memory as Linux tells it")
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_a_run_does_not_keep_the_file_it_goes_on_from(pair, quick, tmp_path, optimizer):
    """Windows removes no file that is mapped."""
    path = tmp_path / "run.safetensors"
    settings = longer(quick, optimizer=optimizer, learning_rate=0.1)
    write_snapshot(path, snapshot_after(5, stylize(*pair, settings)))
    steps = go_on(read_snapshot(path))
    next(steps)
    assert str(path) not in Path("/proc/self/maps").read_text()


def test_with_features_that_were_given(pair, quick, monkeypatch):
    settings = longer(quick)
    features = features_for(pair[1], pair[1], settings)
    with monkeypatch.context() as patched:
        patched.setattr(transfer, "prepare", Mock(side_effect=AssertionError("made ready to learn from")))
        *_, straight = stylize(*pair, settings, features=features)
        stopped = snapshot_after(5, stylize(*pair, settings, features=features))
        *_, end = go_on(stopped, features=features)
    np.testing.assert_array_equal(end.image, straight.image)
    assert "tensor(" not in repr((features, stopped))  # pages of numbers, in a notebook
    assert all(made != dataclasses.replace(made) for made in (features, stopped))  # tensors have no truth to compare by
    feature_cache.clear()
    with pytest.raises(ValueError, match="other features"):
        list(go_on(snapshot_after(5, stylize(*pair, settings, features=features))))


def test_learned_features_are_kept_for_it_whatever_would_be_learned_now(pair, quick, monkeypatch):
    *_, straight = stylize(*pair, longer(quick))
    snapshot = snapshot_after(5, stylize(*pair, longer(quick)))
    monkeypatch.setattr(self_taught, "learn", Mock(side_effect=AssertionError("learned anew")))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    *_, end = go_on(snapshot)
    np.testing.assert_array_equal(end.image, straight.image)


def test_features_are_learned_again_where_color_is_turned(pair, quick):
    """Those of grey pictures do not tell colours."""
    settings = longer(quick, color="content", steps=40, changes={3: {"color": "free"}})
    before, after = (features_for(*pair, dataclasses.replace(settings, color=color)) for color in ("content", "free"))
    steps = list(stylize(*pair, settings))
    assert [step.fingerprint for step in steps[:3]] == [before.fingerprint] * 2 + [after.fingerprint]
    *_, with_the_first = stylize(*pair, settings, features=before)
    palette = pair[1].mean((0, 1)) / 255
    errors = [np.abs(step.image.mean((0, 1)) - palette).mean() for step in (steps[-1], with_the_first)]
    assert errors[0] < 0.5 * errors[1]
    snapshot = snapshot_after(5, stylize(*pair, settings))
    feature_cache.clear()
    *_, end = go_on(snapshot)
    np.testing.assert_array_equal(end.image, steps[-1].image)


def test_what_was_turned_takes_effect_is_noted_and_replayed(pair, quick):
    steering = Steering()
    seen = []
    for step in stylize(*pair, longer(quick), steering=steering):
        seen.append(step)
        if step.index == 4:
            steering.turn(style_weight=160.0)
        if step.index == 8:
            steering.turn(color="content", variation_weight=0.5)
            steering.turn(color="free")
        if step.index == 10:
            steering.turn(save_every=3)
            steering.save_now()
    assert seen[-1].settings.changes == {
        5: {"style_weight": 160.0},
        9: {"color": "free", "variation_weight": 0.5},
        11: {"save_every": 3},
    }
    assert seen[3].settings.changes == {}
    assert seen[4].losses.style > 4 * seen[3].losses.style
    assert seen[7].losses.variation == 0 < seen[8].losses.variation
    assert [s.index for s in seen if s.saved] == [11, 12, STEPS]
    replayed = list(stylize(*pair, seen[-1].settings))
    assert [s.losses.total for s in replayed] == [s.losses.total for s in seen]
    np.testing.assert_array_equal(replayed[-1].image, seen[-1].image)


@pytest.mark.parametrize("scales", [1, 2])
@pytest.mark.parametrize("name", ["style_weight", "content_weight"])
def test_a_weight_that_begins_at_0_can_be_turned_up(pair, quick, name, scales):
    settings = longer(quick, scales=scales, optimizer="adam", learning_rate=0.05, changes={5: {name: 3.0}})
    settings = dataclasses.replace(settings, initial="noise", min_structure=0.0)
    steps = list(stylize(*pair, dataclasses.replace(settings, **{name: 0.0})))
    next_to_nothing = list(stylize(*pair, dataclasses.replace(settings, **{name: 1e-9})))
    term = name.removesuffix("_weight")
    assert [getattr(step.losses, term) > 0 for step in steps] == [False] * 4 + [True] * (STEPS - 4)
    for step, other in zip(steps, next_to_nothing, strict=True):
        assert step.losses.total == pytest.approx(other.losses.total, rel=1e-3)


def test_a_weight_that_is_turned_far_up_is_no_explosion(pair, quick):
    *_, end = stylize(*pair, longer(quick, scales=1, changes={6: {"style_weight": 1e9}}))
    assert end.notes == ()


def test_weights_that_would_all_be_0_are_not_turned(pair, quick):
    steering = Steering()
    steps = []
    with pytest.warns(RecoveredWarning, match="No setting was changed at step 4.*nothing is left to optimise"):
        for step in stylize(*pair, longer(quick, changes={2: {"content_weight": 0.0}}), steering=steering):
            steps.append(step)
            if step.index == 3:
                steering.turn(style_weight=0.0)
    assert steps[-1].index == STEPS
    assert steps[-1].settings.changes == {2: {"content_weight": 0.0}}
    assert "No setting was changed" in steps[-1].notes[0]


@pytest.mark.parametrize("turned", [{"size": 64}, {"style_weight": -1}, {"color": "red"}, {"nothing": 1}])
def test_what_cannot_be_turned_gets_a_sentence(turned):
    with pytest.raises(ValueError, match=next(iter(turned))):
        Steering().turn(**turned)


def test_a_snapshot_is_of_the_present_step(pair, quick):
    steps = stylize(*pair, longer(quick))
    first = next(steps)
    next(steps)
    with pytest.raises(RuntimeError, match="before the next step"):
        first.snapshot()
    *_, end = steps
    del steps
    gc.collect()
    with pytest.raises(RuntimeError, match="The run is over: hold its generator"):
        end.snapshot()


def test_files_that_are_no_runs_get_a_sentence(tmp_path, pair, quick):
    with pytest.raises(ValueError, match="no run to go on with"):
        read_snapshot(tmp_path / "none.safetensors")
    path = tmp_path / "run.safetensors"
    write_snapshot(path, snapshot_after(2, stylize(*pair, longer(quick))))
    whole = path.read_bytes()
    for size in (0, 7, 200, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="damaged"):
            read_snapshot(path)
    snapshot = snapshot_after(2, stylize(*pair, longer(quick)))
    with pytest.MonkeyPatch.context() as earlier:
        earlier.setattr("napari_neural_style.engine.snapshot.FORMAT", 1)
        write_snapshot(path, snapshot)
    with pytest.raises(ValueError, match="another version"):
        read_snapshot(path)
    other = dataclasses.replace(snapshot, fingerprint="0" * 64)
    with pytest.raises(ValueError, match="other features"):
        next(go_on(other))
    full = tmp_path / "run"
    full.write_text("a file where a folder should be")
    with pytest.raises(OSError, match="run"):
        write_snapshot(full / "x.safetensors", snapshot)
