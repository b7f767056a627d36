from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from integers import needs_integer_grams
from napari_neural_style.engine import objective, optimizers
from napari_neural_style.engine.images import denormalize, normalize, normalized_rgb, resize, to_rgb, to_tensor
from napari_neural_style.engine.losses import content_terms, gram_matrix, total_variation
from napari_neural_style.engine.objective import Objective, Weights
from napari_neural_style.engine.preparation import Brush
from napari_neural_style.engine.self_taught import learn
from napari_neural_style.engine.vgg import Trunk, padded

WEIGHTS = Weights(2.0, 30.0, 0.7, {"conv2_1": 1.0}, {"conv1_1": 1.0, "conv1_2": 0.5}, "relative")


class NothingCrosses(TorchFunctionMode):
    """Fails where a number goes from a device to Python or to a device: on a GPU a step would wait for that."""

    CROSSINGS = frozenset(
        [
            torch.tensor,
            torch.as_tensor,
            torch.from_numpy,
            *(
                getattr(Tensor, name)
                for name in (
                    *("new_tensor", "item", "tolist", "numpy", "cpu", "nonzero"),
                    *("__bool__", "__float__", "__int__", "__index__"),
                )
            ),
        ]
    )

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func not in self.CROSSINGS, f"{func} makes a GPU wait"
        return func(*args, **kwargs or {})


@pytest.fixture
def pictures(pair) -> list[Tensor]:
    return [resize(to_tensor(to_rgb(image)), (24, 32)) for image in pair]


@pytest.fixture
def trunk(pictures) -> Trunk:
    features = learn([normalize(picture) for picture in pictures], ["conv2_1"], "average", 0)
    return Trunk(features, ["conv1_1", "conv1_2", "conv2_1"], "average")


def in_channels(pictures: list[Tensor], channels: int) -> list[Tensor]:
    return [picture[:, :channels] for picture in pictures]


@pytest.mark.parametrize("channels", [1, 3])
def test_the_gradient_of_all_terms_is_that_of_autograd(pictures, trunk, channels):
    content, style = in_channels(pictures, channels)
    objective = Objective(trunk, content, [Brush(style, 1.0)], WEIGHTS)
    image = normalize(content.flip(3)).requires_grad_()
    activations = trunk(image if channels == 3 else normalized_rgb(denormalize(image)))
    differences = [activations[target.layer] - target.value for target in objective._content]
    terms = [2 * term for term in content_terms(differences, objective._content)]
    for target in objective._style:
        terms.append(30 * target.factor * (gram_matrix(activations[target.layer]) - target.value).square().sum())
    terms.append(0.7 * total_variation(denormalize(image)))
    plain = torch.stack(terms).sum()
    (expected,) = torch.autograd.grad(plain, image)
    losses, total, gradient = objective(image.detach())
    assert losses.total == pytest.approx(total.item(), rel=1e-5)
    assert losses.total == pytest.approx(plain.item(), rel=1e-5)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6 * expected.abs().max().item())


def test_a_region_weighs_its_share_of_the_picture_divided_among_the_styles_that_serve_it(pictures, trunk):
    content, style = pictures
    everywhere, left = torch.ones(1, 1, 24, 32), torch.zeros(1, 1, 24, 32)
    left[..., :8] = 1
    weights = dataclasses.replace(WEIGHTS, style_layers={"conv1_1": 1.0}, normalization="paper")
    brushes = [Brush(style, 1.0, {1: everywhere}), Brush(style, 3.0)]
    objective = Objective(trunk, content, brushes, weights, {1: left, 2: everywhere - left})
    shares = [(target.label, target.factor * 4 * 64**2) for target in objective._style]
    assert shares == [(1, pytest.approx(1 / 16)), (1, pytest.approx(3 / 16)), (2, pytest.approx(3 / 4))]


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("pooling", ["average", "max"])
@pytest.mark.parametrize("guided", [False, True])
def test_a_step_lets_no_gpu_wait(pictures, trunk, quick, monkeypatch, optimizer, channels, pooling, guided):
    """After the first ones, which a GPU does before its work is recorded as a graph."""
    monkeypatch.setattr(optimizers, "_may_hold", lambda condition: True)  # as on a GPU
    content, style = in_channels(pictures, channels)
    trunk.pooling = pooling
    guides = {1: torch.linspace(0, 1, 32).expand(1, 1, 24, 32)} if guided else None
    objective = Objective(trunk, content, [Brush(style, 1.0)], WEIGHTS, guides)
    image = normalize(content)
    step = optimizers.make_optimizer(image, dataclasses.replace(quick, optimizer=optimizer))

    def update() -> None:
        _, total, gradient = objective(image)
        step.update(total, gradient)

    for _ in range(3):
        update()
    with NothingCrosses():
        for _ in range(5):
            update()


@needs_integer_grams
@pytest.mark.parametrize(("pooling", "padding"), [("average", "reflect"), ("max", "zeros")])
def test_style_terms_of_integers_are_nearly_those_of_floats(monkeypatch, pictures, pooling, padding):
    layers = ["conv1_1", "conv1_2", "conv2_1"]  # the second is pooled, the last is seen by no other
    features = padded(learn([normalize(picture) for picture in pictures], layers, pooling, 0), padding)
    trunk = Trunk(features, layers, pooling, dtype=torch.int8)
    weights = dataclasses.replace(WEIGHTS, content=0.0, style_layers=dict.fromkeys(layers, 1.0))
    monkeypatch.setattr(objective, "FEWEST", 100)
    found = []
    for integers in (True, False):
        monkeypatch.setattr(objective, "has_integer_grams", lambda integers=integers: integers)
        found.append(Objective(trunk, pictures[0], [Brush(pictures[1], 1.0)], weights).evaluate(normalize(pictures[0])))
    (values, gradient), (of_floats, expected) = found
    torch.testing.assert_close(values, of_floats, rtol=2e-3, atol=1e-4 * of_floats.max().item())
    assert not torch.equal(values, of_floats)
    assert (gradient - expected).norm() < 0.02 * expected.norm()
