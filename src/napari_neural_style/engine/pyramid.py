"""Coarse to fine: the sizes and steps of a job, and how one size's result enters the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from napari_neural_style.engine.images import resize, size_of
from napari_neural_style.engine.sizes import scaled

_MOST = 100
"""Steps at most at a scale that is not the last: more lower the loss there, but hardly the one a run ends with."""


@dataclass(frozen=True)
class Scale:
    """One size of the schedule: (height, width) in pixels, its fraction of the working size, its steps."""

    size: tuple[int, int]
    fraction: float
    steps: int


def schedule(
    size: tuple[int, int], scales: int, steps: int, smallest: int, styles: Sequence[tuple[int, int]] = ()
) -> list[Scale]:
    """Return the scales from coarse to fine; each is half the next, the steps shared evenly while they are few.

    Parameters
    ----------
    size : (int, int)
        Working height and width.
    scales, steps : int
        How many of each.
    smallest : int
        Shortest side that the network can take; scales that have less of any picture are left out.
    styles : sequence of (int, int), optional
        Height and width of the style pictures at the last scale; they shrink with the content.
    """
    fractions = [2.0**-k for k in reversed(range(min(scales, steps)))]
    shortest = min(min(picture) for picture in (size, *styles))
    kept = [f for f in fractions if round(shortest * f) >= smallest or f == 1]
    share, rest = divmod(steps, len(kept))
    shares = [min(share + (k < rest), _MOST) for k in range(len(kept) - 1)]
    return [Scale(scaled(size, f), f, n) for f, n in zip(kept, [*shares, steps - sum(shares)], strict=True)]


def enlarge(image: Tensor, start: Tensor) -> Tensor:
    """Return an image at the size of the picture the job started from, with the detail that one lost.

    Parameters
    ----------
    image : Tensor
        Result at a coarser scale, shape (1, C, h, w).
    start : Tensor
        The starting picture at the finer scale, shape (1, C, H, W). What it loses when it is made as small
        as `image` is added back; without it the finer scale begins blurred, at several times the loss.
    """
    if image.shape == start.shape:
        return image
    size = size_of(start)
    coarse = size_of(image)
    return resize(image, size).add_(start).sub_(resize(resize(start, coarse), size))
