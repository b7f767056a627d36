from __future__ import annotations

from collections.abc import Iterator
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor

from napari_neural_style.engine import inverse_hessian
from napari_neural_style.engine.inverse_hessian import InverseHessian, kept_in_full

SIZE, PAIRS = 43, 4


def dense(pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Return the inverse Hessian of BFGS by its definition, Nocedal and Wright (2006), equation 6.17."""
    step, change = pairs[-1]
    identity = torch.eye(SIZE, dtype=torch.float64)
    found = identity * (step.dot(step) / change.dot(change)).sqrt()
    for step, change in pairs:
        rho = 1 / step.dot(change)
        project = identity - rho * torch.outer(change, step)
        found = project.T @ found @ project + rho * torch.outer(step, step)
    return found


def walk(steps: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield steps on a quadratic, the change of its gradient and the gradient after it; one step finds it concave."""
    generator = torch.Generator().manual_seed(7)
    root = torch.randn(SIZE, SIZE, generator=generator, dtype=torch.float64)
    hessian = root @ root.T / SIZE + 0.1 * torch.eye(SIZE, dtype=torch.float64)
    gradient = torch.randn(SIZE, generator=generator, dtype=torch.float64)
    for number in range(steps):
        step = torch.randn(SIZE, generator=generator, dtype=torch.float64)
        change = hessian @ step * (-1 if number == 5 else 1)
        gradient = gradient + change
        yield step, change, gradient


@pytest.mark.parametrize("weight", [1.0, 1e12])
def test_it_is_that_of_bfgs_over_the_last_pairs_taken_up_again_or_not(weight):
    """Whatever the loss is multiplied with."""
    inverse = InverseHessian(PAIRS, torch.zeros(SIZE, dtype=torch.float64))
    pairs: list[tuple[Tensor, Tensor]] = []
    for number, (step, change, gradient) in enumerate(walk(12)):
        change, gradient = weight * change, weight * gradient
        inverse.add(step, change)
        if step.dot(change) > 0:
            pairs = [*pairs, (step, change)][-PAIRS:]
        assert inverse.count == len(pairs)
        torch.testing.assert_close(inverse.times(gradient), dense(pairs) @ gradient, rtol=1e-9, atol=1e-9)
        if number in (2, 8):
            state = {name: value.clone() for name, value in inverse.state().items()}
            inverse = InverseHessian(PAIRS, torch.zeros(SIZE, dtype=torch.float64))
            inverse.restore(state)


def test_on_an_apple_gpu_pairs_are_not_copied_by_index(monkeypatch: pytest.MonkeyPatch):
    """PyTorch 2.5 has no kernel for it there. A device that is called otherwise than where the products are is one."""
    real = Tensor.index_copy_

    def index_copy(into: Tensor, *arguments) -> Tensor:
        if into.shape[-1] == SIZE:
            raise NotImplementedError("aten::index_copy.out")
        return real(into, *arguments)

    monkeypatch.setattr(Tensor, "index_copy_", index_copy)
    inverse = InverseHessian(PAIRS, torch.zeros(SIZE, dtype=torch.float64))
    inverse._device = torch.device("cpu", 0)
    pairs: list[tuple[Tensor, Tensor]] = []
    for step, change, gradient in walk(5):
        inverse.add(step, change)
        pairs = [*pairs, (step, change)][-PAIRS:]
        torch.testing.assert_close(inverse.times(gradient), dense(pairs) @ gradient, rtol=1e-9, atol=1e-9)


def test_a_product_that_fails_can_be_made_again(monkeypatch: pytest.MonkeyPatch):
    """Memory may run out in it: the pair that was added counts once all the same."""
    inverse = InverseHessian(PAIRS, torch.zeros(SIZE, dtype=torch.float64))
    pairs: list[tuple[Tensor, Tensor]] = []
    for step, change, gradient in walk(5):
        inverse.add(step, change)
        pairs = [*pairs, (step, change)][-PAIRS:]
        with monkeypatch.context() as patched, pytest.raises(MemoryError):
            patched.setattr(torch.linalg, "solve_triangular", Mock(side_effect=MemoryError))
            inverse.times(gradient)
        torch.testing.assert_close(inverse.times(gradient), dense(pairs) @ gradient, rtol=1e-9, atol=1e-9)


def test_many_pairs_are_kept_in_half_precision_and_multiplied_in_parts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(inverse_hessian, "_IN_FULL", 0)
    monkeypatch.setattr(inverse_hessian, "_VALUES", 64)
    inverse = InverseHessian(PAIRS, torch.zeros(SIZE))
    pairs: list[tuple[Tensor, Tensor]] = []
    for step, change, gradient in walk(5):
        inverse.add(step.float(), change.float())
        pairs = [*pairs, (step, change)][-PAIRS:]
        expected = dense(pairs) @ gradient
        difference = inverse.times(gradient.float()).double() - expected
        assert difference.norm() < 0.02 * expected.norm()
    assert inverse.state()["pairs"].dtype == torch.bfloat16


def test_pairs_at_256_pixels_are_kept_in_full_and_those_at_512_are_not():
    assert kept_in_full(100, 3 * 256**2)
    assert not kept_in_full(32, 3 * 512**2)
