"""Coarse to fine: the sizes and steps of a job, and how one size's result enters the next."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from napari_neural_style.engine.images import resize, size_of


@dataclass(frozen=True)
class Scale:
    """One size of the schedule: (height, width) in pixels, its fraction of the working size, its steps."""

    size: tuple[int, int]
    fraction: float
    steps: int


def schedule(size: tuple[int, int], scales: int, steps: int, smallest: int) -> list[Scale]:
    """Return the scales from coarse to fine; each is half the next, the steps shared evenly.

    Parameters
    ----------
    size : (int, int)
        Working height and width.
    scales, steps : int
        How many of each.
    smallest : int
        Shortest side that the network can take; scales below it are left out.
    """
    fractions = [2.0**-k for k in reversed(range(min(scales, steps)))]
    sizes = [(max(1, round(size[0] * f)), max(1, round(size[1] * f))) for f in fractions]
    kept = [(s, f) for s, f in zip(sizes, fractions, strict=True) if min(s) >= smallest or f == 1]
    share, rest = divmod(steps, len(kept))
    return [Scale(s, f, share + (k < rest)) for k, (s, f) in enumerate(kept)]


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
