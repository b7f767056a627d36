"""One run of the optimisation: through its scales, steered on the way, and taken up again where it stood."""

from __future__ import annotations

import dataclasses
import time
import weakref
from collections import deque
from collections.abc import Iterator
from functools import cached_property

import torch
from torch import Tensor

from napari_neural_style.engine.allocator import kept_memory
from napari_neural_style.engine.color import luminance
from napari_neural_style.engine.images import FloatImage, Shown, denormalize, normalize, size_of
from napari_neural_style.engine.losses import Losses
from napari_neural_style.engine.objective import Weights
from napari_neural_style.engine.optimizers import make_optimizer
from napari_neural_style.engine.preparation import Sources, at_scale, prepare
from napari_neural_style.engine.pyramid import Scale, enlarge, schedule
from napari_neural_style.engine.snapshot import Snapshot
from napari_neural_style.engine.steering import Steering
from napari_neural_style.engine.structure import SIGMA, ContentBoost, structure
from napari_neural_style.engine.tiling import make_objective
from napari_neural_style.engine.vgg import Trunk
from napari_neural_style.settings import StyleSettings

PLATEAU = 10
"""Steps over which `min_improvement` is averaged."""


@dataclasses.dataclass(frozen=True)
class Step:
    """One step of the optimisation.

    Attributes
    ----------
    index, total : int
        Number of the step, from 1, and how many there will be.
    scale : int
        Number of the scale, from 1 (the coarsest).
    losses : Losses
        The weighted terms before the step's update.
    saved : bool
        True on every ``save_every``-th step, on the last, and where it was asked for.
    done : float
        Share of the whole work that is done, 0..1: a step's work grows with the pixels of its scale.
    settings : StyleSettings
        The job's settings with what every ``"auto"`` became and what was turned so far.
    fingerprint : str
        SHA-256 of the features.
    image : ndarray or None
        The picture after the step's update at the working size, (H, W, 3) float32 in 0..1, when the step
        is saved or a preview is due; like the losses, fetched from the device when first read.
    """

    index: int
    total: int
    scale: int
    losses: Losses
    saved: bool
    done: float
    settings: StyleSettings
    fingerprint: str
    shown: Shown | None = dataclasses.field(repr=False, compare=False)
    _run: weakref.ref[Optimization] = dataclasses.field(repr=False, compare=False)

    @cached_property
    def image(self) -> FloatImage | None:  # noqa: D102
        return None if self.shown is None else self.shown.array()

    def snapshot(self) -> Snapshot:
        """Return where the run stands, to go on from; before the next step is asked for.

        Raises
        ------
        RuntimeError
            If the run has moved on or is over.
        """
        return self._present_run().snapshot()

    def pictured(self) -> Step:
        """Return this step with its image, whether one was due or not; before the next step is asked for.

        Raises
        ------
        RuntimeError
            If the run has moved on or is over.
        """
        return self if self.shown is not None else dataclasses.replace(self, shown=self._present_run().picture())

    def _present_run(self) -> Optimization:
        run = self._run()
        if run is None or run.index != self.index:
            raise RuntimeError("The run has moved on: ask before the next step.")
        return run


def weights_of(settings: StyleSettings) -> Weights:
    """Return the weights of the terms; a mode is a weight of 0."""
    assert not isinstance(settings.content_layers, str)
    assert not isinstance(settings.style_layers, str)
    return Weights(
        content=0.0 if settings.mode == "texture" else settings.content_weight,
        style=0.0 if settings.mode == "content" else settings.style_weight,
        variation=settings.variation_weight,
        content_layers=settings.content_layers,
        style_layers=settings.style_layers,
        normalization=settings.normalization,
    )


