"""A run over the planes of a stack: what is to be painted, and the work for a thread."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from napari_neural_style.cache import cache_folder
from napari_neural_style.settings import StyleSettings
from napari_neural_style.viewer.layers import PixelsReader, Plane, pixels_of, pixels_reader_of, size_of, spot_of
from napari_neural_style.viewer.libraries import load_pytorch
from napari_neural_style.viewer.stack_array import StackArray, why_unwritten
from napari_neural_style.viewer.worker import Report

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_neural_style.engine.losses import Losses
    from napari_neural_style.planes import Index, Planes
    from napari_neural_style.shared import Shared
    from napari_neural_style.stack import PlaneStep

KEPT_DAYS = 30
"""How long stacks of ended processes are kept."""
LEFT_AFTER = 3600
"""Seconds after which nobody writes what is half written any more: its process was killed."""
_TIMES = ("t", "time", "frame", "frames")
_DEPTHS = ("z", "depth", "slice", "slices", "plane")
_CHANNELS = ("c", "ch", "channel", "channels", "rgb", "wavelength")

Reader = Callable[[], Any]
"""Reads a picture or labels, on any thread."""
StyleReaders = tuple[Reader, float, Reader | None]
"""What reads a style, its weight, and what reads its regions."""


def stacks_folder() -> Path:
    """Return where stacks are written."""
    return cache_folder() / "stacks"


def new_stack_path() -> Path:
    """Return where to write a stack or a large image; what nobody needs any more is removed."""
    _forget_old_stacks()
    return stacks_folder() / f"{os.getpid()}-{uuid.uuid4().hex[:8]}.ome.zarr"


@dataclass(frozen=True)
class StackStep:
    """A step of one plane of a stack, as the mailbox takes it."""

    plane: PlaneStep
    settings: StyleSettings

    @property
    def saved(self) -> bool:
        """Whether the plane is over, so that this step must not be left out."""
        return self.plane.over

    @property
    def index(self) -> int:
        """A number that rises from step to step through all planes."""
        before = (self.plane.done - self.plane.over) * self.settings.steps
        return before + (self.settings.steps if self.plane.step is None else self.plane.step.index)

    @property
    def done(self) -> float:
        """Share of the whole work that is done."""
        return self.plane.share_done

    @property
    def image(self) -> npt.NDArray[Any] | None:
        """The plane so far, if there is a picture of it."""
        return None if self.plane.step is None else self.plane.step.image

    @property
    def losses(self) -> Losses | None:
        """The weighted terms, if the plane has any."""
        return None if self.plane.step is None else self.plane.step.losses

    def pictured(self) -> StackStep:
        """Return itself: of a stack that is stopped, the finished planes are kept."""
        return self


class Stack:
    """Planes of a layer that are painted into one array; noted on the main thread.

    Parameters
    ----------
    whole : napari.layers.Image
        The content.
    layer : napari.layers.Image
        The level of it that is read, or itself.
    plane : Plane
        How its planes are shown, and where the sliders are.
    axes : sequence of int
        The layer's axes to go along, ascending.
    names : sequence of str
        A name for every axis of the layer.
    chained : bool
        Whether planes start from the one before along time, or else depth.
    styles : list of (callable, float, callable or None)
        What reads each style and its regions, and its weight.
    regions : callable or None
        Reads the content's regions, the same for all planes.
    settings : StyleSettings
        For all planes.

    Attributes
    ----------
    array : StackArray or None
        What is painted; made on the thread.
    failures : dict
        Why planes have no picture, by their index.
    """

    def __init__(
        self,
        whole: Image,
        layer: Image,
        plane: Plane,
        axes: Sequence[int],
        names: Sequence[str],
        chained: bool,
        styles: list[StyleReaders],
        regions: Reader | None,
        settings: StyleSettings,
    ) -> None:
        self.axes = tuple(axes)
        self.names = [str(names[axis]) for axis in axes]
        self.shape: Index = tuple(int(pixels_of(layer).shape[axis]) for axis in axes)
        at = [0 if axis in axes else i for axis, i in enumerate(plane.index)]
        self.plane = Plane(plane.axes, tuple(at), plane.window)
        self.spot = spot_of(layer)
        self.settings = settings
        self.chain = chain_of(self.names) if chained else None
        self.array: StackArray | None = None
        self.path: Path | None = None
        self.failures: dict[Index, str] = {}
        self._whole: Image | None = whole
        self._read: PixelsReader | None = pixels_reader_of(layer, self.plane)
        self._size = size_of(layer, plane)
        self._scale = [float(layer.scale[axis]) for axis in (*axes, *plane.axes)]
        self._styles, self._regions = styles, regions
        self._shared: Shared | None = None
        self._painting = threading.Lock()

    @property
    def total(self) -> int:
        """How many planes there are."""
        return math.prod(self.shape)

    @property
    def done(self) -> int:
        """How many planes are painted."""
        return 0 if self.array is None else len(self.array.filled)

    def look_again(self) -> None:
        """Read the content's data that the layer has by now, where they are as large: planes of them may be mended."""
        if self._whole is None or self._read is None:
            return
        levels = self._whole.data if self._whole.multiscale else [self._whole.data]
        data = next((level for level in levels if level.shape == self._read.data.shape), self._read.data)
        self._read = dataclasses.replace(self._read, data=data)

    def release(self) -> None:
        """Let go of the content and the features: every plane is there."""
        self._whole = self._read = None
        self._styles, self._regions, self._shared = [], None, None
        if self.array is not None:
            self.array.stack = None

    def work(self, report: Report, scheduler: str = "") -> Generator[StackStep]:
        """Paint what is missing, on a thread; nothing turns a setting on the way, so that planes agree.

        Only one thread does at a time: another dock may be asked for the same planes.

        Parameters
        ----------
        report : callable
            Called with a sentence and a fraction before the first step.
        scheduler : str
            Address of a Dask cluster that paints the planes; empty for this computer.
        """
        while not self._painting.acquire(timeout=0.1):
            report("Another run paints these planes: this one waits for it.", 0.0)
        try:
            yield from self._work(report, scheduler)
        finally:
            self._painting.release()

    def _work(self, report: Report, scheduler: str) -> Generator[StackStep]:
        load_pytorch(report)
        from napari_neural_style.stack import stylize_stack

        if not scheduler:
            yield from self._painted(report, stylize_stack)
            return
        from napari_neural_style.cluster import cluster_at
        from napari_neural_style.stack_cluster import stylize_stack_on

        report(f"Connecting to {scheduler}…", 0.0)
        with cluster_at(scheduler) as cluster:
            yield from self._painted(report, partial(stylize_stack_on, cluster))

    def _painted(self, report: Report, stylize: Callable[..., Generator[PlaneStep]]) -> Generator[StackStep]:
        from napari_neural_style.shared import share

        # Where another run has painted the rest meanwhile, the main thread may be about to let go of what is read here.
        if self._read is None or self.done == self.total:
            return
        planes = self._planes()
        styles = [(read(), weight) for read, weight, _ in self._styles]
        if self._shared is None:
            self._shared = share(planes, styles, self.settings, progress=report)
        if self.array is None:
            self._create(planes)
        assert self.array is not None
        steps = stylize(
            planes,
            styles,
            self.settings,
            self.array.planes,
            chain=self.chain,
            finished=set(self.array.filled),
            shared=self._shared,
            content_regions=None if self._regions is None else self._regions(),
            style_regions=[None if regions is None else regions() for _, _, regions in self._styles],
        )
        try:
            with contextlib.closing(steps):
                for step in steps:
                    yield StackStep(step, self.settings)
        finally:
            if not self.array.filled and self.path is not None:
                shutil.rmtree(self.path, ignore_errors=True)
                self.array, self.path = None, None

    def _planes(self) -> Planes:
        from napari_neural_style.planes import Planes

        read, fixed, axes = self._read, list(self.plane.index), self.axes
        assert read is not None

        def read_one(index: Index) -> Any:
            where = list(fixed)
            for axis, i in zip(axes, index, strict=True):
                where[axis] = i
            return read(where)

        return Planes(self.shape, self._size, read_one)

    def _create(self, planes: Planes) -> None:
        """Begin the file that the planes are written to."""
        from napari_neural_style.engine.provenance import versions
        from napari_neural_style.stack import result_size
        from napari_neural_style.stack_store import StackStore
        from napari_neural_style.zarr_images import Spacing, spacing_at

        size = result_size(planes, self.settings)
        names = _stored(self.names)
        seen = {name: Spacing(scale) for name, scale in zip((*names, "y", "x"), self._scale, strict=True)}
        self.path = new_stack_path()
        store = StackStore(self.path)
        made_by = {"settings": self.settings.to_dict(), "versions": versions()}
        try:
            store.create(dict(zip(names, self.shape, strict=True)), size, spacing_at(seen, self._size, size), made_by)
            store.publish()  # under its own name from the start: a layer reads it while it fills
        except OSError as error:
            raise why_unwritten(self.path.parent, error, begun=False) from error
        store.open()
        self.array = StackArray(store, self.axes, self.plane.axes, len(self.plane.index))
        self.array.stack = self


