from __future__ import annotations

import numpy as np
import pytest

from napari_neural_style.viewer.layers import image_of, shown_plane
from napari_neural_style.viewer.samples import dividing_cells, painting, stained_glass, watercolor

PAIRS = {
    "pair": ("painting", "photograph"),
    "histology": ("watercolour", "histology"),
    "cells": ("stained glass", "dividing cells"),
}


@pytest.mark.parametrize("draw", [painting, stained_glass, watercolor])
def test_a_painting_is_always_the_same_and_never_dull(draw):
    one, two = draw(96), draw(96)
    np.testing.assert_array_equal(one, two)
    assert one.shape == (96, 96, 3)
    assert one.dtype == np.uint8
    assert one.std() > 30
    assert not np.array_equal(one, draw(96, seed=9))


def test_the_movie_is_always_the_same_and_its_cells_divide():
    movie = dividing_cells(6, 64)
    np.testing.assert_array_equal(movie, dividing_cells(6, 64))
    assert movie.shape == (6, 64, 64)
    np.testing.assert_array_equal(movie[:3], dividing_cells(3, 64))
    assert np.abs(movie[-1].astype(float) - movie[0]).mean() > 10


def test_a_pair_opens_with_the_content_selected_in_the_middle_of_the_style(make_napari_viewer):
    viewer = make_napari_viewer()
    for key, names in PAIRS.items():
        viewer.layers.clear()
        viewer.open_sample("napari-neural-style", key)
        style, content = viewer.layers
        assert (style.name, content.name) == names
        assert viewer.layers.selection.active is content
        middles = [layer.extent.world[:, -2:].mean(0) for layer in (style, content)]
        np.testing.assert_allclose(*middles, err_msg=key)
        assert style.units == content.units[-2:], key
        assert image_of(content, shown_plane(content, viewer.dims)).std() > 0.1, key
    # The movie, which is the last, is in minutes and micrometres.
    movie = viewer.layers["dividing cells"]
    assert viewer.dims.axis_labels == movie.axis_labels == ("time", "y", "x")
    assert [str(unit) for unit in movie.units] == ["minute", "micrometer", "micrometer"]
    viewer.dims.set_current_step(0, 5)
    assert shown_plane(movie, viewer.dims).index == (5, 0, 0)
