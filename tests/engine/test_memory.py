from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from napari_neural_style import StyleSettings
from napari_neural_style.engine import memory
from napari_neural_style.engine.memory import (
    HOST_TILE,
    SIDES,
    check_room,
    chosen_tile,
    free_bytes,
    held_apart,
    state_bytes,
    step_bytes,
)
from napari_neural_style.engine.tiles import halo_of
from napari_neural_style.settings import LAYERS

CPU, CUDA = torch.device("cpu"), torch.device("cuda:0")
GB = 10**9


def tile(side: int, free: int, layers=("conv3_1",), device=CPU, styles: int = 0, **changes) -> int:
    settings = StyleSettings(**{"optimizer": "adam", "precision": "float32", **changes})
    return chosen_tile((side, side), styles, layers, settings, device, free)


def test_more_takes_more():
    for less, more in pairwise(LAYERS):
        assert step_bytes(1000, [less], "float32") < step_bytes(1000, [more], "float32")
    assert step_bytes(1000, ["conv3_1"], "float32") < step_bytes(1100, ["conv3_1"], "float32")
    assert step_bytes(1000, ["conv3_1"], "bfloat16") < step_bytes(1000, ["conv3_1"], "float32")
    assert step_bytes(1000, ["conv3_1"], "int8") < step_bytes(1000, ["conv3_1"], "float32")
    assert state_bytes(1000, "adam", 20) < state_bytes(1000, "lbfgs", 20) < state_bytes(1000, "lbfgs", 21)


def test_tiles_are_taken_when_the_whole_does_not_fit():
    assert tile(512, 16 * GB) == 0
    assert tile(6000, 16 * GB) in SIDES
    assert tile(6000, 1000 * GB) == 0
    assert tile(512, 16 * GB, styles=6000**2) in SIDES
    assert tile(3000, 40 * GB, history=1000, optimizer="lbfgs") in SIDES


@pytest.mark.parametrize("device", [CPU, CUDA])
@pytest.mark.parametrize("layers", [["conv3_1"], ["conv5_1"]])
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_tiles_are_the_largest_that_fit(device, layers, precision):
    sides = [tile(4000, free * GB, layers, device, precision=precision) for free in (4, 8, 16, 24)]
    assert sides == sorted(sides)
    for free, side in zip((4, 8, 16, 24), sides, strict=True):
        room = free * GB if device == CUDA else HOST_TILE
        seen = (side + 2 * halo_of(layers)) ** 2
        assert side == SIDES[-1] or step_bytes(seen, layers, precision) < room


def test_images_are_held_apart_from_a_device_that_they_would_fill():
    assert held_apart(5 * GB, CUDA, 8 * GB)
    assert not held_apart(2 * GB, CUDA, 8 * GB)
    assert not held_apart(5 * GB, CPU, 8 * GB)


def test_what_cannot_fit_gets_a_sentence():
    check_room((4000, 6000), StyleSettings(optimizer="adam"), 4 * GB)
    with pytest.raises(ValueError, match="a smaller history, or the optimizer adam"):
        check_room((4000, 6000), StyleSettings(), 4 * GB)


def test_there_is_memory():
    assert free_bytes(CPU) > 2**20


def test_what_pytorch_keeps_of_a_gpus_memory_is_free(monkeypatch):
    for name, found in (("mem_get_info", (100, 900)), ("memory_reserved", 500), ("memory_allocated", 200)):
        monkeypatch.setattr(torch.cuda, name, lambda device, found=found: found)
    assert free_bytes(CUDA) == 400


@pytest.mark.parametrize(
    ("line", "root", "names"),
    [
        ("0::/slurm/job", ".", ("max", "current", "inactive_file")),
        ("4:memory:/slurm/job", "memory", ("limit_in_bytes", "usage_in_bytes", "total_inactive_file")),
    ],
    ids=["version 2", "version 1"],
)
def test_what_a_container_leaves_is_what_is_free(tmp_path, monkeypatch, line, root, names):
    root = tmp_path / root
    job = root / "slurm" / "job"
    job.mkdir(parents=True)
    (tmp_path / "own").write_text(f"5:cpu,cpuacct:/else\n{line}\n")
    monkeypatch.setattr(memory, "_OWN_GROUP", tmp_path / "own")
    monkeypatch.setattr(memory, "_GROUPS", tmp_path)
    without = free_bytes(CPU)
    assert without > 300_000
    for group, limit in ((job, "max"), (root / "slurm", "1000000"), (root, "9000000")):
        (group / f"memory.{names[0]}").write_text(f"{limit}\n")
        (group / f"memory.{names[1]}").write_text("800000\n")
        (group / "memory.stat").write_text(f"anon 700000\n{names[2]} 100000\n")
    assert free_bytes(CPU) == 300_000
    (root / "slurm" / f"memory.{names[1]}").write_text("1200000\n")
    assert free_bytes(CPU) == 0
