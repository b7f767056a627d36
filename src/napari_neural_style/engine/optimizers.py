"""Adam and L-BFGS over one image: each update takes one evaluation of loss and gradient."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from napari_neural_style.settings import StyleSettings


class Optimizer(Protocol):
    """Changes an image in place, given the loss and gradient at it."""

    def update(self, loss: Tensor, gradient: Tensor) -> None:
        """Take one step."""


def make_optimizer(image: Tensor, settings: StyleSettings) -> Optimizer:
    """Return the settings' optimiser over an image tensor."""
    if settings.optimizer == "adam":
        return Adam(image, settings.learning_rate)
    return LBFGS(image, settings.learning_rate, settings.history)


class Adam:
    """Adam with PyTorch's defaults (β 0.9 and 0.999).

    References
    ----------
    Kingma and Ba (2015), algorithm 1.
    """

    def __init__(self, image: Tensor, learning_rate: float) -> None:
        self._image = image
        self._adam = torch.optim.Adam([image], lr=learning_rate)

    def update(self, loss: Tensor, gradient: Tensor) -> None:
        """Take one step."""
        self._image.grad = gradient
        self._adam.step()
        self._image.grad = None


class LBFGS:
    """Limited-memory BFGS with step halving in place of a line search.

    A step that raises the loss is taken back by half before another is tried, so that every update costs
    exactly one evaluation.

    References
    ----------
    Nocedal and Wright (2006), algorithms 7.4 and 7.5; equation 7.20 for the scale of the first metric.
    """

    _CURVATURE = 1e-10

    def __init__(self, image: Tensor, learning_rate: float, history: int) -> None:
        self._image = image
        self._rate = learning_rate
        self._history = history
        self._pairs: list[tuple[Tensor, Tensor, Tensor]] = []
        self._accepted: tuple[Tensor, Tensor] | None = None
        self._step = torch.zeros_like(image)

    def update(self, loss: Tensor, gradient: Tensor) -> None:
        """Take one step, or take half of the last one back when it raised the loss."""
        if self._accepted is not None:
            last_loss, last_gradient = self._accepted
            if not loss <= last_loss:
                self._step /= 2
                self._image -= self._step
                return
            change = gradient - last_gradient
            curvature = (self._step * change).sum()
            if curvature > self._CURVATURE * change.square().sum():
                self._pairs.append((self._step.clone(), change, curvature))
                del self._pairs[: -self._history]
        self._accepted = (loss, gradient)
        self._step = self._direction(gradient) * self._rate
        self._image += self._step

    def _direction(self, gradient: Tensor) -> Tensor:
        if not self._pairs:
            # The first step has no curvature to go by: move the pixels by 1 % of their range on average.
            return gradient * (-0.045 / gradient.abs().mean().clamp_min(1e-30))
        direction = -gradient
        factors = []
        for step, change, curvature in reversed(self._pairs):
            factor = (step * direction).sum() / curvature
            direction -= factor * change
            factors.append(factor)
        _, change, curvature = self._pairs[-1]
        direction *= curvature / change.square().sum()
        for (step, change, curvature), factor in zip(self._pairs, reversed(factors), strict=True):
            direction += (factor - (change * direction).sum() / curvature) * step
        return direction
