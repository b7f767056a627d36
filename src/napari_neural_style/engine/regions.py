"""Regions: labels to soft guides, and guides down the network."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_neural_style.engine.images import gaussian_blur, resize
from napari_neural_style.engine.vgg import pools_before

Guides = Mapping[int, Tensor]
"""Label to a soft mask of shape (1, 1, H, W) in 0..1."""

EVERYWHERE = 0
"""Label of the one region there is when the content has none."""
MOST_REGIONS = 64
FEATHER = 1 / 256
"""Standard deviation of the soft edge in units of the longer side."""
SHORTEST = 1e-12
"""Length of a pooled guide that leaves nothing to see."""


def checked_labels(labels: npt.ArrayLike, shape: tuple[int, int], name: str) -> npt.NDArray[np.int64]:
    """Return labels as integers; what is not above 0 becomes 0.

    Raises
    ------
    ValueError
        If they are no whole numbers, of another shape than the image, or none is above 0.
    """
    if np.ma.is_masked(labels):
        raise ValueError(f"{name} has masked labels. Fill them first, with 0 where nothing is to be painted.")
    array = np.asarray(labels)
    if array.dtype.kind not in "bui":
        raise ValueError(f"{name} must hold whole numbers (labels), not {array.dtype}.")
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}; its image is {shape[0]} × {shape[1]} pixels.")
    found = np.clip(array, 0, np.iinfo(np.int64).max).astype(np.int64)
    if not found.any():
        raise ValueError(f"{name} holds no label above 0: there is no region to paint.")
    return found


def guides_of(labels: npt.NDArray[np.int64], size: tuple[int, int], device: torch.device) -> dict[int, Tensor]:
    """Return a guide with soft edges for every label above 0.

    Parameters
    ----------
    labels : ndarray
        Shape (h, w), of any size.
    size : (int, int)
        Height and width of the guides.
    device : torch.device
        Where they are needed.

    Raises
    ------
    ValueError
        If there are more than 64 labels.
    """
    values = [int(value) for value in np.unique(labels) if value > 0]
    if len(values) > MOST_REGIONS:
        raise ValueError(f"There are {len(values)} regions; at most {MOST_REGIONS} can have a style of their own.")
    sigma = max(size) * FEATHER
    guides = {}
    for value in values:
        mask = torch.from_numpy((labels == value).astype(np.float32)).to(device)[None, None]
        guides[value] = gaussian_blur(resize(mask, size), sigma).clamp(0, 1)
    return guides


def pooled(guide: Tensor, layer: str) -> Tensor:
    """Return a guide pooled as often as a layer's features are, shape (1, 1, H', W').

    References
    ----------
    Gatys, Ecker, Bethge, Hertzmann and Shechtman (2017), section 4.
    """
    for _ in range(pools_before(layer)):
        guide = F.avg_pool2d(guide, 2)
    return guide


def length(guide: Tensor) -> Tensor:
    """Return what a pooled guide is divided by so that its squares sum to 1 (equation 6 of the same)."""
    return guide.norm().clamp_min(SHORTEST)
