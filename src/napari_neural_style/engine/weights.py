"""The trunk's numbers: which source a setting means, files in three conventions, and the cache."""

from __future__ import annotations

import contextlib
import hashlib
import pickle
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from napari_neural_style.cache import pretrained_path
from napari_neural_style.engine import feature_cache, self_taught
from napari_neural_style.engine.vgg import MEAN, STD, Features, fingerprint_of, layers_up_to
from napari_neural_style.paths import path_named
from napari_neural_style.settings import LAYERS, StyleSettings

DOWNLOAD_HINT = "Get them with `napari-neural-style features download` (548 MB, once), or choose self-taught features."
CAFFE_MEAN = (123.68, 116.779, 103.939)
"""Mean RGB, 0..255, that the original VGG-19 subtracts."""

KNOWN_HASHES = {"dcbb9e9d": "torchvision", "d01eb7cb": "caffe"}
"""First digits of the SHA-256 of well-known files whose keys alone do not tell their convention."""

TORCHVISION_INDEX = dict(zip(LAYERS, (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34), strict=True))


def resolve_source(features: str) -> str:
    """Return the source that a setting means: ``"pretrained"``, ``"self-taught"`` or an absolute path.

    Raises
    ------
    ValueError
        If it is not on this machine.
    """
    if features == "auto":
        return "pretrained" if pretrained_path().is_file() else "self-taught"
    if features == "self-taught":
        return features
    if features == "pretrained":
        if not pretrained_path().is_file():
            raise ValueError(f"The pretrained VGG-19 features are not on this machine. {DOWNLOAD_HINT}")
        return features
    path = path_named(features)
    if not path.is_file():
        raise ValueError(
            f"There is no features file {features!r}. Give auto, pretrained, self-taught or the path of a "
            ".pth, .pt or .safetensors file."
        )
    return str(path.resolve())


def load_features(
    settings: StyleSettings,
    layers: Iterable[str],
    images: Sequence[Tensor],
    progress: self_taught.Progress | None = None,
    fingerprint: str | None = None,
) -> Features:
    """Load or learn the features that resolved settings name.

    Parameters
    ----------
    settings : StyleSettings
        With a resolved ``features``.
    layers : iterable of str
        The layers that will be used.
    images : sequence of Tensor
        Normalised RGB, each (1, 3, H, W), for self-taught features.
    progress : callable, optional
        Called with a sentence and a fraction.
    fingerprint : str, optional
        That of self-taught features to be used again: learning anew gives others with another number of threads or
        version of PyTorch.

    Raises
    ------
    ValueError
        If a file holds no such features; the message names the layer.
    """
    if settings.features == "self-taught":
        if fingerprint is not None and (kept := feature_cache.load_fingerprint(fingerprint)) is not None:
            return kept
        layers = set(layers)
        key = feature_cache.key_of(images, layers, settings.pooling, settings.seed, self_taught.VERSION)
        features = feature_cache.load(key)
        if features is None:
            features = self_taught.learn(images, layers, settings.pooling, settings.seed, progress)
            feature_cache.store(key, features)
        return features
    if settings.features == "pretrained":
        return pretrained_features(layers)
    return features_from_file(Path(settings.features), layers, settings.convention)


def pretrained_features(layers: Iterable[str]) -> Features:
    """Return the features that the download keeps.

    Raises
    ------
    ValueError
        If they are not what was kept; they are removed then, so that they can be downloaded again.
    """
    layers, path = layers_up_to(layers), pretrained_path()
    if not is_whole(path, layers):
        with contextlib.suppress(OSError):
            path.unlink()
        raise ValueError(f"The pretrained features in {path} are damaged and no longer used. {DOWNLOAD_HINT}")
    return features_from_file(path, layers, "torchvision", source="pretrained")


def is_whole(path: Path, layers: Iterable[str] = LAYERS) -> bool:
    """Tell whether layers of the file that the download keeps have the hashes that were noted with them."""
    try:
        with safe_open(path, "pt") as file:
            noted = file.metadata() or {}
            for layer in layers:
                stem = f"features.{TORCHVISION_INDEX[layer]}"
                pair = file.get_tensor(f"{stem}.weight"), file.get_tensor(f"{stem}.bias")
                if noted.get(layer) != fingerprint_of({layer: pair}):
                    return False
    except SafetensorError:
        return False
    return True


