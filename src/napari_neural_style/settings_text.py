"""The values of settings as people type them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from napari_neural_style.settings import LAYERS, SETTINGS


def from_text(name: str, text: Any) -> Any:
    """Return a setting's value as people type it: ``512x384``, ``conv4_2=1,conv3_1=0.5``, ``0.02``.

    What is no text is returned as it is.

    Raises
    ------
    ValueError
        If the setting cannot have that value; the message says which form it has.
    """
    default = SETTINGS[name].default
    if name.endswith("_layers") and isinstance(text, str):
        return text if text == "auto" else _layers_from_text(name, text)
    if name == "changes" and isinstance(text, str):
        return _changes_from_text(text)
    number_or_auto = name == "tile" and text != "auto"
    if not isinstance(text, str) or (isinstance(default, str) and not number_or_auto):
        return text
    numbers = text.lower().replace("×", "x").split("x") if name == "size" else [text]
    try:
        parsed = [_number(number, isinstance(default, float)) for number in numbers]
    except ValueError:
        form = "one number, or height and width as in 384x512" if name == "size" else "a number"
        raise ValueError(f"{name} must be {form}, not {text!r}.") from None
    return parsed[0] if len(parsed) == 1 else parsed


def _number(text: str, real: bool) -> float:
    """Return a number; one that is to be whole, and is not, is told so where it is checked."""
    try:
        return float(text) if real else int(text)
    except ValueError:
        return float(text)


def _layers_from_text(name: str, text: str) -> dict[str, float]:
    if not text.strip():
        raise ValueError(f"{name} is empty: name layers as in conv4_2=1, or give auto.")
    weights: dict[str, float] = {}
    for entry in text.split(","):
        layer, equals, weight = (part.strip() for part in entry.partition("="))
        if not layer:
            raise ValueError(f"{name}: {text!r} is not of the form conv4_2=1,conv3_1=0.5.")
        if layer in weights:
            raise ValueError(f"{name}: {layer} is named twice.")
        try:
            weights[layer] = float(weight) if equals else 1.0
        except ValueError:
            raise ValueError(f"{name}: {entry!r} is not of the form conv4_2=1.") from None
    return weights


def _changes_from_text(text: str) -> dict[str, dict[str, Any]]:
    changes: dict[str, dict[str, Any]] = {}
    for entry in text.split(";") if text.strip() else ():
        step, colon, turned = entry.partition(":")
        for pair in turned.split(","):
            name, equals, value = (part.strip() for part in pair.partition("="))
            if not colon or not equals or name not in SETTINGS:
                raise ValueError(f"changes: {entry!r} is not of the form 100:style_weight=40,color=content.")
            there = changes.setdefault(step.strip(), {})
            if name in there:
                raise ValueError(f"changes: {name} changes twice at step {step.strip()}.")
            there[name] = from_text(name, value)
    return changes


def to_text(name: str, value: Any) -> str:
    """Return a setting's value as :func:`from_text` reads it."""
    if name == "changes":
        return ";".join(f"{step}:{_pairs(turned)}" for step, turned in value.items())
    if isinstance(value, Mapping):
        return ",".join(f"{layer}={_shortest(weight)}" for layer, weight in value.items()) or f"{next(iter(LAYERS))}=0"
    if isinstance(value, tuple):
        return "x".join(str(side) for side in value)
    return _shortest(value) if isinstance(value, float) else str(value)


def _pairs(turned: Mapping[str, Any]) -> str:
    return ",".join(f"{name}={to_text(name, new)}" for name, new in turned.items())


def _shortest(number: float) -> str:
    return f"{number:g}" if float(f"{number:g}") == number else str(number)
