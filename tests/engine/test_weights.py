from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from napari_neural_style import StyleSettings, stylize
from napari_neural_style.cache import pretrained_path
from napari_neural_style.engine.images import normalize
from napari_neural_style.engine.rescaling import rescaled
from napari_neural_style.engine.vgg import MEAN, STD, Trunk
from napari_neural_style.engine.weights import CAFFE_MEAN, features_from_file, resolve_source

FIRST = {"features.0": (64, 3), "features.2": (64, 64), "features.5": (128, 64)}


@pytest.fixture
def first_layers() -> dict[str, torch.Tensor]:
    """conv1_1, conv1_2 and conv2_1 with torchvision's keys."""
    generator = torch.Generator().manual_seed(4)
    numbers = {}
    for stem, (out, into) in FIRST.items():
        numbers[f"{stem}.weight"] = torch.randn(out, into, 3, 3, generator=generator) / (3 * into**0.5)
        numbers[f"{stem}.bias"] = torch.randn(out, generator=generator) / 10
    return numbers


@pytest.fixture
def image() -> torch.Tensor:
    return torch.rand(1, 3, 24, 20, generator=torch.Generator().manual_seed(5))


def plain(numbers: dict[str, torch.Tensor], image: torch.Tensor) -> dict[str, torch.Tensor]:
    """Run the first three convolutions as the network's own authors would."""
    x1 = F.relu(F.conv2d(image, numbers["features.0.weight"], numbers["features.0.bias"], padding=1))
    x2 = F.relu(F.conv2d(x1, numbers["features.2.weight"], numbers["features.2.bias"], padding=1))
    pooled = F.max_pool2d(x2, 2)
    x3 = F.relu(F.conv2d(pooled, numbers["features.5.weight"], numbers["features.5.bias"], padding=1))
    return {"conv1_1": x1, "conv1_2": x2, "conv2_1": x3}


def caffe_input(image: torch.Tensor) -> torch.Tensor:
    """BGR, 0..255, mean subtracted."""
    return (image * 255 - torch.tensor(CAFFE_MEAN).view(1, 3, 1, 1)).flip(1)


def test_torchvision_convention(first_layers, image, tmp_path):
    path = tmp_path / "first.pth"
    torch.save(first_layers, path)
    features = features_from_file(path, ["conv2_1"], "torchvision")
    found = Trunk(features, ["conv1_1", "conv1_2", "conv2_1"], "max")(normalize(image))
    for layer, expected in plain(first_layers, normalize(image)).items():
        torch.testing.assert_close(found[layer], expected)


@pytest.mark.parametrize("keys", ["caffe", "gatys"])
def test_caffes_conventions_take_the_same_normalised_image(first_layers, image, tmp_path, keys):
    """The input's scaling and channel order are folded in, borders included."""
    small = {k: v / 100 if k == "features.0.weight" else v for k, v in first_layers.items()}
    saved = small
    if keys == "gatys":
        names = {"features.0": "conv1_1", "features.2": "conv1_2", "features.5": "conv2_1"}
        saved = {f"{names[k.rpartition('.')[0]]}.{k.rpartition('.')[2]}": v for k, v in small.items()}
    path = tmp_path / "caffe.SAFETENSORS"
    save_file(saved, path, {"convention": "caffe"} if keys == "caffe" else None)
    features = features_from_file(path, ["conv2_1"])
    found = Trunk(features, ["conv1_1", "conv1_2", "conv2_1"], "max")(normalize(image))
    for layer, expected in plain(small, caffe_input(image)).items():
        torch.testing.assert_close(found[layer], expected, rtol=1e-4, atol=1e-5)


def test_the_original_networks_first_layers(real_features, image):
    numbers = load_file(real_features)
    found = Trunk(features_from_file(real_features, ["conv2_1"]), ["conv1_1", "conv1_2", "conv2_1"], "max")
    for layer, expected in plain(numbers, caffe_input(image)).items():
        torch.testing.assert_close(found(normalize(image))[layer], expected, rtol=1e-3, atol=2e-2)


def test_a_file_that_stops_early_names_the_missing_layer(real_features):
    with pytest.raises(ValueError, match=r"no conv4_1 \(no entry features\.19\.weight\)"):
        features_from_file(real_features, ["conv4_1"])


