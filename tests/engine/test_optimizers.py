from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch

from napari_neural_style.engine import optimizers
from napari_neural_style.engine.losses import total_variation
from napari_neural_style.engine.optimizers import LBFGS, Adam


def test_adam_on_total_variation_gives_the_published_losses():
    """Numbers published by pystiche for an optimisation that anyone can repeat."""
    torch.manual_seed(0)
    image = torch.rand(1, 3, 32, 32)
    assert image.flatten()[:3].tolist() == pytest.approx([0.49625659, 0.7682218, 0.08847743])
    adam = Adam(image, 0.1)
    losses = []
    for _ in range(5):
        variable = image.detach().requires_grad_()
        loss = total_variation(variable)
        (gradient,) = torch.autograd.grad(loss, variable)
        losses.append(loss.item())
        adam.update(loss.detach(), gradient)
    losses.append(total_variation(image).item())
    published = [0.33211187, 0.16511130, 0.07303085, 0.03559011, 0.02976791, 0.0376234]
    assert losses == pytest.approx(published, rel=1e-4)


def test_lbfgs_solves_a_quadratic():
    generator = torch.Generator().manual_seed(3)
    matrix = torch.randn(12, 12, generator=generator, dtype=torch.float64)
    matrix = matrix @ matrix.T + torch.eye(12, dtype=torch.float64)
    solution = torch.randn(12, generator=generator, dtype=torch.float64)
    image = torch.zeros(1, 3, 2, 2, dtype=torch.float64)
    lbfgs = LBFGS(image, 1.0, 12)
    for _ in range(80):
        error = image.flatten() - solution
        lbfgs.update(error @ matrix @ error / 2, (matrix @ error).view_as(image))
    torch.testing.assert_close(image.flatten(), solution, rtol=0, atol=1e-6)


def test_lbfgs_takes_back_a_step_that_raises_the_loss():
    """On |x|^1.2 the gradient explodes near 0, where plain quasi-Newton steps overshoot."""
    image = torch.tensor([3.0, -2.0], dtype=torch.float64).view(1, 2, 1, 1)
    lbfgs = LBFGS(image, 1.0, 5)
    best = float("inf")
    for _ in range(200):
        loss = image.abs().pow(1.2).sum()
        best = min(best, float(loss))
        lbfgs.update(loss, 1.2 * image.sign() * image.abs().pow(0.2))
    assert best < 1e-3
    assert float(image.abs().pow(1.2).sum()) <= 1


@pytest.mark.parametrize(("minimum", "taken"), [(0.2, 0.2), (0.4, 0.4), (0.03, 0.1)])
def test_lbfgs_shortens_a_step_to_the_minimum_of_a_parabola_through_it(minimum: float, taken: float):
    """Where that is not too near to where it began."""
    image = torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    lbfgs = LBFGS(image, 1.0, 5)
    for _ in range(2):
        error = image - minimum * LBFGS._FIRST_STEP
        lbfgs.update(error.square().sum(), 2 * error)
    assert image.item() == pytest.approx(taken * LBFGS._FIRST_STEP)


def test_lbfgs_tries_another_step_when_one_stays_bad_however_short():
    image = torch.zeros(1, 1, 1, 2, dtype=torch.float64)
    lbfgs = LBFGS(image, 1.0, 5)
    for loss in (2.0, 1.0):
        start = image.clone()
        lbfgs.update(torch.tensor(loss), torch.ones_like(image))
        step = image - start
        for trial in range(1, LBFGS._MOST_TRIALS + 1):
            lbfgs.update(torch.tensor(100.0), torch.ones_like(image))
            torch.testing.assert_close(image, start + step * 0.1**trial)
        lbfgs.update(torch.tensor(100.0), torch.ones_like(image))
        torch.testing.assert_close(image, start + step)


@pytest.mark.parametrize(("rise", "goes_on"), [(1e-4, True), (1e-2, False)])
def test_lbfgs_takes_rounding_for_no_rise(rise: float, goes_on: bool):
    image = torch.zeros(1, 1, 1, 1)
    lbfgs = LBFGS(image, 1.0, 5)
    lbfgs.update(torch.tensor(1.0), torch.ones_like(image))
    first = image.clone()
    lbfgs.update(torch.tensor(1 + rise), torch.ones_like(image))
    assert (abs(image) > abs(first)).item() == goes_on


