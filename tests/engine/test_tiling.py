from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from integers import needs_int8
from napari_neural_style import stylize
from napari_neural_style.engine import convolutions
from napari_neural_style.engine.objective import Objective, Weights
from napari_neural_style.engine.optimizers import LBFGS, Adam
from napari_neural_style.engine.preparation import Brush
from napari_neural_style.engine.tiles import halo_of, tiles_of
from napari_neural_style.engine.tiling import TiledObjective
from napari_neural_style.engine.transfer import go_on
from napari_neural_style.engine.vgg import Features, Trunk, layers_up_to
from napari_neural_style.settings import LAYERS

pytestmark = pytest.mark.usefixtures("learned")


@pytest.fixture(autouse=True)
def _the_same_rounding_everywhere(monkeypatch):
    """That of minimal filtering depends on where a tile begins, and may take a ReLU over its kink."""
    monkeypatch.setattr(convolutions, "winograd_pays", lambda *_: False)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def random_trunk(layers, pooling: str = "average", border="reflect", dtype=torch.float32) -> Trunk:
    generator = torch.Generator().manual_seed(0)
    convolutions, before = {}, 3
    for layer in layers_up_to(layers):
        weight = torch.randn(LAYERS[layer], before, 3, 3, generator=generator) * (2 / (9 * before)) ** 0.5
        convolutions[layer] = (weight, 0.1 * torch.randn(LAYERS[layer], generator=generator))
        before = LAYERS[layer]
    return Trunk(Features("random", convolutions, border, ""), layers, pooling, dtype=dtype)


def weights(content_layer: str, *style: str, normalization: str = "relative", **changes: float) -> Weights:
    terms = {"content": 2.0, "style": 30.0, "variation": 0.7} | changes
    return Weights(
        **terms,
        content_layers={content_layer: 1.0},
        style_layers=dict.fromkeys(style, 0.5),
        normalization=normalization,
    )


def both(trunk, content, brushes, weights, guides=None, *, side):
    objective = Objective(trunk, content, brushes, weights, guides)
    return objective, TiledObjective(trunk, content, brushes, weights, guides, side=side)


def assert_same(one, other, image) -> None:
    (losses, total, gradient), (tiled_losses, tiled_total, tiled_gradient) = one(image), other(image)
    assert list(tiled_losses.layers) == list(losses.layers)
    assert tiled_losses.layers == pytest.approx(losses.layers, rel=1e-4, abs=1e-7 * losses.total)
    assert float(tiled_total) == pytest.approx(float(total), rel=1e-5)
    assert (tiled_gradient - gradient).abs().max() < 1e-4 * gradient.abs().max()


def test_the_halo_is_what_the_layers_see():
    """Pixels beyond it have no say; one within its last position has."""
    assert [halo_of([layer]) for layer in ("conv1_1", "conv1_2", "conv2_1", "conv3_1", "conv4_2", "conv5_1")] == [
        1, 2, 4, 12, 40, 80,
    ]  # fmt: skip
    trunk = random_trunk(["conv3_1"])
    image = random(1, 3, 64, 64)
    far, near = image.clone(), image.clone()
    far[..., : 32 - 12, :] = 0
    near[..., : 32 - 9, :] = 0
    found, from_far, from_near = (trunk(i)["conv3_1"][..., 8:, :] for i in (image, far, near))
    torch.testing.assert_close(from_far, found)
    assert not torch.equal(from_near, found)


@pytest.mark.parametrize("size", [(1, 7), (97, 203), (160, 96), (16, 16)])
@pytest.mark.parametrize("side", [16, 48, 1024])
def test_tiles_cover_a_picture_once_and_begin_on_the_grid(size, side):
    covered = torch.zeros(1, *size)
    for tile in tiles_of(size, side, ["conv5_1"]):
        tile.own_at(tile.seen_of(covered), "conv1_1").add_(1)
        for span in (tile.rows, tile.columns):
            assert span.stop - span.start <= side
            assert span.start % 16 == span.first % 16 == 0
    assert (covered == 1).all()


@pytest.mark.parametrize("pooling", ["max", "average"])
@pytest.mark.parametrize("border", ["reflect", (0.0, 0.0, 0.0), (0.3, -0.1, 0.2)], ids=str)
@pytest.mark.parametrize(("size", "side"), [((61, 87), 32), ((64, 48), 16), ((33, 97), 48)])
def test_tiles_change_nothing(pooling, border, size, side):
    trunk = random_trunk(["conv1_1", "conv2_1", "conv3_1"], pooling, border)
    brushes = [Brush(random(1, 3, 47, 52, seed=1), 1.0), Brush(random(1, 3, 30, 30, seed=2), 3.0)]
    terms = weights("conv2_1", "conv1_1", "conv2_1", "conv3_1")
    one, other = both(trunk, random(1, 3, *size, seed=3), brushes, terms, side=side)
    image = 4 * random(1, 3, *size, seed=4) - 2
    assert_same(one, other, image)
    for objective in (one, other):
        objective.weigh(5.0, 1.0, 0.0)
    assert_same(one, other, image)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 0.01), pytest.param(torch.int8, 0.05, marks=needs_int8)]
)
def test_tiles_change_little_where_rounding_depends_on_them(monkeypatch, dtype, tolerance):
    """Minimal filtering's, and that of 8-bit integers, whose units are each tile's own."""
    monkeypatch.setattr(convolutions, "winograd_pays", lambda weight, *_: min(weight.shape[:2]) >= 128)
    trunk = random_trunk(["conv1_1", "conv2_1", "conv3_1"], dtype=dtype)
    terms = weights("conv2_1", "conv1_1", "conv2_1", "conv3_1")
    one, other = both(trunk, random(1, 3, 97, 131), [Brush(random(1, 3, 61, 47, seed=1), 1.0)], terms, side=48)
    image = random(1, 3, 97, 131, seed=2)
    image[..., :60] *= 0.1
    (_, total, gradient), (_, tiled_total, tiled_gradient) = one(image), other(image)
    assert float(tiled_total) == pytest.approx(float(total), rel=1e-4)
    assert (tiled_gradient - gradient).norm() < tolerance * gradient.norm()


