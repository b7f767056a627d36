"""Adam and L-BFGS over one image: each update takes one evaluation of loss and gradient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from napari_neural_style.engine.images import bands, size_of
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
        """Remember what :meth:`state` returned."""


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
        self._mean, self._square = state["exp_avg"].clone(), state["exp_avg_sq"].clone()

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
    evaluation; a step that stays bad makes the optimiser forget its history.

    The metric that it starts from, the identity in the textbook, weighs colours here: channels of pictures go
    together, so brightness is bent far more than hue. It is the inverse square root of the covariance of the first
    gradient's colours, a matrix of channels by channels. Steps and changes of the gradient are remembered in bfloat16:
    twice as many of them are worth more than their last digits.

    References
    ----------
    Nocedal and Wright (2006), algorithms 7.4 and 7.5; equation 3.57 for the shortened step. The metric's scale is the
    geometric mean of the two of Barzilai and Borwein (1988), equations 5 and 6.
    """

    _FIRST_STEP = 0.045
    """Mean change of a pixel by the first step, before any curvature is known: 1 % of the range of values."""
    _LONGEST_STEP = 0.5
    """Largest root mean square change of a pixel by one step, in units of the normalised image."""
    _TOLERANCE = 1e-3
    """Relative rise of the loss that still counts as none: bfloat16 does not know better."""
    _MOST_TRIALS = 6
    _CURVATURE = 1e-10
    _FLATTEST = 1e-6
    """Smallest variance of a colour that is told from none, as a share of the largest."""
    _PAIR = ("pair step", "pair change", "pair curvature")

    def __init__(self, image: Tensor, learning_rate: float, history: int) -> None:
        self._image = image
        self._rate = learning_rate
        self._history = history
        self._pairs: list[tuple[Tensor, Tensor, Tensor]] = []
        self._loss: Tensor | None = None
        self._metric: Tensor | None = None
        self._inverse: Tensor | None = None
        # Both are written over rather than replaced: new ones would lie between the blocks that an evaluation takes.
        self._gradient = torch.zeros_like(image)
        self._step = torch.zeros_like(image)
        self._trials = 0
        self._paired = False

    def objective_changed(self) -> None:
        """Conclude nothing from the last loss: it was another objective's."""
        self._loss = None
        self._trials = 0

    def update(self, loss: Tensor, gradient: Tensor) -> None:
        """Take one step, or shorten the last one when it raised the loss."""
        if self._loss is not None:
            if not loss <= self._loss + self._TOLERANCE * self._loss.abs():
                self._shorten(loss, self._loss)
                return
            if not self._paired:
                self._remember_pair(gradient - self._gradient)
        if self._metric is None:
            self._weigh_with(self._color_metric(gradient))
        step = self._direction(gradient).mul_(self._rate)
        self._loss = loss
        self._trials = 0
        self._paired = False
        self._gradient.copy_(gradient)
        self._step.copy_(step)
        self._image += step

    def _remember_pair(self, change: Tensor) -> None:
        kind = torch.bfloat16 if change.dtype == torch.float32 else change.dtype
        step, change = self._step.to(kind, copy=True), change.to(kind)
        rounded = change.to(self._image.dtype)
        curvature = _dot(step, rounded)
        if curvature > self._CURVATURE * _dot(rounded, rounded):
            self._pairs.append((step, change, curvature))
            del self._pairs[: -self._history]
        self._paired = True

    def remember(self, history: int) -> None:
        """Remember no more steps than that from here on."""
        self._history = history
        del self._pairs[:-history]

    def state(self) -> dict[str, Tensor]:
        """Return the history, the last loss and gradient, and the step being tried."""
        state = {"step": self._step.clone(), "trials": torch.tensor(self._trials)}
        if self._loss is not None:
            state |= {"loss": self._loss, "gradient": self._gradient.clone()}
        if self._metric is not None:
            state["metric"] = self._metric
        for number, pair in enumerate(self._pairs):
            for name, value in zip(self._PAIR, pair, strict=True):
                state[f"{name} {number}"] = value
        return state

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up history, loss, gradient and step."""
        self._step.copy_(state["step"])
        self._trials = int(state["trials"])
        if "metric" in state:
            self._weigh_with(state["metric"])
        self._loss = state.get("loss")
        if self._loss is not None:
            self._gradient.copy_(state["gradient"])
        count = sum(name.startswith(self._PAIR[0]) for name in state)
        self._pairs = [tuple(state[f"{name} {k}"] for name in self._PAIR) for k in range(count)]  # type: ignore[misc]

    def _shorten(self, loss: Tensor, last_loss: Tensor) -> None:
        """Go back to where a parabola through both losses and the slope has its minimum, a tenth to a half."""
        if self._trials >= self._MOST_TRIALS:
            self._pairs.clear()
            trials, step = 0, self._direction(self._gradient).mul_(self._rate)
        else:
            slope = _dot(self._gradient, self._step)
            factor = -slope / (2 * (loss - last_loss - slope))
            factor = torch.nan_to_num(factor, nan=0.1, posinf=0.1, neginf=0.1).clamp(0.1, 0.5)
            trials, step = self._trials + 1, self._step * factor
        self._image -= self._step
        self._image += step
        self._step.copy_(step)
        self._trials = trials

    def _direction(self, gradient: Tensor) -> Tensor:
        direction = -gradient
        if not self._pairs:
            direction = self._weigh_colors(direction)
            return direction.mul_(self._FIRST_STEP / direction.abs().mean().clamp_min(1e-30))
        # One room for all pairs: new ones for each would push the pairs out of the cache.
        room = torch.empty_like(direction)
        factors = []
        for step, change, curvature in reversed(self._pairs):
            factors.append(_dot(room.copy_(step), direction) / curvature)
            direction.addcmul_(room.copy_(change), factors[-1], value=-1)
        step, change, _ = self._pairs[-1]
        direction = self._weigh_colors(direction).mul_(self._scale(step, change))
        for (step, change, curvature), factor in zip(self._pairs, reversed(factors), strict=True):
            factor = factor - _dot(room.copy_(change), direction) / curvature
            direction.addcmul_(room.copy_(step), factor)
        length = torch.linalg.vector_norm(direction) / direction.numel() ** 0.5
        return direction.mul_((self._LONGEST_STEP / length).clamp(max=1))

    @classmethod
    def _color_metric(cls, gradient: Tensor) -> Tensor:
        """Return the inverse square root of the covariance of a gradient's colours, of determinant 1."""
        # On the CPU: not every device knows float64.
        values, vectors = torch.linalg.eigh(_colors(gradient).cpu().double().nan_to_num(0, 0, 0))
        values = values.clamp_min(values[-1] * cls._FLATTEST).clamp_min(1e-300).rsqrt()
        values /= values.log().mean().exp()
        return (vectors * values) @ vectors.T

    def _weigh_with(self, metric: Tensor) -> None:
        self._metric = metric.to(self._image)
        self._inverse = self._metric.cpu().inverse().to(self._image)

    def _weigh_colors(self, vector: Tensor) -> Tensor:
        """Apply the metric, in place."""
        assert self._metric is not None
        for rows in bands(size_of(vector)):
            band = vector[..., rows, :]
            band.copy_(torch.einsum("ij,bjhw->bihw", self._metric, band))
        return vector

    def _scale(self, step: Tensor, change: Tensor) -> Tensor:
        """Return what to multiply the metric with, for it to turn a change of gradient into a step of that length."""
        assert self._metric is not None
        assert self._inverse is not None
        kind = self._metric.dtype
        lengthened = (self._inverse * _colors(step.to(kind))).sum()
        return (lengthened / (self._metric * _colors(change.to(kind))).sum()).sqrt()


def _dot(kept: Tensor, vector: Tensor) -> Tensor:
    return torch.dot(kept.to(vector.dtype).flatten(), vector.flatten())


def _colors(vector: Tensor) -> Tensor:
    """Return how much each two channels of an image of (1, C, H, W) go together: their products' sums, (C, C)."""
    channels = vector.flatten(2)[0]
    return channels @ channels.T
