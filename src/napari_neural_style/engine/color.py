"""Colours: the style's palette on the content, and luminance alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_neural_style.engine.images import bands, size_of

FloatArray = npt.NDArray[np.float64]

_LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of R, G and B in the luminance Y of YIQ (ITU-R BT.601)."""
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
    transport = inverse_root @ middle @ inverse_root
    matched = torch.empty_like(image)
    for rows, (pixels, _) in zip(bands(size_of(image)), _banded(image, None), strict=True):
        recolored = np.clip(transport @ (pixels - mean_c[:, None]) + mean_s[:, None], 0, 1)
        matched[0, :, rows] = torch.from_numpy(recolored).to(image).view_as(image[0, :, rows])
    return matched


def _moments(
    images: Sequence[Tensor], weights: Sequence[float], guides: Sequence[Tensor | None]
) -> tuple[FloatArray, FloatArray]:
    """Return mean and covariance of the colours of several images together."""
    shares = np.asarray(weights) / np.sum(weights)
    given = list(zip(images, guides, shares, strict=True))
    totals = [sum(count.sum() for _, count in _banded(image, guide)) for image, guide, _ in given]
    mean, covariance = np.zeros(images[0].shape[1]), np.zeros((images[0].shape[1],) * 2)
    for (image, guide, share), total in zip(given, totals, strict=True):
        for pixels, count in _banded(image, guide):
            mean += pixels @ (share * count / total)
    for (image, guide, share), total in zip(given, totals, strict=True):
        for pixels, count in _banded(image, guide):
            centred = pixels - mean[:, None]
            covariance += (centred * (share * count / total)) @ centred.T
    return mean, covariance + _VARIANCE_FLOOR * np.eye(len(mean))


def _banded(image: Tensor, guide: Tensor | None) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Yield the pixels (C, n) of an image and how much each counts (n,), band by band."""
    for rows in bands(size_of(image)):
        pixels = image[0, :, rows].flatten(1).cpu().double().numpy()
        counts = None if guide is None else guide[0, 0, rows].flatten().cpu().double().numpy() + 1e-12
        yield pixels, np.ones(pixels.shape[1]) if counts is None else counts


def _roots(matrix: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the square root of a symmetric positive definite matrix, and the root's inverse."""
    values, vectors = np.linalg.eigh(matrix)
    root = np.sqrt(np.maximum(values, _VARIANCE_FLOOR**2))
    return (vectors * root) @ vectors.T, (vectors / root) @ vectors.T


def luminance(image: Tensor) -> Tensor:
    """Return the luminance Y (1, 1, H, W) of an RGB image (1, 3, H, W)."""
    red, green, blue = (image[:, channel, None] for channel in range(3))
    return (red * _LUMINANCE[0]).add_(green, alpha=_LUMINANCE[1]).add_(blue, alpha=_LUMINANCE[2])


def with_luminance(image: Tensor, y: Tensor) -> Tensor:
    """Return an RGB image with its luminance replaced by `y` (1, 1, H, W); its I and Q of YIQ are kept."""
    return (image + (y - luminance(image))).clamp_(0, 1)
