"""The VGG-19 trunk: an image to named feature maps."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_neural_style.settings import LAYERS

MEAN = (0.485, 0.456, 0.406)
"""ImageNet's mean RGB, values in 0..1."""
STD = (0.229, 0.224, 0.225)
"""ImageNet's standard deviation of RGB, values in 0..1."""

POOLED_AFTER = ("conv1_2", "conv2_2", "conv3_4", "conv4_4")


@dataclass(frozen=True)
class Features:
    """The numbers of a trunk: filters that take a normalised RGB tensor, wherever they came from.

    Parameters
    ----------
    source : str
        ``"pretrained"``, ``"self-taught"`` or the path of a file.
    convolutions : dict
        Layer name to (weight of shape (N, C, 3, 3), bias of shape (N,)), float32, from conv1_1 up without gaps.
    border : "reflect" or tuple of float
        How images and feature maps are padded: by reflection, or images by this colour (in normalised
        RGB) and feature maps by zero.
    fingerprint : str
        SHA-256 of the numbers, to tell one set of features from another.
    """

    source: str
    convolutions: Mapping[str, tuple[Tensor, Tensor]]
    border: str | tuple[float, float, float]
    fingerprint: str


def fingerprint_of(convolutions: Mapping[str, tuple[Tensor, Tensor]]) -> str:
    """Return the SHA-256 of filters, as hexadecimal digits."""
    digest = hashlib.sha256()
    for name, pair in convolutions.items():
        digest.update(name.encode())
        for tensor in pair:
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def pools_before(layer: str) -> int:
    """Return how many times the image is halved before a layer."""
    return int(layer[4]) - 1


def layers_up_to(deepest: Iterable[str]) -> list[str]:
    """Return all layers from conv1_1 to the deepest of those given.

    Raises
    ------
    ValueError
        If no layer is given.
    """
    wanted = set(deepest)
    if not wanted:
        raise ValueError("At least one layer is needed.")
    names = list(LAYERS)
    return names[: 1 + max(names.index(layer) for layer in wanted)]


def pool(features: Tensor, pooling: str) -> Tensor:
    """Halve the sides of feature maps (B, N, H, W) by ``"max"`` or ``"average"`` pooling."""
    return F.max_pool2d(features, 2) if pooling == "max" else F.avg_pool2d(features, 2)


class Trunk:
    """VGG-19's convolutions, frozen, cut at the deepest layer asked for.

    Parameters
    ----------
    features : Features
        The filters.
    layers : iterable of str
        The layers whose activations are wanted; nothing past the deepest is computed.
    pooling : str
        ``"max"`` or ``"average"``.
    device : torch.device
        Where to compute.
    dtype : torch.dtype
        Arithmetic of the convolutions.

    References
    ----------
    Simonyan and Zisserman (2015), "Very deep convolutional networks for large-scale image recognition",
    configuration E.
    """

    def __init__(
        self,
        features: Features,
        layers: Iterable[str],
        pooling: str,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.layers = frozenset(layers)
        self.pooling = pooling
        self.device = torch.device(device)
        self.dtype = dtype
        self._reflect = features.border == "reflect"
        self._border = None
        if not isinstance(features.border, str) and any(features.border):
            self._border = torch.tensor(features.border, device=device).view(1, 3, 1, 1)
        self._convolutions = {
            name: (
                features.convolutions[name][0].to(device, dtype, memory_format=torch.channels_last),
                features.convolutions[name][1].to(device, dtype),
            )
            for name in layers_up_to(self.layers)
        }

    def __call__(self, image: Tensor, layers: Iterable[str] | None = None) -> dict[str, Tensor]:
        """Return the activations after the ReLU of every layer asked for.

        Parameters
        ----------
        image : Tensor
            Normalised RGB, shape (B, 3, H, W), float32.
        layers : iterable of str, optional
            Only these of the trunk's layers.

        Returns
        -------
        dict
            Layer name to activations (B, N, H', W') in the trunk's dtype.
        """
        wanted = self.layers if layers is None else frozenset(layers)
        found: dict[str, Tensor] = {}
        x = image if self._border is None else image - self._border
        x = x.to(self.dtype, memory_format=torch.channels_last)
        for name, (weight, bias) in self._convolutions.items():
            if self._reflect:
                x = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), weight, bias)
            else:
                x = F.conv2d(x, weight, bias, padding=1)
            x = F.relu_(x)
            if name in wanted:
                found[name] = x
                if len(found) == len(wanted):
                    break
            if name in POOLED_AFTER:
                x = pool(x, self.pooling)
        return found
