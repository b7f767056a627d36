from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels
from napari.utils import Colormap

from napari_neural_style.viewer.areas import labels_reader
from napari_neural_style.viewer.layers import (
    Plane,
    image_of,
    placed_like,
    reader_of,
    shown_plane,
)
from napari_neural_style.viewer.names import source_name, style_name, title_of

RANDOM = np.random.default_rng(0)


def corners(layer: Image, axes: tuple[int, int] = (0, 1)) -> np.ndarray:
    """Return the four outer corners of a layer's plane in world coordinates."""
    height, width = layer.data.shape[axes[0]], layer.data.shape[axes[1]]
    found = []
    for down in (-0.5, height - 0.5):
        for across in (-0.5, width - 0.5):
            at = np.zeros(layer.ndim)
            at[axes[0]], at[axes[1]] = down, across
            found.append(layer.data_to_world(at))
    return np.array(found)


@pytest.mark.parametrize("working", [(32, 48), (100, 130), (7, 9)])
@pytest.mark.parametrize(
    "place",
    [
        {},
        {"scale": (0.325, 0.65), "translate": (12, -7), "units": ("um", "um"), "axis_labels": ("down", "across")},
        {"scale": (2, 3), "rotate": 30, "translate": (5, 5)},
        {"scale": (1, 2), "rotate": -70, "shear": [0.3], "translate": (1, 2)},
        {"affine": [[1, 0.5, 3], [0.2, 2, -4], [0, 0, 1]], "scale": (0.5, 0.5)},
        {"scale": (-1, 1), "translate": (40, 0)},
    ],
)
def test_a_result_covers_its_content_exactly(place, working):
    content = Image(RANDOM.random((40, 60)), name="content", **place)
    data, keywords = placed_like(content, Plane((0, 1), (0, 0)), np.zeros((*working, 3), np.uint8))
    result = Image(data, **keywords)
    np.testing.assert_allclose(corners(result), corners(content), atol=1e-9)
    assert result.units == content.units
    assert result.axis_labels == content.axis_labels
    assert result.rgb


def test_the_shown_plane_of_a_stack():
    stack = RANDOM.integers(0, 255, (5, 6, 8, 10), dtype=np.uint8)
    viewer = ViewerModel()
    layer = viewer.add_image(stack, scale=(1, 2, 0.5, 0.5), translate=(0, 10, 0, 0), contrast_limits=(0, 255))
    viewer.dims.set_point((0, 1), (3, 14))
    plane = shown_plane(layer, viewer.dims)
    assert plane == Plane((2, 3), (3, 2, 0, 0))
    np.testing.assert_allclose(image_of(layer, plane)[..., 0], stack[3, 2] / 255, atol=4e-3)

    data, keywords = placed_like(layer, plane, np.zeros((16, 20, 3), np.uint8))
    result = viewer.add_layer(Image(data, **keywords))
    assert result.data.shape == (1, 1, 16, 20, 3)
    origin = result.data_to_world((0, 0, -0.5, -0.5))
    np.testing.assert_allclose(origin, layer.data_to_world((3, 2, -0.5, -0.5)))


@pytest.mark.parametrize("order", [(0, 2, 1), (1, 0, 2), (2, 1, 0)])
def test_axes_in_the_order_shown(order):
    stack = RANDOM.integers(0, 255, (5, 6, 8), dtype=np.uint8)
    viewer = ViewerModel()
    layer = viewer.add_image(stack, contrast_limits=(0, 255), scale=(3, 1, 1))
    viewer.dims.order = order
    viewer.dims.set_current_step(order[0], 2)
    plane = shown_plane(layer, viewer.dims)
    expected = np.moveaxis(stack, order, (0, 1, 2))[2]
    np.testing.assert_allclose(image_of(layer, plane)[..., 0], expected / 255, atol=4e-3)
    part = Plane(plane.axes, plane.index, (1, 2, 4, 5))
    np.testing.assert_allclose(image_of(layer, part)[..., 0], expected[1:4, 2:5] / 255, atol=4e-3)
    picture = np.zeros((expected.shape[0] * 2, expected.shape[1] * 2, 3), np.uint8)
    data, keywords = placed_like(layer, plane, picture)
    result = Image(data, **keywords)
    axes = tuple(sorted(plane.axes))
    hidden = order[0]
    moved = corners(result, axes)
    reference = corners(layer, axes)
    reference[:, hidden] = layer.data_to_world([2 if a == hidden else 0 for a in range(3)])[hidden]
    np.testing.assert_allclose(moved, reference)


def test_a_plane_layer_beside_a_stack():
    viewer = ViewerModel()
    viewer.add_image(np.zeros((4, 10, 12)))
    flat = viewer.add_image(RANDOM.random((10, 12)))
    assert shown_plane(flat, viewer.dims) == Plane((0, 1), (0, 0))
    viewer.dims.order = (1, 0, 2)
    with pytest.raises(ValueError, match="Show its own two axes"):
        shown_plane(flat, viewer.dims)


