"""Where features, stopped runs and stacks are kept."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from platformdirs import user_cache_path

from napari_neural_style.paths import path_named

_preferred: Path | None = None


def prefer_folder(folder: Path | None) -> None:
    """Keep them in a folder from now on; None means the user's own cache folder."""
    global _preferred
    _preferred = folder


def cache_folder() -> Path:
    """Return the folder that they are kept in; it need not exist.

    The environment variable ``NAPARI_NEURAL_STYLE_CACHE`` comes first, then what :func:`prefer_folder` was told,
    then the user's own cache folder.
    """
    named = os.environ.get("NAPARI_NEURAL_STYLE_CACHE")
    return path_named(named) if named else _preferred or user_cache_path("napari-neural-style", appauthor=False)


def pretrained_path() -> Path:
    """Return where the pretrained features are, or would be."""
    return cache_folder() / "vgg19-imagenet1k-v1.safetensors"


def newest_first(paths: Iterable[Path]) -> list[Path]:
    """Return files in the order of their last use; one that another process removed meanwhile is left out."""
    times: dict[Path, float] = {}
    for path in paths:
        with contextlib.suppress(OSError):
            times[path] = path.stat().st_mtime
    return sorted(times, key=times.__getitem__, reverse=True)
