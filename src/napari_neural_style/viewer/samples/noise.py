"""Smooth noise, for what no hand and no melt makes even."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image


def smooth_noise(
    random: np.random.Generator, side: int, down: int, across: int | None = None
) -> npt.NDArray[np.float32]:
    """Return noise of about that many bumps down and across, mean 0 and deviation 1, shape (side, side)."""
    rough = Image.fromarray(random.normal(0, 1, (down, across or down)).astype(np.float32))
    smooth = np.asarray(rough.resize((side, side), Image.Resampling.BICUBIC))
    return np.asarray((smooth - smooth.mean()) / smooth.std())
