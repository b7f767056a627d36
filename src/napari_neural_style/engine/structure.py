"""How much of the content is left in a picture, and the weight that keeps it there."""

from __future__ import annotations

import math

from torch import Tensor

from napari_neural_style.engine.color import luminance
from napari_neural_style.engine.images import gaussian_blur

SIGMA = 2.0
"""Standard deviation of the blur in pixels of the working size."""
EVERY = 5
"""Steps between two looks."""
GAIN = 3.0
"""How strongly the weight follows: its logarithm moves by this times what is missing, at every look."""
MOST = 16.0
"""Largest factor on the content weight."""
DEAD_ZONE = 0.02
"""Least relative change: smaller ones would only disturb the optimiser."""
_FLAT = 1e-5
"""Standard deviation of luminance below which there are only rounding errors."""


def structure(image: Tensor, content: Tensor, sigma: float = SIGMA) -> float:
    """Return the correlation of two pictures' blurred luminance, -1..1.

    A flat content has no structure to lose: 1. Where the picture alone is flat it is 0.

    Parameters
    ----------
    image, content : Tensor
        Values in 0..1, shapes (1, C, H, W) with C 3 (RGB) or 1 (luminance).
    sigma : float
        Standard deviation of the Gaussian blur in pixels.
    """
    a, b = (gaussian_blur(p if p.shape[1] == 1 else luminance(p), sigma) for p in (image, content))
    a, b = a - a.mean(), b - b.mean()
    spread, kept = (float(p.norm()) / p.numel() ** 0.5 for p in (a, b))
    if min(spread, kept) < _FLAT:
        return float(kept < _FLAT)
    return float((a * b).sum() / (a.norm() * b.norm()))


class ContentBoost:
    """Raises the content weight while a picture has too little of the content's structure, and lowers it after.

    Parameters
    ----------
    least : float
        The structure to keep, 0..1; 0 leaves the weight alone.
    """

    def __init__(self, least: float) -> None:
        self._least = least
        self.factor = 1.0

    def due(self, index: int) -> bool:
        """Tell whether step `index`, from 1, is one to look before.

        L-BFGS may go too far in a step after the weight changed, and takes that back in the next: most pictures that
        are kept, and the last, are of a round number of steps, and not to be of such a one.
        """
        return self._least > 0 and index > 1 and index % EVERY == 1

    def look(self, found: float) -> bool:
        """Adapt the factor to the structure found; return whether it changed."""
        wanted = min(MOST, max(1.0, self.factor * math.exp(GAIN * (self._least - found))))
        if abs(wanted / self.factor - 1) < DEAD_ZONE and wanted not in (1.0, MOST):
            return False
        changed = wanted != self.factor
        self.factor = wanted
        return changed
