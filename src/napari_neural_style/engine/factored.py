"""3 × 3 convolutions whose filters are sums of few patterns, in two smaller steps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_neural_style.engine.direct import Convolution
from napari_neural_style.engine.relu import rectify


class Factored(Convolution):
    """A convolution with few patterns, and sums of their responses: W = Q P, exactly.

    Parameters
    ----------
    patterns : Convolution
        With K filters and no bias.
    sums : Tensor
        Q, (N, K), of the dtype of the maps, on their device.
    bias : Tensor
        (N,), likewise.

    References
    ----------
    Jaderberg, Vedaldi and Zisserman (2014), "Speeding up convolutional neural networks with low rank expansions", who
    approximate filters that are of full rank.
    """

    def __init__(self, patterns: Convolution, sums: Tensor, bias: Tensor) -> None:
        self._patterns = patterns
        self._sums = sums[:, :, None, None].contiguous(memory_format=torch.channels_last)
        self._back = self._sums.transpose(0, 1).contiguous(memory_format=torch.channels_last)
        self._bias = bias

    def __call__(self, maps: Tensor, padding: int) -> Tensor:
        """Return the convolution."""
        return self._summed(self._patterns(maps, padding))

    def mirrored(self, maps: Tensor) -> Tensor:
        """Return the convolution of maps that are mirrored by one pixel all around."""
        return self._summed(self._patterns.mirrored(maps))

    def rectified_mirrored(self, maps: Tensor) -> Tensor:
        """Return the same where it is above 0, and 0 elsewhere."""
        return rectify(self.mirrored(maps))

    def back(self, gradient: Tensor, padding: int) -> Tensor:
        """Return its adjoint."""
        return self._patterns.back(F.conv2d(gradient, self._back), padding)

    def back_mirrored(self, gradient: Tensor) -> Tensor:
        """Return the adjoint of mirroring and convolving."""
        return self._patterns.back_mirrored(F.conv2d(gradient, self._back))

    def _summed(self, responses: Tensor) -> Tensor:
        return F.conv2d(responses, self._sums, self._bias)


def factoring_pays(weight: Tensor, rank: int) -> bool:
    """Tell whether two steps with `rank` maps between them take at most half of the products of (N, C, 3, 3)."""
    filters, kinds = weight.shape[:2]
    return 2 * rank * (9 * kinds + filters) <= 9 * kinds * filters


def factors_of(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return Q (N, rank), its columns orthonormal, and patterns (rank, C, 3, 3) of filters (N, C, 3, 3).

    Their product are the filters, whose rank as a matrix (N, 9 C) is no higher.

    References
    ----------
    Halko, Martinsson and Tropp (2011), algorithm 4.1, which is exact here but for rounding.
    """
    filters = weight.flatten(1).cpu().double()
    generator = torch.Generator().manual_seed(0)
    test = torch.randn(filters.shape[1], rank, generator=generator, dtype=torch.float64, device="cpu")
    sums = torch.linalg.qr(filters @ test).Q
    return sums.to(weight), (sums.T @ filters).to(weight).view(rank, *weight.shape[1:])
