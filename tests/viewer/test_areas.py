from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels, Shapes

from napari_neural_style.engine.images import resize, to_array, to_rgb, to_tensor
from napari_neural_style.viewer.areas import WHOLE, area_choices, labels_reader, part_under, shapes_reader, window_of
from napari_neural_style.viewer.layers import Plane, image_of, placed_like
from window import KEY, press, result_of, run_to_the_end, wait_until

VIEWER = ViewerModel()
PLANE = Plane((0, 1), (0, 0))
PICTURE = np.random.default_rng(0).random((40, 60))
BLOCKS = np.zeros((40, 60), int)
BLOCKS[5:20, 10:30] = 1
BLOCKS[25:35, 40:55] = 9


@pytest.mark.parametrize(
    "place",
    [
        {},
        {"scale": (2, 3), "rotate": 30, "translate": (5, 5)},
        {"affine": [[1, 0.5, 3], [0.2, 2, -4], [0, 0, 1]]},
        {"scale": (-1, 1), "translate": (40, 0)},
    ],
)
def test_labels_in_the_same_place_are_the_same(place):
    read = labels_reader(Labels(BLOCKS, **place), Image(PICTURE, **place), PLANE)
    np.testing.assert_array_equal(read(), BLOCKS)


def test_labels_elsewhere_are_looked_up_where_they_lie():
    """Labels of half the resolution, shifted by ten pixels of the content, and lazy."""
    image = Image(PICTURE, scale=(0.5, 0.5))
    coarse = Labels(da.from_array(BLOCKS[::2, ::2]), scale=(1, 1), translate=(0.25, 0.25 + 5))
    found = labels_reader(coarse, image, PLANE)()
    assert set(np.unique(found)) == {0, 1, 9}
    np.testing.assert_array_equal(found[:, 12:], BLOCKS[::2, ::2].repeat(2, 0).repeat(2, 1)[:, 2:-10])
    assert not found[:, :10].any()


def test_labels_that_lie_elsewhere_are_named():
    read = labels_reader(Labels(BLOCKS, name="far", translate=(500, 500)), Image(PICTURE, name="cat"), PLANE)
    with pytest.raises(ValueError, match="'far' has no label above 0 where it lies over 'cat'"):
        read()


def test_labels_of_one_plane_serve_a_stack():
    stack = Image(np.zeros((5, 40, 60)))
    plane = Plane((1, 2), (3, 0, 0), (5, 10, 20, 30))
    np.testing.assert_array_equal(labels_reader(Labels(BLOCKS), stack, plane)(), np.ones((15, 20)))
    per_plane = Labels(np.stack([BLOCKS * k for k in range(5)]))
    np.testing.assert_array_equal(labels_reader(per_plane, stack, plane)(), np.full((15, 20), 3))


def test_labels_and_shapes_with_more_axes_count_where_the_sliders_stand():
    viewer = ViewerModel()
    image = viewer.add_image(PICTURE)
    labels = viewer.add_labels(np.stack([np.roll(BLOCKS, k, axis=1) for k in range(4)]), scale=(2, 1, 1))
    box = np.array([[2, 10, 20], [2, 10, 40], [2, 30, 40], [2, 30, 20]], float)
    shapes = viewer.add_shapes([box, box - (1, 5, 5)], scale=(2, 1, 1), shape_type="polygon")
    for step, window in ((1, (5, 15, 26, 36)), (2, (10, 20, 31, 41))):
        viewer.dims.set_point(0, 2 * step)
        found = labels_reader(labels, image, PLANE, viewer.dims)()
        np.testing.assert_array_equal(found, np.roll(BLOCKS, step, axis=1))
        assert window_of(shapes, image, PLANE, viewer) == window
    viewer.dims.set_point(0, 0)
    with pytest.raises(ValueError, match="no shape with an area here"):
        window_of(shapes, image, PLANE, viewer)


def test_labels_are_those_of_the_press_whatever_is_painted_later():
    labels = Labels(BLOCKS.copy())
    read = labels_reader(labels, Image(PICTURE), PLANE)
    labels.data[:] = 5
    np.testing.assert_array_equal(read(), BLOCKS)


@pytest.mark.parametrize("top", range(8))
def test_labels_in_an_area_are_a_part_of_those_of_the_whole(top):
    """Where labels are twice as coarse, every other place lies between two."""
    image, labels = Image(PICTURE), Labels(BLOCKS[::2, ::2], scale=(2, 2))
    whole = labels_reader(labels, image, PLANE)()
    part = labels_reader(labels, image, Plane((0, 1), (0, 0), (top, top, top + 20, top + 20)))()
    np.testing.assert_array_equal(part, whole[top : top + 20, top : top + 20])


