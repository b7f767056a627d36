from __future__ import annotations

import dataclasses
import os
from unittest.mock import Mock

import numpy as np
import torch

from napari_neural_style import stylize
from napari_neural_style.cli import main
from napari_neural_style.engine import feature_cache, self_taught


def test_the_second_run_learns_nothing_and_gives_the_same_picture(pair, quick, monkeypatch):
    *_, first = stylize(*pair, quick)
    assert len(feature_cache.entries()) == 1
    told = []
    *_, second = stylize(*pair, quick, progress=lambda message, fraction: told.append(message))
    assert not told
    assert second.fingerprint == first.fingerprint
    np.testing.assert_array_equal(second.image, first.image)


def test_other_images_seeds_learners_threads_and_versions_learn_afresh(pair, quick, monkeypatch):
    next(stylize(*pair, quick))
    next(stylize(*pair, dataclasses.replace(quick, seed=1)))
    next(stylize(*pair, dataclasses.replace(quick, pooling="max")))
    next(stylize(pair[1], pair[0], quick))
    monkeypatch.setattr(self_taught, "VERSION", "another")
    next(stylize(*pair, quick))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    next(stylize(*pair, quick))
    monkeypatch.setattr(torch, "__version__", "another")
    next(stylize(*pair, quick))
    assert len(feature_cache.entries()) == 7


def test_a_damaged_file_is_learned_again(pair, quick):
    fingerprint = next(stylize(*pair, quick)).fingerprint
    (path,) = feature_cache.entries()
    whole = path.read_bytes()
    for damaged in (b"", whole[:1000], whole[:-4] + b"abcd"):
        path.write_bytes(damaged)
        assert next(stylize(*pair, quick)).fingerprint == fingerprint
        assert feature_cache.load(path.stem).fingerprint == fingerprint


def test_a_cache_that_can_only_be_read_serves(pair, quick, monkeypatch):
    next(stylize(*pair, quick))
    (path,) = feature_cache.entries()
    monkeypatch.setattr(type(path), "touch", Mock(side_effect=PermissionError(13, "only to be read")))
    assert feature_cache.load(path.stem) is not None


def test_the_cache_does_not_grow_for_ever(pair, quick, monkeypatch):
    monkeypatch.setattr(feature_cache, "KEPT", 2)
    for seed in range(4):
        next(stylize(*pair, dataclasses.replace(quick, seed=seed)))
    assert len(feature_cache.entries()) == 2


def test_features_that_were_used_last_stay(pair, quick, monkeypatch):
    monkeypatch.setattr(feature_cache, "KEPT", 2)
    next(stylize(*pair, quick))
    (used,) = feature_cache.entries()
    next(stylize(*pair, dataclasses.replace(quick, seed=1)))
    for path in feature_cache.entries():
        os.utime(path, (1e9 + (path != used), 1e9 + (path != used)))
    next(stylize(*pair, quick))
    assert feature_cache.entries()[0] == used
    next(stylize(*pair, dataclasses.replace(quick, seed=2)))
    assert used in feature_cache.entries()


def test_features_in_use_stay_where_the_system_does_not_remove_them(pair, quick, monkeypatch, capsys):
    """As Windows does with a file that is mapped."""
    for seed in range(2):
        next(stylize(*pair, dataclasses.replace(quick, seed=seed)))
    used, _ = feature_cache.entries()
    real = type(used).unlink

    def unlink(path, **options):
        if path == used:
            raise PermissionError(13, "in use")
        real(path, **options)

    monkeypatch.setattr(type(used), "unlink", unlink)
    monkeypatch.setattr(feature_cache, "KEPT", 0)
    next(stylize(*pair, dataclasses.replace(quick, seed=2)))
    assert feature_cache.entries() == [used]
    assert main(["features", "list", "--clear"]) == 0
    said = capsys.readouterr().out
    assert "removed: 0" in said
    assert f"{used} cannot be removed" in said


def test_command_line_lists_and_clears(pair, quick, capsys):
    next(stylize(*pair, quick))
    assert main(["features", "list"]) == 0
    assert "sets of learned features: 1 in" in capsys.readouterr().out
    assert main(["features", "list", "--clear"]) == 0
    assert "removed: 1" in capsys.readouterr().out
    assert not feature_cache.entries()
