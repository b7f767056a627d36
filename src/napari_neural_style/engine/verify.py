"""A fingerprint of torchvision's pretrained VGG-19: proof that weights and layer names are right."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from napari_neural_style.engine.vgg import Trunk
from napari_neural_style.engine.weights import pretrained_features, resolve_source

PUBLISHED: dict[str, tuple[float, float]] = {
    "conv1_1": (3.71, 896),
    "conv1_2": (11.8, 2070),
    "conv2_1": (13.8, 2110),
    "conv2_2": (26.6, 2510),
    "conv3_1": (39.3, 2450),
    "conv3_2": (31.6, 2380),
    "conv3_3": (47.6, 2200),
    "conv3_4": (62.3, 1050),
    "conv4_1": (40.5, 865),
    "conv4_2": (30.6, 792),
    "conv4_3": (32.1, 583),
    "conv4_4": (18.2, 259),
    "conv5_1": (11.0, 167),
}
"""Maximum and L2 norm after the ReLU for ``torch.manual_seed(0); torch.rand(1, 3, 256, 256)``, not
normalised, with max pooling; three significant digits, as published by pystiche."""

_TOLERANCE = 0.006


@dataclass(frozen=True)
class Comparison:
    """One layer's numbers beside the published ones."""

    layer: str
    maximum: float
    norm: float
    published_maximum: float
    published_norm: float

    @property
    def agrees(self) -> bool:
        """Whether both agree to three significant digits, as far as rounding in other orders allows: to .6 %."""
        pairs = ((self.maximum, self.published_maximum), (self.norm, self.published_norm))
        return all(abs(ours - theirs) <= _TOLERANCE * theirs for ours, theirs in pairs)


@torch.no_grad()
def verify_pretrained() -> list[Comparison]:
    """Compare the pretrained features in the cache with the published fingerprint, layer by layer.

    Raises
    ------
    ValueError
        If they are not on this machine or cannot be read.
    """
    resolve_source("pretrained")
    features = pretrained_features(PUBLISHED)
    image = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    activations = Trunk(features, PUBLISHED, "max")(image)
    return [
        Comparison(layer, float(activations[layer].max()), float(activations[layer].norm()), *published)
        for layer, published in PUBLISHED.items()
    ]
