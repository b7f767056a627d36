"""The terms of the loss: content, style and total variation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_weight

from napari_neural_style.engine.devices import float32_products_lag
from napari_neural_style.engine.images import bands, size_of

_POSITIONS = 8192
"""Positions whose features are multiplied at a time: few enough to stay in the processor's cache."""
_FLOOR = 1e-6
"""Least mean square that `relative` divides by, for images without any structure."""


def gram_matrix(features: Tensor, guide: Tensor | None = None, near: Tensor | None = None) -> Tensor:
    """Return the Gram matrix per position, G = F Fᵀ / M, or that of a region, G = (F ∘ T) (F ∘ T)ᵀ.

    Parameters
    ----------
    features : Tensor
        Activations, shape (B, N, H, W) with B = 1, or (N, M).
    guide : Tensor, optional
        How much each position counts, T, shape (M,), its squares summing to 1; equal ones give G = F Fᵀ / M.
    near : Tensor, optional
        A Gram matrix (N, N) that this one may resemble. In bfloat16 on a CPU only what differs from it is rounded
        then, which takes half the time.

    Returns
    -------
    Tensor
        Shape (N, N), float32 (float64 for float64 input).

    References
    ----------
    Gatys, Ecker and Bethge (2016), equation 3, divided by the number of positions M, so that images of
    different sizes can be compared. Gatys, Ecker, Bethge, Hertzmann and Shechtman (2017), equation 6, for guides.
    """
    if features.ndim == 4:
        if features.shape[0] != 1:
            raise ValueError(f"One image at a time: expected shape (1, N, H, W), got {tuple(features.shape)}.")
        if _convolves_faster(features):
            return _gram_by_convolution(features, guide)
        by_position = _by_position(features)
    elif features.ndim == 2:
        by_position = features.T
    else:
        raise ValueError(f"Expected shape (1, N, H, W) or (N, M), got {tuple(features.shape)}.")
    if guide is not None:
        by_position = by_position * guide[:, None].to(by_position)
    count = by_position.shape[0] if guide is None else 1
    if by_position.dtype != torch.bfloat16:
        return by_position.T @ by_position / count
    # For AMD's GPUs, which count as cuda, not every PyTorch has it.
    if by_position.is_cuda and torch.version.hip is None and hasattr(torch.ops.aten.mm, "dtype"):
        return torch.mm(by_position.T, by_position, out_dtype=torch.float32) / count
    # Products of bfloat16 on a CPU are summed in float32 and then rounded.
    rounded_at_the_end = by_position.is_cpu
    if rounded_at_the_end and near is not None:
        expected = (near if guide is None else near * guide.square().sum()).to(torch.bfloat16)
        difference = torch.addmm(expected, by_position.T, by_position, beta=-1, alpha=1 / count)
        return expected.float().add_(difference)
    gram = by_position.new_zeros((by_position.shape[1],) * 2, dtype=torch.float32)
    for part in torch.split(by_position, _POSITIONS):
        if rounded_at_the_end:
            # A second product tells what rounding took. Two take half the time of one in float32, and agree with it
            # to five digits.
            rounded = part.T @ part
            gram += rounded
            gram += torch.addmm(rounded, part.T, part, beta=-1)
        else:
            part = part.float()
            gram.addmm_(part.T, part)
    return gram / count


def total_variation(image: Tensor) -> Tensor:
    """Return the mean squared difference of neighbours, down plus right.

    Parameters
    ----------
    image : Tensor
        Shape (B, C, H, W), H and W at least 2.

    Returns
    -------
    Tensor
        Scalar: the mean of dx² + dy² over the first (H - 1) × (W - 1) positions and all channels.

    References
    ----------
    Mahendran and Vedaldi (2015), equation 5 with β = 2.
    """
    down, right = _differences(image)
    return (down.square() + right.square()).mean()


