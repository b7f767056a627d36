"""Where things that are kept between sessions lie."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path


def cache_folder() -> Path:
    """Return the folder that features are kept in; it need not exist.

    The environment variable ``NAPARI_NEURAL_STYLE_CACHE`` names another than the user's own.
    """
    named = os.environ.get("NAPARI_NEURAL_STYLE_CACHE")
    return Path(named) if named else user_cache_path("napari-neural-style", appauthor=False)


def pretrained_path() -> Path:
    """Return where the pretrained features are, or would be."""
    return cache_folder() / "vgg19-imagenet1k-v1.safetensors"
