from __future__ import annotations

import math
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from integers import needs_int8, needs_integer_grams
from napari_neural_style.engine import counts, integer_grams, quantized
from napari_neural_style.engine.counts import Counts, counted
from napari_neural_style.engine.direct import Direct
from napari_neural_style.engine.integer_grams import add_gram_gradient_of, gram_matrix_of, has_integer_grams
from napari_neural_style.engine.quantized import Quantized, has_int8_products

pytestmark = needs_int8


def near_integers(generator: torch.Generator, low: int, high: int, *shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return numbers from low to high, high among them, and the integers that they are nearest to."""
    integers = torch.randint(low, high + 1, shape, generator=generator)
    off = 0.8 * torch.rand(shape, generator=generator) - 0.4
    integers[:, :, 1, 1], off[:, :, 1, 1] = high, 0
    return (integers + off).clamp(low, high), integers.double()


@settings(max_examples=40)
@given(
    sides=st.tuples(st.integers(3, 21), st.integers(3, 21)),
    kinds_of=st.tuples(st.integers(1, 70), st.integers(1, 70), st.integers(1, 2)),
    strip=st.sampled_from([100, 1 << 20]),
    seed=st.integers(0, 2**31),
)
def test_it_is_the_convolution_of_rounded_maps_and_the_adjoint_one_of_a_rounded_gradient(sides, kinds_of, strip, seed):
    channels, kinds, batch = kinds_of
    generator = torch.Generator().manual_seed(seed)
    weight, filters = near_integers(generator, -127, 127, kinds, channels, 3, 3)
    maps, seen = near_integers(generator, 0, 255, batch, channels, *sides)
    pull, pulled = near_integers(generator, -127, 127, batch, kinds, *sides)
    bias = 1e4 * torch.randn(kinds, generator=generator)
    expected = F.conv2d(seen, filters, bias.double(), padding=1)
    mirrored = F.conv2d(F.pad(seen, (1, 1, 1, 1), mode="reflect"), filters, bias.double())

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(counts, "_AT_ONCE", strip)
        convolve = Quantized(weight, bias)
        for found, wanted in (
            (convolve(maps, 1), expected),
            (convolve(maps, 0), expected[:, :, 1:-1, 1:-1]),
            (Direct(filters.float(), bias).of(counted(maps, 1)), expected),
            (convolve(maps, 1, rectified=True), expected.clamp(min=0)),
            (convolve.mirrored(maps, rectified=True), mirrored.clamp(min=0)),
            (convolve.back(pull, 1), F.conv_transpose2d(pulled, filters, padding=1)),
            (convolve.back(pull, 0), F.conv_transpose2d(pulled, filters)),
        ):
            assert found.dtype == torch.float32
            torch.testing.assert_close(found.double(), wanted, rtol=1e-6, atol=1)


@needs_integer_grams
@pytest.mark.parametrize("kinds", [3, 64])
def test_gram_matrices_of_integers_and_their_gradient(monkeypatch, kinds):
    """Rows of 400 positions in strips of two, of the greatest values too: 16-bit sums of pairs would not hold those."""
    monkeypatch.setattr(integer_grams, "_POSITIONS", 900)
    monkeypatch.setattr(integer_grams, "_AT_ONCE", 900 * kinds)
    values = torch.randint(0, 256, (1, kinds, 5, 402), dtype=torch.uint8)
    values[:, 0], values[:, 1] = 255, 0
    inner = values.contiguous(memory_format=torch.channels_last)[..., 1:-1]
    maps = inner[0].flatten(1).double()
    gram = gram_matrix_of(Counts(inner, 0.5))
    assert gram.dtype == torch.float32
    torch.testing.assert_close(gram.double(), maps @ maps.T / 4 / maps.shape[1], rtol=1e-6, atol=1e-3)
    assert gram_matrix_of(Counts(inner, math.nan)).isnan().all()
    slope = torch.randn(kinds, kinds, dtype=torch.float64)
    slope[:, 0] = 127  # with this as the largest of each filter, the others are rounded to whole numbers
    slope[:, 1:] = (20 * slope[:, 1:]).clamp(-127, 127).round()
    found = torch.ones(1, kinds, 5, 400)
    add_gram_gradient_of(found, Counts(inner, 0.5), slope.float())
    torch.testing.assert_close(found.double()[0].flatten(1), 1 + slope @ maps / 2, rtol=1e-6, atol=1e-3)


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


def test_without_products_of_integers_with_and_without_a_sign_gram_matrices_are_of_floats(monkeypatch):
    def refuse(*_):
        raise RuntimeError("Expected self.scalar_type() == at::kChar to be true")

    monkeypatch.setattr(torch, "_int_mm", refuse)
    assert not has_integer_grams.__wrapped__()
