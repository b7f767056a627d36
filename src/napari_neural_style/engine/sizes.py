"""The sizes that images are used at, and which level of a multiscale image serves them; imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from napari_neural_style.settings import StyleSettings

Size = tuple[int, int]
"""Height and width."""
SizeOf = Callable[[Size], Size]
"""Says at what size an image of some size is used."""


def fit(shape: Size, longer_side: float) -> Size:
    """Return (height, width) of an image whose longer side becomes `longer_side`, aspect kept, at least 1."""
    return scaled(shape, longer_side / max(shape))


def scaled(shape: Size, factor: float) -> Size:
    """Return (height, width) times a factor, at least 1."""
    return max(1, round(shape[0] * factor)), max(1, round(shape[1] * factor))


def working_size(shape: Size | None, settings: StyleSettings) -> Size:
    """Return the size that a content of some size is worked on at; without a content it is square."""
    return settings.size if isinstance(settings.size, tuple) else fit(shape or (1, 1), settings.size)


def style_size(shape: Size, settings: StyleSettings) -> Size:
    """Return the size that a style image of some size is used at."""
    if isinstance(settings.size, tuple) and settings.mode == "transfer":
        height, width = settings.size
        return round(height * settings.style_scale), round(width * settings.style_scale)
    longer = max(settings.size) if isinstance(settings.size, tuple) else settings.size
    return fit(shape, min(max(shape), longer) * settings.style_scale)


def level_for(shapes: Sequence[Size], used: SizeOf) -> int:
    """Return which level of a multiscale image to read: the coarsest that is no smaller than what it is used at.

    That is the full resolution unless an image is used at half of it or less. A level whose own shape is so rounded
    that it would be used at another size is passed over: results have the same size, whichever level is read.

    Parameters
    ----------
    shapes : sequence of (int, int)
        Height and width of every level, the finest first.
    used : callable
        At what size an image of some size is used.
    """
    height, width = used(shapes[0])
    if 2 * height > shapes[0][0] or 2 * width > shapes[0][1]:
        return 0
    serving = (
        number
        for number, shape in enumerate(shapes)
        if shape[0] >= height and shape[1] >= width and used(shape) == (height, width)
    )
    return max(serving)