def test_tiles_change_nothing_as_deep_as_conv5_1():
    trunk = random_trunk(["conv1_1", "conv4_2", "conv5_1"])
    terms = weights("conv4_2", "conv1_1", "conv5_1")
    one, other = both(trunk, random(1, 3, 213, 150), [Brush(random(1, 3, 120, 90), 1.0)], terms, side=112)
    assert_same(one, other, random(1, 3, 213, 150, seed=5))


@pytest.mark.parametrize("normalization", ["relative", "paper", "mean"])
@pytest.mark.parametrize("without", ["content", "style"])
def test_one_term_alone_and_luminance(normalization, without):
    trunk = random_trunk(["conv1_2", "conv2_1"])
    terms = weights("conv2_1", "conv1_2", normalization=normalization, **{without: 0.0})
    one, other = both(trunk, random(1, 1, 40, 51), [Brush(random(1, 1, 32, 40), 1.0)], terms, side=16)
    assert_same(one, other, random(1, 1, 40, 51, seed=6))


def test_a_last_tile_narrower_than_a_position_of_the_only_layer():
    terms = weights("conv3_1", "conv3_1", content=0.0, variation=0.0)
    one, other = both(
        random_trunk(["conv3_1"]), random(1, 3, 49, 64), [Brush(random(1, 3, 32, 40), 1.0)], terms, side=16
    )
    assert_same(one, other, random(1, 3, 49, 64, seed=6))


def test_regions(monkeypatch):
    """Soft guides of the content and of a style, through tiles that hold none of a region."""
    trunk = random_trunk(["conv1_1", "conv2_1"])
    left = torch.zeros(1, 1, 45, 70)
    left[..., :20] = torch.linspace(1, 0, 20)
    guides = {1: left, 4: 1 - left}
    within = random(1, 1, 40, 33, seed=7)
    brushes = [Brush(random(1, 3, 40, 33, seed=8), 1.0, {1: within, 4: 1 - within}), Brush(random(1, 3, 20, 20), 2.0)]
    monkeypatch.setattr("napari_neural_style.engine.tiling.KEPT", 0)
    one, other = both(
        trunk, random(1, 3, 45, 70, seed=9), brushes, weights("conv2_1", "conv1_1", "conv2_1"), guides, side=16
    )
    assert_same(one, other, random(1, 3, 45, 70, seed=10))


@pytest.mark.parametrize("optimizer", [lambda image: Adam(image, 0.05), lambda image: LBFGS(image, 1.0, 5)])
def test_steps_go_the_same_way(optimizer):
    trunk = random_trunk(["conv1_1", "conv2_1"], "max")
    terms = weights("conv2_1", "conv1_1", "conv2_1")
    content = random(1, 3, 50, 61)
    images = []
    for objective in both(trunk, content, [Brush(random(1, 3, 40, 40, seed=11), 1.0)], terms, side=32):
        images.append(content.clone())
        steps = optimizer(images[-1])
        for _ in range(4):
            _, total, gradient = objective(images[-1])
            steps.update(total, gradient)
    assert (images[0] - images[1]).abs().max() < 1e-3
    assert (images[0] - content).abs().max() > 0.1


def test_a_whole_run(pair, quick):
    """Scales that fit a tile are done in one piece, larger ones in tiles; what auto became is noted."""
    settings = dataclasses.replace(quick, size=80, scales=2, steps=8, optimizer="adam", learning_rate=0.02)
    labels = np.zeros(pair[0].shape[:2], int)
    labels[:, :60] = 1
    whole, tiled = (
        list(stylize(*pair, dataclasses.replace(settings, tile=tile), content_regions=labels)) for tile in (0, 48)
    )
    assert whole[-1].settings.tile == 0
    assert tiled[-1].settings.tile == 48
    assert [s.losses.total for s in tiled] == pytest.approx([s.losses.total for s in whole], rel=1e-3)
    assert np.abs(tiled[-1].image - whole[-1].image).mean() < 1e-3


def test_auto_becomes_tiles_where_memory_is_short(pair, quick, monkeypatch):
    monkeypatch.setattr("napari_neural_style.engine.resolving.free_bytes", lambda device: 3 * 10**7)
    settings = dataclasses.replace(quick, size=160, steps=2, tile="auto")
    for step in stylize(*pair, settings):
        if step.index == 1:
            snapshot = step.snapshot()
    assert step.settings.tile == 128
    assert next(go_on(dataclasses.replace(snapshot, settings=settings))).settings.tile == 128
    *_, again = stylize(*pair, step.settings)
    np.testing.assert_array_equal(again.image, step.image)
