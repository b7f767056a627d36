from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from napari_neural_style import stylize
from napari_neural_style.engine.given import checked_styles
from napari_neural_style.engine.images import normalize, resize, size_of, to_array, to_rgb, to_tensor
from napari_neural_style.engine.losses import gram_matrix
from napari_neural_style.engine.preparation import Brush, Pictures, at_scale, gather, prepare
from napari_neural_style.engine.regions import guides_of, length, pooled
from napari_neural_style.engine.self_taught import learn
from napari_neural_style.engine.transfer import content_for

pytestmark = pytest.mark.usefixtures("learned")

CPU = torch.device("cpu")


def carried(guide: torch.Tensor, layer: str) -> torch.Tensor:
    here = pooled(guide, layer).flatten()
    return here / length(here)


@pytest.fixture
def halves(pair) -> np.ndarray:
    """The left half of the content is 0, the right half 7."""
    labels = np.zeros(pair[0].shape[:2], int)
    labels[:, labels.shape[1] // 2 :] = 7
    return labels


def test_a_guide_of_everything_gives_the_plain_gram_matrix():
    features = torch.randn(1, 5, 8, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    guide = carried(torch.ones(1, 1, 32, 24, dtype=torch.float64), "conv3_1")
    torch.testing.assert_close(gram_matrix(features, guide), gram_matrix(features))


def test_a_guided_gram_matrix_is_that_of_the_region():
    features = torch.randn(1, 5, 8, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    left = torch.zeros(1, 1, 8, 6, dtype=torch.float64)
    left[..., :2] = 1
    torch.testing.assert_close(gram_matrix(features, carried(left, "conv1_1")), gram_matrix(features[..., :2]))


@pytest.mark.parametrize("size", [(33, 47), (64, 64)])
def test_guides_are_soft_and_share_the_picture_out(size):
    labels = np.arange(3).repeat(20)[None].repeat(30, 0)
    guides = guides_of(labels, size, CPU)
    assert list(guides) == [1, 2]
    background = guides_of((labels == 0).astype(int), size, CPU)[1]
    torch.testing.assert_close(sum(guides.values()) + background, torch.ones(1, 1, *size), atol=1e-5, rtol=0)
    for layer in ("conv1_2", "conv2_1", "conv5_4"):
        assert carried(guides[2], layer).square().sum() == pytest.approx(1)


def test_regions_of_content_and_style_shrink_with_their_pictures():
    content, style = torch.rand(1, 3, 16, 24), torch.rand(1, 3, 32, 20)
    above, below = torch.zeros(1, 1, 16, 24), torch.zeros(1, 1, 32, 20)
    above[..., :8, :] = below[..., 16:, :] = 1
    pictures = Pictures(content, (Brush(style, 1.0, {1: below}),), content, content, {1: above})
    small = at_scale(pictures, (8, 12), 0.5)
    assert size_of(small.brushes[0].picture) == (16, 10)
    half = torch.cat([torch.ones(1, 1, 8, 10), torch.zeros(1, 1, 8, 10)], 2)
    torch.testing.assert_close(small.guides[1], resize(half, (8, 12)), atol=0.2, rtol=0)
    torch.testing.assert_close(small.brushes[0].guides[1], 1 - half, atol=0.2, rtol=0)


@pytest.mark.parametrize(("mode", "steps"), [("transfer", 20), ("content", 2)])
def test_label_0_stays_as_it_is_and_the_rest_is_painted(pair, quick, halves, mode, steps):
    settings = dataclasses.replace(quick, steps=steps, mode=mode)
    *_, step = stylize(pair[0], None if mode == "content" else pair[1], settings, content_regions=halves)
    content = to_array(resize(to_tensor(to_rgb(pair[0])), step.image.shape[:2]))
    np.testing.assert_allclose(step.image[:, :22], content[:, :22], atol=1e-6)
    assert np.abs(step.image[:, 26:] - content[:, 26:]).mean() > 0.05


def test_each_label_takes_the_style_of_the_same_label(pair, quick):
    """Two flat styles in one image: every half of the content takes the palette of its label."""
    style = np.zeros((64, 64, 3), np.uint8)
    style[:32] = (200, 40, 30)
    style[32:] = (30, 60, 210)
    style_labels = np.array([1, 2]).repeat(32)[:, None].repeat(64, 1)
    content_labels = np.array([2, 1]).repeat(pair[0].shape[1] // 2)[None].repeat(pair[0].shape[0], 0)
    settings = dataclasses.replace(quick, color="style", steps=20)
    *_, step = stylize(pair[0], style, settings, content_regions=content_labels, style_regions=style_labels)
    left, right = step.image[:, :20].mean((0, 1)), step.image[:, 28:].mean((0, 1))
    assert left[2] > left[0] + 0.3
    assert right[0] > right[2] + 0.3


@pytest.mark.parametrize("style_regions", [True, False])
def test_luminance_is_spread_as_the_contents_of_the_same_region(style_regions, quick):
    random = np.random.default_rng(0)
    content, style = (random.uniform(-0.05, 0.05, (48, 48, 3)).astype(np.float32) for _ in range(2))
    content[:, :16] += 0.2
    content[:, 16:32] += 0.7
    content[:, 32:] += 0.4
    style[:24] += 0.5
    style[24:] += 0.3
    content_labels = np.array([1, 2, 0]).repeat(16)[None].repeat(48, 0)
    style_labels = np.array([1, 2]).repeat(24)[:, None].repeat(48, 1) if style_regions else None
    settings = dataclasses.replace(quick, color="content")
    styles = checked_styles(style, style_labels, settings)
    pictures = prepare(gather(content, content_labels, styles, None, settings, CPU), settings)
    (brush,) = pictures.brushes
    spread = [brush.picture[..., :22, :].mean(), brush.picture[..., 26:, :].mean()]
    assert torch.stack(spread).numpy() == pytest.approx([0.2, 0.7] if style_regions else [0.7, 0.2], abs=0.03)


def test_the_painted_region_takes_the_styles_palette_in_the_share_of_their_weights(pair, quick, halves):
    styles = [(np.full((32, 32, 3), grey), weight) for grey, weight in ((0.4, 3.0), (0.6, 1.0))]
    found = content_for(pair[0], styles, dataclasses.replace(quick, color="style"), None, halves)
    content = content_for(pair[0], styles, dataclasses.replace(quick, color="free"))
    np.testing.assert_allclose(found[:, :22], content[:, :22], atol=1e-6)
    np.testing.assert_allclose(found[:, 26:].mean((0, 1)), 0.45, atol=0.01)


def test_a_region_that_pooling_leaves_out_has_no_say_in_deep_layers(pair, quick, halves):
    """Its Gram matrix there is 0; nothing is that far from it."""
    halves[halves == 0] = 1
    style = pair[1][:63, :63]
    labels = np.ones(style.shape[:2], int)
    labels[-1] = 7
    settings = dataclasses.replace(quick, size=63, style_layers={"conv1_1": 1.0, "conv3_1": 1.0})
    step = next(stylize(pair[0], style, settings, content_regions=halves, style_regions=labels))
    whole = next(stylize(pair[0], style, settings))
    assert step.losses.style < 10 * whole.losses.style
    assert set(step.losses.layers) == set(whole.losses.layers)


def test_one_region_over_everything_is_as_good_as_none(pair, quick):
    everywhere = np.ones(pair[0].shape[:2], int)
    # k-means of pictures that differ in their last bits can find other filters: both runs get the same.
    features = learn([normalize(to_tensor(to_rgb(image))) for image in pair], ["conv2_1"], "average", 0)
    one = [s.losses.total for s in stylize(*pair, quick, features=features)]
    other = [s.losses.total for s in stylize(*pair, quick, features=features, content_regions=everywhere)]
    assert other[:3] == pytest.approx(one[:3], rel=1e-3)


def test_a_style_region_alone_says_where_the_style_is(pair, quick):
    content, style = pair
    spoiled = np.concatenate([style, np.full_like(style, 255)], axis=1)
    labels = np.zeros(spoiled.shape[:2], int)
    labels[:, : style.shape[1]] = 3
    settings = dataclasses.replace(quick, color="free", size=64)
    with_region = next(stylize(content, spoiled, settings, style_regions=labels)).losses
    without = next(stylize(content, spoiled, settings)).losses
    assert np.isfinite(with_region.total)
    assert with_region.style != pytest.approx(without.style, rel=0.05)


@pytest.mark.parametrize(
    ("content_regions", "style_regions", "words"),
    [
        (np.ones((3, 3), int), None, "content_regions has shape"),
        (np.full((160, 240), 0.5), None, "whole numbers"),
        (np.zeros((160, 240), int), None, "no label above 0"),
        (np.full((160, 240), 2), np.ones((64, 64), int), "regions 2, but no style"),
        (np.arange(160 * 240).reshape(160, 240), np.ones((64, 64), int), "at most 64"),
        (None, [None, None], "one or None for each"),
    ],
)
def test_regions_that_cannot_be_get_a_sentence(pair, quick, content_regions, style_regions, words):
    content = np.resize(pair[0], (160, 240, 3))
    with pytest.raises(ValueError, match=words):
        stylize(content, pair[1], quick, content_regions=content_regions, style_regions=style_regions)
