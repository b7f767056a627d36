"""What ``stylize --report`` writes."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from napari_neural_style.engine.losses import Losses
from napari_neural_style.engine.step import Step
from napari_neural_style.files import SUFFIXES, check_folder_of, is_ome_zarr
from napari_neural_style.whole import whole_file, why_not

Seen = tuple[int, int, Losses, float]
"""A step's number and scale, its losses, and the seconds since the start."""


def check_report(path: Path) -> Path:
    """Return where a report would be written, or say why it cannot be.

    Raises
    ------
    ValueError
        If its name is too long, it is a folder, is in none, cannot be written, or is there and no report.
    """
    target = check_folder_of(path)
    if path.is_dir():
        raise ValueError(f"{str(path)!r} is a folder: name a file for the report, such as report.json.")
    if path.suffix.lower() in SUFFIXES or is_ome_zarr(path):
        raise ValueError(f"{str(path)!r} is the name of an image: name a file for the report, such as report.json.")
    if path.exists() and not (path.is_file() and _is_report(path)):
        raise ValueError(f"{str(path)!r} already exists and is no report of napari-neural-style: choose another name.")
    if reason := why_not(target):
        raise ValueError(f"{str(path)!r} cannot be written ({reason}): choose another folder for the report.")
    return path


def _is_report(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            if file.read(1) != b"{":  # a photograph, of any size
                return False
            file.seek(0)
            found = json.load(file)
        return "napari-neural-style" in found["versions"] and {"settings", "steps", "seconds_per_step"} <= set(found)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _row(index: int, scale: int, losses: Losses, seconds: float) -> dict[str, float | None]:
    # JSON knows no numbers that are not finite, which a step holds after which a run went back.
    told = {name: term if math.isfinite(term) else None for name, term in losses.terms.items()}
    return {"step": index, "scale": scale, **told, "seconds": round(seconds, 4)}


def write_report(path: Path, step: Step, seen: Sequence[Seen], seconds: float) -> None:
    """Write what a run was and how it went as JSON.

    Parameters
    ----------
    path : Path
        Where to.
    step : Step
        The last.
    seen : sequence of Seen
        Of every step.
    seconds : float
        How long it took in all.
    """
    import torch

    from napari_neural_style.engine.provenance import peak_memory_bytes, versions

    rows = [_row(*each) for each in seen]
    (*_, first), (*_, last) = seen[0], seen[-1]
    per_step = (last - first) / (len(seen) - 1) if len(seen) > 1 else first
    report = {
        "settings": step.settings.to_dict(),
        "device": step.settings.device,
        "precision": step.settings.precision,
        "features": {"source": step.settings.features, "fingerprint": step.fingerprint},
        "versions": versions(),
        "notes": list(step.notes),
        "threads": torch.get_num_threads(),
        "steps": rows,
        "seconds": round(seconds, 4),
        "seconds_per_step": round(per_step, 6),
        "peak_memory_bytes": peak_memory_bytes(step.settings.device),
    }
    with whole_file(path) as part:
        part.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")
