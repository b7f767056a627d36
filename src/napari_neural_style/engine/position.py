"""Where a run stands, and what takes it from one scale or colour to another."""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from napari_neural_style.engine.color import luminance
from napari_neural_style.engine.graph import Recorded
from napari_neural_style.engine.images import Shown, denormalize, normalize, size_of
from napari_neural_style.engine.losses import Losses
from napari_neural_style.engine.objective import Objective, weights_of
from napari_neural_style.engine.optimizers import make_optimizer
from napari_neural_style.engine.preparation import Pictures, Sources, at_scale, prepare
from napari_neural_style.engine.pyramid import Scale, enlarge, schedule
from napari_neural_style.engine.recovery import Watch
from napari_neural_style.engine.resolving import smallest_side
from napari_neural_style.engine.snapshot import Snapshot
from napari_neural_style.engine.structure import SIGMA, ContentBoost, structure
from napari_neural_style.engine.tiling import make_objective
from napari_neural_style.engine.vgg import Trunk
from napari_neural_style.settings import StyleSettings

PLATEAU = 10
"""Steps over which `min_improvement` is averaged."""


def turned_until(settings: StyleSettings, index: int) -> StyleSettings:
    """Return settings with what is turned in their first steps, and no other changes."""
    turned: dict[str, Any] = {}
    for step, there in settings.changes.items():
        if step <= index:
            turned |= there
    return dataclasses.replace(settings, changes={}, **turned)


@dataclasses.dataclass(frozen=True)
class Network:
    """What a run computes with.

    Attributes
    ----------
    make_trunk : callable
        From a precision to the network.
    fingerprint : str
        SHA-256 of its features.
    learned_from : callable or None
        From pictures to the network of what is learned from them, where features are the run's own: those that were
        learned from grey pictures do not tell colours.
    """

    make_trunk: Callable[[str], Trunk]
    fingerprint: str
    learned_from: Callable[[Pictures], Network] | None


class Position:
    """Where a run stands: its scale, its image, and all that the next step takes.

    Parameters
    ----------
    sources : Sources
        The images.
    settings : StyleSettings
        Resolved.
    network : Network
        What it computes with.
    snapshot : Snapshot, optional
        Where to go on from.
    """

    def __init__(
        self, sources: Sources, settings: StyleSettings, network: Network, snapshot: Snapshot | None = None
    ) -> None:
        self._sources = sources
        self._settings = settings
        self._index = 0 if snapshot is None else snapshot.index
        self._now = turned_until(settings, self._index)
        self._compute_with(network, self._now.precision)
        self._pictures = prepare(sources, self._now)
        self._here = self._pictures
        self._objective: Objective | Recorded | None = None
        self._boost = ContentBoost(settings.min_structure if settings.mode == "transfer" else 0.0)
        self._recent: deque[Tensor] = deque(maxlen=PLATEAU + 1)
        self._scales = schedule(
            self._pictures.size,
            settings.scales,
            settings.steps,
            smallest_side(settings),
            [size_of(brush.picture) for brush in self._pictures.brushes],
        )
        self._number = 0
        self._scale_step = 0
        self._image = self._pictures.start
        self._shown = -float("inf")
        self._watch = Watch()
        self._notes: tuple[str, ...] = () if snapshot is None else snapshot.notes

    def _compute_with(self, network: Network, precision: str) -> None:
        self._trunk = network.make_trunk(precision)
        # It holds the filters' own numbers, which are not needed again where those are computed with.
        self._make_trunk = None if precision == "float32" else network.make_trunk
        self._fingerprint, self._learned_from = network.fingerprint, network.learned_from

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
        self._watch.objective_changed()
        self._recent.clear()
        self._keep(self._index, self._boost.factor)

    def _take_up(self, snapshot: Snapshot) -> None:
        """Stand where a snapshot was taken."""
        scale = self._scales[snapshot.scale - 1]
        here = at_scale(self._pictures, scale.size, scale.fraction)
        device = self._sources.content.device
        image = snapshot.image.to(device).clone()
        self._optimizer = make_optimizer(image, self._now)
        self._optimizer.restore(snapshot.optimizer)
        self._number, self._scale_step, self._here, self._image = snapshot.scale, snapshot.scale_step, here, image
        self._boost.factor = snapshot.boost
        self._recent.clear()
        self._recent.extend(torch.tensor(loss, dtype=torch.float32) for loss in snapshot.recent)
        self._watch.restore(snapshot.watched, device)

    def _recolor(self, now: StyleSettings) -> None:
        """Go on in other colours: the picture keeps what is painted, the targets are new."""
        self._objective = None
        shown = self._here.as_rgb(denormalize(self._image))
        pictures = prepare(self._sources, now)
        if self._learned_from is not None:
            self._compute_with(self._learned_from(pictures), now.precision)
        here = at_scale(pictures, self._scale.size, self._scale.fraction)
        image = normalize(shown if here.content.shape[1] == 3 else luminance(shown)).contiguous()
        self._optimizer = make_optimizer(image, now)
        self._pictures, self._here, self._image = pictures, here, image
        self._watch.objective_changed()
        self._recent.clear()

    def _keep(self, index: int, boost: float) -> None:
        """Keep the image as one to go back to, made in `index` steps, and the content weight's factor then."""
        self._watch.keep(self._image, index, self._scale_step - (self._index - index), boost)

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

    def _objective_changed(self) -> None:
        self._optimizer.objective_changed()
        self._watch.objective_changed()
        self._recent.clear()

    def _structure(self) -> float:
        return structure(denormalize(self._image), self._here.original, SIGMA * self._scale.fraction)

    def _on_a_plateau(self) -> bool:
        """Tell whether the loss fell by less than `min_improvement` a step over the recent steps."""
        least = self._now.min_improvement
        if not least or len(self._recent) <= PLATEAU:
            return False
        losses = [float(loss) for loss in self._recent]
        # The least, not the last: L-BFGS may be about to take that step back.
        return losses[0] - min(losses) < least * PLATEAU * losses[0]

    def _done(self) -> float:
        """Return the share of the work that is done: a step's grows with the pixels of its scale."""
        work = [scale.size[0] * scale.size[1] * scale.steps for scale in self._scales]
        done = sum(work[: self._number]) - work[self._number - 1] * (1 - self._scale_step / self._scale.steps)
        return done / sum(work)

    def picture(self) -> Shown:
        """Return the present picture at the working size, as users see it."""
        self._shown = time.monotonic()
        image = self._image
        if size_of(image) != self._pictures.size:
            image = enlarge(image, normalize(self._pictures.start))
        return self._pictures.finish(image)

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
            watched=self._watch.state(),
            notes=self._notes,
        )
