"""Planes, windows and labels are where napari shows them, whatever the units and transforms."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels, Shapes

from napari_neural_style.viewer.areas import VIEW, labels_reader, window_of
from napari_neural_style.viewer.compare import Comparison
from napari_neural_style.viewer.layers import check_seen, image_of, shown_plane, style_plane
from window import wait_until

NUMBERED = np.zeros((10, 30, 40), np.uint16) + np.arange(10, dtype=np.uint16)[:, None, None]


def tilted(row: int, column: int, value: float) -> np.ndarray:
    matrix = np.eye(4)
    matrix[row, column] = value
    return matrix


LENGTHS, TIMES = ("um",) * 3, ("minute", "um", "um")


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")
@pytest.mark.parametrize(
    ("place", "units_of_another"),
    [
        ({"scale": (0.5, 0.1, 0.1), "units": LENGTHS}, None),
        ({"scale": (500, 100, 100), "units": ("nm",) * 3}, LENGTHS),
        ({"scale": (-500, 100, 100), "translate": (4500, 0, 0), "units": ("nm",) * 3}, LENGTHS),
        ({"scale": (30, 1, 1), "units": ("s", "um", "um")}, TIMES),
        ({"scale": (30, 1, 1), "units": ("s", "um", "um")}, LENGTHS),  # no common world: each in its own
        ({"affine": tilted(0, 1, 0.7)}, None),
        ({"affine": tilted(1, 0, 0.7)}, None),
    ],
)
def test_the_plane_is_the_one_that_napari_shows(place, units_of_another):
    viewer = ViewerModel()
    if units_of_another is not None:
        viewer.add_image(NUMBERED, units=units_of_another, scale=(0.5, 0.1, 0.1))
    layer = viewer.add_image(NUMBERED, **place)
    seen = set()
    for step in range(0, viewer.dims.nsteps[0], 3):
        viewer.dims.set_current_step(0, step)
        (shown,) = np.unique(layer._slice.image.raw)
        if not layer._slice.empty:
            assert shown_plane(layer, viewer.dims).index[0] == shown
            seen.add(shown)
    assert len(seen) > 2


def test_labels_count_where_they_are_seen():
    viewer = ViewerModel()
    image = viewer.add_image(NUMBERED[0], scale=(0.1, 0.1), units=("um", "um"))
    half = np.zeros((30, 40), int)
    half[15:] = 1
    labels = viewer.add_layer(Labels(half, scale=(100, 100), units=("nm", "nm")))
    plane = shown_plane(image, viewer.dims)
    np.testing.assert_array_equal(labels_reader(labels, image, plane, viewer.dims)(), half)
    box = np.array([[10, 10], [10, 20], [20, 20], [20, 10]])
    shapes = viewer.add_layer(Shapes([box], scale=(100, 100), units=("nm", "nm")))
    assert window_of(shapes, image, plane, viewer) == (10, 10, 21, 21)


def test_comparing_goes_to_the_plane_of_the_result():
    viewer = ViewerModel()
    content = viewer.add_image(NUMBERED, scale=(0.5, 0.1, 0.1), units=("um",) * 3)
    result = viewer.add_image(NUMBERED[:1], scale=(500, 100, 100), translate=(2000, 0, 0), units=("nm",) * 3)
    Comparison(viewer).show(content, result, by=None)
    assert shown_plane(content, viewer.dims).index[0] == 4
    check_seen(result, viewer.dims)


def test_sliders_where_a_layer_has_no_plane():
    viewer = ViewerModel()
    viewer.add_image(np.zeros((20, 30, 40)))
    short = viewer.add_image(NUMBERED[:5], translate=(2, 0, 0), name="short")
    for step, seen in ((0, False), (2, True), (6, True), (7, False), (12, False)):
        viewer.dims.set_current_step(0, step)
        if seen:
            check_seen(short, viewer.dims)
        else:
            with pytest.raises(ValueError, match="'short' has no plane"):
                check_seen(short, viewer.dims)
            check_seen(short, viewer.dims, along=[0])


def test_a_style_without_the_axes_that_are_shown_gives_its_own():
    viewer = ViewerModel()
    viewer.add_image(NUMBERED)
    style = viewer.add_image(np.random.default_rng(0).random((30, 40)))
    viewer.dims.order = (1, 0, 2)
    assert style_plane(style, viewer.dims).axes == (0, 1)
    assert image_of(style, style_plane(style, viewer.dims)).shape == (30, 40, 3)


def test_the_field_of_view_in_a_grid_with_spacing(make_napari_viewer):
    viewer = make_napari_viewer(show=True)
    first, _ = (viewer.add_image(np.random.default_rng(0).random((300, 300))) for _ in range(2))
    viewer.canvas.grid.enabled, viewer.canvas.grid.spacing = True, 0.5
    viewer.reset_view()
    viewer.scene.camera.zoom *= 6
    window = np.array(window_of(VIEW, first, shown_plane(first, viewer.dims), viewer))
    wait_until(lambda: np.abs(window - [*first.corner_pixels[0], *(first.corner_pixels[1] + 1)]).max() <= 2)


def test_the_field_of_view_of_a_pyramid_is_that_of_its_pixels(make_napari_viewer):
    viewer = make_napari_viewer(show=True)
    base = np.random.default_rng(0).random((1500, 1200)).astype(np.float32)
    plain = viewer.add_image(base)
    pyramid = viewer.add_image([base, base[::4, ::4], base[::16, ::16]], multiscale=True)
    for order in ((0, 1), (1, 0)):
        viewer.dims.order = order
        viewer.scene.camera.center = (0, 700, 600)
        viewer.scene.camera.zoom = 6
        wait_until(lambda: plain.corner_pixels[0].min() > 300)
        views = [np.array(window_of(VIEW, each, shown_plane(each, viewer.dims), viewer)) for each in (plain, pyramid)]
        np.testing.assert_array_equal(*views, f"axes {order}")
        wait_until(lambda window=views[0]: np.abs(window - drawn_of(plain, viewer)).max() <= 2)


def drawn_of(layer, viewer) -> list[int]:
    """Return the window that napari draws, once it has drawn."""
    axes = list(shown_plane(layer, viewer.dims).axes)
    return [*layer.corner_pixels[0][axes], *(layer.corner_pixels[1][axes] + 1)]
