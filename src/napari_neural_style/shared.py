"""What all planes of a stack have in common, so that they agree; found from a sample of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_neural_style.engine.given import Styles
from napari_neural_style.engine.images import range_of_dtype, range_of_floats, seen_colors, warn_of_one_grey
from napari_neural_style.engine.transfer import Progress, features_for
from napari_neural_style.engine.vgg import Features
from napari_neural_style.planes import Pixels, PlaneError, Planes, read_plane
from napari_neural_style.settings import StyleSettings

Range = tuple[float, float]

SAMPLED = 5
"""Planes, evenly spaced, that features and the value range of a stack are taken from."""


@dataclass(frozen=True)
class Shared:
    """What all planes of a stack have in common, so that they agree.

    Attributes
    ----------
    features : Features
        The network's filters, learned once where they are learned.
    value_range : (float, float) or None
        The values that mean 0 and 1; None where a dtype is none that an image can have.
    """

    features: Features
    value_range: Range | None


def share(
    planes: Planes,
    style: Styles | None,
    settings: StyleSettings,
    *,
    features: Features | None = None,
    value_range: Range | None = None,
    progress: Progress | None = None,
) -> Shared:
    """Return what the planes of a stack have in common, from the style and a sample of them.

    Features are learned from the style and one picture that has a band of every plane of the sample: style and content
    weigh the same as for a single image, and no more memory is needed. `features` are taken as they are.

    Raises
    ------
    ValueError
        If no plane of the sample can be read, or the style or a setting cannot be used.
    """
    if settings.mode == "texture":
        raise ValueError("A texture is made from the style alone: mode texture has no use for a stack.")
    if features is not None and value_range is not None:
        return Shared(features, value_range)
    sample = _sample(planes, progress)
    kind = sample[0].dtype
    if value_range is None and kind.kind == "f":
        value_range = _range_of(sample)
    elif value_range is None and kind.kind in "biu":  # a plane may be dark
        value_range = range_of_dtype(kind)
        warn_of_one_grey(_colors(sample), f"stack, in {len(sample)} of its planes,")
    if features is None:
        content = _of_all(sample)
        features = features_for(content, style, settings, value_range=value_range, progress=progress)
    return Shared(features, value_range)


def _of_all(sample: list[Pixels]) -> Pixels:
    """Return a picture that has a band of every plane, or the first plane where all of those are transparent."""
    edges = np.linspace(0, sample[0].shape[0], len(sample) + 1).round().astype(int)
    bands = [plane[top:bottom] for plane, top, bottom in zip(sample, edges, edges[1:], strict=False)]
    pictures = [np.concatenate(bands), *sample]
    return next((picture for picture in pictures if seen_colors(picture).size), pictures[0])


def _sample(planes: Planes, progress: Progress | None) -> list[Pixels]:
    indices = planes.indices()
    chosen = np.linspace(0, len(indices) - 1, min(SAMPLED, len(indices))).round().astype(int)
    sample: list[Pixels] = []
    reasons: list[str] = []
    # Another plane stands in for one that cannot be read.
    for number in dict.fromkeys([*chosen.tolist(), *range(len(indices))]):
        if len(sample) == len(chosen) or len(reasons) == 2 * SAMPLED:
            break
        if progress is not None:  # which may end the job
            progress(f"Reading plane {len(sample) + 1} of {len(chosen)}…", 0.0)
        try:
            sample.append(read_plane(planes, indices[number]))
        except PlaneError as error:
            reasons.append(str(error))
    if not sample:
        raise ValueError(f"No plane of the stack can be used: {reasons[0] if reasons else 'it has none.'}")
    return sample


def _colors(sample: list[Pixels]) -> list[Pixels]:
    """Return what is seen of planes, as far as there is any."""
    return [color for plane in sample if (color := seen_colors(plane)).size]


def _range_of(sample: list[Pixels]) -> Range:
    """Return one range for all planes: with its own for each a stack would flicker."""
    colors = _colors(sample)
    if not colors:
        raise ValueError("The stack is transparent everywhere: there is nothing to see.")
    low, high = min(float(color.min()) for color in colors), max(float(color.max()) for color in colors)
    return range_of_floats(
        low,
        high,
        f"The stack's values run from {low:g} to {high:g} in {len(sample)} of its planes, not from 0 to 1: they are "
        "stretched to that range.",
    )
