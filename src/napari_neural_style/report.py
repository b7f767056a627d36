"""What ``stylize --report`` writes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from napari_neural_style.engine.losses import Losses
from napari_neural_style.engine.step import Step
from napari_neural_style.whole import whole_file

Seen = tuple[int, int, Losses, float]
"""A step's number and scale, its losses, and the seconds since the start."""


def _row(index: int, scale: int, losses: Losses, seconds: float) -> dict[str, float]:
    return {
        "step": index,
        "scale": scale,
        "total": losses.total,
        "content": losses.content,
        "style": losses.style,
        "variation": losses.variation,
        "seconds": round(seconds, 4),
    }


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
    first = rows[0]["seconds"]
    per_step = (rows[-1]["seconds"] - first) / (len(rows) - 1) if len(rows) > 1 else first
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
        part.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
