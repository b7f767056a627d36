"""What makes the pictures of a batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from napari_neural_style.ctrl_c import followed_ctrl_c
from napari_neural_style.engine.step import Step

Watch = Callable[[Step], None]


class WorkersError(ValueError):
    """The workers can make no picture at all."""


class Workers(Protocol):
    """What makes pictures: :class:`Here`, or a cluster."""

    @property
    def slots(self) -> int:
        """How many tasks it takes at once."""

    def keep(self, value: Any) -> Any:
        """Return what stands for a value that many tasks take; it is sent once."""

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Begin a task and return what stands for its result, which other tasks can take."""

    def result(self, task: Any) -> Any:
        """Return a finished task's result, or raise what it raised."""

    def first_done(self, tasks: Sequence[Any]) -> Any:
        """Wait until any of some tasks is finished, and return it."""


def last_of(steps: Iterable[Step], watch: Watch | None) -> Step:
    """Run to the end, each step being looked at, and return the last."""
    last: deque[Step] = deque(maxlen=1)
    for step in steps:
        if watch is not None:
            watch(step)
        last.append(step)
    return last[0]


def outcome_of(workers: Workers, task: Any) -> tuple[Any, str]:
    """Return a finished task's result and nothing, or None and why there is none, in a sentence.

    Raises
    ------
    WorkersError
        If there will be none from any other task either.
    """
    try:
        return workers.result(task), ""
    except WorkersError:
        raise
    except Exception as error:  # whatever befalls one picture, the others are made
        return None, str(error).partition("\n")[0] or type(error).__name__


class Here:
    """Does each task at once, in this process.

    Parameters
    ----------
    watch : callable, optional
        Called with every step; what it raises stops the batch.
    """

    slots = 1

    def __init__(self, watch: Watch | None = None) -> None:
        self._watch = watch

    def keep(self, value: Any) -> Any:
        """Return the value itself."""
        return value

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Do a task."""
        done: Future[Any] = Future()
        try:
            ready = [a.result() if isinstance(a, Future) else a for a in arguments]
            done.set_result(function(*ready, watch=self._watch))
        except Exception as error:  # the caller judges it
            if followed_ctrl_c(error):
                raise KeyboardInterrupt from error
            done.set_exception(error)
        return done

    def result(self, task: Future[Any]) -> Any:
        """Return a task's result, or raise what it raised."""
        return task.result()

    def first_done(self, tasks: Sequence[Future[Any]]) -> Future[Any]:
        """Return the first task: it is done."""
        return tasks[0]
