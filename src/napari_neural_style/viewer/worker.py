"""Runs a job on a thread worker and hands what it makes to the main thread."""

from __future__ import annotations

import atexit
import contextlib
import logging
import math
import queue
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from napari.qt.threading import create_worker
from napari.utils.notifications import show_warning
from qtpy.QtCore import QCoreApplication, QObject, QThreadPool, QTimer, Signal
from qtpy.QtWidgets import QWidget

from napari_neural_style.viewer.rest import SHORTEST_REST, Rest
from napari_neural_style.viewer.window import draw_later, lay_out_now

if TYPE_CHECKING:
    from napari_neural_style.engine.losses import Losses
    from napari_neural_style.engine.step import Step
    from napari_neural_style.viewer.stacks import StackStep

    AnyStep: TypeAlias = Step | StackStep

log = logging.getLogger(__name__)

LOOK_MS = 100
"""Time between two looks for a preview or a sentence, in milliseconds; a saved step and the end are told at once."""
TURN_MS = 2
"""Time from showing a saved step until it is added, in milliseconds: the job holds for both."""
UNREAD_FOR = 0.5
"""Seconds after which losses are read though no picture was due; the thread does it, so that nobody waits for a GPU."""
LONGEST_HOLD = 0.5
"""Seconds that a job holds at most for a layer to be added: on cores that it loads, napari takes twice as long for
that, and the window stands still meanwhile."""

Report = Callable[[str, float], None]
Work = Callable[[Report], "Generator[AnyStep]"]


class Stopped(BaseException):
    """Ends a job from inside its progress callback; no Exception, so that nothing on its way takes it for a fault."""


@dataclass(frozen=True)
class Callbacks:
    """What a job tells the main thread; each is called there only.

    Attributes
    ----------
    status : callable
        A sentence and a fraction, before the first step.
    passed : callable
        The losses of every step, whether it is shown or not: its number, when it was made (:func:`time.monotonic`),
        the total, and the content and style terms.
    step : callable
        A step: every saved one, and the latest of the others. Returns None, or an iterator that does what is left to do
        for it part by part, each in another turn of the event loop.
    ended : callable
        Once, at the end: None, or a sentence that says what went wrong.
    """

    status: Report
    passed: Callable[[int, float, float, float, float], None]
    step: Callable[[Any], Iterator[None] | None]
    ended: Callable[[str | None], None]


# napari's window keeps every worker it has seen, and with it the job: it must not keep the widget too.
_NOBODY = Callbacks(lambda *status: None, lambda *passed: None, lambda step: None, lambda error: None)


class _Bell(QObject):
    """Rung on the thread, starts a timer of the main thread, if that is still there."""

    rang = Signal(int)


