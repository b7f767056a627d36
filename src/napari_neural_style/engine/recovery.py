"""Going on when memory runs out or numbers go wrong: how that is noticed, and what is turned then."""

from __future__ import annotations

import gc
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from napari_neural_style.engine.allocator import give_back
from napari_neural_style.engine.memory import LEAST_TILE
from napari_neural_style.settings import StyleSettings

T = TypeVar("T")

GPU_EVERY = 5
"""Steps between two looks at a GPU's numbers, which wait for it; a processor's are looked at in every step."""
FARTHEST = 100.0
"""Largest value of a normalised image: 20 times as bright as white."""
EXPLODED = 1e4
"""How many times the loss that a scale began with L-BFGS may meet."""
LEAST_MEASURE = 1e-3
"""Loss below which all count as that one: where it is about 0, any other is many times as large."""
MOST_FAILURES = 5
"""Ways that are tried in a row."""
IN_A_ROW = 10
"""Failures that are fewer steps apart are in a row."""
SAFE_ADAM = 0.05
"""Learning rate of Adam where L-BFGS failed."""
LARGE_WEIGHT = 1e3
"""Weights above it are divided by the largest where the loss overflows: only their ratios matter."""

STEP_RULE = ("optimizer", "learning_rate", "precision")
"""Settings of which any that is turned makes the optimiser begin afresh."""


class RecoveredWarning(UserWarning):
    """A run goes on in another way than it was asked to; the message says why and how."""


class OutOfMemoryError(MemoryError):
    """Memory ran out and nothing smaller fits; the message says what would."""


class DivergedError(ArithmeticError):
    """Numbers went wrong and no safer way helped; the message says what to do."""


class WentWrongError(Exception):
    """Numbers are not finite, or beyond all measure; `evaluating` tells whether at an evaluation or after an update."""

    def __init__(self, evaluating: bool) -> None:
        self.evaluating = evaluating


_NO_MEMORY = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "bad_alloc",
    "alloc_failed",
    # What oneDNN says when it gets no memory for a convolution.
    "could not create a memory",
    "could not create a primitive",
    "could not execute a primitive",
    # What cuDNN and cuBLAS say.
    "unable to find an engine",
    "unable to find a valid cudnn algorithm",
    "cublas_status_not_initialized",
)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Tell whether an error, or one behind it, is that memory ran out, on any device."""
    while error is not None:
        words = str(error).lower()
        if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(sign in words for sign in _NO_MEMORY):
            return not isinstance(error, OutOfMemoryError)
        error = error.__cause__ or error.__context__
    return False


def with_less(work: Callable[[], T], take_less: Callable[[], None]) -> T:
    """Return what some work returns; each time that memory runs out, take less and do it again."""
    while True:
        try:
            return work()
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        # Only here is what the work held let go: the error's traceback had it.
        release()
        take_less()


@contextmanager
def saying_what_fits(words: Callable[[], str]) -> Iterator[None]:
    """Let memory that runs out end in a sentence."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(words()) from None


def release() -> None:
    """Give memory that nothing holds back to the device and the system."""
    gc.collect()
    torch.cuda.empty_cache()  # does nothing where no GPU was used
    give_back()


