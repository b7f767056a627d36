"""What a job's settings mean here and now: the device, the features, the layers in use, tiles."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from reprlib import repr as brief

import torch

from napari_neural_style.engine.devices import resolve_device, resolve_precision
from napari_neural_style.engine.memory import check_room, chosen_tile, free_bytes, held_apart, state_bytes
from napari_neural_style.engine.vgg import Features, layers_up_to, pools_before
from napari_neural_style.engine.weights import resolve_source
from napari_neural_style.settings import AUTO_LAYERS, StyleSettings


def resolved(settings: StyleSettings, features: Features | None = None) -> StyleSettings:
    """Return settings in which every ``"auto"`` is replaced by what it means here and now.

    What ``tile`` becomes depends on the images: it is noted in every step's settings.

    Parameters
    ----------
    settings : StyleSettings
        Any.
    features : Features, optional
        Features at hand, instead of those that the settings name.

    Raises
    ------
    ValueError
        If `settings` are no StyleSettings or `features` no Features, the device, the precision or the features that
        they name are not to be had, or the features given do not have all layers that are used.
    """
    if not isinstance(settings, StyleSettings):
        raise ValueError(f"settings must be StyleSettings, such as PRESETS['fast'], not {brief(settings)}.")
    if features is not None and not isinstance(features, Features):
        raise ValueError(
            f"features must be what features_for returns, not {brief(features)}. Name a file or a source in "
            "settings.features."
        )
    device = resolve_device(settings.device)
    source = resolve_source(settings.features) if features is None else features.source
    auto = AUTO_LAYERS["self-taught" if source == "self-taught" else "trained"]
    mirrored = source == "self-taught" if features is None else features.border == "reflect"
    settings = dataclasses.replace(
        settings,
        device=str(device),
        precision=str(resolve_precision(settings.precision, device)).removeprefix("torch."),
        features=source,
        padding=("reflect" if mirrored else "zeros") if settings.padding == "auto" else settings.padding,
        content_layers=auto["content"] if settings.content_layers == "auto" else settings.content_layers,
        style_layers=auto["style"] if settings.style_layers == "auto" else settings.style_layers,
    )
    missing = set() if features is None else set(layers_up_to(layers_of(settings))) - set(features.convolutions)
    if missing:
        raise ValueError(f"The features given have no {', '.join(sorted(missing))}, which the settings need.")
    return settings


def with_tile(settings: StyleSettings, size: tuple[int, int], styles: Sequence[tuple[int, int]]) -> StyleSettings:
    """Return resolved settings with the tile that pictures of these sizes need here and now."""
    if settings.tile != "auto":
        return settings
    device, largest = torch.device(settings.device), max((height * width for height, width in styles), default=0)
    tile = chosen_tile(size, largest, layers_of(settings), settings, device, free_bytes(device))
    return dataclasses.replace(settings, tile=tile)


def home_of(settings: StyleSettings, size: tuple[int, int]) -> torch.device:
    """Return where a run's images are held: where it computes, unless that has no room for them beside a tile."""
    device, host = torch.device(settings.device), torch.device("cpu")
    state = state_bytes(size[0] * size[1], settings.optimizer, settings.history)
    home = host if settings.tile and held_apart(state, device, free_bytes(device)) else device
    check_room(size, settings, free_bytes(home))
    return home


def layers_of(settings: StyleSettings) -> set[str]:
    """Return the layers that resolved settings use, those of a term whose weight is 0 too: it can be turned up."""
    return {layer for term in settings.terms for layer in getattr(settings, f"{term}_layers")}


def smallest_side(settings: StyleSettings) -> int:
    """Return the shortest side that the deepest layer in use can see; 2 pixels of it are needed."""
    return 2 * 2 ** max(pools_before(layer) for layer in layers_of(settings))
