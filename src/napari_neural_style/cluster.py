"""Workers on Dask: processes of this machine, or a cluster that is there already."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_neural_style import __version__
from napari_neural_style.engine.step import Step
from napari_neural_style.workers import WorkersError

if TYPE_CHECKING:
    from distributed import Client, Future, Worker

ENOUGH = 100
"""Tasks that wait on the cluster at least, so that one that grows by demand sees some."""
LISTEN_EVERY = 1.0
"""Seconds between two looks of a task at whether to stop."""
PATIENCE = 10
"""Seconds to wait for a scheduler."""
TRIES = 3
"""How often a task is begun that was lost with a worker."""

LOST = "The scheduler was lost. What is finished is kept; run the rest again."
INSTALL = 'python -m pip install "napari-neural-style[cluster]"'


@dataclass
class _Kept:
    """A value that every worker has."""

    value: Any
    future: Future


@dataclass(eq=False)
class _Task:
    """A task and what it takes to begin it again."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    future: Future | None = None
    tries: int = 0


class Cluster:
    """Workers of a Dask cluster.

    Parameters
    ----------
    client : distributed.Client
        Connected.

    Raises
    ------
    WorkersError
        If a worker lacks this package or has another version of it.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._stop = f"napari-neural-style-{uuid.uuid4().hex}"
        self._kept: list[_Kept] = []
        for worker, answer in client.run(greet, on_error="return").items():
            if isinstance(answer, BaseException):
                raise WorkersError(_why_none(answer, f"The worker at {worker}"))
            if answer != __version__:
                raise WorkersError(f"The worker at {worker} has napari-neural-style {answer}: install {__version__}.")

    @property
    def slots(self) -> int:
        """How many tasks it takes at once: some wait on every worker."""
        return max(ENOUGH, 2 * self.threads)

    @property
    def threads(self) -> int:
        """How many tasks it does at once."""
        return sum(self._client.nthreads().values())

    def keep(self, value: Any) -> Any:
        """Send a value to every worker."""
        self._kept.append(_Kept(value, self._scattered(value)))
        return self._kept[-1]

    def send(self, value: Any) -> Any:
        """Send a value to one worker, for the task that takes it: with the task itself, the scheduler would hold it."""
        return _Kept(value, self._scattered(value, everywhere=False))

    def _scattered(self, value: Any, everywhere: bool = True) -> Future:
        for _ in range(TRIES):
            try:
                return self._client.scatter([value], broadcast=everywhere, hash=False)[0]
            except TimeoutError as error:
                raise WorkersError("The scheduler has no workers.") from error
            except OSError:  # the worker that was to get it has died
                continue
        raise WorkersError(LOST)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Begin a task."""
        return self._begin(_Task(function, arguments))

    def _begin(self, task: _Task) -> _Task:
        task.tries += 1
        ready = [a.future if isinstance(a, (_Kept, _Task)) else a for a in task.arguments]
        task.future = self._client.submit(work, self._stop, task.function, *ready, pure=False)
        return task

    def _begin_again(self, task: _Task) -> None:
        """Begin a task whose arguments went with the last worker that had them."""
        sent = [argument for argument in task.arguments if isinstance(argument, _Kept)]
        for kept in (*self._kept, *sent):
            if kept.future.status in ("cancelled", "lost"):
                kept.future = self._scattered(kept.value)
        for argument in task.arguments:
            if isinstance(argument, _Task) and argument.future is not None and argument.future.cancelled():
                self._begin_again(argument)
        self._begin(task)

    def first_done(self, tasks: Sequence[_Task], seconds: float | None = None) -> _Task | None:
        """Wait until any of some tasks is finished, and return it; None when that takes longer."""
        from distributed import CancelledError, wait

        while True:
            for task in tasks:
                assert task.future is not None
                if task.future.cancelled() and task.tries < TRIES and self._client.status == "running":
                    self._begin_again(task)
                elif task.future.status != "pending":
                    return task
            try:
                with self._client.as_current(), contextlib.suppress(CancelledError):
                    wait([task.future for task in tasks], seconds, return_when="FIRST_COMPLETED")
            except TimeoutError:
                return None

    def result(self, task: _Task) -> Any:
        """Return a finished task's result, or raise what it raised."""
        from distributed import CancelledError, KilledWorker

        assert task.future is not None
        try:
            return task.future.result()
        except KilledWorker as error:
            raise ValueError(
                "The worker that made it died each time, perhaps for lack of memory. Choose a smaller size, or give "
                "the workers more memory."
            ) from error
        except ImportError as error:
            raise WorkersError(_why_none(error, "A worker")) from error
        except CancelledError as error:
            raise WorkersError(LOST) from error

    def stop(self) -> None:
        """Stop all tasks, those that run within about a second."""
        from distributed import Event

        if self._client.status == "running":
            Event(self._stop, self._client).set()


