"""The bookkeeping around a CUDA graph, with one that computes on the CPU when it is replayed."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
import torch

from napari_neural_style.engine import graph
from napari_neural_style.engine.graph import Recorded
from napari_neural_style.engine.losses import Losses
from napari_neural_style.engine.recovery import RecoveredWarning


class Doubling:
    """An objective whose terms are α Σ x, 0 and γ Σ x, and which counts its evaluations."""

    names = ("content", "style", "variation")

    def __init__(self):
        self.evaluations, self.fails = 0, False
        self.weigh(2.0, 0.0, 0.0)

    def weigh(self, *weights):
        self.weights, self.varies = weights, weights[2] != 0

    def __call__(self, image):
        values, gradient = self.evaluate(image)
        return Losses(self.names, values), values.sum(), gradient

    def evaluate(self, image):
        self.evaluations += 1
        if self.fails:
            raise torch.OutOfMemoryError
        return torch.tensor(self.weights) * image.sum(), torch.full_like(image, sum(self.weights))


@pytest.fixture
def objective(monkeypatch) -> Doubling:
    """On a machine whose GPU is a stand-in."""
    objective = Doubling()

    class Graph:
        def replay(self):
            _, image, values, gradient, _ = objective.recorded._recording
            for kept, found in zip((values, gradient), objective.evaluate(image), strict=True):
                kept.copy_(found)

    stream = SimpleNamespace(wait_stream=lambda other: None)
    for name, stand_in in (
        ("CUDAGraph", Graph),
        ("Stream", lambda device: stream),
        ("current_stream", lambda device: stream),
        ("stream", nullcontext),
        ("device", nullcontext),
        ("graph", lambda graph, **_: nullcontext()),
    ):
        monkeypatch.setattr(graph.torch.cuda, name, stand_in)
    return objective


def total_at(recorded: Recorded, value: float) -> tuple[float, float]:
    losses, total, gradient = recorded(torch.full((1, 3, 2, 2), value))
    assert losses.total == float(total)
    return float(total), float(gradient[0, 0, 0, 0])


def test_what_is_replayed_sees_the_image_and_the_weights(objective):
    recorded = objective.recorded = Recorded(objective)
    assert [total_at(recorded, value) for value in (1.0, 3.0)] == [(24.0, 2.0), (72.0, 2.0)]
    before = objective.evaluations
    recorded.weigh(5.0, 0.0, 0.0)
    assert total_at(recorded, 1.0) == (60.0, 5.0)
    assert objective.evaluations == before + 1  # not recorded again
    recorded.weigh(5.0, 0.0, 1.0)
    assert total_at(recorded, 1.0) == (72.0, 6.0)
    assert objective.evaluations > before + 3


@pytest.mark.parametrize("recorded_before", [False, True])
def test_where_recording_fails_the_next_call_records_again(objective, recorded_before):
    recorded = objective.recorded = Recorded(objective)
    if recorded_before:
        total_at(recorded, 1.0)
    recorded.weigh(5.0, 0.0, 1.0)
    objective.fails = True
    with pytest.raises(torch.OutOfMemoryError):
        total_at(recorded, 1.0)
    objective.fails = False
    assert total_at(recorded, 3.0) == (216.0, 6.0)
    assert not torch.backends.cudnn.benchmark


def test_what_cannot_be_recorded_is_done_all_the_same(objective, monkeypatch):
    @contextmanager
    def refused(graph, **_):
        yield
        raise RuntimeError("operation not permitted when stream is capturing\nCompile with ...")

    monkeypatch.setattr(graph.torch.cuda, "graph", refused)
    recorded = Recorded(objective)
    with pytest.warns(RecoveredWarning, match="could not be recorded, .*: operation not permitted when .* capturing$"):
        assert total_at(recorded, 1.0) == (24.0, 2.0)
    before = objective.evaluations
    recorded.weigh(5.0, 0.0, 1.0)
    assert total_at(recorded, 1.0) == (72.0, 6.0)
    assert objective.evaluations == before + 1  # nobody tries again
