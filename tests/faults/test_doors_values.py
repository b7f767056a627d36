"""Whatever comes in at the doors works or gets one sentence: images, settings, provenances, layers."""

from __future__ import annotations

import dataclasses
import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from counts import count
from doors import NAMES, many, works_or_one_sentence
from napari_neural_style import StyleSettings, stylize
from napari_neural_style.command import command_of
from napari_neural_style.settings import LAYERS
from napari_neural_style.settings_text import from_text
from test_settings import SETTINGS_OF_ANY_KIND

SIDES = st.sampled_from([0, 1, 2, 15, 16, 17, 40])
PLAIN = st.tuples(SIDES, SIDES) | st.sampled_from([(3000, 20), (20, 3000)])
SHAPES = st.one_of(
    PLAIN,
    st.tuples(PLAIN, st.integers(1, 5)).map(lambda pair: (*pair[0], pair[1])),
    st.sampled_from([(), (0,), (7,), (2, 16, 16, 3), (0, 0, 0)]),
)
DTYPES = st.sampled_from(
    ["?", "i1", "u1", "i2", "u2", ">u2", "i4", "u4", "i8", "u8", "f2", "f4", ">f4", "f8", "g", "c8", "c16", "O",
     "m8[s]", "M8[D]", "U3", "S3"]
)  # fmt: skip
FILLS = st.sampled_from(["random", "zero", "lowest", "highest", "negative", "huge", "one NaN", "NaN", "inf", "clear"])


def filled(shape: tuple[int, ...], dtype: str, fill: str, seed: int) -> np.ndarray:
    """Return an array of any kind, quickly."""
    random = np.random.default_rng(seed)
    with np.errstate(all="ignore"), suppress(TypeError, ValueError):
        kind = np.dtype(dtype)
        array = np.asarray(random.random(shape) * (1 if kind.kind in "fc" else 127), kind)
        if kind.kind in "iuf" and array.size:
            ends = np.finfo(kind) if kind.kind == "f" else np.iinfo(kind)
            if fill in ("lowest", "highest"):
                array[...] = ends.min if fill == "lowest" else ends.max
            if fill == "huge":
                array.flat[0], array.flat[-1] = ends.min, ends.max
            if fill == "negative":
                array = np.asarray(array - array.max(), kind)
            if fill in ("one NaN", "NaN", "inf") and kind.kind == "f":
                array.flat[0 if fill == "one NaN" else slice(None)] = np.inf if fill == "inf" else np.nan
        if fill == "clear" and array.ndim == 3:
            array[..., 3:] = 0
        return np.zeros_like(array) if fill == "zero" else array
    return np.zeros(shape, dtype)


IMAGES = st.builds(filled, SHAPES, DTYPES, FILLS, st.integers(0, 9))
GOOD_IMAGES = st.builds(
    filled,
    st.sampled_from([(16, 17), (40, 40, 3), (17, 40, 4), (40, 16, 1)]),
    st.sampled_from(["?", "i1", "u2", "i8", "u8", "f2", "f8"]),
    st.sampled_from(["random", "zero", "lowest", "highest", "negative"]),
    st.integers(0, 9),
)
RANGES = st.none() | st.tuples(st.floats(), st.floats())


@given(IMAGES, GOOD_IMAGES, IMAGES | st.none(), RANGES, st.booleans())
@many(500, 40_000)
def test_images(quick, odd, good, third, value_range, swapped):
    """Any array as content, style, start or regions."""
    content, style = (good, odd) if swapped else (odd, good)
    given_ = {"value_range": value_range}
    if third is not None:
        given_["initial" if swapped else "content_regions"] = third
    works_or_one_sentence("arrays as images", lambda: stylize(content, style, quick, **given_))