def test_a_file_of_another_shape_names_the_layer(first_layers, tmp_path):
    first_layers["features.2.weight"] = torch.zeros(64, 32, 3, 3)
    save_file(first_layers, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"conv1_2 .* has shape \(64, 32, 3, 3\); VGG-19 has \(64, 64, 3, 3\)"):
        features_from_file(tmp_path / "other.safetensors", ["conv1_2"], "torchvision")


def test_keys_alone_do_not_tell_the_convention(first_layers, tmp_path):
    save_file(first_layers, tmp_path / "unknown.safetensors")
    with pytest.raises(ValueError, match="Set convention to torchvision or caffe"):
        features_from_file(tmp_path / "unknown.safetensors", ["conv1_1"])


class Harmful:
    """Runs code when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    touched = tmp_path / "touched"
    (tmp_path / "harm.pth").write_bytes(pickle.dumps({"features.0.weight": Harmful(touched)}))
    torch.save({"features.0.weight": Harmful(touched)}, tmp_path / "harm2.pth")
    for name in ("harm.pth", "harm2.pth"):
        with pytest.raises(ValueError, match="no plain state dict"):
            features_from_file(tmp_path / name, ["conv1_1"], "torchvision")
    assert not touched.exists()


@pytest.mark.parametrize("name", ["cut.safetensors", "cut.pth", "text.pth", "empty.pt", "list.pth"])
def test_damaged_files_get_a_sentence(first_layers, tmp_path, name):
    path = tmp_path / name
    if name.endswith("safetensors"):
        save_file(first_layers, path)
    else:
        torch.save([1, 2] if name == "list.pth" else first_layers, path)
    content = {"text.pth": b"not weights", "empty.pt": b"", "list.pth": path.read_bytes()}
    path.write_bytes(content.get(name, path.read_bytes()[:5000]))
    with pytest.raises(ValueError, match=name):
        features_from_file(path, ["conv1_1"], "torchvision")


def test_sources_that_are_not_there():
    with pytest.raises(ValueError, match="features download"):
        resolve_source("pretrained")
    with pytest.raises(ValueError, match="no features file"):
        resolve_source("nowhere.pth")
    with pytest.raises(ValueError, match=r"no features file '~nobody/x\.pth'"):
        resolve_source("~nobody/x.pth")
    assert resolve_source("auto") == "self-taught"
    pretrained_path().touch()
    assert resolve_source("auto") == "pretrained"


@pytest.mark.parametrize("tile", [0, 16])
def test_rescaled_filters_have_a_mean_activation_of_one(real_features, image, tile):
    layers = ["conv1_1", "conv2_1"]
    features = features_from_file(real_features, layers)
    images = [normalize(image), normalize(image.flip(1))]
    scaled = rescaled(features, images, layers, "average", tile)
    before = [Trunk(features, layers, "average")(i) for i in images]
    after = [Trunk(scaled, layers, "average")(i) for i in images]
    for layer in layers:
        mean = sum(a[layer][0].mean((1, 2)) for a in after) / 2
        fires = sum(b[layer][0].mean((1, 2)) for b in before) > 0
        torch.testing.assert_close(mean[fires], torch.ones(int(fires.sum())), rtol=1e-3, atol=1e-3)
        ratio = before[0][layer][0] / after[0][layer][0].clamp_min(1e-9)
        strong = after[0][layer][0] > 0.1
        spread = [row[s].std() / row[s].mean() for row, s in zip(ratio, strong, strict=True) if s.sum() > 2]
        assert max(spread) < 1e-2


def test_styles_with_the_original_features(real_features, pair):
    settings = StyleSettings(
        size=48, scales=1, steps=15, save_every=15, features=str(real_features), device="cpu", precision="float32",
        content_layers={"conv3_1": 1}, style_layers={"conv1_1": 1, "conv2_1": 1, "conv3_1": 1},
    )  # fmt: skip
    losses = [step.losses.style for step in stylize(*pair, settings)]
    assert losses[-1] < losses[0] / 4


def test_constants_are_imagenets():
    assert pytest.approx((0.485, 0.456, 0.406)) == MEAN
    assert pytest.approx((0.229, 0.224, 0.225)) == STD
