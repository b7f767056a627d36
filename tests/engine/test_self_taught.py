from __future__ import annotations

import pytest
import torch

from napari_neural_style.engine.images import normalize, resize, to_rgb, to_tensor
from napari_neural_style.engine.self_taught import learn
from napari_neural_style.engine.vgg import Trunk

LAYERS = ["conv1_1", "conv1_2", "conv2_1"]


@pytest.fixture(scope="module")
def images(pair) -> list[torch.Tensor]:
    return [normalize(to_tensor(to_rgb(image))) for image in pair]


@pytest.fixture(scope="module")
def features(images):
    return learn(images, LAYERS, "average", seed=0)


def test_filters_fire_at_a_good_share_of_positions_and_average_about_one(images, features):
    activations = [Trunk(features, LAYERS, "average")(image) for image in images]
    for layer in LAYERS:
        flat = torch.cat([a[layer][0].flatten(1) for a in activations], dim=1)
        assert 0.3 < (flat > 0).float().mean() < 0.7
        assert flat.mean().item() == pytest.approx(1, abs=0.3)
        assert ((flat > 0).any(1)).all()


def test_filters_are_learned_from_pictures_at_half_their_size_too():
    """Of noise, little is left there: filters fire at it less, and at both together about 1."""
    noise = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    trunk = Trunk(learn([noise], ["conv1_1"], "average", 0), ["conv1_1"], "average")
    full, half = (trunk(picture)["conv1_1"].mean().item() for picture in (noise, resize(noise, (32, 32))))
    assert full > 2 * half
    assert (full + half) / 2 == pytest.approx(1, abs=0.05)


def test_same_seed_same_filters(images, features):
    again = learn(images, LAYERS, "average", seed=0)
    assert again.fingerprint == features.fingerprint
    assert learn(images, LAYERS, "average", seed=1).fingerprint != features.fingerprint


def test_filters_differ_from_each_other(features):
    weight = features.convolutions["conv1_2"][0].flatten(1)
    weight = weight / weight.norm(dim=1, keepdim=True)
    similarity = weight @ weight.T - torch.eye(len(weight))
    assert similarity.max() < 0.999


def test_tells_how_far_it_is_and_can_be_stopped(images):
    told = []

    def progress(message: str, fraction: float) -> None:
        told.append((message, fraction))
        if len(told) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn(images, LAYERS, "average", 0, progress)
    assert len(told) == 2
    assert 0 <= told[0][1] < told[1][1] < 1


def test_an_image_without_structure_still_gives_finite_filters():
    flat = torch.zeros(1, 3, 40, 40)
    features = learn([flat, flat], LAYERS, "average", 0)
    assert all(torch.isfinite(t).all() for pair in features.convolutions.values() for t in pair)


def test_large_pictures_are_learned_from_by_samples(images, features, monkeypatch):
    """Filters of crops do the same among the whole pictures."""
    monkeypatch.setattr("napari_neural_style.engine.self_taught.MOST_PIXELS", 32 * 32)
    monkeypatch.setattr("napari_neural_style.engine.self_taught.CROP", 24)
    sampled = learn(images, LAYERS, "average", 0)
    assert sampled.fingerprint != features.fingerprint
    for image in images:
        for layer, found in Trunk(sampled, LAYERS, "average")(image).items():
            assert 0.2 < (found > 0).float().mean() < 0.8, layer
            assert found.mean().item() == pytest.approx(1, abs=0.4)
