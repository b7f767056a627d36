"""What carries paint from one plane of a stack to the next, so that it moves with what it is painted on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_neural_style.engine.sizes import scaled

FloatImage = npt.NDArray[np.float32]

FLOW_SIDE = 256
"""Longer side, in pixels, of the pictures that motion is estimated in."""
KEPT = 0.7
"""Share of the paint that is carried on: with all of it, faults add up from plane to plane."""
TOLERANCE = 0.1
"""Difference of contents, 0..1, at which most of the paint is left behind."""


def carried(picture: FloatImage, before: FloatImage, now: FloatImage) -> FloatImage:
    """Return where a plane starts: its content, with the paint of the plane before moved onto it.

    Paint is what stylising added to a content. It is left behind where the contents differ after the motion is taken
    away: what is uncovered or new begins unpainted. Starting from the last picture itself leaves trails behind all that
    moves, and the loss rises from plane to plane.

    Parameters
    ----------
    picture : ndarray
        The plane before, stylised; shape (H, W, 3), 0..1.
    before, now : ndarray
        The contents of both planes in the colours of the start, likewise.

    References
    ----------
    Ruder, Dosovitskiy and Brox (2016), "Artistic style transfer for videos", for starting from the warped plane; Le
    Besnerais and Champagnat (2005), "Dense optical flow by iterative local window registration", for the motion.
    """
    from skimage.filters import gaussian

    where = _source(before, now)
    difference = np.abs(_warped(before, where) - now).mean(2)
    trust = KEPT * np.exp(-np.square(gaussian(difference, 2) / TOLERANCE))
    paint = _warped(picture - before, where)
    return np.clip(now + trust[..., None] * paint, 0, 1).astype(np.float32)


def _source(before: FloatImage, now: FloatImage) -> npt.NDArray[np.float64]:
    """Return for each pixel of `now` the row and column that it comes from in `before`, shape (2, H, W)."""
    from skimage.registration import optical_flow_ilk
    from skimage.transform import resize

    height, width = now.shape[:2]
    factor = min(1.0, FLOW_SIDE / max(height, width))
    small = tuple(max(2, side) for side in scaled((height, width), factor))  # a slope takes two pixels
    grays = (resize(image.mean(2), small, anti_aliasing=factor < 1) for image in (now, before))
    flow = optical_flow_ilk(*grays)
    scales = height / small[0], width / small[1]
    full = [
        resize(part, (height, width), preserve_range=True) * scale for part, scale in zip(flow, scales, strict=True)
    ]
    return np.mgrid[:height, :width] + np.stack(full)


def _warped(image: FloatImage, where: npt.NDArray[np.float64]) -> FloatImage:
    from skimage.transform import warp

    channels = [warp(image[..., c], where, order=1, mode="edge", preserve_range=True) for c in range(image.shape[2])]
    warped: FloatImage = np.stack(channels, 2).astype(np.float32)
    return warped