def test_the_part_of_another_layer_that_lies_in_an_area():
    viewer = ViewerModel()
    image = viewer.add_image(PICTURE, scale=(2, 2))
    plane = Plane((0, 1), (0, 0), (10, 20, 30, 50))
    whole = viewer.add_image(np.zeros((20, 30)), scale=(4, 4), translate=(1, 1), name="earlier")
    assert part_under(image, plane, whole, PLANE, viewer.dims) == Plane((0, 1), (0, 0), (5, 10, 15, 25))
    data, place = placed_like(image, plane, np.zeros((7, 9, 3), np.uint8))
    own = viewer.add_image(data, **place)
    assert part_under(image, plane, own, PLANE, viewer.dims).window == (0, 0, 7, 9)
    # A window that grew to whole pixels of a coarser level.
    coarse = viewer.add_image(PICTURE[::8, ::8], scale=(16, 16), translate=(7, 7))
    assert part_under(coarse, Plane((0, 1), (0, 0), (1, 2, 4, 7)), own, PLANE, viewer.dims).window == (0, 0, 7, 9)
    for place in (
        {"translate": (30, 1)},
        {"rotate": 90, "translate": (1, 119)},
        {"scale": (-4, 4), "translate": (77, 1)},
    ):
        other = viewer.add_image(np.zeros((40, 60)), name="other", **{"scale": (4, 4), **place})
        with pytest.raises(ValueError, match=r"'other.*' does not cover the area"):
            part_under(image, plane, other, PLANE, viewer.dims)


def test_layers_named_like_choices_are_told_apart():
    layers = [Shapes(name="whole layer"), Shapes(name="cells")]
    assert [label for label, _ in area_choices(layers)] == ["whole layer", "field of view", "'whole layer'", "cells"]


def test_shapes_give_a_window_and_a_mask():
    image = Image(PICTURE, scale=(2, 2))
    shapes = Shapes([np.array([[20, 40], [20, 80], [60, 80], [60, 40]])], shape_type="ellipse", edge_width=0)
    window = window_of(shapes, image, PLANE, VIEWER)
    assert window == (10, 20, 31, 41)
    inside = shapes_reader(shapes, image, Plane((0, 1), (0, 0), window))()
    assert inside.shape == (21, 21)
    assert inside.mean() == pytest.approx(np.pi * 100 / 441, abs=0.03)
    assert inside[10, 10] == 1
    assert inside[0, 0] == 0
    assert window_of(WHOLE, image, PLANE, VIEWER) is None
    for kind in ("line", "path"):
        with pytest.raises(ValueError, match="no shape with an area"):
            window_of(Shapes([np.array([[0, 0], [30, 30]])], shape_type=kind, name="lines"), image, PLANE, VIEWER)
    with pytest.raises(ValueError, match="Less than 8"):
        window_of(Shapes([np.array([[500, 500], [500, 600], [600, 600]])], shape_type="polygon"), image, PLANE, VIEWER)


def test_shapes_count_on_their_own_plane():
    stack = Image(np.zeros((5, 40, 60)), scale=(3, 1, 1))
    box = np.array([[3, 10, 20], [3, 10, 40], [3, 30, 40], [3, 30, 20]], float)
    deep = Shapes([box * (3, 1, 1), (box - (2, 5, 5)) * (3, 1, 1)], shape_type="polygon")
    window, other = (10, 20, 31, 41), (5, 15, 26, 36)
    assert window_of(deep, stack, Plane((1, 2), (3, 0, 0)), VIEWER) == window
    assert window_of(deep, stack, Plane((1, 2), (1, 0, 0)), VIEWER) == other
    assert window_of(deep, stack, Plane((1, 2), (3, 0, 0)), VIEWER, along=[0]) == (5, 15, 31, 41)
    with pytest.raises(ValueError, match="no shape with an area here"):
        window_of(deep, stack, Plane((1, 2), (2, 0, 0)), VIEWER)
    flat = Shapes([box[:, 1:]], shape_type="polygon")
    assert window_of(flat, stack, Plane((1, 2), (2, 0, 0)), VIEWER) == window


def test_a_windows_picture_lies_where_the_window_is():
    image = Image(PICTURE, scale=(2, 3), rotate=30, translate=(5, 5))
    plane = Plane((0, 1), (0, 0), (10, 20, 30, 50))
    np.testing.assert_array_equal(image_of(image, plane), image_of(image)[10:30, 20:50])
    data, place = placed_like(image, plane, np.zeros((40, 60, 3), np.uint8))
    result = Image(data, **place)
    for theirs, ours in (((-0.5, -0.5), (9.5, 19.5)), ((39.5, 59.5), (29.5, 49.5)), ((-0.5, 59.5), (9.5, 49.5))):
        np.testing.assert_allclose(result.data_to_world(theirs), image.data_to_world(ours), atol=1e-9)


