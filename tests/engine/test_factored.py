from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from integers import needs_int8
from napari_neural_style import stylize
from napari_neural_style.engine import convolutions
from napari_neural_style.engine.convolutions import convolution
from napari_neural_style.engine.direct import Direct
from napari_neural_style.engine.factored import Factored, factoring_pays, factors_of
from napari_neural_style.engine.images import normalize, to_rgb, to_tensor
from napari_neural_style.engine.quantized import Quantized
from napari_neural_style.engine.self_taught import learn
from napari_neural_style.engine.winograd import Winograd
from napari_neural_style.settings import LAYERS

CPU = torch.device("cpu")


def of_rank(rank: int, kinds: int, channels: int, generator: torch.Generator) -> torch.Tensor:
    sums = torch.randn(kinds, rank, generator=generator)
    return (sums @ torch.randn(rank, 9 * channels, generator=generator)).view(kinds, channels, 3, 3)


@settings(max_examples=30)
@given(
    sides=st.tuples(st.integers(3, 17), st.integers(3, 17)),
    counts=st.tuples(st.integers(1, 20), st.integers(1, 40), st.integers(1, 2)),
    ranks=st.tuples(st.integers(1, 12), st.integers(0, 5)),
    by_winograd=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_in_two_steps_it_is_the_same_convolution(sides, counts, ranks, by_winograd, seed):
    """Also where the rank is lower than was said."""
    channels, kinds, batch = counts
    rank, more = min(ranks[0], kinds, 9 * channels), ranks[1]
    said = min(rank + more, kinds, 9 * channels)
    generator = torch.Generator().manual_seed(seed)
    weight, bias = of_rank(rank, kinds, channels, generator), torch.randn(kinds, generator=generator)
    maps = torch.randn(batch, channels, *sides, generator=generator)
    pull = torch.randn(batch, kinds, *sides, generator=generator)
    sums, patterns = factors_of(weight, said)
    nothing = torch.zeros(said)
    few = Winograd(patterns, nothing, torch.float32) if by_winograd else Direct(patterns, nothing)
    fast, plain = Factored(few, sums, bias), Direct(weight, bias)
    for found, wanted in (
        (fast(maps, 1), plain(maps, 1)),
        (fast(maps, 0, rectified=True), plain(maps, 0, rectified=True)),
        (fast.mirrored(maps), plain.mirrored(maps)),
        (fast.mirrored(maps, rectified=True), plain.mirrored(maps, rectified=True)),
        (fast.back(pull, 1), plain.back(pull, 1)),
        (fast.back_mirrored(pull), plain.back_mirrored(pull)),
    ):
        size = weight.abs().max().item() * max(channels, kinds)
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4 * size)


@needs_int8
def test_with_integers_it_is_as_near_as_in_one_step():
    generator = torch.Generator().manual_seed(0)
    weight, bias = of_rank(96, 512, 256, generator), torch.randn(512, generator=generator)
    maps, pull = torch.rand(1, 256, 12, 15, generator=generator), torch.randn(1, 512, 12, 15, generator=generator)
    plain, whole = Direct(weight, bias), Quantized(weight, bias)
    fast = convolution(weight, bias, CPU, torch.int8, rank=96)
    assert type(fast) is Factored
    for name, given_to in (("mirrored", maps), ("back_mirrored", pull)):
        exact, found, one = (getattr(way, name)(given_to) for way in (plain, fast, whole))
        assert (found - exact).norm() < 1.5 * (one - exact).norm()


@pytest.mark.parametrize(
    ("channels", "kinds", "dtype", "in_matrix_units", "expected"),
    [
        (64, 64, torch.float32, False, False),
        (128, 128, torch.float32, False, False),
        (128, 256, torch.float32, False, True),
        (512, 512, torch.bfloat16, False, True),
        (512, 512, torch.bfloat16, True, False),
        (512, 512, torch.float32, True, True),
    ],
)
def test_it_is_done_where_it_saves_half_of_the_products(monkeypatch, channels, kinds, dtype, in_matrix_units, expected):
    monkeypatch.setattr(convolutions, "cpu_bfloat16", lambda: (True, in_matrix_units))
    weight, bias = torch.zeros(kinds, channels, 3, 3), torch.zeros(kinds)
    assert (type(convolution(weight, bias, CPU, dtype, rank=96)) is Factored) == expected
    assert type(convolution(weight, bias, CPU, dtype)) is not Factored


def test_learned_filters_are_sums_of_few_patterns(pair):
    images = [normalize(to_tensor(to_rgb(image))) for image in pair]
    features = learn(images, ["conv3_2"], "average", 0)
    factored = {layer: weight for layer, (weight, _) in features.convolutions.items() if factoring_pays(weight, 96)}
    assert list(factored) == ["conv3_1", "conv3_2"]
    assert features.rank == 96
    for layer, weight in factored.items():
        sums, patterns = factors_of(weight, 96)
        assert sums.shape == (LAYERS[layer], 96)
        assert (torch.einsum("nk,kcij->ncij", sums, patterns) - weight).norm() < 1e-5 * weight.norm()


def test_a_run_in_two_steps_is_that_in_one(pair, quick):
    settings = dataclasses.replace(quick, content_layers={"conv3_1": 1.0}, style_layers={"conv1_1": 1, "conv3_2": 1})
    features = learn([normalize(to_tensor(to_rgb(image))) for image in pair], ["conv3_2"], "average", 0)
    *_, fast = stylize(*pair, settings, features=features)
    *_, plain = stylize(*pair, settings, features=dataclasses.replace(features, rank=None))
    assert fast.losses.total == pytest.approx(plain.losses.total, rel=1e-3)
    assert abs(fast.image - plain.image).mean() < 1e-3