def features_from_file(
    path: Path, layers: Iterable[str], convention: str = "auto", source: str | None = None
) -> Features:
    """Read VGG-19 convolutions from a state dict.

    Parameters
    ----------
    path : Path
        ``.safetensors``, ``.pth`` or ``.pt``. Keys are ``features.N.weight`` as torchvision numbers them, or
        ``conv1_1.weight``. The file may stop early as long as it holds the layers asked for.
    layers : iterable of str
        The layers that will be used.
    convention : str
        What the convolutions were trained on: ``"torchvision"`` (RGB, ImageNet's mean and deviation),
        ``"caffe"`` (BGR, 0..255, mean subtracted), or ``"auto"`` to tell by keys, metadata or a known hash.
    source : str, optional
        What to call the features, the path by default.

    Returns
    -------
    Features
        The convention folded into conv1_1 and the border colour, so that the input is normalised RGB.

    Raises
    ------
    ValueError
        If the file cannot be read, lacks a layer, has one of a wrong shape, or its convention is unknown.
    """
    numbers, metadata = _read_state_dict(path)
    gatys = any(key.startswith("conv1_1.") for key in numbers)
    convolutions = {}
    for layer in layers_up_to(layers):
        stem = layer if gatys else f"features.{TORCHVISION_INDEX[layer]}"
        convolutions[layer] = _convolution(numbers, stem, layer, path)
    if convention == "auto":
        convention = "caffe" if gatys else _convention_of(path, metadata)
    border = (0.0, 0.0, 0.0)
    if convention == "caffe":
        convolutions["conv1_1"], border = _from_caffe(*convolutions["conv1_1"])
    fingerprint = fingerprint_of(convolutions)
    return Features(source or str(path), convolutions, border, fingerprint)


def _read_state_dict(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        if path.suffix.lower() == ".safetensors":
            with safe_open(path, "pt") as file:
                return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} was not loaded: it is no plain state dict (it may be a whole model, or hold code that would "
            "run). Save the model's state_dict() instead."
        ) from error
    except Exception as error:  # a damaged file makes the readers fail in any way
        raise ValueError(f"{path} cannot be read as a state dict; it may be damaged or of another kind.") from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping):
        raise ValueError(f"{path} holds a {type(state).__name__}, not a state dict of VGG-19.")
    return {str(k).removeprefix("module."): v for k, v in state.items() if isinstance(v, Tensor)}, {}


def _convolution(numbers: Mapping[str, Tensor], stem: str, layer: str, path: Path) -> tuple[Tensor, Tensor]:
    names = list(LAYERS)
    before = 3 if layer == "conv1_1" else LAYERS[names[names.index(layer) - 1]]
    expected = {"weight": (LAYERS[layer], before, 3, 3), "bias": (LAYERS[layer],)}
    pair = []
    for part, shape in expected.items():
        tensor = numbers.get(f"{stem}.{part}")
        if tensor is None:
            raise ValueError(
                f"{path} has no {layer} (no entry {stem}.{part}), which is needed. Choose layers that it holds, or "
                "another file."
            )
        if tuple(tensor.shape) != shape:
            raise ValueError(
                f"{path}: {layer} ({stem}.{part}) has shape {tuple(tensor.shape)}; VGG-19 has {shape}. Is it a "
                "file of another network?"
            )
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{path}: {layer} ({stem}.{part}) holds NaN or infinite values.")
        pair.append(tensor.float())
    return pair[0], pair[1]


def _convention_of(path: Path, metadata: Mapping[str, str]) -> str:
    named = metadata.get("convention", "")
    if named in ("torchvision", "caffe"):
        return named
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    for known, convention in KNOWN_HASHES.items():
        if digest.startswith(known):
            return convention
    raise ValueError(
        f"{path}: its keys do not tell whether it was trained on torchvision's input (RGB, normalised) or on Caffe's "
        "(BGR, 0 to 255). Set convention to torchvision or caffe."
    )


def _from_caffe(weight: Tensor, bias: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[float, float, float]]:
    """Return conv1_1 for normalised RGB minus the border colour, and that colour.

    Caffe's input is 255 x - mean in BGR, which is 255 std (n - border) for normalised n.
    """
    scale = torch.tensor(STD, dtype=torch.float32) * 255
    border = tuple((m / 255 - mean) / std for m, mean, std in zip(CAFFE_MEAN, MEAN, STD, strict=True))
    return (weight.flip(1) * scale.view(1, 3, 1, 1), bias), border  # type: ignore[return-value]
