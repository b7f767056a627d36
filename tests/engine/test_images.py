from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from napari_neural_style.engine.images import (
    UnusedRangeWarning,
    denormalize,
    gaussian_blur,
    normalize,
    resize,
    to_rgb,
    to_tensor,
    to_uint8,
)

SHAPES = st.one_of(
    arrays.array_shapes(min_dims=2, max_dims=2, max_side=8),
    arrays.array_shapes(min_dims=2, max_dims=2, max_side=8).flatmap(lambda s: st.sampled_from([(*s, 1), (*s, 3)])),
)


@given(arrays.arrays(arrays.integer_dtypes() | arrays.unsigned_integer_dtypes() | st.just(np.dtype(bool)), SHAPES))
def test_integers_are_scaled_by_their_dtypes_range(array):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnusedRangeWarning)
        rgb = to_rgb(array)
    assert rgb.shape == (*array.shape[:2], 3)
    assert rgb.dtype == np.float32
    low, high = (0, 1) if array.dtype.kind == "b" else (np.iinfo(array.dtype).min, np.iinfo(array.dtype).max)
    expected = (array.astype(np.float64) - low) / (float(high) - low)
    first = rgb[..., 0] if array.ndim == 2 else rgb[..., : array.shape[2]]
    np.testing.assert_allclose(first, expected, atol=1e-6)


@given(arrays.arrays(np.uint8, arrays.array_shapes(min_dims=2, max_dims=2, max_side=6).map(lambda s: (*s, 3))))
def test_uint8_comes_back_unchanged(array):
    np.testing.assert_array_equal(to_uint8(to_rgb(array)), array)


@given(arrays.arrays(arrays.floating_dtypes(endianness="="), SHAPES, elements={"min_value": -100, "max_value": 100}))
def test_floats_always_end_in_0_to_1(array):
    unit = array.min() >= 0 and array.max() <= 1
    if unit:
        np.testing.assert_allclose(to_rgb(array).reshape(-1)[0], array.reshape(-1)[0], atol=1e-6)
    else:
        with pytest.warns(UnusedRangeWarning, match="stretched"):
            rgb = to_rgb(array)
        assert rgb.min() >= 0
        assert rgb.max() <= 1


@pytest.mark.filterwarnings("ignore::napari_neural_style.engine.images.UnusedRangeWarning")
@given(arrays.arrays(np.float64, SHAPES, elements={"allow_nan": False, "allow_infinity": False}))
@example(np.array([[-1.7e308, 1.7e308]]))
@example(np.array([[1e-50, 1.0]]))
def test_floats_of_any_size_end_in_0_to_1(array):
    with np.errstate(all="raise"):
        rgb = to_rgb(array)
    assert rgb.min() >= 0
    assert rgb.max() <= 1
    assert to_rgb(np.full((2, 2), 1e16))[0, 0, 0] == pytest.approx(0.5, abs=1e-6)


def test_what_cannot_be_seen_has_no_say():
    opaque = np.concatenate([np.random.default_rng(0).random((3, 3, 3)), np.ones((3, 3, 1))], 2)
    hidden = opaque.copy()
    hidden[1, 1] = 0.5, 0.5, 0.5, 0
    expected = to_rgb(hidden)
    for value in (1000.0, np.nan, -np.inf):
        hidden[1, 1, :3] = value
        np.testing.assert_array_equal(to_rgb(hidden), expected)
    hidden[1, 1, 3] = np.nan
    with pytest.raises(ValueError, match="1 value that is NaN"):
        to_rgb(hidden)


@pytest.mark.parametrize("kind", [np.int64, np.int16, np.uint16])
def test_integers_that_use_little_of_their_range_get_a_sentence(kind):
    with pytest.warns(UnusedRangeWarning, match=f"run from 0 to 200, a small part of the range of {kind.__name__}"):
        to_rgb(np.array([[0, 200]], kind))
    to_rgb(np.array([[0, 4095]], np.uint16))
    to_rgb(np.array([[0, 200]], kind), (0, 255))


