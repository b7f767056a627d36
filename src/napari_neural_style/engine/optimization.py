"""One run of the optimisation: through its scales, steered on the way, and taken up again where it stood."""

from __future__ import annotations

import dataclasses
import time
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from napari_neural_style.engine.allocator import kept_memory
from napari_neural_style.engine.images import size_of
from napari_neural_style.engine.memory import too_large
from napari_neural_style.engine.objective import weights_of
from napari_neural_style.engine.optimizers import make_optimizer
from napari_neural_style.engine.position import Network, Position, turned_until
from napari_neural_style.engine.preparation import Sources
from napari_neural_style.engine.recovery import (
    STEP_RULE,
    DivergedError,
    OutOfMemoryError,
    T,
    WentWrongError,
    less_memory,
    safer,
    warned,
    with_less,
)
from napari_neural_style.engine.snapshot import Snapshot
from napari_neural_style.engine.steering import Steering
from napari_neural_style.engine.step import Step
from napari_neural_style.settings import StyleSettings
from napari_neural_style.settings_text import to_text


class Optimization(Position):
    """Runs a job's steps.

    Parameters
    ----------
    sources, settings, network, snapshot
        As for :class:`~napari_neural_style.engine.position.Position`.
    steering : Steering, optional
        What turns its controls on the way.
    """

    def __init__(
        self,
        sources: Sources,
        settings: StyleSettings,
        network: Network,
        steering: Steering | None = None,
        snapshot: Snapshot | None = None,
    ) -> None:
        super().__init__(sources, settings, network, snapshot)
        self._steering = steering or Steering()
        self._snapshot = snapshot
        self._save_now = False
        self._latest: Step | None = None
        self._told = self._index
        self._painted = self._index  # steps whose updates are in the image

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

    def _stages(self) -> Iterator[Step]:
        """Run the steps that are left of the present scale."""
        while self._scale_step < self._scale.steps:
            try:
                step = self._step()
            except WentWrongError as error:
                self._go_back(error.evaluating)
                continue
            if step.index > self._told:
                self._told = step.index
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
        boost = self._boost.factor  # before the look, which a step that is made again takes again
        if self._boost.due(at) and self._boost.look(self._within_memory(self._structure, at)):
            self._weigh()
            self._objective_changed()
        looks = self._watch.due(at, self._image)
        losses, total, gradient = self._within_memory(self._evaluate, at)
        self._watch.evaluated(total, gradient, self._now.optimizer == "lbfgs")
        if looks:
            self._watch.check(evaluating=True)
            self._keep(at - 1, boost)
        self._within_memory(partial(self._optimizer.update, total, gradient), at, updating=True)
        del gradient
        self._painted = at
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
            scales=len(self._scales),
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
        elif self._number:  # else there is no optimiser yet
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
        self._painted = kept.index
        self._weigh()
        turned = safer(self._now, self._watch.failures, evaluating and wrong == kept.index + 1)
        if not turned:
            raise DivergedError(
                f"Numbers went wrong at step {wrong}, and {self._watch.failures - 1} safer ways did not help. Choose "
                "smaller weights and learning_rate, or other features."
            )
        # What memory that ran out since has turned holds from there on too.
        then = turned_until(self._settings, kept.index + 1)
        less = {name: getattr(self._now, name) for name in ("tile", "history")}
        turned = {name: new for name, new in less.items() if new != getattr(then, name)} | turned
        self._turn_itself(
            f"Numbers went wrong at step {wrong}: the run went back to step {kept.index}", kept.index + 1, turned
        )

    def _turn_itself(self, reason: str, at: int, turned: dict[str, Any]) -> None:
        self._record(at, turned)
        which = ", ".join(f"{name} {to_text(name, new)}" for name, new in turned.items())
        self._notes += (warned(f"{reason}; it goes on with {which}."),)

    def _record(self, at: int, turned: dict[str, Any]) -> None:
        """Note what is turned from a step on."""
        changes = {**self._settings.changes, at: {**self._settings.changes.get(at, {}), **turned}}
        self._settings = dataclasses.replace(self._settings, changes=changes)

    def _last(self) -> Step | None:
        """Return the last step with its picture, as a saved one, where a run cannot go on and it was not saved."""
        last, index = self._latest, self._painted
        if last is None or not index or (last.saved and last.index == index):
            return None
        try:
            shown = self.picture()
        except (MemoryError, RuntimeError):
            return None
        return dataclasses.replace(last, index=index, saved=True, shown=shown, notes=self._notes, gave_up=True)

    def _steer(self) -> None:
        """Turn what is to be turned at this step."""
        turned, save_now = self._steering.take()
        self._save_now |= save_now
        planned = self._settings.changes.get(self._index, {})
        turned = {name: new for name, new in turned.items() if new != planned.get(name, getattr(self._now, name))}
        if turned:
            try:
                self._record(self._index, turned)
            except ValueError as error:
                self._notes += (warned(f"No setting was changed at step {self._index}. {error}"),)
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
        elif now.tile != before.tile or weights_of(now).counting != weights_of(before).counting:
            self._objective = None
        self._now = now
        if now.color == before.color and any(name.endswith("_weight") for name in turned):
            self._weigh()
            self._objective_changed()
        self._optimizer.remember(now.history)
        if not turned.keys().isdisjoint(STEP_RULE):
            self._optimizer = make_optimizer(self._image, now)
            self._recent.clear()
        self._keep(self._index - 1, self._boost.factor)
