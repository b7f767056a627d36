"""What it takes to make a picture again."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from napari_neural_style.engine.step import Step
    from napari_neural_style.settings import StyleSettings


_version = cache(metadata.version)  # some milliseconds, each time a step is saved


def versions() -> dict[str, str]:
    """Return the versions of what computes the picture."""
    packages = ("napari-neural-style", "torch", "torchvision", "numpy")
    found = {name: _version(name) for name in packages}
    return {**found, "python": sys.version.split()[0]}


def left_open(asked: StyleSettings) -> list[str]:
    """Return which of the settings that say how to compute, not what, were left to be chosen."""
    return [name for name in ("device", "precision") if getattr(asked, name) == "auto"]


def made_by(step: Step, sources: Mapping[str, str], asked: StyleSettings | None = None) -> dict[str, Any]:
    """Return what made a step's picture, in JSON types.

    Parameters
    ----------
    step : Step
        The step.
    sources : mapping
        Names of the content and style images.
    asked : StyleSettings, optional
        The run's settings before every ``"auto"`` became something.
    """
    return {
        "settings": step.settings.to_dict(),
        "sources": dict(sources),
        "step": step.index,
        "losses": step.losses.terms,
        "features_fingerprint": step.fingerprint,
        "threads": torch.get_num_threads(),
        "versions": versions(),
        **({"notes": list(step.notes)} if step.notes else {}),
        **({} if asked is None else {"auto": left_open(asked)}),
    }


def peak_memory_bytes(device: str) -> int:
    """Return the most memory this process has used so far: on a GPU the GPU's, else resident memory."""
    if torch.device(device).type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    try:
        import resource
    except ImportError:
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)
