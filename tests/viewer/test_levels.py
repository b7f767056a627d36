from __future__ import annotations

import dataclasses
from functools import partial

import dask.array as da
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image

from napari_neural_style import StyleSettings, stylize
from napari_neural_style.engine.images import to_uint8
from napari_neural_style.engine.sizes import working_size
from napari_neural_style.viewer.areas import labels_reader
from napari_neural_style.viewer.layers import Plane, image_of, placed_like, shown_plane
from napari_neural_style.viewer.levels import at_level
from window import press, run_to_the_end, wait_until

RANDOM = np.random.default_rng(0)

PLACES = [
    {},
    {"scale": (0.325, 0.65), "translate": (12, -7), "units": ("um", "um"), "axis_labels": ("down", "across")},
    {"scale": (1, 2), "rotate": -70, "shear": [0.3], "translate": (1, 2)},
    {"affine": [[1, 0.5, 3], [0.2, 2, -4], [0, 0, 1]], "scale": (0.5, 0.5)},
]


def used_at(size):
    return partial(working_size, settings=StyleSettings(size=size))


class Read:
    """Levels whose pixels tell which level they are of, and which of them are read."""

    def __init__(self, shape, *, channels=(), count=4, shown=(-2, -1)) -> None:
        self.levels: list[int] = []
        self.data = []
        for level in range(count):
            lengths = list(shape)
            for axis in shown:
                lengths[axis] = lengths[axis] >> level
            self.data.append(self._level(level, (*lengths, *channels)))

    def _level(self, level, shape):
        def block(block_info):
            self.levels.append(level)
            return np.full(block_info[None]["chunk-shape"], 10 + level, np.uint8)

        chunks = tuple((n,) for n in shape)
        return da.map_blocks(block, chunks=chunks, dtype=np.uint8, meta=np.zeros((0,) * len(shape), np.uint8))


def corners(layer: Image) -> np.ndarray:
    height, width = layer.data.shape[:2]
    outer = [(down, across) for down in (-0.5, height - 0.5) for across in (-0.5, width - 0.5)]
    return np.array([layer.data_to_world(corner) for corner in outer])


@pytest.mark.parametrize("place", PLACES)
def test_a_level_covers_what_the_layer_covers(place):
    read = Read((403, 611))
    layer = Image(read.data, multiscale=True, contrast_limits=(0, 20), gamma=0.5, colormap="green", name="a", **place)
    read.levels.clear()
    plane = shown_plane(layer)
    level, there = at_level(layer, plane, used_at(100))
    assert level.data is read.data[2]
    assert there == plane
    assert read.levels == []
    np.testing.assert_allclose(corners(level), corners(Image(np.zeros((403, 611)), **place)), rtol=1e-12, atol=1e-12)
    assert (level.units, level.axis_labels, level.name) == (layer.units, layer.axis_labels, "a")
    # It looks as the layer does.
    np.testing.assert_allclose(image_of(level)[..., 1], 0.6**0.5, atol=0.005)
    assert set(read.levels) == {2}
    picture = np.zeros((100, 152, 3), np.uint8)
    (_, expected), (_, found) = placed_like(layer, plane, picture), placed_like(level, there, picture)
    for name in ("scale", "translate", "rotate", "shear", "affine"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-12, atol=1e-12)
    assert found["units"] == expected["units"]


@pytest.mark.parametrize(("size", "number"), [(611, 0), (306, 0), (305, 1), (153, 1), (152, 2), (76, 3), (32, 3)])
def test_which_level_is_read(size, number):
    read = Read((400, 611))
    layer = Image(read.data, multiscale=True, contrast_limits=(0, 20))
    assert at_level(layer, shown_plane(layer), used_at(size))[0].data is (read.data[number] if number else layer.data)
    single = Image(np.zeros((400, 611)))
    assert at_level(single, shown_plane(single), used_at(32))[0] is single


def test_planes_of_a_stack():
    read = Read((5, 64, 80), channels=(3,), shown=(1, 2))
    layer = Image(read.data, multiscale=True, rgb=True, scale=(2, 0.5, 0.5), translate=(0, 1, 2))
    for plane in (Plane((1, 2), (3, 0, 0)), Plane((2, 1), (3, 0, 0))):
        level, there = at_level(layer, plane, used_at(40))
        assert level.data.shape == (5, 32, 40, 3)
        picture = np.zeros((30, 40, 3) if plane.axes == (1, 2) else (40, 30, 3), np.uint8)
        (_, expected), (_, found) = placed_like(layer, plane, picture), placed_like(level, there, picture)
        np.testing.assert_allclose(found["translate"], expected["translate"])
        np.testing.assert_allclose(found["scale"], expected["scale"])
    # Levels with fewer planes are of no use, and across the planes a level is not smaller.
    mixed = Image([np.zeros((8, 64, 64)), np.zeros((4, 32, 32)), np.zeros((8, 32, 32))], multiscale=True)
    assert at_level(mixed, Plane((1, 2), (3, 0, 0)), used_at(32))[0].data.shape == (8, 32, 32)
    assert at_level(layer, Plane((0, 1), (0, 0, 9)), used_at(32))[0] is layer


def test_a_window_grows_to_whole_pixels_of_the_level():
    layer = Image([np.zeros((404, 600)), np.zeros((202, 300)), np.zeros((101, 150))], multiscale=True, scale=(0.5, 2))
    level, there = at_level(layer, Plane((0, 1), (0, 0), (10, 100, 311, 500)), used_at(80))
    assert level.data.shape == (101, 150)
    assert there.window == (2, 25, 78, 125)
    picture = np.zeros((61, 80, 3), np.uint8)
    (_, expected) = placed_like(layer, Plane((0, 1), (0, 0), (8, 100, 312, 500)), picture)
    (_, found) = placed_like(level, there, picture)
    np.testing.assert_allclose(found["translate"], expected["translate"])
    np.testing.assert_allclose(found["scale"], expected["scale"])
    # A window that is used at more than half of its size is read as it is.
    plane = Plane((0, 1), (0, 0), (0, 0, 100, 100))
    assert at_level(layer, plane, used_at(80)) == (layer, plane)