class Job:
    """One job on a thread of its own; make, start and stop it on the main thread.

    The thread fills a mailbox and the main thread empties it by a timer, so that a slow canvas never makes a queue
    of pictures, and nothing of napari is touched by the thread.

    Parameters
    ----------
    work : callable
        Called on the thread with a callback for progress; yields steps.
    callbacks : Callbacks
        What to tell the main thread.
    parent : QWidget
        Owner of the timer.
    """

    def __init__(self, work: Work, callbacks: Callbacks, parent: QWidget) -> None:
        self._work: Work | None = work
        self._callbacks = callbacks
        self._unread: list[tuple[int, float, Losses]] = []
        self._passed: deque[tuple[int, float, float, float, float]] = deque()
        self._awaited: queue.Queue[AnyStep] = queue.Queue(maxsize=2)
        self._pictured = False
        self._latest: AnyStep | None = None
        self._preview: AnyStep | None = None
        self._swap = threading.Lock()  # held while these two are exchanged
        self._added = threading.Event()
        self._unsettled: Iterator[None] | None = None
        self._adds_at = 0.0
        self._rest = Rest()
        self._status: tuple[str, float] | None = None
        self._error: str | None = None
        self._stop = threading.Event()
        self._resume = threading.Event()
        self._resume.set()
        self._finished = threading.Event()
        self._told = False
        self._looking = False
        # A pool of its own: a paused job must not hold a thread that other plugins' workers wait for.
        self._pool = QThreadPool()
        self._worker: Any = create_worker(
            self._run, _start_thread=False, _ignore_errors=True, _connect={"warned": _show_warning}
        )
        self._worker.setAutoDelete(False)
        _made.add(self)
        self._timer = QTimer(parent, singleShot=True)
        self._timer.timeout.connect(self._look)
        # napari asks a worker to quit when the window closes that was the active one as it began, whosever dock it is.
        self._timer.destroyed.connect(self.abandon)
        self._bell = _Bell()
        self._bell.rang.connect(self._timer.start)
        application = QCoreApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(self.abandon)

    def start(self) -> None:
        """Start the thread."""
        self._timer.start(LOOK_MS)
        self._pool.start(self._worker)

    def stop(self) -> None:
        """Ask the job to end; it does before its next step."""
        if not self._finished.is_set():
            self._stop.set()
        self._resume.set()
        self._added.set()

    def wait(self, seconds: float) -> bool:
        """Wait until the thread has ended; return whether it has."""
        return self._finished.wait(seconds)

    def join(self) -> None:
        """Wait until the thread has ended; the step that it is at is finished first."""
        self._pool.waitForDone()

    def pause(self) -> None:
        """Hold the job after the step it is at."""
        self._resume.clear()

    def resume(self) -> None:
        """Go on."""
        self._resume.set()

    @property
    def paused(self) -> bool:
        """Whether the job is held."""
        return not self._resume.is_set()

    @property
    def stopping(self) -> bool:
        """Whether the job has been asked to end."""
        return self._stop.is_set()

    def _run(self) -> None:
        assert self._work is not None
        try:
            steps = self._work(self._report)
            self._work = None
            with contextlib.closing(steps):
                for step in steps:
                    self._put(step)
                    self._resume.wait()
                    if self._told:
                        steps.throw(Stopped())  # nothing is written of it: nobody could go on with it
                    if self._stop.is_set():
                        # What is kept is the very step that the run can be gone on with from.
                        step = step.pictured()
                        with self._swap:
                            self._latest = self._preview = step
                        self._read_losses()
                        break
        except Stopped:
            pass
        except (ValueError, ImportError, OSError) as error:
            self._error = str(error)
        except Exception as error:
            self._error = _sentence(error)
        finally:
            self._work = None
            if self._told:
                self._let_go()
            self._finished.set()
            self._bell.rang.emit(0)

    def _put(self, step: AnyStep) -> None:
        """Put a step into the mailbox."""
        now = time.monotonic()
        if step.losses is not None:
            self._unread.append((step.index, now, step.losses))
        if step.image is not None or (self._unread and now - self._unread[0][1] >= UNREAD_FOR):
            self._read_losses()
        first = not self._pictured and step.image is not None
        if step.saved or first:  # a layer is added
            self._pictured = self._pictured or first
            self._hand_over(step)
        else:
            with self._swap:
                self._preview = step if step.image is not None else self._preview
                self._latest = step

    def _let_go(self) -> None:
        """Hold no pictures any more: napari's window holds every worker, and with it the job."""
        self._latest = self._preview = self._unsettled = None
        self._unread.clear()
        with contextlib.suppress(queue.Empty):
            while True:
                self._awaited.get_nowait()

    def _read_losses(self) -> None:
        """Fetch the losses of the last steps all at once: that waits for a GPU, but not after a picture, which did."""
        for index, at, losses in self._unread:
            self._passed.append((index, at, losses.total, losses.content, losses.style))
        self._unread.clear()

    def _hand_over(self, step: AnyStep) -> None:
        """Wait until there is room for a step and, a while, until its layer is added: none is lost or piles up."""
        self._added.clear()
        while not self._stop.is_set():
            try:
                self._awaited.put(step, timeout=0.1)
            except queue.Full:
                continue
            self._bell.rang.emit(0)
            self._added.wait(LONGEST_HOLD)
            return

    def _report(self, message: str, fraction: float) -> None:
        self._status = (message, fraction)
        self._resume.wait()
        if self._stop.is_set():
            raise Stopped

    def _look(self) -> None:
        # Showing progress runs the event loop, which may bring the timer round again.
        if self._looking or self._told:
            return
        self._looking = True
        try:
            self._deliver()
        finally:
            self._looking = False
            if not self._told:
                self._timer.start(self._due_in())

    def _due_in(self) -> int:
        """Return the milliseconds until there may be something to do."""
        if self._unsettled is not None:
            return TURN_MS
        if self._awaited.empty():
            return LOOK_MS
        return max(0, math.ceil(1000 * (self._adds_at - time.monotonic())))

    def _deliver(self) -> None:
        finished = self._finished.is_set()
        if self._status is not None:
            status, self._status = self._status, None
            self._callbacks.status(*status)
        while self._passed:
            self._callbacks.passed(*self._passed.popleft())
        while True:
            if self._unsettled is not None:
                self._settle(self._unsettled)
            elif not self._awaited.empty() and (finished or time.monotonic() >= self._adds_at):
                self._show_awaited(self._awaited.get_nowait())
            else:
                break
            if not finished:
                break  # adding a layer takes a while; one thing at a time leaves the window responsive
        if self._awaited.empty() and self._latest is not None and (finished or self._rest.over):
            self._show_latest()
            lay_out_now(self._owner)
        if finished and not self._told:
            self._told = True
            self._timer.stop()
            self._timer.deleteLater()
            self._pool.waitForDone()
            ended, self._callbacks = self._callbacks.ended, _NOBODY
            ended(self._error)

    def _show_awaited(self, step: AnyStep) -> None:
        self._adds_at = time.monotonic() + SHORTEST_REST
        self._rest.begin_again()
        self._unsettled = self._callbacks.step(step)
        if self._unsettled is None:
            self._added.set()
        else:
            draw_later(self._owner, 2 * TURN_MS)  # both parts at once
        with self._swap:
            if self._latest is not None and self._latest.index <= step.index:
                self._latest = None
            if self._preview is not None and self._preview.index <= step.index:
                self._preview = None

    def _settle(self, parts: Iterator[None]) -> None:
        draw_later(self._owner, 1)
        for _ in parts:
            return
        self._unsettled = None
        self._added.set()

    @property
    def _owner(self) -> QWidget:
        owner = self._timer.parent()  # kept by nothing else, see above
        assert isinstance(owner, QWidget)
        return owner

    def _show_latest(self) -> None:
        """Deliver the last preview and the last step."""
        with self._swap:
            latest, preview = self._latest, self._preview
            self._latest = self._preview = None
        self._rest.begin()
        if preview is not None and preview is not latest:
            self._callbacks.step(preview)
        if latest is not None:
            self._callbacks.step(latest)

    def abandon(self) -> None:
        """Stop, and tell nobody any more: the widget that asked is going away."""
        self._told = True
        self._callbacks = _NOBODY
        self._let_go()
        with contextlib.suppress(RuntimeError):  # it goes with its widget
            self._timer.stop()
        self.stop()


_made: weakref.WeakSet[Job] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    """Wait for every thread: one that ends after Qt's objects are gone takes the process down with it."""
    for job in list(_made):
        job.stop()
    for job in list(_made):
        job.join()


def _show_warning(warning: tuple[Any, ...]) -> None:
    """Show a warning that was raised on the thread; without this it would reach nobody."""
    show_warning(str(warning[0]))


def _sentence(error: Exception) -> str:
    """Return what to tell users of a fault that is not theirs; the log gets the traceback."""
    from napari_neural_style.engine.recovery import DivergedError, OutOfMemoryError, is_out_of_memory

    if isinstance(error, (DivergedError, OutOfMemoryError)):
        return str(error)
    if is_out_of_memory(error):
        return "There is not enough memory for this size. Choose a smaller size, or another device."
    log.error("Style transfer failed", exc_info=error)
    return f"Something unexpected went wrong ({type(error).__name__}: {error}). The log holds the details."