def less_memory(settings: StyleSettings, longest: int, updating: bool) -> dict[str, Any]:
    """Return what to turn so that a run takes less memory; nothing when all is as small as can be.

    Parameters
    ----------
    settings : StyleSettings
        Those of now.
    longest : int
        Longest side of the pictures, in pixels.
    updating : bool
        Whether it ran out in the optimiser, whose history then goes first, else tiles are made smaller first.
    """
    side = min(int(settings.tile) or longest, longest) // 2 // 16 * 16
    tile = {"tile": side} if side >= LEAST_TILE else {}
    remembers = settings.optimizer == "lbfgs" and settings.history > 1
    history = {"history": settings.history // 2} if remembers else {}
    return history or tile if updating else tile or history


def safer(settings: StyleSettings, failures: int, overflows: bool) -> dict[str, Any]:
    """Return what to turn after numbers went wrong; nothing when enough was tried.

    Parameters
    ----------
    settings : StyleSettings
        Those of now.
    failures : int
        How many there were in a row, this one included.
    overflows : bool
        Whether the loss has no finite value even at the image that the run went back to.
    """
    rate = settings.learning_rate
    largest = max(settings.content_weight, settings.style_weight, settings.variation_weight)
    if failures > MOST_FAILURES:
        return {}
    if settings.precision != "float32":
        return {"precision": "float32", "learning_rate": rate}
    if overflows and largest > LARGE_WEIGHT:
        weights = ("content_weight", "style_weight", "variation_weight")
        return {name: getattr(settings, name) / largest for name in weights} | {"learning_rate": rate}
    if settings.optimizer == "adam":
        return {"learning_rate": max(1e-6, min(rate / 4, 1.0))}
    if failures <= 2:
        return {"learning_rate": max(1e-6, min(rate / 2, 1.0))}
    return {"optimizer": "adam", "learning_rate": SAFE_ADAM}


def warned(sentence: str) -> str:
    """Warn users of what happened in a run; return the sentence."""
    warnings.warn(sentence, RecoveredWarning, stacklevel=2)
    return sentence


@dataclass
class Kept:
    """Where a run can go back to: an image and the steps done when it was made."""

    image: Tensor
    index: int
    scale_step: int
    boost: float


@dataclass(frozen=True)
class Watched:
    """What a watch knows after a step: where to go back to, its failures, and what it noticed since it looked."""

    kept: Kept
    failures: int
    failed_at: float
    begun_with: tuple[float, ...]
    right: bool


class Watch:
    """Notices numbers that go wrong, and keeps the last image at which they were right.

    What is noticed stays on the device until it is asked for: noticing makes no step wait for a GPU.
    """

    def __init__(self) -> None:
        self.kept: Kept | None = None
        self.failures = 0
        self._failed_at = -math.inf
        self._right: Tensor | None = None
        self._begun_with: list[Tensor] = []

    def keep(self, image: Tensor, index: int, scale_step: int, boost: float) -> None:
        """Remember where to go back to."""
        if self.kept is not None and self.kept.image.shape == image.shape:
            kept = self.kept.image.copy_(image)
        else:
            kept = image.clone()
        self.kept = Kept(kept, index, scale_step, boost)

    def state(self) -> Watched:
        """Return all that it knows; this waits for a GPU."""
        assert self.kept is not None
        kept = replace(self.kept, image=self.kept.image.clone())
        right = self._right is None or bool(self._right)
        return Watched(kept, self.failures, self._failed_at, tuple(float(loss) for loss in self._begun_with), right)

    def restore(self, state: Watched, device: torch.device) -> None:
        """Know what :meth:`state` returned."""
        self.kept = replace(state.kept, image=state.kept.image.to(device).clone())
        self.failures, self._failed_at = state.failures, state.failed_at
        self._begun_with = [torch.tensor(loss, dtype=torch.float32, device=device) for loss in state.begun_with]
        self._right = None if state.right else torch.tensor(False, device=device)

    def due(self, index: int, image: Tensor) -> bool:
        """Tell whether to look at step `index`: now and then on a GPU, and after a failure."""
        return image.device.type == "cpu" or index % GPU_EVERY == 0 or index - self._failed_at <= GPU_EVERY

    def objective_changed(self) -> None:
        """Conclude nothing from the losses so far."""
        self._begun_with.clear()

    def evaluated(self, total: Tensor, gradient: Tensor, explodes: bool) -> None:
        """Notice a loss and its gradient; where it `explodes`, a loss beyond all measure is wrong."""
        self._notice(torch.isfinite(total) & torch.isfinite(gradient.sum()))
        # The second, after a first small step, gives the measure where the first is about 0.
        if len(self._begun_with) < 2:
            self._begun_with.append(total)
        elif explodes:
            self._notice(total <= EXPLODED * torch.maximum(*self._begun_with).clamp_min(LEAST_MEASURE))

    def moved(self, image: Tensor) -> None:
        """Notice an image after an update."""
        low, high = torch.aminmax(image)
        self._notice((low >= -FARTHEST) & (high <= FARTHEST))

    def _notice(self, right: Tensor) -> None:
        self._right = right if self._right is None else self._right & right

    def check(self, evaluating: bool = False) -> None:
        """Raise a WentWrongError if anything noticed was wrong."""
        right = self._right is None or bool(self._right)
        self._right = None
        if not right:
            raise WentWrongError(evaluating)

    def failed(self, index: int) -> None:
        """Count a failure at step `index`."""
        self.failures = self.failures + 1 if index - self._failed_at <= IN_A_ROW else 1
        self._failed_at = index
        self._begun_with.clear()
