"""A run's whole state, to go on from later: in memory, or in a file of numbers and JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from napari_neural_style.engine.preparation import Brush, Sources
from napari_neural_style.engine.recovery import Kept, Watched
from napari_neural_style.engine.tensors import write_tensors
from napari_neural_style.settings import StyleSettings

FORMAT = 3


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Where a run stands after a step.

    Attributes
    ----------
    settings : StyleSettings
        Resolved, with what was turned so far.
    fingerprint : str
        SHA-256 of the features.
    index, scale, scale_step : int
        Steps done; number of the scale, from 1; steps done in it.
    boost : float
        Factor on the content weight.
    recent : tuple of float
        The last losses.
    sources : Sources
        The images it is made from.
    image : Tensor
        The normalised image that is optimised.
    optimizer : dict
        The optimiser's memory.
    watched : Watched
        What is known of numbers that went wrong.
    notes : tuple of str
        What the run turned by itself so far, in sentences.
    """

    settings: StyleSettings
    fingerprint: str
    index: int
    scale: int
    scale_step: int
    boost: float
    recent: tuple[float, ...]
    sources: Sources = field(repr=False)
    image: Tensor = field(repr=False)
    optimizer: Mapping[str, Tensor] = field(repr=False)
    watched: Watched = field(repr=False)
    notes: tuple[str, ...]


_NUMBERS = ("fingerprint", "index", "scale", "scale_step", "boost", "recent")


def write_snapshot(path: str | os.PathLike[str], snapshot: Snapshot) -> None:
    """Write a snapshot as safetensors; the file appears whole or not at all.

    Raises
    ------
    OSError
        If it cannot be written, for example on a full disk.
    """
    sources = snapshot.sources
    tensors = {"image": snapshot.image, "content": sources.content}
    tensors |= {f"optimizer {name}": value for name, value in snapshot.optimizer.items()}
    if sources.first is not None:
        tensors["first"] = sources.first
    tensors |= {f"guide {label}": guide for label, guide in (sources.guides or {}).items()}
    for number, brush in enumerate(sources.brushes):
        tensors[f"style {number}"] = brush.picture
        tensors |= {f"style {number} guide {label}": guide for label, guide in (brush.guides or {}).items()}
    state: dict[str, Any] = {name: getattr(snapshot, name) for name in _NUMBERS}
    state["format"] = FORMAT
    state["notes"] = snapshot.notes
    state["watched"] = vars(snapshot.watched) | {"kept": vars(snapshot.watched.kept) | {"image": None}}
    tensors["kept"] = snapshot.watched.kept.image
    state["settings"] = snapshot.settings.to_dict()
    state["weights"] = [brush.weight for brush in sources.brushes]
    # Distinct memory for every name: safetensors refuses tensors that share it.
    numbers = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    write_tensors(Path(path), numbers, {"state": json.dumps(state)})


def read_snapshot(path: str | os.PathLike[str]) -> Snapshot:
    """Read what :func:`write_snapshot` wrote.

    Raises
    ------
    ValueError
        If there is no such file, it is damaged, or another version wrote it.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"There is no run to go on with: {path} is no file.")
    try:
        with safe_open(path, "pt") as file:
            state = json.loads(file.metadata()["state"])
            tensors = {name: _taken(name, file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
        if state["format"] != FORMAT:
            raise ValueError(f"{path} was written by another version of napari-neural-style: go on with it there.")
        settings = StyleSettings.from_dict(state["settings"])
        brushes = tuple(
            Brush(tensors[f"style {number}"], weight, _guides(tensors, f"style {number} guide "))
            for number, weight in enumerate(state["weights"])
        )
        sources = Sources(tensors["content"], brushes, tensors.get("first"), _guides(tensors, "guide "))
        state["recent"] = tuple(state["recent"])
        return Snapshot(
            settings=settings,
            sources=sources,
            image=tensors["image"],
            optimizer=_starting_with(tensors, "optimizer "),
            watched=_watched(state["watched"], tensors["kept"]),
            notes=tuple(state["notes"]),
            **{name: state[name] for name in _NUMBERS},
        )
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError, OSError) as error:
        raise ValueError(f"{path} is damaged or no run of this program: it cannot be gone on with.") from error


def _taken(name: str, tensor: Tensor) -> Tensor:
    """Return what a run can use for long: Windows removes no file that is mapped, as tensors from a file are.

    What is large of the optimiser's memory stays in the file: a run copies it when it is taken up.
    """
    return tensor if name.startswith("optimizer ") and tensor.numel() > 9 else tensor.clone()


def _watched(state: dict[str, Any], image: Tensor) -> Watched:
    kept = Kept(**state["kept"] | {"image": image})
    return Watched(**state | {"kept": kept, "begun_with": tuple(state["begun_with"])})


def _starting_with(tensors: Mapping[str, Tensor], start: str) -> dict[str, Tensor]:
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}


def _guides(tensors: Mapping[str, Tensor], start: str) -> dict[int, Tensor] | None:
    guides = {int(label): guide for label, guide in _starting_with(tensors, start).items()}
    return dict(sorted(guides.items())) or None  # a file has them in the order of text, and sums have an order


def moved(snapshot: Snapshot, device: torch.device) -> Sources:
    """Return a snapshot's sources on a device."""
    sources = snapshot.sources

    def there(guides: Mapping[int, Tensor] | None) -> dict[int, Tensor] | None:
        return None if guides is None else {label: guide.to(device) for label, guide in guides.items()}

    return Sources(
        sources.content.to(device),
        tuple(Brush(b.picture.to(device), b.weight, there(b.guides)) for b in sources.brushes),
        None if sources.first is None else sources.first.to(device),
        there(sources.guides),
    )
