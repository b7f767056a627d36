"""One run of the optimisation: through its scales, steered on the way, and taken up again where it stood."""

from __future__ import annotations

import dataclasses
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from napari_neural_style.engine.allocator import kept_memory
from napari_neural_style.engine.color import luminance
from napari_neural_style.engine.graph import Recorded
from napari_neural_style.engine.images import Shown, denormalize, normalize, size_of
from napari_neural_style.engine.losses import Losses
from napari_neural_style.engine.memory import too_large
from napari_neural_style.engine.objective import Objective, weights_of
from napari_neural_style.engine.optimizers import make_optimizer
from napari_neural_style.engine.preparation import Sources, at_scale, prepare
from napari_neural_style.engine.pyramid import Scale, enlarge, schedule
from napari_neural_style.engine.recovery import (
    STEP_RULE,
    DivergedError,
    OutOfMemoryError,
    T,
    Watch,
    WentWrongError,
    less_memory,
    safer,
    say,
    with_less,
)
from napari_neural_style.engine.snapshot import Snapshot
from napari_neural_style.engine.steering import Steering
from napari_neural_style.engine.step import Step
from napari_neural_style.engine.structure import SIGMA, ContentBoost, structure
from napari_neural_style.engine.tiling import make_objective
from napari_neural_style.engine.vgg import Trunk
from napari_neural_style.settings import StyleSettings

PLATEAU = 10
"""Steps over which `min_improvement` is averaged."""


