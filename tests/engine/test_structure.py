from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from napari_neural_style import stylize
from napari_neural_style.engine import position
from napari_neural_style.engine.images import resize, size_of, to_rgb, to_tensor
from napari_neural_style.engine.structure import DEAD_ZONE, MOST, SIGMA, ContentBoost, structure

pytestmark = pytest.mark.usefixtures("learned")


def test_structure_of_itself_its_negative_and_nothing(pair):
    image = to_tensor(to_rgb(pair[0]))
    assert structure(image, image) == pytest.approx(1)
    assert structure(1 - image, image) == pytest.approx(-1, abs=1e-5)
    for grey in (0.1, 0.3, 0.5):
        flat = torch.full_like(image, grey)
        assert structure(flat, image) == 0
        assert structure(image, flat) == structure(flat, flat[:, :1]) == 1


def test_structure_sees_through_fine_grain_only(pair):
    image = to_tensor(to_rgb(pair[0]))
    grain = torch.randn(image.shape, generator=torch.Generator().manual_seed(0)) * 0.15
    assert structure(image + grain, image) > 0.95
    assert structure(image + grain, image, sigma=0.1) < 0.9


def test_the_weight_rises_while_structure_is_missing_and_comes_back():
    boost = ContentBoost(0.6)
    assert not boost.look(0.9)
    assert boost.factor == 1
    assert boost.look(0.4)
    assert boost.factor == pytest.approx(np.exp(3 * 0.2))
    before = boost.factor
    assert not boost.look(0.6 - DEAD_ZONE / 6)
    assert boost.factor == before
    for _ in range(30):
        boost.look(0.0)
    assert boost.factor == MOST
    for _ in range(30):
        boost.look(0.9)
    assert boost.factor == 1
    boost.factor = 1 + DEAD_ZONE / 2
    assert boost.look(0.9)
    assert boost.factor == 1
    assert not any(ContentBoost(0.0).due(index) for index in range(100))


def test_no_picture_of_a_round_number_of_steps_is_the_first_after_the_weight_changed():
    assert [index for index in range(1, 20) if ContentBoost(0.6).due(index)] == [6, 11, 16]


def test_structure_is_looked_for_in_the_same_share_of_the_picture_at_every_scale(pair, quick, monkeypatch):
    shares = []

    def look(image, content, sigma):
        shares.append(sigma / max(size_of(image)))
        return 1.0

    monkeypatch.setattr(position, "structure", look)
    list(stylize(*pair, dataclasses.replace(quick, size=64, scales=2, steps=20, min_structure=0.5)))
    assert shares == [SIGMA / 64] * 3


def test_a_strong_style_leaves_the_structure_that_was_asked_for(pair, quick):
    strong = dataclasses.replace(quick, style_weight=100.0, steps=80)
    content = to_tensor(to_rgb(pair[0]))
    found = []
    for least in (0.0, 0.8):
        *_, step = stylize(*pair, dataclasses.replace(strong, min_structure=least))
        found.append(structure(to_tensor(step.image), resize(content, step.image.shape[:2])))
    assert found[1] > found[0] + 0.05