def test_labels_are_read_at_the_pixels_of_the_level():
    viewer = ViewerModel()
    layer = viewer.add_image([np.zeros((64, 96)), np.zeros((32, 48)), np.zeros((16, 24))], multiscale=True)
    painted = np.zeros((64, 96), int)
    painted[16:40, 8:56] = 3
    labels = viewer.add_labels(painted)
    level, there = at_level(layer, shown_plane(layer, viewer.dims), lambda shape: (16, 24))
    found = labels_reader(labels, level, there)()
    np.testing.assert_array_equal(found, painted[::4, ::4])


def test_a_pyramid_is_painted_from_its_level_and_lies_where_it_would(viewer, widget, quick, pair):
    cat = viewer.layers["cat"]
    viewer.layers.remove(cat)
    picture = np.ascontiguousarray(np.kron(pair[0][:64, :96], np.ones((4, 4, 1), np.uint8)))
    read = []

    def level(number):
        def block(pixels):
            read.append(number)
            return pixels

        array = da.from_array(picture[:: 2**number, :: 2**number], chunks=(64, 64, 3))
        return array.map_blocks(block, dtype=np.uint8, meta=np.zeros((0, 0, 0), np.uint8))

    place = {"scale": (0.5, 0.25), "translate": (3, -5), "rotate": 20, "units": ("um", "um")}
    whole = viewer.add_image(picture, name="whole", rgb=True, **place)
    layer = viewer.add_image([level(k) for k in range(3)], name="cat", multiscale=True, rgb=True, **place)
    regions = np.zeros((256, 384), int)
    regions[:, 200:] = 1
    labels = viewer.add_labels(regions, name="right", **place)
    widget.settings = dataclasses.replace(quick, size=90)
    widget._sections["more"].open()
    wait_until(lambda: read)
    results = {}
    for content in (whole, layer):
        widget.content.value = content
        for area in (None, labels):
            widget._inputs.more.content_regions.value = area
            read.clear()
            run_to_the_end(widget)
            results[content, area] = viewer.layers[-1]
            assert 0 not in read
    for area in (None, labels):
        one, other = results[whole, area], results[layer, area]
        assert other.data.shape == one.data.shape
        for name in ("scale", "translate", "rotate", "shear"):
            np.testing.assert_allclose(getattr(other, name), getattr(one, name), rtol=1e-12, atol=1e-12)
        assert other.units == one.units
    *_, step = stylize(picture[::4, ::4], pair[1], widget.settings)
    np.testing.assert_array_equal(results[layer, None].data, to_uint8(step.image))
    left = results[layer, labels].data[:, :40]
    assert np.abs(left.astype(int) - results[whole, labels].data[:, :40]).mean() < 1
    assert (results[layer, labels].metadata["napari-neural-style"]["sources"]["content"]) == "cat"


def test_all_planes_of_a_pyramid_are_read_at_its_level(viewer, widget, quick, pair):
    frames = np.stack([pair[0][t : t + 64, t : t + 80] for t in range(3)])
    levels = [frames, frames[:, ::2, ::2]]
    layer = viewer.add_image(levels, name="movie", rgb=True, multiscale=True, scale=(1, 0.5, 0.5), translate=(0, 1, 1))
    alone = viewer.add_image(levels[1], name="movie", rgb=True, scale=(1, 1, 1), translate=(0, 1.25, 1.25))
    widget.settings = dataclasses.replace(quick, size=32, steps=2)
    results = []
    for content in (layer, alone):
        widget.content.value = content
        widget.planes.value = (0,)
        run_to_the_end(widget)
        results.append(viewer.layers[-1])
    np.testing.assert_array_equal(np.asarray(results[0].data), np.asarray(results[1].data))
    np.testing.assert_allclose(results[0].translate, results[1].translate)
    np.testing.assert_allclose(results[0].scale, results[1].scale)


def test_a_part_of_a_pyramid(viewer, widget, quick, pair):
    picture = np.kron(pair[0][:64, :96], np.ones((4, 4, 1), np.uint8))
    levels = [picture, picture[::2, ::2], picture[::4, ::4]]
    layer = viewer.add_image(levels, name="pyramid", multiscale=True, rgb=True, scale=(0.5, 0.5))
    shapes = viewer.add_shapes([[[20.2, 30.2], [20.2, 160.2], [100.2, 160.2], [100.2, 30.2]]], name="part")
    widget.settings = dataclasses.replace(quick, size=48)
    widget.content.value = layer
    widget._sections["more"].open()
    widget._inputs.more.area.value = shapes
    press(widget.run)
    wait_until(lambda: widget._job is None)
    result = viewer.layers[-1]
    # Pixels of the third level are 2 in the world: the part grows to those, and is covered just so.
    lower = np.array(result.data_to_world((-0.5, -0.5)))
    upper = np.array(result.data_to_world((result.data.shape[0] - 0.5, result.data.shape[1] - 0.5)))
    for corner in (lower, upper):
        np.testing.assert_allclose((corner + 0.25) % 2, 0, atol=1e-9)
    assert ((lower <= (20.2, 30.2)) & (lower > (16, 26))).all()
    assert ((upper >= (100.2, 160.2)) & (upper < (104, 164))).all()
