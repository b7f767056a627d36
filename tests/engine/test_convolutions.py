from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_neural_style.engine import convolutions, devices, direct, winograd
from napari_neural_style.engine.convolutions import convolution
from napari_neural_style.engine.devices import resolve_precision
from napari_neural_style.engine.direct import Arranged, Direct, FromColors
from napari_neural_style.engine.winograd import Winograd, _Products, _Sums

CPU = torch.device("cpu")
DIRECT = [Direct, Arranged] if Arranged.available else [Direct]
TOLERANCE = {torch.float32: (1e-6, 1e-5), torch.bfloat16: (3e-2, 1.5e-1)}
"""Of the sums of the products' sizes, in root mean square and at most: at least about twice the errors of 16,000 cases,
which in bfloat16 are largest of a single channel."""


@settings(max_examples=40)
@given(
    sides=st.tuples(st.integers(1, 37), st.integers(1, 37)),
    counts=st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 2)),
    padding=st.sampled_from([0, 1]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    intel=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_minimal_filtering_is_a_convolution_and_its_way_back_is_autograds(sides, counts, padding, dtype, intel, seed):
    height, width = (side + 2 - 2 * padding for side in sides)
    channels, kinds, batch = counts
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(kinds, channels, 3, 3, generator=generator)
    bias = torch.randn(kinds, generator=generator).to(dtype)
    maps = torch.randn(batch, channels, height, width, generator=generator).to(dtype)
    exact = maps.double().requires_grad_()
    expected = F.conv2d(exact, weight.double(), bias.double(), padding=padding)
    pull = torch.randn(expected.shape, generator=generator).to(dtype)
    (back,) = torch.autograd.grad(expected, exact, pull.double())

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(winograd, "made_by_intel", lambda: intel)  # by products or by sums
        fast = Winograd(weight, bias, dtype)
    sizes = Direct(weight.abs(), bias.abs().float())
    for found, wanted, size in (
        (fast(maps, padding), expected.detach(), sizes(maps.abs().float(), padding)),
        (fast.back(pull, padding), back, sizes.back(pull.abs().float(), padding)),
    ):
        assert found.dtype == dtype
        mean, most = TOLERANCE[dtype]
        assert (found.double() - wanted).norm() < mean * size.double().norm()
        torch.testing.assert_close(found.double(), wanted, rtol=0, atol=most * size.max().item())


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize("padding", [0, 1])
def test_the_way_back_to_colors_is_autograds(monkeypatch, dtype, tolerance, padding):
    monkeypatch.setattr(direct, "_LONG_STRIP", 40)  # several strips
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(7, 3, 3, 3, generator=generator).to(dtype)
    exact = torch.zeros(2, 3, 9, 12, dtype=torch.float64, requires_grad=True)
    expected = F.conv2d(exact, weight.double(), padding=padding)
    pull = torch.randn(expected.shape, generator=generator).to(dtype)
    (wanted,) = torch.autograd.grad(expected, exact, pull.double())
    found = FromColors(weight, torch.zeros(7, dtype=dtype)).back(pull, padding)
    assert found.dtype == torch.float32
    assert (found - wanted).norm() < tolerance * wanted.norm()


@settings(max_examples=30)
@given(
    sides=st.tuples(st.integers(2, 19), st.integers(2, 19)),
    way=st.sampled_from([*DIRECT, FromColors, lambda *filters: Winograd(*filters, torch.float32)]),
    by_itself=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_the_way_back_to_mirrored_maps_is_autograds(sides, way, by_itself, seed):
    """Whether the border is taken by itself, as that of large maps, or not."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(5, 3, 3, 3, generator=generator)
    exact = torch.randn(2, 3, *sides, generator=generator).double().requires_grad_()
    expected = F.conv2d(F.pad(exact, (1, 1, 1, 1), mode="reflect"), weight.double())
    pull = torch.randn(expected.shape, generator=generator)
    (wanted,) = torch.autograd.grad(expected, exact, pull.double())
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(direct, "_MANY", 0 if by_itself else 1 << 30)
        found = way(weight, torch.zeros(5)).back_mirrored(pull.to(memory_format=torch.channels_last))
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=1e-5 * wanted.abs().max().item())


def test_transforms_as_products_are_those_as_sums():
    generator = torch.Generator().manual_seed(2)
    products, sums = _Products(torch.float64), _Sums()
    maps, pixels = (torch.rand(2, side, side + 4, 3, generator=generator).double() for side in (14, 12))
    tiles = torch.rand(36, 2 * 3 * 4, 3, generator=generator).double()
    bias = torch.rand(3, generator=generator).double()

    def results(transforms: _Products | _Sums) -> list[torch.Tensor]:
        written, added = torch.empty_like(pixels), torch.zeros_like(maps)
        added[:, :2] = 1
        transforms.from_tiles(tiles.clone(), bias, written)
        transforms.to_tiles_back(tiles.clone(), added)
        return [transforms.to_tiles(maps), transforms.from_tiles_back(pixels), written, added]

    for one, other in zip(results(products), results(sums), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)  # the matrices of products are made in float32


@pytest.mark.skipif(not Arranged.available, reason="this PyTorch was built without oneDNN")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_arranged_filters_convolve_maps_of_any_shape_as_others_do(dtype):
    if dtype == torch.bfloat16 and not any(devices.cpu_bfloat16()):
        pytest.skip("oneDNN does not multiply bfloat16 on this processor")
    generator = torch.Generator().manual_seed(3)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    weight, bias = drawn(48, 33, 3, 3), drawn(48)
    plain, arranged = Direct(weight, bias), Arranged(weight, bias)
    tolerance = {"rtol": 1e-2, "atol": 0.3} if dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-3}
    for batch, height, width, padding in (
        (1, 16, 16, 1),
        (1, 18, 3, 0),
        (2, 16, 16, 1),
        (1, 16, 16, 1),
        (1, 16, 16, 0),
    ):
        maps = drawn(batch, 33, height, width).to(memory_format=torch.channels_last)
        expected = plain(maps, padding)
        for found, wanted in (
            (arranged(maps, padding), expected),
            (arranged(maps, padding, rectified=True), expected.clamp(min=0)),
            (arranged.back(expected, padding), plain.back(expected, padding)),
        ):
            assert found.dtype == dtype
            assert found.is_contiguous(memory_format=torch.channels_last)
            torch.testing.assert_close(found, wanted, **tolerance)


def test_maps_larger_than_a_strip_have_no_seams():
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(6, 5, 3, 3, generator=generator), torch.zeros(6)
    maps = torch.randn(1, 5, 131, 140, generator=generator).to(memory_format=torch.channels_last)
    plain, fast = Direct(weight, bias), Winograd(weight, bias, torch.float32)
    torch.testing.assert_close(fast(maps, 1), plain(maps, 1), rtol=0, atol=1e-4)
    pull = torch.randn(1, 6, 131, 140, generator=generator)
    torch.testing.assert_close(fast.back(pull, 1), plain.back(pull, 1), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("vector", "matrix", "intel", "capability", "float32", "bfloat16"),
    [
        (False, False, True, "AVX2", 128, None),
        (True, False, False, "AVX512", 256, 128),
        (True, False, True, "AVX512", 128, 128),
        (True, True, True, "AVX512", 256, None),
        (False, False, True, "AVX512", 128, None),
        (False, False, False, "DEFAULT", None, None),
    ],
)
def test_the_way_to_convolve_suits_the_processor(monkeypatch, vector, matrix, intel, capability, float32, bfloat16):
    """The last two are from how many channels minimal filtering is chosen."""
    monkeypatch.setattr(Arranged, "available", True)
    for module in (convolutions, devices):
        monkeypatch.setattr(module, "cpu_bfloat16", lambda: (vector, matrix))
        monkeypatch.setattr(module, "made_by_intel", lambda: intel)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    for dtype, fewest in ((torch.float32, float32), (torch.bfloat16, bfloat16)):
        in_matrix_units = matrix and dtype == torch.bfloat16
        otherwise = Arranged if in_matrix_units else Direct
        for count in (64, 128, 256):
            way = convolution(torch.zeros(count, 512, 3, 3), torch.zeros(count), CPU, dtype)
            assert type(way) is (Winograd if fewest and count >= fewest else otherwise)
        to_colors = convolution(torch.zeros(64, 3, 3, 3), torch.zeros(64), CPU, dtype)
        assert type(to_colors) is (Arranged if in_matrix_units else FromColors)


@pytest.mark.parametrize(
    ("system", "named", "file", "expected"),
    [
        ("Windows", "Intel64 Family 6 Model 186 Stepping 2, GenuineIntel", None, True),
        ("Windows", "AMD64 Family 25 Model 80 Stepping 0, AuthenticAMD", None, False),
        ("Linux", "x86_64", "processor\t: 0\nvendor_id\t: GenuineIntel\n", True),
        ("Linux", "x86_64", "processor\t: 0\nvendor_id\t: AuthenticAMD\n", False),
        ("Darwin", "arm", None, False),
    ],
)
def test_who_made_the_processor(monkeypatch, tmp_path, system, named, file, expected):
    if file is not None:
        (tmp_path / "cpuinfo").write_text(file)
    monkeypatch.setattr(devices.platform, "system", lambda: system)
    monkeypatch.setattr(devices.platform, "processor", lambda: named)
    monkeypatch.setattr(devices, "Path", lambda path: tmp_path / Path(path).name)
    assert devices.made_by_intel.__wrapped__() == expected


@pytest.mark.parametrize("operators", [{}, {"_is_mkldnn_bf16_supported": lambda: False}])
def test_without_onednns_bfloat16_it_is_float32(monkeypatch, operators):
    """Where PyTorch comes without oneDNN, or ONEDNN_MAX_CPU_ISA holds that to AVX2."""
    monkeypatch.setattr(torch.ops, "mkldnn", SimpleNamespace(**operators))
    monkeypatch.setattr(devices, "has_int8_products", lambda: False)
    assert resolve_precision("auto", CPU) == torch.float32


@pytest.mark.parametrize(
    ("vector", "matrix", "intel", "integers", "expected"),
    [
        (True, True, True, True, torch.bfloat16),
        (True, False, False, True, torch.bfloat16),
        (True, False, True, True, torch.int8),
        (True, False, True, False, torch.float32),
        (False, False, False, True, torch.int8),
        (False, False, True, False, torch.float32),
    ],
)
def test_the_arithmetic_suits_the_processor(monkeypatch, vector, matrix, intel, integers, expected):
    monkeypatch.setattr(devices, "cpu_bfloat16", lambda: (vector, matrix))
    monkeypatch.setattr(devices, "made_by_intel", lambda: intel)
    monkeypatch.setattr(devices, "has_int8_products", lambda: integers)
    assert resolve_precision("auto", CPU) == expected
    for name in ("float32", "bfloat16"):
        assert resolve_precision(name, CPU) == getattr(torch, name)


def test_colors_are_not_rounded_to_integers(monkeypatch):
    monkeypatch.setattr(convolutions, "Quantized", lambda *filters: filters)
    weight, bias = torch.zeros(64, 64, 3, 3), torch.zeros(64)
    assert convolution(weight, bias, CPU, torch.int8) == (weight, bias)
    assert isinstance(convolution(weight[:, :3], bias, CPU, torch.int8), FromColors)


@pytest.mark.parametrize(
    ("device", "words"), [("cpu", "do not multiply 8-bit"), ("cuda:0", "on cuda:0: it is for CPUs")]
)
def test_where_there_are_no_products_of_integers_a_sentence_says_so(monkeypatch, device, words):
    monkeypatch.setattr(devices, "has_int8_products", lambda: False)
    with pytest.raises(ValueError, match=f"{words}.*Choose auto, bfloat16 or float32"):
        resolve_precision("int8", torch.device(device))
