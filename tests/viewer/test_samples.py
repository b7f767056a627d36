from __future__ import annotations

import numpy as np

from napari_neural_style.viewer.samples import painting, sample_pair


def test_the_painting_is_always_the_same_and_never_dull():
    one, two = painting(96), painting(96)
    np.testing.assert_array_equal(one, two)
    assert one.shape == (96, 96, 3)
    assert one.std() > 30
    assert not np.array_equal(one, painting(96, seed=3))


def test_the_photograph_is_selected_last():
    (paint, paint_options, _), (photo, photo_options, kind) = sample_pair()
    assert (paint_options["name"], photo_options["name"], kind) == ("painting", "photograph", "image")
    assert paint.dtype == photo.dtype == np.uint8
