"""The images that a job is given, checked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt

from napari_neural_style.engine.images import to_rgb
from napari_neural_style.engine.preparation import Sources, StyleImage
from napari_neural_style.engine.regions import checked_labels
from napari_neural_style.engine.resolving import smallest_side
from napari_neural_style.settings import StyleSettings

Styles = npt.ArrayLike | Sequence[tuple[npt.ArrayLike, float]]
Regions = npt.ArrayLike | Sequence[npt.ArrayLike | None] | None
Weighted = list[tuple[npt.ArrayLike, float]]


def _weighted(style: Styles) -> Weighted:
    """Return style images with their weights; a single image weighs 1."""
    pairs = isinstance(style, (list, tuple)) and all(isinstance(e, tuple) and len(e) == 2 for e in style)
    if isinstance(style, (list, tuple)) and any(np.ndim(each) == 3 for each in style if isinstance(each, np.ndarray)):
        raise ValueError("style: give several images as a list of (image, weight).")
    if not pairs:
        return [(cast("npt.ArrayLike", style), 1.0)]
    try:
        styles = [(image, float(weight)) for image, weight in cast("Weighted", style)]
        right = all(weight >= 0 for _, weight in styles) and 0 < sum(weight for _, weight in styles) < math.inf
    except (TypeError, ValueError):
        right = False
    if not right:
        raise ValueError("style: give at least one image; weights must be finite, none below 0 and at least one above.")
    return styles


def checked_styles(style: Styles | None, regions: Regions, settings: StyleSettings) -> list[StyleImage]:
    """Return the style images that count, with their weights and labels; none in mode ``"content"``.

    Raises
    ------
    ValueError
        If an image, a weight or labels cannot be used; the message says what is wrong.
    """
    if settings.mode == "content":
        return []
    if style is None:
        raise ValueError("style: an image is needed in every mode but content.")
    pairs = _weighted(style)
    labels = cast(
        "list[npt.ArrayLike | None]", list(regions) if isinstance(regions, (list, tuple)) else [regions] * len(pairs)
    )
    if len(labels) != len(pairs):
        raise ValueError(f"style_regions: there are {len(labels)} for {len(pairs)} styles; give one or None for each.")
    styles = []
    for (image, weight), found in zip(pairs, labels, strict=True):
        if weight == 0:
            continue
        rgb = to_rgb(image, name="style image")
        checked = None if found is None else checked_labels(found, rgb.shape[:2], "style_regions")
        styles.append(StyleImage(rgb, weight, checked))
    return styles


def check_sizes(sources: Sources, settings: StyleSettings) -> None:
    """Raise a ValueError that says what to do if an image is too small for the layers in use."""
    smallest = smallest_side(settings)
    content = ("content image", sources.content, "a larger size, an image that is less narrow")
    larger = "a larger size or style_scale, an image that is larger or less narrow"
    for name, picture, wanted in (content, *(("style image", brush.picture, larger) for brush in sources.brushes)):
        height, width = picture.shape[-2:]
        if min(height, width) < smallest:
            raise ValueError(
                f"The {name} is {height} × {width} pixels at this working size, but the layers in use need "
                f"{smallest} a side. Choose {wanted}, or shallower layers."
            )