def test_three_dimensional_display_is_asked_to_change():
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros((4, 10, 12)))
    viewer.dims.ndisplay = 3
    with pytest.raises(ValueError, match="Switch to 2-D"):
        shown_plane(layer, viewer.dims)


def test_a_single_channel_is_taken_as_it_is_seen():
    layer = Image(np.array([[0, 1000, 2000, 3000]], np.uint16), contrast_limits=(1000, 3000), colormap="green", gamma=2)
    np.testing.assert_allclose(image_of(layer)[0], [[0, 0, 0], [0, 0, 0], [0, 0.25, 0], [0, 1, 0]], atol=0.01)


def test_a_colormap_that_is_transparent_shows_the_canvas():
    fading = Colormap([[0, 0, 0, 0], [1, 0, 0, 1]], name="fading")
    layer = Image(np.full((2, 2), 0.5, np.float32), contrast_limits=(0, 1), colormap=fading)
    np.testing.assert_allclose(image_of(layer)[0, 0], [0.25, 0, 0], atol=0.01)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_rgb_and_rgba(dtype):
    top = 1 if dtype is np.float32 else np.iinfo(dtype).max
    rgb = (RANDOM.random((40, 50, 3)) * top).astype(dtype)
    rgba = np.dstack([rgb, np.full(rgb.shape[:2], top, dtype)])
    for data in (rgb, rgba):
        np.testing.assert_allclose(image_of(Image(data, rgb=True)), rgb / top, atol=1e-5)


@pytest.mark.parametrize(
    ("error", "cannot"),
    [
        (KeyError("the chunk is damaged"), "'far' cannot be read: 'the chunk is damaged'"),
        (MemoryError(), "There is not enough memory to read layer 'far'"),
    ],
)
def test_lazy_data_that_cannot_be_read_are_told_with_the_layer(error, cannot):
    def damaged(block, block_info=None):
        if block_info[0]["chunk-location"][0] == 0:
            raise error
        return block

    lazy = da.zeros((20, 24), dtype=int, chunks=10).map_blocks(damaged, dtype=int, meta=np.zeros((0, 0), int))
    layer = Image(lazy, name="far", contrast_limits=(0, 1), visible=False)
    with pytest.raises(ValueError, match=cannot):
        reader_of(layer)()
    assert reader_of(layer, Plane((0, 1), (0, 0), (10, 0, 20, 24)))().shape == (10, 24, 3)
    labels = Labels(lazy, name="far", visible=False)
    with pytest.raises(ValueError, match=cannot):
        labels_reader(labels, Image(np.zeros((20, 24))), Plane((0, 1), (0, 0)))()


def test_dask_and_multiscale():
    data = RANDOM.integers(0, 255, (3, 64, 80), dtype=np.uint8)
    lazy = Image(da.from_array(data, chunks=(1, 32, 32)), contrast_limits=(0, 255))
    np.testing.assert_allclose(image_of(lazy, Plane((1, 2), (1, 0, 0)))[..., 1], data[1] / 255, atol=4e-3)
    levels = Image([data[0], data[0, ::2, ::2]], multiscale=True, contrast_limits=(0, 255))
    np.testing.assert_allclose(image_of(levels)[..., 2], data[0] / 255, atol=4e-3)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (np.array([[1.0, np.nan]] * 2), "NaN or infinite"),
        (np.ones(4), "one dimension"),
    ],
)
def test_what_is_no_picture_gets_a_sentence(data, words):
    if data.ndim == 1:
        layer = type("Line", (), {"ndim": 1, "name": "line"})()
    else:
        layer = Image(data, contrast_limits=(0, 1), name="odd")
    with pytest.raises(ValueError, match=words):
        image_of(layer)


def test_the_name_of_a_result_does_not_grow():
    content = Image(np.zeros((4, 4)), name="cells")
    assert source_name(content) == "cells"
    result = Image(np.zeros((4, 4)), name="cells × waves · step 100")
    result.metadata["napari-neural-style"] = {"sources": {"content": "cells", "style": "waves"}}
    assert source_name(result) == "cells"
    assert style_name(content) == "cells"
    assert style_name(result) == "(cells × waves)"
    result.name = "tissue × (cells × waves) · step 5"
    result.metadata["napari-neural-style"] = {"sources": {"content": result.name}}
    assert source_name(result) == "tissue"


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("cells · step 2 × waves · step 3 [1]", "cells · step 2 × waves"),
        ("my planes · live × waves · planes", "my planes · live × waves"),
        ("the best", "the best"),
    ],
)
def test_a_run_that_goes_on_keeps_its_title(name, title):
    assert title_of(Image(np.zeros((4, 4)), name=name)) == title