class Optimization:
    """Runs a job's steps.

    Parameters
    ----------
    sources : Sources
        The images.
    settings : StyleSettings
        Resolved.
    make_trunk : callable
        From a precision to the network.
    fingerprint : str
        SHA-256 of the features.
    smallest : int
        Shortest side that the network can take.
    steering : Steering, optional
        What turns its controls on the way.
    snapshot : Snapshot, optional
        Where to go on from.
    """

    def __init__(
        self,
        sources: Sources,
        settings: StyleSettings,
        make_trunk: Callable[[str], Trunk],
        fingerprint: str,
        smallest: int,
        steering: Steering | None = None,
        snapshot: Snapshot | None = None,
    ) -> None:
        self._sources = sources
        self._fingerprint = fingerprint
        self._steering = steering or Steering()
        self._snapshot = snapshot
        self._settings = settings
        self._now = settings
        self._index = 0
        if snapshot is not None:
            self._index = snapshot.index
            for step, turned in settings.changes.items():
                if step <= snapshot.index:
                    self._now = dataclasses.replace(self._now, **turned)
        self._trunk = make_trunk(self._now.precision)
        # It holds the filters' own numbers, which are not needed again where those are computed with.
        self._make_trunk = None if self._now.precision == "float32" else make_trunk
        self._pictures = prepare(sources, self._now)
        self._here = self._pictures
        self._objective: Objective | Recorded | None = None
        self._boost = ContentBoost(settings.min_structure if settings.mode == "transfer" else 0.0)
        self._recent: deque[Tensor] = deque(maxlen=PLATEAU + 1)
        self._scales = schedule(self._pictures.size, settings.scales, settings.steps, smallest)
        self._number = 0
        self._scale_step = 0
        self._image = self._pictures.start
        self._shown = -float("inf")
        self._watch = Watch()
        self._save_now = False
        self._latest: Step | None = None
        self._notes: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Step]:
        """Run, step by step."""
        with kept_memory():
            try:
                yield from self._run()
                return
            except (OutOfMemoryError, DivergedError) as error:
                failed = error.with_traceback(None)
            self._objective = None
            if (last := self._last()) is not None:
                yield last
            try:
                raise failed
            finally:
                del failed  # else it and this frame hold each other

    def _run(self) -> Iterator[Step]:
        if self._snapshot is not None:
            self._within_memory(partial(self._take_up, self._snapshot), self._index + 1)
            self._snapshot = None
            yield from self._stages()
        while self._number < len(self._scales):
            self._within_memory(partial(self._enter, self._number + 1), self._index + 1)
            yield from self._stages()

    @property
    def _scale(self) -> Scale:
        return self._scales[self._number - 1]

    def _enter(self, number: int) -> None:
        """Begin a scale with what the one before made."""
        self._objective = None
        scale = self._scales[number - 1]
        here = at_scale(self._pictures, scale.size, scale.fraction)
        entry = normalize(here.start)
        image = (entry if number == 1 else enlarge(self._image, entry)).contiguous()
        self._optimizer = make_optimizer(image, self._now)
        self._number, self._scale_step, self._here, self._image = number, 0, here, image
        self._recent.clear()
        self._keep(self._index)

    def _take_up(self, snapshot: Snapshot) -> None:
        """Stand where a snapshot was taken."""
        self._number, self._scale_step = snapshot.scale, snapshot.scale_step
        self._boost.factor = snapshot.boost
        self._here = at_scale(self._pictures, self._scale.size, self._scale.fraction)
        device = self._sources.content.device
        self._image = snapshot.image.to(device).clone()
        self._optimizer = make_optimizer(self._image, self._now)
        self._optimizer.restore({name: value.to(device) for name, value in snapshot.optimizer.items()})
        self._recent.clear()
        self._recent.extend(torch.tensor(loss) for loss in snapshot.recent)
        self._keep(self._index)

    def _keep(self, index: int) -> None:
        """Keep the image as one to go back to, made in `index` steps."""
        self._watch.keep(self._image, index, self._scale_step - (self._index - index), self._boost.factor)

    def _evaluate(self) -> tuple[Losses, Tensor, Tensor]:
        """Return the losses, their total and its gradient; the targets are computed at the first time."""
        if self._objective is None:
            weights, here = weights_of(self._now), self._here
            side = int(self._now.tile)
            self._objective = make_objective(self._trunk, here.content, here.brushes, weights, here.guides, side)
            self._weigh()
        return self._objective(self._image)

    def _weigh(self) -> None:
        """Give the objective the weights of now."""
        weights = weights_of(self._now)
        if self._objective is not None:
            self._objective.weigh(weights.content * self._boost.factor, weights.style, weights.variation)

    def _stages(self) -> Iterator[Step]:
        """Run the steps that are left of the present scale."""
        while self._scale_step < self._scale.steps:
            try:
                step = self._step()
            except WentWrongError as error:
                self._go_back(error.evaluating)
                continue
            if self._latest is None or step.index > self._latest.index:
                self._latest = dataclasses.replace(step, shown=None)
                self._save_now &= not step.saved
                yield step
            del step  # its picture is not to be held during the next one

    def _step(self) -> Step:
        """Evaluate, update, and return what is to be told."""
        self._index += 1
        self._scale_step += 1
        at = self._index
        self._within_memory(self._steer, at)
        if self._boost.due(at) and self._boost.look(self._within_memory(self._structure, at)):
            self._weigh()
            self._objective_changed()
        looks = self._watch.due(at, self._image)
        losses, total, gradient = self._within_memory(self._evaluate, at)
        self._watch.evaluated(total, gradient, self._now.optimizer == "lbfgs")
        if looks:
            self._watch.check(evaluating=True)
            self._keep(at - 1)
        self._within_memory(partial(self._optimizer.update, total, gradient), at, updating=True)
        del gradient
        self._watch.moved(self._image)
        self._recent.append(total)
        ended = self._scale_step == self._scale.steps or self._on_a_plateau()
        last = at == self._settings.steps or (ended and self._number == len(self._scales))
        saved = self._save_now or last or at % self._now.save_every == 0
        due = saved or time.monotonic() - self._shown >= self._now.preview_interval
        if looks or due or ended:
            self._watch.check()
        if ended:
            self._scale_step = self._scale.steps
        return Step(
            index=at,
            total=self._settings.steps,
            scale=self._number,
            losses=losses,
            saved=saved,
            done=1.0 if last else self._done(),
            settings=self._settings,
            fingerprint=self._fingerprint,
            shown=self._within_memory(self.picture, at + 1) if due else None,
            _run=weakref.ref(self),
            notes=self._notes,
        )

    def _within_memory(self, work: Callable[[], T], at: int, updating: bool = False) -> T:
        """Do some work; where memory runs out, turn what takes less from step `at` on."""
        return with_less(work, partial(self._take_less, at, updating))

    def _take_less(self, at: int, updating: bool) -> None:
        here = self._here
        longest = max(max(size_of(picture)) for picture in (here.content, *(brush.picture for brush in here.brushes)))
        turned = less_memory(self._now, longest, updating)
        if not turned:
            raise OutOfMemoryError(too_large(self._pictures.size, self._trunk.layers, self._now, self._trunk.device))
        if "tile" in turned:
            self._objective = None
            at += updating  # this step's evaluation is done
        else:
            self._optimizer.remember(turned["history"])
        self._now = dataclasses.replace(self._now, **turned)
        self._turn_itself(f"Memory ran out at step {self._index}", at, turned)

    def _go_back(self, evaluating: bool) -> None:
        """Go back to the last image at which numbers were right, and turn what is safer from there on."""
        wrong, kept = self._index, self._watch.kept
        assert kept is not None
        self._watch.failed(wrong)
        self._index, self._scale_step, self._boost.factor = kept.index, kept.scale_step, kept.boost
        self._image.copy_(kept.image)
        self._weigh()
        turned = safer(self._now, self._watch.failures, evaluating and wrong == kept.index + 1)
        if not turned:
            raise DivergedError(
                f"Numbers went wrong at step {wrong}, and {self._watch.failures - 1} safer ways did not help. Choose "
                "smaller weights and learning_rate, or other features."
            )
        self._turn_itself(
            f"Numbers went wrong at step {wrong}: the run went back to step {kept.index}", kept.index + 1, turned
        )

    def _turn_itself(self, reason: str, at: int, turned: dict[str, Any]) -> None:
        self._record(at, turned)
        self._notes += (say(reason, turned),)

    def _record(self, at: int, turned: dict[str, Any]) -> None:
        """Note what is turned from a step on."""
        changes = {**self._settings.changes, at: {**self._settings.changes.get(at, {}), **turned}}
        self._settings = dataclasses.replace(self._settings, changes=changes)

    def _last(self) -> Step | None:
        """Return the last step with its picture, as a saved one, where a run cannot go on and it was not saved."""
        last = self._latest
        if last is None:
            return None
        index = min(self._index, last.index)
        if last.saved and last.index == index:
            return None
        try:
            return dataclasses.replace(last, index=index, saved=True, shown=self.picture(), notes=self._notes)
        except (MemoryError, RuntimeError):
            return None

    def picture(self) -> Shown:
        """Return the present picture at the working size, as users see it."""
        self._shown = time.monotonic()
        image = self._image
        if size_of(image) != self._pictures.size:
            image = enlarge(image, normalize(self._pictures.start))
        return self._pictures.finish(image)

    def _done(self) -> float:
        """Return the share of the work that is done: a step's grows with the pixels of its scale."""
        work = [scale.size[0] * scale.size[1] * scale.steps for scale in self._scales]
        done = sum(work[: self._number]) - work[self._number - 1] * (1 - self._scale_step / self._scale.steps)
        return done / sum(work)

    def _structure(self) -> float:
        return structure(denormalize(self._image), self._here.original, SIGMA * self._scale.fraction)

    def _objective_changed(self) -> None:
        self._optimizer.objective_changed()
        self._watch.objective_changed()
        self._recent.clear()

    def _on_a_plateau(self) -> bool:
        """Tell whether the loss fell by less than `min_improvement` a step over the recent steps."""
        least = self._now.min_improvement
        if not least or len(self._recent) <= PLATEAU:
            return False
        first, last = float(self._recent[0]), float(self._recent[-1])
        return first - last < least * PLATEAU * first

    def _steer(self) -> None:
        """Turn what is to be turned at this step."""
        turned, save_now = self._steering.take()
        self._save_now |= save_now
        if turned:
            self._record(self._index, turned)
        turned = dict(self._settings.changes.get(self._index, {}))
        if not turned:
            return
        self._watch.check()
        before, now = self._now, dataclasses.replace(self._now, **turned)
        if now.precision != before.precision:
            assert self._make_trunk is not None
            self._trunk, self._objective = self._make_trunk(now.precision), None
        if now.color != before.color:
            self._recolor(now)
        elif now.tile != before.tile:
            self._objective = None
        self._now = now
        if now.color == before.color and any(name.endswith("_weight") for name in turned):
            self._weigh()
            self._objective_changed()
        self._optimizer.remember(now.history)
        if not turned.keys().isdisjoint(STEP_RULE):
            self._optimizer = make_optimizer(self._image, now)
            self._recent.clear()
        self._keep(self._index - 1)

    def _recolor(self, now: StyleSettings) -> None:
        """Go on in other colours: the picture keeps what is painted, the targets are new."""
        self._objective = None
        shown = self._here.as_rgb(denormalize(self._image))
        pictures = prepare(self._sources, now)
        here = at_scale(pictures, self._scale.size, self._scale.fraction)
        image = normalize(shown if here.content.shape[1] == 3 else luminance(shown)).contiguous()
        self._optimizer = make_optimizer(image, now)
        self._pictures, self._here, self._image = pictures, here, image
        self._watch.objective_changed()
        self._recent.clear()

    @property
    def index(self) -> int:
        """Steps done."""
        return self._index

    def snapshot(self) -> Snapshot:
        """Return where the run stands; to be called between two steps."""
        return Snapshot(
            settings=self._settings,
            fingerprint=self._fingerprint,
            index=self._index,
            scale=self._number,
            scale_step=self._scale_step,
            boost=self._boost.factor,
            recent=tuple(float(loss) for loss in self._recent),
            sources=self._sources,
            image=self._image.clone(),
            optimizer=self._optimizer.state(),
        )
