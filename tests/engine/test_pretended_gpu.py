"""Whole runs on a GPU that PyTorch pretends to have: tensors have a device, a shape and a dtype, but no numbers.

Whatever takes a tensor from another device fails, as on a real one.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from napari_neural_style import stylize
from napari_neural_style.engine import feature_cache, resolving, self_taught
from napari_neural_style.engine.transfer import go_on


@pytest.fixture
def waits(monkeypatch) -> list[str]:
    """Pretend a GPU whose numbers are ones, and note what asks for them."""
    try:
        with FakeTensorMode():
            torch.ones(1).to("cuda")
    except (AssertionError, RuntimeError) as error:
        pytest.skip(f"this PyTorch pretends no GPU: {error}")
    asked: list[str] = []

    def give(name: str, value: object) -> None:
        monkeypatch.setattr(Tensor, name, lambda tensor: (asked.append(name), value)[1])

    for name, value in (("item", 1.0), ("__float__", 1.0), ("__int__", 1), ("__bool__", True)):
        give(name, value)
    monkeypatch.setattr(Tensor, "tolist", lambda tensor: [1.0] * tensor.numel())
    for name in ("numpy", "__array__"):
        monkeypatch.setattr(Tensor, name, lambda tensor, *_: np.full(tensor.shape, 0.5, str(tensor.dtype)[6:]))
    event = SimpleNamespace(synchronize=lambda: None)
    stream = SimpleNamespace(wait_stream=lambda other: None, record_event=lambda: event)
    for name, stand_in in (
        ("CUDAGraph", lambda: SimpleNamespace(replay=lambda: None)),
        ("Stream", lambda device: stream),
        ("current_stream", lambda device: stream),
        ("stream", nullcontext),
        ("device", nullcontext),
        ("graph", lambda graph, **_: nullcontext()),
        ("mem_get_info", lambda device: (2**34, 2**34)),
        ("memory_reserved", lambda device: 0),
        ("memory_allocated", lambda device: 0),
    ):
        monkeypatch.setattr(torch.cuda, name, stand_in)
    monkeypatch.setattr(resolving, "resolve_device", lambda name: torch.device("cuda:0"))
    monkeypatch.setattr(resolving, "resolve_precision", lambda name, device: torch.bfloat16)
    monkeypatch.setattr(feature_cache, "load", lambda key: None)
    monkeypatch.setattr(feature_cache, "store", lambda key, features: None)
    for module in (feature_cache, self_taught):
        monkeypatch.setattr(module, "fingerprint_of", lambda convolutions: "of no numbers")
    return asked


@pytest.mark.parametrize(
    ("changes", "guided"),
    [
        ({"scales": 2, "style_layers": {f"conv{block}_1": 1 for block in range(1, 6)}}, False),
        ({"color": "content", "optimizer": "adam", "tile": 32}, True),
        ({"pooling": "max", "padding": "zeros", "initial": "noise", "rescale_features": True}, False),
        ({"color": "free", "changes": {3: {"color": "style", "variation_weight": 4}}, "history": 2}, True),
    ],
    ids=["deep", "tiles", "rescaled", "turned"],
)
def test_a_run_takes_nothing_from_another_device_and_lets_no_gpu_wait(pair, quick, waits, changes, guided):
    content, style = pair
    regions: dict[str, np.ndarray] = {}
    if guided:
        regions["content_regions"] = np.arange(content.shape[0])[:, None] // 30 + np.zeros(content.shape[:2], int)
        regions["style_regions"] = 1 + np.arange(64)[:, None] // 32 + np.zeros((64, 64), int)
    settings = replace(quick, device="cuda", precision="auto", size=96, steps=8, preview_interval=3600, **changes)
    with FakeTensorMode(allow_non_fake_inputs=True):
        steps = stylize(content, style, settings, **regions)
        seen = [next(steps) for _ in range(6)]
        snapshot = seen[-1].snapshot()
        waits.clear()
        seen.append(next(steps))
        assert not waits  # nothing is looked at after a seventh step
        seen += steps
        assert [step.index for step in seen] == [1, 2, 3, 4, 5, 6, 7, 8]
        assert seen[-1].image.shape == (*seen[2].image.shape[:2], 3)
        assert [step.index for step in go_on(snapshot)] == [7, 8]
