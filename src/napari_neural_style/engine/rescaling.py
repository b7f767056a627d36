"""Filters in units of their own mean activation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from napari_neural_style.engine.images import size_of
from napari_neural_style.engine.tiles import tiles_of
from napari_neural_style.engine.vgg import Features, Trunk, layers_up_to
from napari_neural_style.settings import LAYERS


@torch.no_grad()
def rescaled(
    features: Features, images: Sequence[Tensor], layers: Iterable[str], pooling: str, tile: int = 0
) -> Features:
    """Return features whose filters have a mean activation of 1 over images and positions.

    ReLU and pooling commute with positive factors, so the network computes the same, each filter in its
    own unit. Filters that never fire keep theirs.

    Parameters
    ----------
    features : Features
        Any features.
    images : sequence of Tensor
        Normalised RGB, each of shape (1, 3, H, W), on one device.
    layers : iterable of str
        The layers that will be used.
    pooling : str
        ``"max"`` or ``"average"``.
    tile : int
        Side of the tiles that images are gone through in, 0 for whole ones.

    References
    ----------
    Gatys, Ecker and Bethge (2016), section 2.
    """
    names = layers_up_to(layers)
    means = {name: torch.zeros(LAYERS[name], dtype=torch.float32) for name in names}
    trunk = Trunk(features, names, pooling, images[0].device)
    for image in images:
        for name, mean in _mean_activations(trunk, image, tile).items():
            means[name] += mean.cpu() / len(images)
    convolutions = {}
    below = torch.ones(3, dtype=torch.float32)
    for name in names:
        mean = torch.where(means[name] > 0, means[name], torch.ones_like(means[name]))
        weight, bias = features.convolutions[name]
        convolutions[name] = (weight * below.view(1, -1, 1, 1) / mean.view(-1, 1, 1, 1), bias / mean)
        below = mean
    return replace(features, convolutions=convolutions)


def _mean_activations(trunk: Trunk, image: Tensor, tile: int) -> dict[str, Tensor]:
    """Return every filter's mean activation over an image, by layer."""
    size = size_of(image)
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    for part in tiles_of(size, tile or max(size), trunk.layers):
        for name, activation in trunk(part.seen_of(image)).items():
            own = part.own_at(activation[0], name)
            sums[name] = sums.get(name, 0) + own.sum((1, 2))
            counts[name] = counts.get(name, 0) + own.shape[1] * own.shape[2]
    return {name: total / counts[name] for name, total in sums.items()}