def greet() -> str:
    """Return the version of this package: run by every worker before its first task."""
    return __version__


def work(stop: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Do a task on a worker, until it is finished or the event `stop` is set."""
    from distributed import Event

    event, looked = Event(stop), time.monotonic()

    def watch(_: Step) -> None:
        nonlocal looked
        if time.monotonic() - looked > LISTEN_EVERY:
            looked = time.monotonic()
            if event.is_set():
                raise InterruptedError("The batch was stopped.")

    return function(*arguments, watch=watch)


def _why_none(error: BaseException, worker: str) -> str:
    # What is raised before the function itself is there comes as its text.
    if isinstance(error, ImportError) or "ModuleNotFoundError" in str(error):
        return (
            f"{worker} cannot import napari_neural_style ({error}). Install the same version of napari-neural-style on "
            "every worker."
        )
    return f"{worker} cannot be used: {error or type(error).__name__}"


@contextlib.contextmanager
def local_cluster(count: int, gpus: Sequence[int]) -> Iterator[Cluster]:
    """Start worker processes on this machine and end them afterwards.

    Parameters
    ----------
    count : int
        How many; the cores are shared out among them.
    gpus : sequence of int
        Numbers of the GPUs that can be used; each worker in turn gets one.
    """
    distributed = _distributed()
    threads = str(max(1, (os.cpu_count() or 1) // count))
    processes = distributed.LocalCluster(
        n_workers=count,
        threads_per_worker=1,
        memory_limit=0,  # what does not fit is told by PyTorch, and a share of this machine's memory is no limit
        dashboard_address=None,
        scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # it serves HTTP all the same, at a port that is free
        silence_logs=logging.CRITICAL,
        env=dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), threads),
    )
    with processes, _connected(processes) as client:
        client.register_plugin(_of_this_machine(gpus))
        yield from _until_done(client)


@contextlib.contextmanager
def cluster_at(address: str) -> Iterator[Cluster]:
    """Use a cluster that is there already.

    Parameters
    ----------
    address : str
        Of its scheduler, such as ``tcp://host:8786``.

    Raises
    ------
    ValueError
        If no scheduler answers there.
    """
    _distributed()
    from distributed.comm.addressing import get_address_host_port, normalize_address

    try:  # a client that fails otherwise than by waiting in vain is never closed
        get_address_host_port(normalize_address(address), strict=True)
    except ValueError as error:
        raise ValueError(f"{address!r} is not an address of a Dask scheduler, such as tcp://host:8786.") from error
    with _connected(address) as client:
        yield from _until_done(client)


def _until_done(client: Client) -> Iterator[Cluster]:
    cluster = Cluster(client)
    try:
        yield cluster
    except BaseException:
        cluster.stop()
        raise


@contextlib.contextmanager
def _connected(where: Any) -> Iterator[Client]:
    distributed = _distributed()
    try:
        client = distributed.Client(where, timeout=PATIENCE, set_as_default=False)
    except Exception as error:  # tls:// without certificates is a TypeError
        raise ValueError(f"No Dask scheduler answers at {where}: is it running, and is this its address?") from error
    with client:
        yield client


def _distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise ImportError(f"Several workers need dask.distributed. Get it with: {INSTALL}") from error
    return distributed


def _of_this_machine(gpus: Sequence[int]) -> Any:
    """Return what prepares each of the worker processes of this machine, again if it is started again."""
    from distributed import WorkerPlugin

    class OfThisMachine(WorkerPlugin):
        def setup(self, worker: Worker) -> None:
            # A terminal's Ctrl-C reaches the workers as well; the command ends them.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            # As the process ends, distributed's client may find its loop closed, and tells nobody but the terminal.
            sys.unraisablehook = lambda _: None
            if gpus:  # before PyTorch looks
                visible = os.environ.get("CUDA_VISIBLE_DEVICES")
                os.environ["CUDA_VISIBLE_DEVICES"] = gpu_of(int(worker.name), gpus, visible)

    return OfThisMachine()


def gpu_of(number: int, gpus: Sequence[int], visible: str | None) -> str:
    """Return the GPU of a worker, as CUDA_VISIBLE_DEVICES names it."""
    gpu = gpus[number % len(gpus)]
    return visible.split(",")[gpu] if visible else str(gpu)