def test_regions_from_labels_layers(viewer, widget, pair):
    """Drawn on the content: label 0 stays as it is, the rest is painted; one that no style has is told."""
    labels = np.zeros(pair[0].shape[:2], int)
    labels[:, 60:] = 4
    viewer.add_labels(labels, name="right half")
    viewer.add_labels(np.full(pair[1].shape[:2], 4), name="all of it")
    viewer.add_labels(np.full(pair[1].shape[:2], 1), name="ones")
    widget._sections["more"].toggle.changed.emit(True)
    widget._inputs.more.content_regions.value = viewer.layers["right half"]
    widget._inputs.more.rows[0].regions.value = viewer.layers["ones"]
    run_to_the_end(widget)
    assert "regions 4, but no style" in widget.message.value
    widget._inputs.more.rows[0].regions.value = viewer.layers["all of it"]
    run_to_the_end(widget)
    result = viewer.layers[-1]
    assert result.metadata[KEY]["sources"]["content_regions"] == "right half"
    assert result.metadata[KEY]["sources"]["style_regions"] == ["all of it"]
    half = result.data.shape[1] // 2
    shrunk = image_of(Image(result.data, rgb=True))[:, : half - 4]
    original = to_array(resize(to_tensor(to_rgb(pair[0])), result.data.shape[:2]))
    np.testing.assert_allclose(shrunk, original[:, : half - 4], atol=0.003)
    painted = result.data[:, half + 4 :] / 255
    assert np.abs(painted - original[:, half + 4 :]).mean() > 0.05


def test_a_run_limited_to_an_area(viewer, widget):
    box = np.array([[10, 20], [10, 100], [60, 100], [60, 20]])
    widget._inputs.more.area.value = viewer.add_shapes([box], name="box", shape_type="rectangle")
    run_and_check_where(viewer, widget, (10, 20, 61, 101))
    viewer.scene.camera.center = (0, 40, 60)
    viewer.scene.camera.zoom = 12
    cat = viewer.layers["cat"]
    wait_until(lambda: cat.corner_pixels[0][0] > 5)
    widget._inputs.more.area.value = "field of view"
    run_and_check_where(viewer, widget, (*cat.corner_pixels[0], *(cat.corner_pixels[1] + 1)))


def run_and_check_where(viewer, widget, expected) -> None:
    run_to_the_end(widget)
    result = viewer.layers[-1]
    top, left, bottom, right = result.metadata[KEY]["sources"]["area"]
    np.testing.assert_allclose((top, left, bottom, right), expected, atol=1)
    height, width = result.data.shape[:2]
    assert width / height == pytest.approx((right - left) / (bottom - top), rel=0.05)
    np.testing.assert_allclose(result.data_to_world((-0.5, -0.5)), (top - 0.5, left - 0.5), atol=1e-9)
    np.testing.assert_allclose(result.data_to_world((height - 0.5, width - 0.5)), (bottom - 0.5, right - 0.5))


def test_a_view_in_a_grid_is_that_of_one_cell(viewer, widget):
    viewer.canvas.grid.enabled = True
    viewer.scene.camera.center, viewer.scene.camera.zoom = (0, 40, 60), 12
    widget._inputs.more.area.value = "field of view"
    run_to_the_end(widget)
    half = np.array(viewer.canvas.size) / (1, 2) / (2 * 12)  # two layers side by side
    middle = np.array((40, 60))
    area = result_of(viewer).metadata[KEY]["sources"]["area"]
    np.testing.assert_allclose(area, np.concatenate([middle - half, middle + half]), atol=2)


def test_what_covers_nothing_is_told(viewer, widget):
    """An empty layer before the run; after it a shape thinner than a pixel, and labels beside the area."""
    widget._inputs.more.area.value = viewer.add_shapes(None, name="nothing", ndim=2)
    press(widget.run)
    assert "no shape with an area" in widget.message.value
    assert widget._job is None
    viewer.layers.remove("nothing")
    assert not widget.message.value
    sliver = np.array([[10.2, 10.3], [50.2, 50.6], [50.25, 50.6]])
    widget._inputs.more.area.value = viewer.add_shapes([sliver], name="sliver", shape_type="polygon")
    run_to_the_end(widget)
    assert "'sliver' covers no pixel of 'cat'" in widget.message.value
    box = np.array([[10, 20], [10, 60], [40, 60], [40, 20]])
    widget._inputs.more.area.value = viewer.add_shapes([box], name="box", shape_type="rectangle")
    labels = np.zeros(viewer.layers["cat"].data.shape[:2], int)
    labels[60:] = 1
    widget._inputs.more.content_regions.value = viewer.add_labels(labels, name="below")
    run_to_the_end(widget)
    assert "'below' has no label above 0 where it lies over 'cat', in the area" in widget.message.value
    corner = np.array([[10, 20], [10, 60], [40, 20]])
    widget._inputs.more.area.value = viewer.add_shapes([corner], name="corner", shape_type="polygon")
    labels = np.zeros_like(labels)
    labels[35:40, 50:60] = 1
    widget._inputs.more.content_regions.value = viewer.add_labels(labels, name="beside")
    run_to_the_end(widget)
    assert "No label of the content regions lies in the area." in widget.message.value


def test_an_area_starts_from_the_part_of_a_picture_that_lies_there(viewer, widget):
    box = np.array([[8, 16], [8, 63], [39, 63], [39, 16]])
    start = np.full_like(viewer.layers["cat"].data, 255)
    start[8:40, 16:64] = 0
    more = widget._inputs.more
    more.start_from.value = viewer.add_image(start, name="dark there", rgb=True)
    more.area.value = viewer.add_shapes([box], name="box", shape_type="rectangle")
    widget.steps.value = 1
    run_to_the_end(widget)
    assert result_of(viewer).data.mean() < 128
