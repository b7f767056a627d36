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

from napari_neural_style.engine import quantized
from napari_neural_style.engine.quantized import Quantized, has_int8_products

pytestmark = pytest.mark.skipif(
    not has_int8_products(), reason="this processor and PyTorch do not multiply 8-bit integers"
)


def rounded(values: torch.Tensor, largest: torch.Tensor, most: int) -> torch.Tensor:
    """Return values as multiples of a unit, of which the largest has so many."""
    unit = torch.where(largest > 0, largest, 1.0).double() / most
    return (values.double() / unit).round() * unit


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
    weight = torch.randn(kinds, channels, 3, 3, generator=generator)
    bias = torch.randn(kinds, generator=generator)
    maps = torch.rand(batch, channels, *sides, generator=generator)
    pull = torch.randn(batch, kinds, *sides, generator=generator)
    onward = rounded(weight, weight.abs().amax((1, 2, 3), keepdim=True), 127)
    back = rounded(weight, weight.abs().amax((0, 2, 3), keepdim=True), 127)
    seen, pulled = rounded(maps, maps.max(), 255), rounded(pull, pull.abs().max(), 127)
    expected = F.conv2d(seen, onward, bias.double(), padding=1)
    mirrored = F.conv2d(F.pad(seen, (1, 1, 1, 1), mode="reflect"), onward, bias.double())

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(quantized, "_AT_ONCE", strip)
        convolve = Quantized(weight, bias)
        for found, wanted in (
            (convolve(maps, 1), expected),
            (convolve(maps, 0), expected[:, :, 1:-1, 1:-1]),
            (convolve.rectified(maps, 1), expected.clamp(min=0)),
            (convolve.rectified_mirrored(maps), mirrored.clamp(min=0)),
            (convolve.back(pull, 1), F.conv_transpose2d(pulled, back, padding=1)),
            (convolve.back(pull, 0), F.conv_transpose2d(pulled, back)),
        ):
            assert found.dtype == torch.float32
            # A value between two units may be rounded either way.
            torch.testing.assert_close(found.double(), wanted, rtol=0, atol=2e-2 * wanted.abs().max().item())
            assert (found - wanted).norm() <= 2e-3 * wanted.norm()


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_so(wrong):
    convolve = Quantized(torch.ones(8, 8, 3, 3), torch.zeros(8))
    maps = torch.ones(1, 8, 4, 4)
    maps[0, 0, 0, 0] = wrong
    assert convolve.rectified(maps, 1).isnan().all()
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
