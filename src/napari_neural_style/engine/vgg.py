"""The VGG-19 trunk: an image to named feature maps."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_neural_style.engine.convolutions import convolution, dtype_of_maps
from napari_neural_style.engine.counts import Counts, counted
from napari_neural_style.engine.devices import layout_of
from napari_neural_style.engine.relu import mask
from napari_neural_style.settings import LAYERS

MEAN = (0.485, 0.456, 0.406)
"""ImageNet's mean RGB, values in 0..1."""
STD = (0.229, 0.224, 0.225)
"""ImageNet's standard deviation of RGB, values in 0..1."""

POOLED_AFTER = ("conv1_2", "conv2_2", "conv3_4", "conv4_4")


@dataclass(frozen=True, eq=False)
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
        SHA-256 of the numbers as they were learned or read, to tell one set of features from another; those that
        :func:`~napari_neural_style.engine.rescaling.rescaled` returns keep it.
    rank : int, optional
        The most that the filters of any layer have as a matrix (N, 9 C), where that is known to be few.
    """

    source: str
    convolutions: Mapping[str, tuple[Tensor, Tensor]] = field(repr=False)
    border: str | tuple[float, float, float]
    fingerprint: str
    rank: int | None = None


def padded(features: Features, padding: str) -> Features:
    """Return features for images and maps that are padded by ``"zeros"`` or ``"reflect"``, by reflection."""
    mirrored = features.border == "reflect"
    if (padding == "reflect") == mirrored:
        return features
    if mirrored:
        return replace(features, border=(0.0, 0.0, 0.0))
    weight, bias = features.convolutions["conv1_1"]
    bias = bias - weight.sum((2, 3)) @ torch.tensor(features.border, dtype=torch.float32)
    return replace(features, convolutions={**features.convolutions, "conv1_1": (weight, bias)}, border="reflect")


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


AddGradient = Callable[[str, Tensor, Tensor, float], None]


@dataclass
class ForwardPass:
    """What one pass up the trunk keeps for the way back.

    Attributes
    ----------
    activations : dict
        Layer name to activations after the ReLU, (B, N, H', W'), of every layer.
    maxima : dict
        Layer name to the places of the maxima that were pooled.
    counts : dict
        Layer name to the activations as integers, where these were asked for.
    """

    activations: dict[str, Tensor] = field(default_factory=dict)
    maxima: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, Counts] = field(default_factory=dict)


def _masked(gradient: Tensor, activations: Tensor) -> Tensor:
    """Return a gradient, which may be changed, as it is before a ReLU, in the layout of the activations."""
    in_place = gradient.is_contiguous(memory_format=layout_of(gradient.device))
    return mask(gradient, activations, gradient if in_place else torch.empty_like(activations))


def _average_pool_backward(gradient: Tensor, activations: Tensor) -> Tensor:
    """Return four times the gradient before a ReLU and 2 × 2 average pooling, masked as it is spread out."""
    height, width = gradient.shape[2:]
    masked = torch.empty_like(activations)
    masked[:, :, 2 * height :] = 0  # an odd last row or column is not pooled
    masked[:, :, :, 2 * width :] = 0

    def blocks(x: Tensor) -> Tensor:
        return x[:, :, : 2 * height, : 2 * width].view(*x.shape[:2], height, 2, width, 2)

    mask(gradient[:, :, :, None, :, None], blocks(activations), blocks(masked))
    return masked


def _max_pool_backward(gradient: Tensor, activations: Tensor, maxima: Tensor) -> Tensor:
    two, one, none = (2, 2), (1, 1), (0, 0)
    return torch.ops.aten.max_pool2d_with_indices_backward(gradient, activations, two, two, none, one, False, maxima)


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
        Arithmetic of the convolutions; maps are of this dtype as well, or float32 with int8.

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
        self.dtype = dtype_of_maps(dtype)
        self.counts = dtype == torch.int8
        self._reflect = features.border == "reflect"
        self._border = None
        if not isinstance(features.border, str) and any(features.border):
            self._border = torch.tensor(features.border, dtype=torch.float32, device=device).view(1, 3, 1, 1)
        self._convolutions = {
            name: convolution(*features.convolutions[name], self.device, dtype, features.rank)
            for name in layers_up_to(self.layers)
        }

    def __call__(self, image: Tensor, layers: Iterable[str] | None = None) -> dict[str, Tensor]:
        """Return the activations after the ReLU of every layer asked for.

        Not every way to convolve is differentiable by autograd; :meth:`backward` is there for gradients.

        Parameters
        ----------
        image : Tensor
            Normalised RGB, shape (B, 3, H, W), float32.
        layers : iterable of str, optional
            Only these of the trunk's layers; nothing past the deepest of them is computed.

        Returns
        -------
        dict
            Layer name to activations (B, N, H', W') in the trunk's dtype.
        """
        wanted = self.layers if layers is None else frozenset(layers)
        found: dict[str, Tensor] = {}
        for name, activations, _ in self._walk(image, (), {}):
            if name in wanted:
                found[name] = activations
            if len(found) == len(wanted):
                break
        return found

    @torch.no_grad()
    def forward(self, image: Tensor, counted_too: Collection[str] = ()) -> ForwardPass:
        """Return all that :meth:`backward` needs; with less memory than autograd, which keeps padded copies too.

        Parameters
        ----------
        image : Tensor
            As for a call.
        counted_too : collection of str
            Layers whose activations are kept as integers too, if convolutions take integers; not those pooled after.
        """
        kept = ForwardPass()
        for name, activations, maxima in self._walk(image, counted_too, kept.counts):
            kept.activations[name] = activations
            if maxima is not None:
                kept.maxima[name] = maxima
        if self.counts and name in counted_too:
            kept.counts[name] = counted(kept.activations[name])
        return kept

    @torch.no_grad()
    def backward(self, kept: ForwardPass, add: AddGradient) -> Tensor:
        """Return the gradient at the image, float32, and empty the pass on the way.

        Parameters
        ----------
        kept : ForwardPass
            From :meth:`forward`.
        add : callable
            Takes the name of a layer asked for, its activations, the gradient that came from above (in their layout, if
            there are no counts of them), and a share; adds that share of the layer's own gradient in place.
        """
        gradient: Tensor | None = None
        for name, convolve in reversed(self._convolutions.items()):
            activations, maxima = kept.activations.pop(name), kept.maxima.pop(name, None)
            averaged = gradient is not None and maxima is None and name in POOLED_AFTER
            if gradient is None:
                gradient = torch.zeros_like(activations)
            elif maxima is not None:
                gradient = _max_pool_backward(gradient, activations, maxima)
            elif averaged:
                gradient = _average_pool_backward(gradient, activations)
            if name in self.layers:
                if name not in kept.counts:
                    gradient = gradient.contiguous(memory_format=layout_of(self.device))
                # Gradients are divided by the positions that average pooling took together: no pass has to divide maps.
                share = 4.0 ** -pools_before(name) if self.pooling == "average" else 1.0
                add(name, activations, gradient, share)
            if name in self.layers or not averaged:
                gradient = _masked(gradient, activations)
            del activations
            gradient = convolve.back_mirrored(gradient) if self._reflect else convolve.back(gradient, 1)
        assert gradient is not None
        return gradient.float()

    def _walk(
        self, image: Tensor, counted_too: Collection[str], kept: dict[str, Counts]
    ) -> Iterator[tuple[str, Tensor, Tensor | None]]:
        """Yield every layer's name and activations and, where maxima are taken of them, their places.

        Of layers to be counted too, what the next convolution sees as integers is kept; of others it goes at once.
        """
        x = image if self._border is None else image - self._border
        x = x.to(self.dtype, memory_format=layout_of(self.device))
        last = next(reversed(self._convolutions))
        below = ""
        for name, convolve in self._convolutions.items():
            maxima = None
            if self.counts and below:  # colours have a sign
                counts = counted(x, 1, mirrored=self._reflect)
                x = activations = convolve.of(counts, rectified=True)
                if below in counted_too and below not in POOLED_AFTER:
                    kept[below] = Counts(counts.values[:, :, 1:-1, 1:-1], counts.unit)
                del counts
            elif self._reflect:
                x = activations = convolve.mirrored(x, rectified=True)
            else:
                x = activations = convolve(x, 1, rectified=True)
            if name in POOLED_AFTER and name != last:
                if self.pooling == "max":
                    x, maxima = F.max_pool2d(x, 2, return_indices=True)
                else:
                    x = pool(x, self.pooling)
            yield name, activations, maxima
            below = name
