"""What a run tells after each of its steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from napari_neural_style.engine.images import FloatImage, Shown
from napari_neural_style.engine.losses import Losses
from napari_neural_style.engine.modes import usual_modes
from napari_neural_style.engine.snapshot import Snapshot
from napari_neural_style.settings import StyleSettings

if TYPE_CHECKING:
    from napari_neural_style.engine.optimization import Optimization


@dataclasses.dataclass(frozen=True)
class Step:
    """One step of the optimisation.

    What :mod:`pickle` and :mod:`copy` make of it has no image, and no run to take a snapshot of.

    Attributes
    ----------
    index, total : int
        Number of the step, from 1, and how many there will be.
    scale, scales : int
        Number of the scale, from 1 (the coarsest), and how many there are.
    losses : Losses
        The weighted terms before the step's update.
    saved : bool
        True on every ``save_every``-th step, on the last, where it was asked for, and where the run gave up.
    done : float
        Share of the whole work that is done, 0..1: a step's work grows with the pixels of its scale.
    settings : StyleSettings
        The job's settings with what every ``"auto"`` became and what was turned so far.
    fingerprint : str
        SHA-256 of the features.
    image : ndarray or None
        The picture after the step's update at the working size, (H, W, 3) float32 in 0..1, when the step
        is saved or a preview is due; :meth:`pictured` has it for any other. On a GPU it is waited for when first
        read, as the losses are.
    notes : tuple of str
        What the run turned by itself so far, in sentences: where memory ran out or numbers went wrong.
    gave_up : bool
        True where the run cannot go on: this is what there is, and asking for the next step raises why.
    """

    index: int
    total: int
    scale: int
    scales: int
    losses: Losses
    saved: bool
    done: float
    settings: StyleSettings
    fingerprint: str
    shown: Shown | None = dataclasses.field(repr=False, compare=False)
    _run: Callable[[], Optimization | None] = dataclasses.field(repr=False, compare=False)
    notes: tuple[str, ...] = ()
    gave_up: bool = False

    @cached_property
    def image(self) -> FloatImage | None:  # noqa: D102
        return None if self.shown is None else self.shown.array()

    def __getstate__(self) -> dict[str, Any]:
        # What is sent elsewhere has left its run; a picture goes beside it, rounded.
        return {**self.__dict__, "image": None, "shown": None, "_run": _no_run}

    @usual_modes()
    def snapshot(self) -> Snapshot:
        """Return where the run stands, to go on from; before the next step is asked for.

        Raises
        ------
        RuntimeError
            If the run has moved on or is over.
        """
        return self._present_run().snapshot()

    @usual_modes()
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
        if run is None:
            raise RuntimeError("The run is over: hold its generator for as long as its steps are asked.")
        if run.index != self.index:
            raise RuntimeError("The run has moved on: ask before the next step.")
        return run


def _no_run() -> None:
    return None