def total_variation_gradient(image: Tensor) -> Tensor:
    """Return the derivative of :func:`total_variation` at an image (B, C, H, W), of its shape."""
    down, right = _differences(image)
    gradient = torch.zeros_like(image)
    gradient[..., 1:, :-1] += down
    gradient[..., :-1, 1:] += right
    gradient[..., :-1, :-1] -= down + right
    return gradient.mul_(2 / down.numel())


def _differences(image: Tensor) -> tuple[Tensor, Tensor]:
    """Return how the neighbours below and to the right differ from the first (H - 1) × (W - 1) positions."""
    corner = image[..., :-1, :-1]
    return image[..., 1:, :-1] - corner, image[..., :-1, 1:] - corner


def _by_position(features: Tensor) -> Tensor:
    """Return features (1, N, H, W) as (M, N), without a copy where channels are last in memory."""
    return features[0].permute(1, 2, 0).reshape(-1, features.shape[1])


def _convolves_faster(features: Tensor) -> bool:
    """Tell whether products of features take half the time when they are done as 1 × 1 convolutions."""
    return features.is_cpu and features.dtype == torch.float32 and float32_products_lag()


def _gram_by_convolution(features: Tensor, guide: Tensor | None) -> Tensor:
    """Return the Gram matrix as the gradient at the filters of a 1 × 1 convolution of features by features."""
    if guide is not None:
        features = features * guide.view(features.shape[2:])
    filters = (features.shape[1], features.shape[1], 1, 1)
    gram: Tensor = conv2d_weight(features, filters, features)[:, :, 0, 0]  # type: ignore[no-untyped-call]
    return gram / (features[0, 0].numel() if guide is None else 1)


def _add_by_convolution(gradient: Tensor, features: Tensor, slope: Tensor, guide: Tensor | None) -> None:
    """Add slope · F, or slope · (F ∘ T²), to a gradient in strips: the products take memory of their own."""
    squares = None if guide is None else guide.square().view(features.shape[2:])
    for rows in bands(size_of(features), _POSITIONS):
        part = features[:, :, rows]
        gradient[:, :, rows] += F.conv2d(part if squares is None else part * squares[rows], slope[:, :, None, None])


def add_gram_gradient(
    gradient: Tensor, features: Tensor, slope: Tensor, guide: Tensor | None = None, share: float = 1.0
) -> None:
    """Add to the gradient at features what a loss that depends on their Gram matrix adds.

    Parameters
    ----------
    gradient, features : Tensor
        Shape (1, N, H, W); the first is changed in place.
    slope : Tensor
        Derivative of the loss by the Gram matrix, shape (N, N), symmetric as that is.
    guide : Tensor, optional
        As for :func:`gram_matrix`.
    share : float
        What the features' Gram matrix is multiplied with in the one that the loss depends on.

    References
    ----------
    Gatys, Ecker and Bethge (2016), equation 6.
    """
    factor = 2 * share
    if guide is None:
        factor /= features.shape[2] * features.shape[3]
    if _convolves_faster(features):
        _add_by_convolution(gradient, features, slope * factor, guide)
        return
    by_position = _by_position(features)
    if guide is not None:
        by_position = by_position * guide.square()[:, None].to(by_position)
    slope = slope.to(features.dtype)
    if gradient.is_contiguous(memory_format=torch.channels_last):
        _by_position(gradient).addmm_(by_position, slope, alpha=factor)
    else:
        gradient.add_((by_position @ slope).view(*gradient.shape[2:], -1).permute(2, 0, 1), alpha=factor)


def content_constant(target: Tensor, normalization: str) -> float:
    """Return k_c, the constant in front of ‖F - P‖², for target activations P of shape (1, N, H, W)."""
    return content_constant_of(target.float().square().sum().item(), target.numel(), normalization)


def content_constant_of(square: float, count: int, normalization: str) -> float:
    """Return k_c for target activations of which ‖P‖² and the number of values are known."""
    if normalization == "paper":
        return 1 / 2
    return 1 / (count if normalization == "mean" else max(square, _FLOOR * count))


