"""3 × 3 convolutions whose filters are sums of few patterns, in two smaller steps."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_neural_style.engine.counts import Counts
from napari_neural_style.engine.direct import Arranged, Convolution, Direct


class Factored(Convolution):
    """A convolution with few patterns, and sums of their responses: W = Q P, exactly.

    Parameters
    ----------
    patterns : Convolution
        With K filters and no bias.
    sums : Tensor
        Q, (N, K), of the dtype of the maps, on the CPU.
    bias : Tensor
        (N,), likewise.

    References
    ----------
    Jaderberg, Vedaldi and Zisserman (2014), "Speeding up convolutional neural networks with low rank expansions", who
    approximate filters that are of full rank.
    """

    def __init__(self, patterns: Convolution, sums: Tensor, bias: Tensor) -> None:
        kind = Arranged if Arranged.available else Direct
        self._patterns = patterns
        self._onward = kind(_as_filters(sums), bias)
        self._back = kind(_as_filters(sums.T), bias.new_zeros(sums.shape[1]))

    def __call__(self, maps: Tensor, padding: int, rectified: bool = False) -> Tensor:
        """Return the convolution."""
        return self._onward(self._patterns(maps, padding), 0, rectified)

    def mirrored(self, maps: Tensor, rectified: bool = False) -> Tensor:
        """Return the convolution of maps that are mirrored by one pixel all around."""
        return self._onward(self._patterns.mirrored(maps), 0, rectified)

    def of(self, counts: Counts, rectified: bool = False) -> Tensor:
        """Return the convolution of maps that are rounded to integers, with what is around them."""
        return self._onward(self._patterns.of(counts), 0, rectified)

    def back(self, gradient: Tensor, padding: int) -> Tensor:
        """Return its adjoint."""
        return self._patterns.back(self._back(gradient, 0), padding)

    def back_mirrored(self, gradient: Tensor) -> Tensor:
        """Return the adjoint of mirroring and convolving."""
        return self._patterns.back_mirrored(self._back(gradient, 0))


def _as_filters(matrix: Tensor) -> Tensor:
    return matrix[:, :, None, None].contiguous(memory_format=torch.channels_last)


def factoring_pays(weight: Tensor, rank: int) -> bool:
    """Tell whether two steps with `rank` maps between them take at most half of the products of (N, C, 3, 3)."""
    filters, kinds = weight.shape[:2]
    return 2 * rank * (9 * kinds + filters) <= 9 * kinds * filters


def factors_of(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return Q (N, rank), its columns orthonormal, and patterns (rank, C, 3, 3) of filters (N, C, 3, 3).

    Their product are the filters, whose rank as a matrix (N, 9 C) is no higher.

    References
    ----------
    Halko, Martinsson and Tropp (2011), algorithm 4.4 with one iteration, exact here but for the filters' own rounding.
    """
    filters = weight.flatten(1).cpu().double()
    generator = torch.Generator().manual_seed(0)
    test = torch.randn(filters.shape[1], rank, generator=generator, dtype=torch.float64, device="cpu")
    for _ in range(2):
        sums = torch.linalg.qr(filters @ test).Q
        test = filters.T @ sums
    return sums.to(weight), test.T.to(weight).view(rank, *weight.shape[1:])