class Optimization:
    """Runs a job's steps.

    Parameters
    ----------
    sources : Sources
        The images.
    settings : StyleSettings
        Resolved.
    trunk : Trunk
        The network.
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
        trunk: Trunk,
        fingerprint: str,
        smallest: int,
        steering: Steering | None = None,
        snapshot: Snapshot | None = None,
    ) -> None:
        self._sources = sources
        self._trunk = trunk
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
        self._pictures = prepare(sources, self._now)
        self._boost = ContentBoost(settings.min_structure if settings.mode == "transfer" else 0.0)
        self._recent: deque[Tensor] = deque(maxlen=PLATEAU + 1)
        self._scales = schedule(self._pictures.size, settings.scales, settings.steps, smallest)
        self._number = 0
        self._scale_step = 0
        self._image = self._pictures.start
        self._shown = -float("inf")

    def __iter__(self) -> Iterator[Step]:
        """Run, step by step."""
        with kept_memory():
            if self._snapshot is not None:
                self._take_up(self._snapshot)
                self._snapshot = None
                yield from self._stages()
            while self._number < len(self._scales):
                self._enter(self._number + 1)
                yield from self._stages()

    @property
    def _scale(self) -> Scale:
        return self._scales[self._number - 1]

    def _enter(self, number: int) -> None:
        """Begin a scale with what the one before made."""
        self._number, self._scale_step = number, 0
        self._look_at(self._scale)
        entry = normalize(self._here.start)
        self._image = (entry if number == 1 else enlarge(self._image, entry)).contiguous()
        self._optimizer = make_optimizer(self._image, self._now)
        self._recent.clear()

    def _take_up(self, snapshot: Snapshot) -> None:
        """Stand where a snapshot was taken."""
        self._number, self._scale_step = snapshot.scale, snapshot.scale_step
        self._boost.factor = snapshot.boost
        self._look_at(self._scale)
        device = self._sources.content.device
        self._image = snapshot.image.to(device).clone()
        self._optimizer = make_optimizer(self._image, self._now)
        self._optimizer.restore({name: value.to(device) for name, value in snapshot.optimizer.items()})
        self._recent.extend(torch.tensor(loss) for loss in snapshot.recent)

    def _look_at(self, scale: Scale) -> None:
        """Compute the targets of a scale."""
        here = at_scale(self._pictures, scale.size, scale.fraction)
        self._here = here
        weights, side = weights_of(self._now), int(self._settings.tile)
        self._objective = make_objective(self._trunk, here.content, here.brushes, weights, here.guides, side)
        self._weigh()

    def _weigh(self) -> None:
        """Give the objective the weights of now."""
        weights = weights_of(self._now)
        self._objective.weigh(weights.content * self._boost.factor, weights.style, weights.variation)

    def _stages(self) -> Iterator[Step]:
        """Run the steps that are left of the present scale."""
        while self._scale_step < self._scale.steps:
            self._index += 1
            self._scale_step += 1
            save_now = self._steer()
            if self._boost.due(self._index) and self._boost.look(self._structure()):
                self._weigh()
                self._objective_changed()
            losses, total, gradient = self._objective(self._image)
            self._optimizer.update(total, gradient)
            del gradient
            self._recent.append(total)
            ended = self._on_a_plateau()
            last = self._index == self._settings.steps or (ended and self._number == len(self._scales))
            saved = save_now or last or self._index % self._now.save_every == 0
            if ended:
                self._scale_step = self._scale.steps
            due = saved or time.monotonic() - self._shown >= self._now.preview_interval
            yield Step(
                index=self._index,
                total=self._settings.steps,
                scale=self._number,
                losses=losses,
                saved=saved,
                done=1.0 if last else self._done(),
                settings=self._settings,
                fingerprint=self._fingerprint,
                shown=self.picture() if due else None,
                _run=weakref.ref(self),
            )

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
        self._recent.clear()

    def _on_a_plateau(self) -> bool:
        """Tell whether the loss fell by less than `min_improvement` a step over the recent steps."""
        least = self._now.min_improvement
        if not least or len(self._recent) <= PLATEAU:
            return False
        first, last = float(self._recent[0]), float(self._recent[-1])
        return first - last < least * PLATEAU * first

    def _steer(self) -> bool:
        """Turn what is to be turned at this step; return whether to save it."""
        turned, save_now = self._steering.take()
        if turned:
            turned = {**self._settings.changes.get(self._index, {}), **turned}
            changes = {**self._settings.changes, self._index: turned}
            self._settings = dataclasses.replace(self._settings, changes=changes)
        turned = dict(self._settings.changes.get(self._index, {}))
        before = self._now
        self._now = dataclasses.replace(before, **turned)
        if self._now.color != before.color:
            self._recolor()
        elif any(name.endswith("_weight") for name in turned):
            self._weigh()
            self._objective_changed()
        return save_now

    def _recolor(self) -> None:
        """Go on in other colours: the picture keeps what is painted, the targets are new."""
        shown = self._here.as_rgb(denormalize(self._image))
        self._pictures = prepare(self._sources, self._now)
        self._look_at(self._scale)
        self._image = normalize(shown if self._here.content.shape[1] == 3 else luminance(shown)).contiguous()
        self._optimizer = make_optimizer(self._image, self._now)
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