def test_value_range_overrides():
    np.testing.assert_allclose(to_rgb(np.array([[0, 100, 300]], np.uint16), (100, 200))[0, :, 0], [0, 0, 1])
    for wrong in ((1, 1), 5, (0, 1, 2), ("a", "b")):
        with pytest.raises(ValueError, match="value_range"):
            to_rgb(np.zeros((2, 2)), wrong)


def test_what_pixels_do_not_show_is_the_mean_of_what_all_show():
    """One shows all of its 100, one a fifth of its 220, and one nothing."""
    rgba = np.array([[100, 220, 0]], np.uint8)[..., None].repeat(4, 2)
    rgba[..., 3] = 255, 51, 0
    interpolated = rgba / (1, 1, 1, 255)
    interpolated[0, 0, 3] = 1.1
    floats = (rgba / 255, None), (rgba.astype(float), (0, 255)), (interpolated, (0, 255))
    other_colors = (rgba / (255, 255, 255, 1), (0, 1)), (rgba - (300.0, 300, 300, 0), (-300, -45))
    for image, value_range in ((rgba, None), *floats, *other_colors):
        found = to_uint8(to_rgb(image, value_range))
        np.testing.assert_array_equal(found, np.array([[100, 140, 120]])[..., None].repeat(3, 2))
    next_to_nothing = rgba / 255 * (1, 1, 1, 1e-60)
    np.testing.assert_array_equal(to_uint8(to_rgb(next_to_nothing)), np.full((1, 3, 3), 120))
    with pytest.raises(ValueError, match="transparent everywhere"):
        to_rgb(np.zeros((2, 2, 4), np.uint8))


@pytest.mark.parametrize(
    ("array", "word"),
    [
        (np.zeros(5), "shape"),
        (np.zeros((4, 4, 5)), "shape"),
        (np.zeros((2, 4, 4, 3)), "shape"),
        (np.zeros((0, 4)), "empty"),
        (np.zeros((4, 4), complex), "dtype"),
        (np.array([["a", "b"]], object), "dtype"),
        (np.array([[0.5, np.nan], [np.inf, 0]]), "2 values that are NaN or infinite"),
        (np.array([[0.5, np.nan]]), "1 value that is NaN or infinite"),
        (np.ma.masked_less(np.array([[0.5, 0.1]]), 0.2), "masked values"),
        ((np.zeros((2, 2)), 1.0), "no array of numbers"),
    ],
)
def test_what_is_no_image_gets_a_sentence(array, word):
    with pytest.raises(ValueError, match=word):
        to_rgb(array, name="content image")


def test_normalize_and_back():
    image = torch.rand(1, 3, 4, 5)
    torch.testing.assert_close(denormalize(normalize(image)), image)
    gray = torch.rand(1, 1, 4, 5)
    torch.testing.assert_close(denormalize(normalize(gray)), gray)
    rgb = normalize(gray.expand(-1, 3, -1, -1)).mean(1, keepdim=True)
    torch.testing.assert_close(normalize(gray), rgb, atol=0.01, rtol=0.01)


@pytest.mark.parametrize("sigma", [1.0, 2.0, 3.5])
def test_a_blurred_point_has_the_gaussians_deviation(sigma):
    point = torch.zeros(1, 1, 41, 51)
    point[..., 20, 25] = 1
    blurred = gaussian_blur(point, sigma)[0, 0]
    assert blurred.sum().item() == pytest.approx(1)
    for axis, middle in ((1, 20), (0, 25)):
        offsets = torch.arange(blurred.shape[1 - axis]) - middle
        assert (blurred.sum(axis) @ offsets.float().square()).sqrt().item() == pytest.approx(sigma, rel=0.02)


def test_resize_keeps_the_mean_and_constants():
    image = to_tensor(np.random.default_rng(0).random((64, 48, 3), dtype=np.float32))
    small = resize(image, (16, 12))
    assert small.shape[-2:] == (16, 12)
    assert small.mean().item() == pytest.approx(image.mean().item(), abs=0.01)
    torch.testing.assert_close(resize(torch.full((1, 3, 7, 9), 0.25), (21, 4)), torch.full((1, 3, 21, 4), 0.25))
