from __future__ import annotations

import numpy as np
import pytest

from napari_neural_style import motion
from napari_neural_style.engine.images import to_rgb
from napari_neural_style.motion import FLOW_SIDE, KEPT, carried


@pytest.fixture(scope="module")
def picture(pair):
    return to_rgb(pair[0])[:, :80]


@pytest.fixture
def paint(picture):
    rows, columns = np.mgrid[: picture.shape[0], : picture.shape[1]]
    return (0.1 * np.sin(rows / 3) * np.cos(columns / 4))[..., None].astype(np.float32)


def test_paint_stays_on_what_stays(picture, paint):
    found = carried(np.clip(picture + paint, 0, 1), picture, picture)
    expected = picture + KEPT * (np.clip(picture + paint, 0, 1) - picture)
    np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize(("side", "columns"), [(FLOW_SIDE, 2), (40, 6)])
def test_paint_moves_with_its_content(picture, paint, monkeypatch, side, columns):
    """As far, too, where motion is estimated at a smaller size."""
    monkeypatch.setattr(motion, "FLOW_SIDE", side)
    before, now = picture[:, columns:], picture[:, :-columns]
    found = carried(np.clip(before + paint[:, columns:], 0, 1), before, now)
    painted = picture + KEPT * (np.clip(picture + paint, 0, 1) - picture)
    inside = (slice(8, -8), slice(8, -8))
    moved = np.abs(found - painted[:, :-columns])[inside].mean()
    assert moved < 0.25 * np.abs(found - now)[inside].mean()


def test_what_is_new_begins_unpainted(picture, paint):
    now = picture.copy()
    now[20:50, 20:50] = (0.9, 0.1, 0.6)
    found = carried(np.clip(picture + paint, 0, 1), picture, now)
    np.testing.assert_allclose(found[28:42, 28:42], now[28:42, 28:42], atol=0.01)


def test_a_large_plane_is_compared_at_a_smaller_size(pair):
    large = np.repeat(np.repeat(to_rgb(pair[0]), 4, 0), 4, 1)
    found = carried(large, large, large)
    assert found.shape == large.shape
    np.testing.assert_allclose(found, large, atol=1e-3)


def test_a_strip_that_would_be_narrower_than_two_pixels_there_is_compared_too(picture):
    strip = np.tile(picture[:4], (1, 20, 1))
    np.testing.assert_allclose(carried(strip, strip, strip), strip, atol=1e-3)
