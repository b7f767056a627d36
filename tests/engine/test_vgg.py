from __future__ import annotations

import pytest
import torch

from napari_neural_style.engine import convolutions, vgg
from napari_neural_style.engine.relu import mask, rectify
from napari_neural_style.engine.vgg import Features, Trunk, layers_up_to, padded
from napari_neural_style.settings import LAYERS


def random_features(deepest, border):
    generator = torch.Generator().manual_seed(0)
    convolutions, before = {}, 3
    for name in layers_up_to([deepest]):
        weight = torch.randn(LAYERS[name], before, 3, 3, generator=generator) * (2 / (9 * before)) ** 0.5
        convolutions[name] = (weight, 0.1 * torch.randn(LAYERS[name], generator=generator))
        before = LAYERS[name]
    return Features("random", convolutions, border, "")


@pytest.mark.parametrize("pooling", ["max", "average"])
@pytest.mark.parametrize("border", ["reflect", (0.0, 0.0, 0.0), (0.5, -0.5, 0.1)])
@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_the_way_back_is_autograds(monkeypatch, pooling, border, fast, layout):
    for module in (convolutions, vgg):
        monkeypatch.setattr(module, "layout_of", lambda _: layout)
    layers = ["conv1_1", "conv2_1", "conv2_2", "conv3_1"]
    features = random_features("conv3_1", border)
    monkeypatch.setattr(convolutions, "winograd_pays", lambda *_: False)
    plain = Trunk(features, layers, pooling)
    monkeypatch.setattr(convolutions, "winograd_pays", lambda weight, *_: fast and len(weight) >= 128)
    trunk = Trunk(features, layers, pooling)
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(1, 3, 21, 18, generator=generator)
    activations = plain(image.requires_grad_())
    pulls = {name: torch.randn(a.shape, generator=generator) for name, a in activations.items()}
    (expected,) = torch.autograd.grad(sum((activations[name] * pulls[name]).sum() for name in layers), image)
    kept = trunk.forward(image.detach())
    gradient = trunk.backward(kept, lambda name, _, above, share: above.add_(pulls[name], alpha=share))
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())
    assert not kept.activations


def test_mirrored_a_flat_picture_is_flat_and_zeros_make_a_frame():
    flat = torch.tensor([0.3, -0.2, 0.7]).view(1, 3, 1, 1).expand(1, 3, 32, 32)
    zeros = random_features("conv2_2", (0.5, -0.5, 0.1))
    framed = Trunk(zeros, ["conv2_2"], "average")(flat)["conv2_2"]
    found = Trunk(padded(zeros, "reflect"), ["conv2_2"], "average")(flat)["conv2_2"]
    torch.testing.assert_close(found, framed[..., 8:9, 8:9].expand_as(found))
    assert (framed - found).abs().max() > 0.1
    assert padded(zeros, "zeros") is zeros
    assert padded(padded(zeros, "reflect"), "zeros").border == (0.0, 0.0, 0.0)


def test_every_number_of_bfloat16_is_compared_with_0_as_a_number():
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    values = every[~every.isnan()]
    positive = values.float() > 0
    assert torch.equal(rectify(values.clone()).float(), torch.where(positive, values.float(), 0.0))
    gradient = values.flip(0)
    found = mask(gradient, values, torch.empty_like(values))
    assert torch.equal(found.float(), torch.where(positive, gradient.float(), 0.0))
