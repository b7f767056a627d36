"""Colours: the style's palette on the content, and luminance alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_neural_style.engine.images import LUMINANCE

FloatArray = npt.NDArray[np.float64]

_VARIANCE_FLOOR = 1e-6


def match_color(
    image: Tensor,
    styles: Sequence[Tensor],
    weights: Sequence[float],
    guide: Tensor | None = None,
    style_guides: Sequence[Tensor | None] | None = None,
) -> Tensor:
    """Recolour an image to the mean and covariance of others.

    The map is the linear optimal-transport map between the two colour distributions taken as Gaussians,
    T = Σc^(-1/2) (Σc^(1/2) Σs Σc^(1/2))^(1/2) Σc^(-1/2).

    Parameters
    ----------
    image : Tensor
        Shape (1, C, H, W), values in 0..1.
    styles : sequence of Tensor
        Likewise, each of any size. Several are mixed: the colours of all, in the share of their weights.
    weights : sequence of float
        One for each style.
    guide : Tensor, optional
        How much each pixel of the image counts, shape (1, 1, H, W).
    style_guides : sequence of Tensor or None, optional
        Likewise for each style.

    Returns
    -------
    Tensor
        Shape (1, C, H, W), clamped to 0..1.

    References
    ----------
    Gatys, Ecker, Bethge, Hertzmann and Shechtman (2017), section 5.1; Pitié and Kokaram (2007) for the map.
    """
    mean_c, covariance_c = _moments([image], [1.0], [guide])
    mean_s, covariance_s = _moments(styles, weights, style_guides or [None] * len(styles))
    root, inverse_root = _roots(covariance_c)
    middle, _ = _roots(root @ covariance_s @ root)
    transport = torch.from_numpy(inverse_root @ middle @ inverse_root)
    centred = image[0].flatten(1).double().cpu() - torch.from_numpy(mean_c)[:, None]
    matched = transport @ centred + torch.from_numpy(mean_s)[:, None]
    return matched.to(image).view_as(image).clamp(0, 1)


def _moments(
    images: Sequence[Tensor], weights: Sequence[float], guides: Sequence[Tensor | None]
) -> tuple[FloatArray, FloatArray]:
    """Return mean and covariance of the colours of several images together."""
    shares = np.asarray(weights) / np.sum(weights)
    pixels, counts = [], []
    for image, guide, share in zip(images, guides, shares, strict=True):
        flat = image[0].flatten(1).double().cpu().numpy()
        count = np.ones(flat.shape[1]) if guide is None else guide.flatten().double().cpu().numpy() + 1e-12
        pixels.append(flat)
        counts.append(share * count / count.sum())
    mean = sum(p @ count for p, count in zip(pixels, counts, strict=True))
    covariance = sum(
        ((p - mean[:, None]) * count) @ (p - mean[:, None]).T for p, count in zip(pixels, counts, strict=True)
    )
    return mean, covariance + _VARIANCE_FLOOR * np.eye(len(mean))


def _roots(matrix: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the square root of a symmetric positive definite matrix, and the root's inverse."""
    values, vectors = np.linalg.eigh(matrix)
    root = np.sqrt(np.maximum(values, _VARIANCE_FLOOR**2))
    return (vectors * root) @ vectors.T, (vectors / root) @ vectors.T


def luminance(image: Tensor) -> Tensor:
    """Return the luminance Y (1, 1, H, W) of an RGB image (1, 3, H, W)."""
    weights = image.new_tensor(LUMINANCE).view(1, 3, 1, 1)
    return (image * weights).sum(1, keepdim=True)


def with_luminance(image: Tensor, y: Tensor) -> Tensor:
    """Return an RGB image with its luminance replaced by `y` (1, 1, H, W); its I and Q of YIQ are kept."""
    return (image + (y - luminance(image))).clamp(0, 1)