def test_lbfgs_goes_to_a_far_minimum_in_steps_that_are_no_longer_than_the_longest():
    image = torch.full((1, 3, 2, 2), 100.0)
    lbfgs, before = LBFGS(image, 1.0, 5), []
    for _ in range(5):
        before.append(image.clone())
        lbfgs.update(image.square().sum() / 2, image.clone())
    lengths = [(later - sooner).square().mean().sqrt().item() for sooner, later in pairwise([*before, image])]
    assert lengths[1:] == pytest.approx([LBFGS._LONGEST_STEP] * 4, rel=1e-3)


def test_lbfgs_survives_a_loss_that_is_no_number():
    image = torch.ones(1, 3, 1, 1)
    lbfgs = LBFGS(image, 1.0, 5)
    lbfgs.update(torch.tensor(1.0), torch.ones(1, 3, 1, 1))
    moved = image.clone()
    lbfgs.update(torch.tensor(float("nan")), torch.full_like(image, float("nan")))
    assert torch.isfinite(image).all()
    assert not torch.equal(image, moved)


def test_adam_is_pytorchs():
    generator = torch.Generator().manual_seed(5)
    image = torch.rand(1, 3, 6, 7, generator=generator)
    other = image.clone().requires_grad_()
    ours, theirs = Adam(image, 0.3), torch.optim.Adam([other], lr=0.3)
    for _ in range(4):
        gradient = torch.randn(image.shape, generator=generator)
        ours.update(gradient.sum(), gradient)
        other.grad = gradient
        theirs.step()
    assert torch.equal(image, other)
    assert ours.state().keys() == theirs.state[other].keys()


def overshooting(steps: int, optimizer: Callable[[torch.Tensor], LBFGS]) -> list[float]:
    """Return the losses on |x|^1.2, where a third of the steps overshoot; for a while all seem to."""
    image = torch.tensor([3.0, -2.0, 1.0, -0.5], dtype=torch.float64).view(1, 2, 2, 1)
    lbfgs, losses = optimizer(image), []
    for number in range(steps):
        loss = image.abs().pow(1.2).sum()
        losses.append(float(loss))
        seen = loss + 100 if 20 <= number < 30 else loss
        lbfgs.update(seen, 1.2 * image.sign() * image.abs().pow(0.2))
    return losses


def test_lbfgs_steps_alike_whether_both_outcomes_are_computed_or_one(monkeypatch: pytest.MonkeyPatch):
    """A GPU is not asked which it is."""
    known = overshooting(60, lambda image: LBFGS(image, 1.0, 3))
    assert sum(later > sooner for sooner, later in pairwise(known)) > 15
    monkeypatch.setattr(optimizers, "_may_hold", lambda condition: True)
    assert overshooting(60, lambda image: LBFGS(image, 1.0, 3)) == pytest.approx(known, rel=1e-9)


@pytest.mark.parametrize("make", [lambda image: Adam(image, 0.1), lambda image: LBFGS(image, 1.0, 3)])
def test_an_update_asks_a_gpu_for_no_number(make: Callable[[torch.Tensor], Any], monkeypatch: pytest.MonkeyPatch):
    """Tensors of the device `meta` have no numbers: whoever asks for one gets an exception."""
    monkeypatch.setattr(optimizers, "_may_hold", lambda condition: True)
    image = torch.zeros(1, 3, 4, 4, device="meta")
    with pytest.raises(RuntimeError, match="meta tensors"):
        bool(image.sum() > 0)
    optimizer = make(image)
    if isinstance(optimizer, LBFGS):  # the colours' weights are found once, on the CPU
        numbers = {"step": image.flatten(), "trials": image.sum(), "weights": torch.eye(3, device="meta")}
        optimizer.restore(numbers)
    for _ in range(6):
        optimizer.update(image.square().sum(), torch.ones_like(image))
