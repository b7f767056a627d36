from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from integers import needs_int8
from napari_neural_style.engine import quantized
from napari_neural_style.engine.quantized import Quantized, has_int8_products

pytestmark = needs_int8


def near_integers(generator: torch.Generator, low: int, high: int, *shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return numbers from low to high, high among them, and the integers that they are nearest to."""
    integers = torch.randint(low, high + 1, shape, generator=generator)
    off = 0.8 * torch.rand(shape, generator=generator) - 0.4
    integers[:, :, 1, 1], off[:, :, 1, 1] = high, 0
    return (integers + off).clamp(low, high), integers.double()


@settings(max_examples=40, deadline=None)
@given(
    sides=st.tuples(st.integers(3, 21), st.integers(3, 21)),
    counts=st.tuples(st.integers(1, 70), st.integers(1, 70), st.integers(1, 2)),
    strip=st.sampled_from([100, 1 << 20]),
    seed=st.integers(0, 2**31),
)
def test_it_is_the_convolution_of_rounded_maps_and_the_adjoint_one_of_a_rounded_gradient(sides, counts, strip, seed):
    channels, kinds, batch = counts
    generator = torch.Generator().manual_seed(seed)
    weight, filters = near_integers(generator, -127, 127, kinds, channels, 3, 3)
    maps, seen = near_integers(generator, 0, 255, batch, channels, *sides)
    pull, pulled = near_integers(generator, -127, 127, batch, kinds, *sides)
    bias = 1e4 * torch.randn(kinds, generator=generator)
    expected = F.conv2d(seen, filters, bias.double(), padding=1)
    mirrored = F.conv2d(F.pad(seen, (1, 1, 1, 1), mode="reflect"), filters, bias.double())

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(quantized, "_AT_ONCE", strip)
        convolve = Quantized(weight, bias)
        for found, wanted in (
            (convolve(maps, 1), expected),
            (convolve(maps, 0), expected[:, :, 1:-1, 1:-1]),
            (convolve(maps, 1, rectified=True), expected.clamp(min=0)),
            (convolve.mirrored(maps, rectified=True), mirrored.clamp(min=0)),
            (convolve.back(pull, 1), F.conv_transpose2d(pulled, filters, padding=1)),
            (convolve.back(pull, 0), F.conv_transpose2d(pulled, filters)),
        ):
            assert found.dtype == torch.float32
            torch.testing.assert_close(found.double(), wanted, rtol=1e-6, atol=1)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_so(wrong):
    convolve = Quantized(torch.ones(8, 8, 3, 3), torch.zeros(8))
    maps = torch.ones(1, 8, 4, 4)
    maps[0, 0, 0, 0] = wrong
    assert convolve(maps, 1, rectified=True).isnan().all()
    assert convolve.back(-maps, 1).isnan().all()


@pytest.mark.parametrize("least", [0.0, 1e-40])
def test_of_next_to_nothing_the_bias_is_left(least):
    convolve = Quantized(torch.full((8, 8, 3, 3), least), torch.arange(8.0))
    maps = torch.zeros(1, 8, 4, 4)
    maps[..., 1] = least
    torch.testing.assert_close(convolve(maps, 1), torch.arange(8.0).view(1, 8, 1, 1).expand(1, 8, 4, 4))
    assert not convolve.back(maps, 1).any()


def test_a_processor_without_products_of_integers_is_told_by_their_sums():
    program = "from napari_neural_style.engine.quantized import has_int8_products; print(has_int8_products())"
    limited = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=limited)
    assert done.stdout.strip() == "False"


def test_without_the_operator_there_are_none(monkeypatch):
    monkeypatch.setattr(quantized, "_onednn", SimpleNamespace())
    assert not has_int8_products.__wrapped__()
