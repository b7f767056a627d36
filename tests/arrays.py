from __future__ import annotations

import numpy as np


def to_array(image):
    """Return a tensor (1, 3, H, W) in 0..1 as an array (H, W, 3)."""
    return np.ascontiguousarray(image[0].clamp(0, 1).permute(1, 2, 0).numpy())