def style_constant(target: Tensor, normalization: str) -> float:
    """Return k_l, the constant in front of ‖G - A‖², for a target Gram matrix A of shape (N, N)."""
    filters = target.shape[0]
    if normalization == "paper":
        return 1 / (4 * filters**2)
    if normalization == "mean":
        return 1 / filters**4
    return 1 / max(target.square().sum().item(), _FLOOR * target.numel())


@dataclass(frozen=True)
class Target:
    """What one layer is compared with: activations or a Gram matrix (of a region), and the term's constants."""

    layer: str
    value: Tensor
    factor: float
    label: int = 0


def content_terms(differences: Sequence[Tensor], targets: Sequence[Target]) -> list[Tensor]:
    """Return factor · ‖F - P‖² for every target, from F - P.

    References
    ----------
    Gatys, Ecker and Bethge (2016), equation 1.
    """
    pairs = zip(differences, targets, strict=True)
    return [target.factor * difference.float().square().sum() for difference, target in pairs]


def style_terms(
    grams: Mapping[tuple[str, int], Tensor], targets: Sequence[Target], weight: float | Tensor = 1.0
) -> tuple[list[Tensor], dict[tuple[str, int], Tensor]]:
    """Return weight · factor · ‖G - A‖² for every target, and the derivative of their sum by every Gram matrix.

    Parameters
    ----------
    grams : dict
        (layer, label) to the Gram matrix (N, N) of a layer and region.
    targets : sequence of Target
        What to compare with.
    weight : float or Tensor
        What all terms are multiplied with.

    References
    ----------
    Gatys, Ecker and Bethge (2016), equations 4 and 5.
    """
    terms: list[Tensor] = []
    slopes: dict[tuple[str, int], Tensor] = {}
    for target in targets:
        at = target.layer, target.label
        scale = target.factor * weight
        slope = grams[at] - target.value
        terms.append(scale * torch.dot(slope.flatten(), slope.flatten()))
        slope *= 2 * scale
        slopes[at] = slopes[at] + slope if at in slopes else slope
    return terms, slopes


class Losses:
    """The weighted terms of the loss before one step; fetched from the device when first read.

    Attributes
    ----------
    total, content, style, variation : float
        The weighted terms; `total` is the sum of the other three.
    layers : dict
        The weighted terms by name, such as ``{"content conv4_2": 1.3, "style conv1_1": 0.2}``.
    """

    def __init__(self, names: Sequence[str], values: Tensor) -> None:
        self._names = tuple(names)
        self._values = values

    @cached_property
    def layers(self) -> dict[str, float]:  # noqa: D102
        layers: dict[str, float] = {}
        for name, value in zip(self._names, self._values.tolist(), strict=True):
            layers[name] = layers.get(name, 0.0) + value
        return layers

    def _sum(self, kind: str) -> float:
        return sum((v for name, v in self.layers.items() if name.startswith(kind)), 0.0)

    @property
    def content(self) -> float:  # noqa: D102
        return self._sum("content")

    @property
    def style(self) -> float:  # noqa: D102
        return self._sum("style")

    @property
    def variation(self) -> float:  # noqa: D102
        return self._sum("variation")

    @property
    def total(self) -> float:  # noqa: D102
        return self.content + self.style + self.variation

    @property
    def terms(self) -> dict[str, float]:
        """The sums by name."""
        return {name: getattr(self, name) for name in ("total", "content", "style", "variation")}

    def __eq__(self, other: object) -> bool:
        return self.layers == other.layers if isinstance(other, Losses) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self.layers.items()))

    def __getstate__(self) -> dict[str, Any]:
        # What is sent elsewhere are numbers: the device is here.
        return {"layers": self.layers}

    def __repr__(self) -> str:
        return f"Losses(total={self.total:.6g}, content={self.content:.6g}, style={self.style:.6g})"
