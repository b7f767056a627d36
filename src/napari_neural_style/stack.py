"""Stacks: the planes of an array of any size, stylised one by one so that they agree; knows nothing of napari."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_neural_style.engine.given import Regions, Styles
from napari_neural_style.engine.images import to_rgb, to_uint8
from napari_neural_style.engine.recovery import DivergedError, OutOfMemoryError
from napari_neural_style.engine.sizes import working_size
from napari_neural_style.engine.steering import Steering
from napari_neural_style.engine.step import Step
from napari_neural_style.engine.transfer import Progress, content_for, stylize
from napari_neural_style.motion import carried
from napari_neural_style.planes import Index, PlaneError, Planes, read_plane
from napari_neural_style.settings import StyleSettings
from napari_neural_style.shared import Range, Shared, share


def stylize_plane(
    planes: Planes,
    index: Index,
    style: Styles | None,
    settings: StyleSettings,
    shared: Shared,
    previous: tuple[Index, npt.NDArray[np.uint8]] | None = None,
    **options: Any,
) -> Generator[Step]:
    """Stylise one plane as :func:`stylize` does, with what it shares with the others.

    Parameters
    ----------
    planes, index
        Which plane of which stack.
    style, settings, options
        As for :func:`stylize`.
    shared : Shared
        From :func:`~napari_neural_style.shared.share`.
    previous : (index, ndarray), optional
        A finished plane to start from, (H, W, 3).

    Raises
    ------
    PlaneError
        If the plane cannot be read, is no image, or its run fails.
    """
    plane = read_plane(planes, index)
    known: dict[str, Any] = {"value_range": shared.value_range, "features": shared.features}
    try:
        initial = None
        if previous is not None:
            other = read_plane(planes, previous[0])
            regions = options.get("content_regions"), options.get("style_regions")
            contents = [content_for(image, style, settings, shared.value_range, *regions) for image in (other, plane)]
            initial = carried(to_rgb(previous[1]), *contents)
        yield from stylize(plane, style, settings, initial=initial, **known, **options)
    except (ValueError, DivergedError, OutOfMemoryError) as error:
        raise PlaneError(str(error)) from error


@dataclass(frozen=True)
class PlaneStep:
    """One step of one plane.

    Attributes
    ----------
    index : tuple of int
        Which plane.
    done, total : int
        Planes that are over, this one included if it is, and how many there will be.
    step : Step or None
        The plane's step; None if the plane failed, or nothing is heard of it yet.
    picture : ndarray or None
        The finished plane, (H, W, 3) uint8, at its last step; it is written by then.
    failure : str
        Why the plane has no picture: a sentence, or nothing.
    seconds_left : float or None
        An estimate from the planes that are over; None before the first.
    elsewhere : int or None
        Planes that a cluster has now; None where there is no cluster.
    """

    index: Index
    done: int
    total: int
    step: Step | None
    picture: npt.NDArray[np.uint8] | None = None
    failure: str = ""
    seconds_left: float | None = None
    elsewhere: int | None = None

    @property
    def over(self) -> bool:
        """Whether this is the last that is heard of the plane."""
        return self.picture is not None or bool(self.failure)

    @property
    def share_done(self) -> float:
        """Share of all planes' work that is done, 0..1."""
        part = 0.0 if self.over or self.step is None else self.step.done
        return (self.done + part) / self.total


def result_size(planes: Planes, settings: StyleSettings) -> tuple[int, int]:
    """Return height and width of a stylised plane."""
    return working_size(planes.size, settings)


def stylize_stack(
    planes: Planes,
    style: Styles | None,
    settings: StyleSettings,
    out: Any,
    *,
    chain: int | None = 0,
    finished: Iterable[Index] = (),
    shared: Shared | None = None,
    value_range: Range | None = None,
    content_regions: npt.ArrayLike | None = None,
    style_regions: Regions = None,
    progress: Progress | None = None,
    steering: Steering | None = None,
) -> Generator[PlaneStep]:
    """Stylise planes one by one, each written as soon as it is finished.

    A plane that fails does not stop the others: its last step says why. Closing the iterator stops; what is written
    stays, and going on with `finished` gives the same planes as without the stop.

    Parameters
    ----------
    planes : Planes
        What to repaint.
    style, settings
        As for :func:`stylize`.
    out : array
        Where the planes go: anything of shape ``(*planes.shape, *result_size(planes, settings), 3)``, uint8, that can
        be written and read by index.
    chain : int or None
        The axis of the stack, usually time or depth, along which every plane starts with the paint of the finished one
        before it, moved as the content moves, so that the result does not flicker. None starts each from its own
        content.
    finished : iterable of index
        Planes that `out` already has; they are not done again, and the next ones start from them.
    shared : Shared, optional
        From :func:`~napari_neural_style.shared.share`; found from the stack if not given.
    value_range : (float, float), optional
        The values that mean 0 and 1.
    content_regions, style_regions : optional
        As for :func:`stylize`, the same for all planes.
    progress : callable, optional
        Called with a sentence and a fraction 0..1 before the first step.
    steering : Steering, optional
        Turns settings of the plane that is being made.

    Yields
    ------
    PlaneStep
        One for each step of each plane, and one for a plane that failed.

    Raises
    ------
    ValueError
        If the style, a setting, `out` or `chain` cannot be used.
    """
    axes = len(planes.shape)
    if chain is not None and chain not in range(axes):
        raise ValueError(f"chain must be None or an axis of the stack, 0 to {axes - 1}, not {chain!r}.")
    shape = (*planes.shape, *result_size(planes, settings), 3)
    if tuple(out.shape) != shape:
        raise ValueError(f"The stack's result has shape {shape}, but it is to be written to one of {out.shape}.")
    have = set(finished)
    todo = [i for i in planes.indices() if i not in have]
    if not todo:
        return
    if shared is None:
        shared = share(planes, style, settings, value_range=value_range, progress=progress)
    started = time.monotonic()
    for done, index in enumerate(todo, 1):
        previous = before(index, have, chain)
        steps = stylize_plane(
            planes,
            index,
            style,
            settings,
            shared,
            # As it is written: going on after a stop, there is nothing else.
            None if previous is None else (previous, np.asarray(out[previous])),
            content_regions=content_regions,
            style_regions=style_regions,
            steering=steering,
        )
        left = None if done == 1 else (time.monotonic() - started) / (done - 1) * (len(todo) - done + 1)
        try:
            for step in steps:
                if step.done < 1:
                    yield PlaneStep(index, done - 1, len(todo), step, seconds_left=left)
        except PlaneError as error:
            yield PlaneStep(index, done, len(todo), None, failure=str(error), seconds_left=left)
            continue
        assert step.image is not None
        out[index] = picture = to_uint8(step.image)
        have.add(index)
        left = (time.monotonic() - started) / done * (len(todo) - done)
        yield PlaneStep(index, done, len(todo), step, picture, seconds_left=left)


def before(index: Index, have: set[Index], chain: int | None) -> Index | None:
    """Return the nearest finished plane before one along the chained axis, if there is one."""
    if chain is None:
        return None
    earlier = ((*index[:chain], i, *index[chain + 1 :]) for i in reversed(range(index[chain])))
    return next((i for i in earlier if i in have), None)


def chains(todo: Iterable[Index], chain: int | None) -> list[deque[Index]]:
    """Return planes to do, those that wait for each other along the chained axis together and in order."""
    if chain is None:
        return [deque([index]) for index in todo]
    found: dict[Index, deque[Index]] = {}
    for index in todo:
        found.setdefault((*index[:chain], *index[chain + 1 :]), deque()).append(index)
    return list(found.values())
