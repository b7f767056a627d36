"""Adam and L-BFGS over one image: each update takes one evaluation of loss and gradient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from napari_neural_style.engine.images import bands, size_of
from napari_neural_style.engine.inverse_hessian import InverseHessian
from napari_neural_style.settings import StyleSettings


class Optimizer(Protocol):
    """Changes an image in place, given the loss and gradient at it.

    An update that fails for want of memory can be made again: it changes nothing before it has all it takes.
    """

    def update(self, loss: Tensor, gradient: Tensor) -> None:
        """Take one step."""

    def objective_changed(self) -> None:
        """Conclude nothing from the last loss: it was another objective's."""

    def remember(self, history: int) -> None:
        """Remember no more steps than that from here on."""

    def state(self) -> dict[str, Tensor]:
        """Return all that it remembers."""

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Remember what :meth:`state` returned, on whatever device that is."""


def make_optimizer(image: Tensor, settings: StyleSettings) -> Optimizer:
    """Return the settings' optimiser over an image tensor."""
    if settings.optimizer == "adam":
        return Adam(image, settings.learning_rate)
    return LBFGS(image, settings.learning_rate, settings.history)


class Adam:
    """Adam with PyTorch's defaults (β 0.9 and 0.999), and its very numbers.

    PyTorch's own loads its compiler for the first step, which takes a second and 150 MB, and brings in Triton, whose
    LLVM crashes beside that of Mesa's software OpenGL, which may draw napari's canvas.

    References
    ----------
    Kingma and Ba (2015), algorithm 1.
    """

    _BETAS = (0.9, 0.999)
    _EPSILON = 1e-8

    def __init__(self, image: Tensor, learning_rate: float) -> None:
        self._image = image
        self._rate = learning_rate
        self._steps = 0
        self._mean = torch.zeros_like(image)
        self._square = torch.zeros_like(image)

    def objective_changed(self) -> None:
        """Go on: Adam compares no losses."""

    def remember(self, history: int) -> None:
        """Go on: Adam remembers no steps."""

    def state(self) -> dict[str, Tensor]:
        """Return the moments and the count of steps."""
        return {
            "step": torch.tensor(float(self._steps)),
            "exp_avg": self._mean.clone(),
            "exp_avg_sq": self._square.clone(),
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up moments and count."""
        self._steps = int(state["step"])
        self._mean.copy_(state["exp_avg"])
        self._square.copy_(state["exp_avg_sq"])

    def update(self, loss: Tensor, gradient: Tensor) -> None:
        """Take one step."""
        size = size_of(self._image)
        room = torch.empty_like(self._image[..., next(bands(size)), :])
        self._steps += 1
        first, second = self._BETAS
        self._mean.lerp_(gradient, 1 - first)
        self._square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        rate = self._rate / (1 - first**self._steps)
        unbiased = (1 - second**self._steps) ** 0.5
        for rows in bands(size):
            square = self._square[..., rows, :]
            root = torch.sqrt(square, out=room[..., : square.shape[-2], :]).div_(unbiased).add_(self._EPSILON)
            self._image[..., rows, :].addcdiv_(self._mean[..., rows, :], root, value=-rate)


class LBFGS:
    """Limited-memory BFGS with backtracking in place of a line search.

    A step that raises the loss is shortened before another is tried, so that every update costs exactly one
    evaluation; a step that stays bad makes the optimiser forget its history. Nothing waits for a GPU: what follows a
    good step and what a bad one are computed there, and one of the two is taken.

    Colours are weighed: channels of pictures go together, so brightness is bent far more than hue. Steps are taken in
    coordinates z with x = W z, where W W is the inverse square root of the covariance of the first gradient's colours,
    a matrix of channels by channels.

    References
    ----------
    Nocedal and Wright (2006), equation 3.57 for the shortened step; for the direction see
    :class:`~napari_neural_style.engine.inverse_hessian.InverseHessian`.
    """

    _FIRST_STEP = 0.045
    """Mean change of a pixel by the first step, before any curvature is known: 1 % of the range of values."""
    _LONGEST_STEP = 0.5
    """Largest root mean square change of a pixel by one step of learning rate 1, in units of the normalised image."""
    _TOLERANCE = 1e-3
    """Relative rise of the loss that still counts as none: bfloat16 does not know better."""
    _MOST_TRIALS = 6
    _FLATTEST = 1e-6
    """Smallest variance of a colour that is told from none, as a share of the largest."""

    def __init__(self, image: Tensor, learning_rate: float, history: int) -> None:
        self._image = image
        self._rate = learning_rate
        self._weights: Tensor | None = None
        self._loss: Tensor | None = None
        # In coordinates z. Both are written over rather than replaced: new ones would lie between the blocks that an
        # evaluation takes.
        self._gradient = torch.zeros_like(image).flatten()
        self._step = torch.zeros_like(self._gradient)
        self._inverse = InverseHessian(history, self._gradient)
        self._trials = torch.zeros((), dtype=torch.int64, device=image.device)
        self._paired = False

    def objective_changed(self) -> None:
        """Conclude nothing from the last loss: it was another objective's."""
        self._loss = None
        self._trials = torch.zeros_like(self._trials)

    def update(self, loss: Tensor, gradient: Tensor) -> None:
        """Take one step, or shorten the last one when it raised the loss."""
        if self._weights is None:
            self._weights = self._color_weights(gradient)
        gradient = self._weighed(gradient)
        before = loss if self._loss is None else self._loss
        worse = ~(loss <= before + self._TOLERANCE * before.abs())
        may_be_worse = _may_hold(worse)
        if may_be_worse:
            gradient = torch.where(worse, self._gradient, gradient)
        if self._loss is not None and not self._paired:
            self._inverse.add(self._step, gradient - self._gradient)
            self._paired = True
        shortened = worse & (self._trials < self._MOST_TRIALS)
        self._inverse.forget(worse & ~shortened)
        step = self._direction(gradient).mul_(self._rate)
        change = step
        if may_be_worse:
            step = torch.where(shortened, self._step * self._shorter(loss, before), step)
            change = step - self._step * worse
            loss = torch.where(worse, before, loss)
        change = self._weighed(change)
        self._loss = loss
        self._trials = torch.where(shortened, self._trials + 1, 0)
        self._paired = False
        self._gradient.copy_(gradient)
        self._step.copy_(step)
        self._image += change.view_as(self._image)

    def remember(self, history: int) -> None:
        """Remember no more steps than that from here on; where that is a change, all but the last are forgotten."""
        if history != self._inverse.most:
            self._inverse = InverseHessian(history, self._gradient)
            self._paired = False

    def state(self) -> dict[str, Tensor]:
        """Return the history, the last loss and gradient, and the step being tried."""
        state = {"step": self._step.clone(), "trials": self._trials, **self._inverse.state()}
        if self._loss is not None:
            state |= {"loss": self._loss, "gradient": self._gradient.clone()}
        if self._weights is not None:
            state["weights"] = self._weights
        return state

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up history, loss, gradient and step."""
        self._step.copy_(state["step"])
        self._trials = state["trials"].to(self._image.device)
        if "weights" in state:
            self._weights = state["weights"].to(self._image.device)
        self._loss = None
        if "loss" in state:
            self._loss = state["loss"].to(self._image.device)
            self._gradient.copy_(state["gradient"])
        self._inverse.restore(state)

    def _shorter(self, loss: Tensor, before: Tensor) -> Tensor:
        """Return where on a step a parabola through both losses and the slope has its minimum, a tenth to a half."""
        slope = torch.dot(self._gradient, self._step)
        factor = -slope / (2 * (loss - before - slope))
        return torch.nan_to_num(factor, nan=0.1, posinf=0.1, neginf=0.1).clamp(0.1, 0.5)

    def _direction(self, gradient: Tensor) -> Tensor:
        if self._inverse.empty:
            return self._first_step(gradient)
        direction = self._inverse.times(gradient).neg_()
        length = torch.linalg.vector_norm(self._weighed(direction)) / direction.numel() ** 0.5
        direction.mul_((self._LONGEST_STEP / length).clamp(max=1))
        nothing_known = (self._inverse.count == 0).to(direction.device)
        if _may_hold(nothing_known):
            direction = torch.where(nothing_known, self._first_step(gradient), direction)
        return direction

    def _first_step(self, gradient: Tensor) -> Tensor:
        return gradient * (-self._FIRST_STEP / self._weighed(gradient).abs().mean().clamp_min(1e-30))

    def _color_weights(self, gradient: Tensor) -> Tensor:
        """Return W, of determinant 1: the fourth root of the inverse covariance of a gradient's colours."""
        channels = gradient.flatten(2)[0]
        # On the CPU: not every device knows float64.
        values, vectors = torch.linalg.eigh((channels @ channels.T).cpu().double().nan_to_num(0, 0, 0))
        values = values.clamp_min(values[-1] * self._FLATTEST).clamp_min(1e-300) ** -0.25
        values /= values.log().mean().exp()
        return ((vectors * values) @ vectors.T).to(gradient)

    def _weighed(self, vector: Tensor) -> Tensor:
        """Return W times the colours of a vector: from z to pixels, or from their gradient to z's."""
        assert self._weights is not None
        return (self._weights @ vector.reshape(len(self._weights), -1)).flatten()


def _may_hold(condition: Tensor) -> bool:
    """Tell whether a condition may hold; a GPU's are not waited for."""
    return condition.is_cuda or bool(condition)
