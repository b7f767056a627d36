"""Learned features, kept between runs: the same images and settings start at once."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from napari_neural_style.cache import cache_folder, newest_first
from napari_neural_style.engine.devices import cpu_bfloat16
from napari_neural_style.engine.tensors import write_tensors
from napari_neural_style.engine.vgg import Features, fingerprint_of

_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS")
"""Variables that tell libraries of instructions which not to use, or how to sum."""
KEPT = 32
"""How many sets of features are kept; the least recently used go first."""


def folder() -> Path:
    """Return where learned features are kept; it need not exist."""
    return cache_folder() / "self-taught"


def key_of(images: Sequence[Tensor], layers: Iterable[str], pooling: str, seed: int, learner: str) -> str:
    """Return the name that features go by: a hash of all that their last bits depend on.

    Parameters
    ----------
    images : sequence of Tensor
        Normalised RGB.
    layers : iterable of str
        The layers they were learned for.
    pooling, seed
        As in :func:`~napari_neural_style.engine.self_taught.learn`.
    learner : str
        The learner's own constants, so that another version learns afresh.
    """
    computed_by = (
        torch.__version__,
        torch.get_num_threads(),
        torch.get_float32_matmul_precision(),
        torch.backends.cpu.get_cpu_capability(),
        cpu_bfloat16(),
        torch.backends.mkldnn.enabled,
        [os.environ.get(name) for name in _LIMITS],
    )
    digest = hashlib.sha256(repr((sorted(layers), pooling, seed, learner, computed_by)).encode())
    for image in images:
        digest.update(repr((tuple(image.shape), image.device.type)).encode())
        digest.update(image.detach().cpu().contiguous().view(-1).numpy().data)
    return digest.hexdigest()[:32]


def load(key: str) -> Features | None:
    """Return features that were kept, or None; a damaged file counts as none."""
    path = folder() / f"{key}.safetensors"
    convolutions: dict[str, tuple[Tensor, Tensor]] = {}
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            rank = int(metadata["rank"])
            for layer in metadata["layers"].split(","):
                convolutions[layer] = (file.get_tensor(f"{layer}.weight"), file.get_tensor(f"{layer}.bias"))
    except Exception:  # whatever is wrong with the file, learning again is right
        return None
    with contextlib.suppress(OSError):  # a cache may be there to be read only
        path.touch()
    fingerprint = fingerprint_of(convolutions)
    if fingerprint != metadata.get("fingerprint"):
        return None
    return Features("self-taught", convolutions, "reflect", fingerprint, rank)


def load_fingerprint(fingerprint: str) -> Features | None:
    """Return features that were kept, by their fingerprint, however they were learned; None if there are none."""
    for path in entries():
        with contextlib.suppress(Exception), safe_open(path, "pt") as file:
            if file.metadata().get("fingerprint") == fingerprint:
                return load(path.stem)
    return None


def store(key: str, features: Features) -> None:
    """Keep features; where nothing can be written, nothing is kept."""
    numbers = {}
    for layer, (weight, bias) in features.convolutions.items():
        numbers[f"{layer}.weight"], numbers[f"{layer}.bias"] = weight.contiguous(), bias.contiguous()
    metadata = {
        "layers": ",".join(features.convolutions),
        "fingerprint": features.fingerprint,
        "rank": str(features.rank),
    }
    with contextlib.suppress(OSError):
        write_tensors(folder() / f"{key}.safetensors", numbers, metadata)
        _remove(entries()[KEPT:])


def entries() -> list[Path]:
    """Return the files of all features that are kept, the last used first."""
    return newest_first(folder().glob("*.safetensors"))


def clear() -> int:
    """Remove all learned features and return how many there were; on Windows those that are in use stay."""
    found = entries()
    _remove(found)
    return len(found) - len(entries())


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink()