def chain_of(names: Sequence[str]) -> int | None:
    """Return which of the axes planes are chained along: time, else depth, else the first that is no channel."""
    kinds = [name.lower() for name in names]
    for wanted in (_TIMES, _DEPTHS):
        if found := [i for i, kind in enumerate(kinds) if kind in wanted]:
            return found[0]
    return next((i for i, kind in enumerate(kinds) if kind not in _CHANNELS), None)


def _stored(names: Sequence[str]) -> list[str]:
    """Return names of axes as they are written: t and z where that is what they mean, and none of them twice."""
    found: list[str] = []
    for number, name in enumerate(names):
        kind = name.lower()
        kind = "t" if kind in _TIMES else "z" if kind in _DEPTHS else name
        found.append(kind if kind not in (*found, "y", "x", "rgb") else f"axis{number}")
    if len(found) == 1 and found[0].startswith("axis"):
        found = ["t"]  # without a name, a stack is a movie
    return found


def _forget_old_stacks() -> None:
    """Remove stacks of processes that ended long ago, and what killed ones were writing."""
    import psutil

    for path in stacks_folder().glob("*"):
        pid = path.name.removeprefix(".").partition("-")[0]
        whole = path.suffix == ".zarr"
        with contextlib.suppress(OSError):
            old = time.time() - path.stat().st_mtime > (KEPT_DAYS * 86400 if whole else LEFT_AFTER)
            if old and pid.isdigit() and not psutil.pid_exists(int(pid)):
                shutil.rmtree(path, ignore_errors=True)
