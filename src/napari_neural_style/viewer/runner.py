"""Runs tasks one after another, and shows how far each is."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

from magicgui.widgets import ProgressBar
from napari.utils import progress
from napari.utils.notifications import show_info
from psygnal import Signal

from napari_neural_style.viewer.clock import Clock, timed
from napari_neural_style.viewer.compare import comparison_in
from napari_neural_style.viewer.curve import LossCurve
from napari_neural_style.viewer.fields import in_words
from napari_neural_style.viewer.garbage import look_again, pass_over
from napari_neural_style.viewer.libraries import load_pytorch
from napari_neural_style.viewer.queue import Queue
from napari_neural_style.viewer.window import hold_animations
from napari_neural_style.viewer.worker import Callbacks, Job, Report, Work

if TYPE_CHECKING:
    import napari

    from napari_neural_style.engine.steering import Steering
    from napari_neural_style.engine.step import Step
    from napari_neural_style.viewer.outputs import Outputs
    from napari_neural_style.viewer.stack_outputs import StackOutputs
    from napari_neural_style.viewer.tasks import Task

_BAR = 1000
STARTING = "Starting…"


class Runner:
    """The run that is going, and those that wait for it.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Where the results go.

    Attributes
    ----------
    changed : Signal
        Emitted when a run begins, ends, is held, or waits.
    said : Signal
        Emitted with what the run is at, in a sentence.
    ended : Signal
        Emitted with how a run ended, in a sentence, when it has.
    bar : ProgressBar
        The share of its work that is done.
    curve : LossCurve
        Its losses.
    job : Job or None
        What runs now: a task, or a download.
    """

    changed = Signal()
    said = Signal(str)
    ended = Signal(str)

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        self._viewer = viewer
        self.bar = ProgressBar(name="progress", value=0, min=0, max=_BAR, visible=False)
        self.curve = LossCurve()
        self.job: Job | None = None
        self._steering: Steering | None = None
        self._outputs: Outputs | StackOutputs | None = None
        self._activity: progress | None = None
        self._clock = Clock()
        self._began = self._refreshed = 0.0
        self._words = ""

    @cached_property
    def queue(self) -> Queue:
        """The list of the runs that wait."""
        queue = Queue()
        queue.changed.connect(self.changed.emit)
        return queue

    @property
    def waiting(self) -> int:
        """How many runs wait."""
        return len(self.queue) if "queue" in self.__dict__ else 0

    @property
    def paints(self) -> bool:
        """Whether a run is going, which a download is not."""
        return self._outputs is not None

    @property
    def steerable(self) -> bool:
        """Whether a run is going that can be steered."""
        return self._steering is not None

    @property
    def words(self) -> str:
        """What the run is at, and how many wait for it, in a sentence."""
        paused = "Paused. " if self.job is not None and self.job.paused else ""
        waiting = f" · {self.waiting} waiting" if self.waiting else ""
        return f"{paused}{self._words}{waiting}"

    def begin(self, task: Task) -> bool:
        """Start a task, or let it wait; return whether it started."""
        if self.job is not None:
            self.queue.add(task)
            return False
        comparison_in(self._viewer).end()  # what it paints would be hidden
        from napari_neural_style.engine.steering import Steering

        steering = Steering()
        self._steering = steering if task.steerable else None
        self._outputs = task.outputs(self._viewer, task.steps_as)
        self.curve.clear()
        self._start(lambda report: task.work(report, steering), "Style transfer")
        return True

    def download(self) -> None:
        """Fetch the pretrained features, unless something else is under way."""
        if self.job is not None:
            return

        def work(report: Report) -> Generator[Step]:
            load_pytorch(report)
            report("Connecting…", 0.0)
            from napari_neural_style.engine.download import download_pretrained

            def received(done: int, total: int) -> None:
                of = f" of {total / 1e6:.0f}" if total else ""
                report(f"Downloading: {done / 1e6:.0f}{of} MB", done / total if total else 0.0)

            download_pretrained(received)
            yield from ()

        self._start(work, "VGG-19 download")

    def _start(self, work: Work, description: str) -> None:
        pass_over()
        callbacks = Callbacks(self._on_status, self._on_passed, self._on_step, self._on_end)
        job = Job(work, callbacks, self.bar.native)
        self.job = job
        self._clock = Clock()
        activity = progress(total=_BAR, desc=description)  # runs the event loop, in which the dock may be closed
        if self.job is not job:
            activity.close()
            return
        self._activity = activity
        hold_animations(self.bar.native)
        self.bar.value = 0
        self.bar.visible = True
        self._began = time.monotonic()
        self.changed.emit()
        self._say(STARTING)
        job.start()

    def toggle_pause(self) -> None:
        """Hold the run after its present step, or let it go on."""
        if self.job is None:
            return
        if self.job.paused:
            self.job.resume()
        else:
            self.job.pause()
        self._say(self._words)
        self._clock = Clock()
        self.changed.emit()

    def stop(self) -> None:
        """End the run before its next step; the next one that waits begins."""
        if self.job is not None:
            self.job.stop()
            self._say("Stopping…")
            self.changed.emit()

    def save_now(self) -> None:
        """Keep the picture of the next step."""
        if self._steering is not None:
            self._steering.save_now()
        if self.job is not None and self.job.paused:
            self.said.emit(f"{self.words}. The next step is kept when the run goes on.")

    def turn(self, name: str, value: Any) -> None:
        """Let the run have another value of a setting from its next step on."""
        if self._steering is not None:
            self._steering.turn(**{name: value})

    def abandon(self) -> None:
        """Stop everything and tell nobody: the dock is going away."""
        if self.waiting:
            self.queue.clear()
        if self.job is not None:
            self.job.abandon()
            self._end()

    def _say(self, words: str) -> None:
        self._words = words
        self.said.emit(self.words)

    def _on_status(self, message: str, fraction: float) -> None:
        if self.job is not None and not self.job.stopping:
            self._say(message)
        self._advance(fraction)
        self._tell_napari(fraction)

    def _on_passed(self, index: int, at: float, total: float, content: float, style: float) -> None:
        self.curve.add(index, at - self._began, total, content, style)

    def _on_step(self, step: Any) -> Iterator[None] | None:
        self._tell_napari(step.done)  # before there is anything to draw: napari runs its event loop
        if self._outputs is None:
            return None
        unsettled = self._outputs.show(step)
        self._advance(step.done)
        if self.job is None or self.job.stopping:
            return unsettled
        left = self._clock.left(step.done)
        words = self._outputs.words(step)
        words += [] if left is None else [f"{timed(left)} left"]
        self._say(" · ".join(words))
        return unsettled

    def _advance(self, fraction: float) -> None:
        # A bar paints itself at once, and the whole window is composed for that; it comes with the picture instead.
        self.bar.native.setUpdatesEnabled(False)
        self.bar.value = int(fraction * _BAR)
        self.bar.native.setUpdatesEnabled(True)

    def _tell_napari(self, fraction: float) -> None:
        now = time.monotonic()
        if self._activity is not None and now - self._refreshed >= 1:
            self._refreshed = now
            self._activity.update(int(fraction * _BAR) - self._activity.n)

    def _on_end(self, error: str | None) -> None:
        stopped = self.job is not None and self.job.stopping
        words = "Stopped." if stopped else "Done."
        if self._outputs is not None:
            words = self._outputs.how_it_ended(stopped)
        try:
            self._end()
        finally:  # a picture on disk may be gone, or another plugin fail to take a layer's last name
            if error:
                show_info(in_words(error))
            self.ended.emit(error or words)
            task = self.queue.take() if self.waiting else None
            if task is not None:
                self.begin(task)
            self.changed.emit()

    def _end(self) -> None:
        self.job = self._steering = None
        look_again()
        self.bar.visible = False
        if self._activity is not None:
            self._activity.close()
            self._activity = None
        outputs, self._outputs = self._outputs, None
        if outputs is not None:
            outputs.finish()