@given(GOOD_IMAGES, GOOD_IMAGES, SETTINGS_OF_ANY_KIND)
@many(30, 3000)
def test_one_step_with_any_settings(quick, content, style, values):
    """Odd but possible images and any settings: the first picture is finite and in its range."""
    used = {"size", "tile", "scales", "steps", "features", "device", "content_layers", "style_layers", "mode"}
    plain = {name: value for name, value in values.items() if name not in used}
    tried = dataclasses.replace(quick, size=32, **plain)

    def first():
        return next(iter(stylize(content, style, tried)))

    with suppress(ArithmeticError):  # weights of 1e9 may be too much for bfloat16: it says so
        step = works_or_one_sentence("first steps", first)
        if step is not None and step.image is not None:
            assert np.isfinite(step.image).all()
            assert 0 <= step.image.min() <= step.image.max() <= 1


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.sampled_from(list(LAYERS))
    | st.binary(max_size=3) | st.just(10**400) | st.builds(complex) | st.just(np.float32(3)) | st.just(Path("x"))
)  # fmt: skip
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SCALARS, inner, max_size=2) | st.tuples(inner, inner),
    max_leaves=4,
)


@given(st.dictionaries(NAMES | st.text(max_size=4), ANYTHING, min_size=1, max_size=3))
@many(500, 30_000)
def test_settings(values):
    """Out of range, contradictory, of the wrong type, or of a newer version; what is taken can be kept as JSON."""
    found = works_or_one_sentence("settings", lambda: StyleSettings.from_dict(values))
    if found is not None:
        assert StyleSettings.from_dict(json.loads(json.dumps(found.to_dict()))) == found


@given(NAMES, st.text(max_size=12) | st.text("0123456789.x:;,=-+einfaconv_1 ", max_size=14))
@many(300, 10_000)
def test_typed_settings(name, text):
    works_or_one_sentence("settings as text", lambda: StyleSettings(**{name: from_text(name, text)}))


@given(st.dictionaries(st.sampled_from(["settings", "versions", "step", "sources"]), ANYTHING), SETTINGS_OF_ANY_KIND)
@many(150, 5000)
def test_provenance(made_by, values):
    made_by = {"settings": StyleSettings(**values).to_dict() | {"seed": 3}, **made_by}
    works_or_one_sentence("provenances", lambda: command_of(made_by))


LARGE = arrays.arrays(np.float64, (2, 2), elements=st.floats(-100, 100))


@given(
    st.sampled_from([(20, 24), (20, 24, 3), (3, 20, 24)]),
    st.tuples(*[st.floats(-3, 3).filter(lambda s: abs(s) > 1e-3)] * 2),
    LARGE,
    st.sampled_from(["um", "s", "pixel", "ms", "nm"]),
    st.floats(-360, 360),
)
@many(60, 2000)
@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")
def test_layers_anywhere(shape, scale, affine, unit, rotate):
    """Mirrored, sheared, in seconds: a result covers its content, or there is one sentence."""
    from napari.layers import Image as Layer

    from napari_neural_style.viewer.layers import image_of, placed_like, shown_plane

    rgb = shape[-1] == 3
    ndim = len(shape) - rgb
    matrix = np.eye(ndim + 1)
    matrix[-3:-1, -3:-1] = affine
    with np.errstate(all="ignore"):
        assume(abs(np.linalg.det(affine)) > 1e-6)
    count("layers in the world")
    try:
        turned = {"rotate": rotate} if ndim == 2 else {}
        units = (unit,) * ndim
        scale = (1,) * (ndim - 2) + scale
        layer = Layer(np.ones(shape, np.uint8), rgb=rgb, scale=scale, affine=matrix, units=units, **turned)
    except (ValueError, np.linalg.LinAlgError):
        return  # napari's own no
    plane = shown_plane(layer)
    assert image_of(layer, plane).shape == (20, 24, 3)
    data, place = placed_like(layer, plane, np.zeros((10, 12, 3), np.uint8))
    result = Layer(data, **place)
    far = [0.0] * ndim
    near = [0.0] * ndim
    far[-2:], near[-2:] = (19.5, 23.5), (9.5, 11.5)
    expected = np.array(layer.data_to_world(far))
    np.testing.assert_allclose(result.data_to_world(near), expected, atol=1e-6 * (1 + np.abs(expected).max()))
    assert result.units == layer.units
