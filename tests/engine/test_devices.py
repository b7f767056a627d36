"""Which devices can be used, on machines whose GPUs are stand-ins."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from napari_neural_style.engine.devices import available_devices, resolve_device
from napari_neural_style.viewer import choices

OLD, NEW = (6, 1), (8, 9)


@pytest.fixture
def gpus(monkeypatch):
    """Let a machine have GPUs of given generations, with a PyTorch that is built for given ones."""

    def have(*generations: tuple[int, int], built_for: str = "sm_75 sm_80 sm_90a"):
        there = {"initialized": False}
        for name, stand_in in (
            ("is_available", lambda: True),
            ("device_count", lambda: len(generations)),
            ("get_device_capability", lambda gpu: generations[gpu]),
            ("get_arch_list", built_for.split),
            ("init", lambda: there.update(initialized=True)),
            ("is_initialized", lambda: there["initialized"]),
        ):
            monkeypatch.setattr(torch.cuda, name, stand_in)
        monkeypatch.setattr(torch.version, "hip", None)

    return have


def test_before_pytorch_is_loaded_its_file_tells_whether_it_has_cuda(tmp_path, monkeypatch):
    said = Path(torch.version.__file__).read_text(encoding="utf-8")
    monkeypatch.setattr(choices, "find_spec", lambda name: SimpleNamespace(origin=str(tmp_path / "__init__.py")))
    monkeypatch.setattr(choices.ctypes, "CDLL", lambda name: None)  # there is a driver
    for cuda, reason in (("None", "this PyTorch was built without CUDA"), ("'13.0'", "")):
        (tmp_path / "version.py").write_text(re.sub("^(cuda.*= ).*", rf"\1{cuda}", said, flags=re.MULTILINE))
        assert choices._probed.__wrapped__("cuda") == reason


def test_a_gpu_that_pytorch_was_not_built_for_is_not_used(gpus, monkeypatch):
    gpus(OLD)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert resolve_device("auto") == torch.device("cpu")
    assert available_devices()["cuda:0"] == "this PyTorch is not built for its generation, sm_61"
    for name in ("cuda", "cuda:0"):
        with pytest.raises(ValueError, match=rf"'{name}' cannot be used: this PyTorch is not built .* Choose auto or"):
            resolve_device(name)


def test_the_first_gpu_that_can_be_used_is(gpus):
    gpus(OLD, NEW)
    assert resolve_device("auto") == resolve_device("cuda") == torch.device("cuda:1")
    with pytest.raises(ValueError, match="one of cuda:1, "):
        resolve_device("cuda:0")
    with pytest.raises(ValueError, match=r"'cuda:7' cannot be used\. "):
        resolve_device("cuda:7")


@pytest.mark.parametrize(
    ("generation", "built_for", "usable"),
    [
        ((8, 9), "sm_80", True),
        ((8, 0), "sm_86", False),
        ((9, 0), "sm_80", False),
        ((9, 0), "sm_80 compute_80", True),
        ((7, 5), "compute_80", False),
        ((12, 0), "sm_120", True),
        ((9, 0), "sm_90a", True),
        ((6, 1), "", True),
    ],
)
def test_code_is_for_a_generation_and_what_came_later(gpus, generation, built_for, usable):
    gpus(generation, built_for=built_for)
    assert (resolve_device("auto").type == "cuda") == usable


def test_asking_what_there_is_does_not_start_a_gpu(gpus):
    gpus(OLD)
    assert available_devices()["cuda:0"] == ""
    assert resolve_device("cpu") == torch.device("cpu")
    assert not torch.cuda.is_initialized()
