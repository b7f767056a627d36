"""The planes of a stack as tasks of a cluster: they are read and written here, and painted there."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_neural_style.cluster import Cluster
from napari_neural_style.engine.given import Regions, Styles
from napari_neural_style.engine.images import to_uint8
from napari_neural_style.engine.step import Step
from napari_neural_style.planes import Index, Pixels, PlaneError, Planes, read_plane
from napari_neural_style.settings import StyleSettings
from napari_neural_style.shared import Shared
from napari_neural_style.stack import PlaneStep, before, chains, stylize_plane
from napari_neural_style.workers import Watch, last_of, outcome_of

LISTEN_EVERY = 0.2
"""Seconds after which whoever goes through the steps is heard, even if no plane is over."""

UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Common:
    """What all planes are painted with: it is sent once."""

    style: Styles | None
    settings: StyleSettings
    shared: Shared
    regions: dict[str, Any]


@dataclass(frozen=True)
class Given:
    """What one plane is painted from: the contents that it takes, by their index, and the plane before it."""

    size: tuple[int, int]
    contents: dict[Index, Pixels]
    previous: tuple[Index, UInt8] | None


def stylize_stack_on(
    cluster: Cluster,
    planes: Planes,
    style: Styles | None,
    settings: StyleSettings,
    out: Any,
    *,
    shared: Shared,
    chain: int | None = 0,
    finished: Iterable[Index] = (),
    content_regions: npt.ArrayLike | None = None,
    style_regions: Regions = None,
) -> Generator[PlaneStep]:
    """Do what :func:`~napari_neural_style.stack.stylize_stack` does, with each plane a task of a cluster.

    Planes that are chained wait for the one before; those that are not are painted side by side. As many are read ahead
    as keep every worker busy.

    Parameters
    ----------
    cluster : Cluster
        Paints the planes. It need not see the files that they are read from.
    planes, style, settings, out, shared, chain, finished, content_regions, style_regions
        As for :func:`~napari_neural_style.stack.stylize_stack`.

    Yields
    ------
    PlaneStep
        One for each plane that is over, with its last step; and between them, several times a second, one that tells
        no more than how many are.

    Raises
    ------
    WorkersError
        If the cluster can paint no plane at all.
    """
    have = set(finished)
    todo = [index for index in planes.indices() if index not in have]
    waiting = deque(chains(todo, chain))
    running: dict[Any, deque[Index]] = {}
    regions = {"content_regions": content_regions, "style_regions": style_regions}
    common = cluster.keep(Common(style, settings, shared, regions))
    started, done = time.monotonic(), 0

    def told(index: Index, step: Step | None = None, picture: UInt8 | None = None, failure: str = "") -> PlaneStep:
        left = (time.monotonic() - started) / done * (len(todo) - done) if done else None
        return PlaneStep(index, done, len(todo), step, picture, failure, left, len(running))

    while waiting or running:
        made: Any = None
        failure = ""
        if waiting and len(running) < 2 * cluster.threads:
            line = waiting.popleft()
            try:
                given = _given(planes, line[0], before(line[0], have, chain), out)
            except PlaneError as error:
                failure = str(error)
            else:
                running[cluster.submit(paint, common, cluster.send(given), line[0])] = line
                yield told(line[0])
                continue
        else:
            task = cluster.first_done(list(running), LISTEN_EVERY)
            if task is None:
                yield told(next(iter(running.values()))[0])
                continue
            line = running.pop(task)
            made, failure = outcome_of(cluster, task)
        index = line.popleft()
        if line:
            waiting.appendleft(line)
        done += 1
        if failure:
            yield told(index, failure=failure)
            continue
        picture, step = made
        out[index] = picture
        have.add(index)
        yield told(index, step, picture)


def _given(planes: Planes, index: Index, previous: Index | None, out: Any) -> Given:
    wanted = [index] if previous is None else [index, previous]
    # As it is written: going on after a stop, there is nothing else.
    start = None if previous is None else (previous, np.asarray(out[previous]))
    return Given(planes.size, {each: _slim(read_plane(planes, each)) for each in wanted}, start)


def _slim(pixels: Pixels) -> Pixels:
    """Return floats in half the bytes where that changes none of them."""
    if pixels.dtype != np.float64:
        return pixels
    with np.errstate(over="ignore"):
        slim = pixels.astype(np.float32)
    return slim if np.array_equal(slim, pixels, equal_nan=True) else pixels


def paint(common: Common, given: Given, index: Index, watch: Watch | None = None) -> tuple[UInt8, Step]:
    """Return a plane and its last step: a task."""
    planes = Planes((), given.size, given.contents.__getitem__)
    steps = stylize_plane(planes, index, common.style, common.settings, common.shared, given.previous, **common.regions)
    last = last_of(steps, watch)
    assert last.image is not None
    return to_uint8(last.image), last
