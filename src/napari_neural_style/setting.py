"""What is known of a setting, and the checking of values."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as brief
from typing import Any, Literal


class Fixed(dict[Any, Any]):
    """A mapping that cannot be changed, and has a hash as what it holds has."""

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise TypeError("Settings cannot be changed; dataclasses.replace makes others.")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[type[Fixed], tuple[dict[Any, Any]]]:
        return Fixed, (dict(self),)


LayerWeights = Literal["auto"] | Mapping[str, float]
Changes = Mapping[int, Mapping[str, Any]]


@dataclass(frozen=True)
class Setting:
    """What is known of one field of :class:`~napari_neural_style.settings.StyleSettings`.

    Parameters
    ----------
    default : Any
        Its value where none is given, of the type that every value has.
    help : str
        One or two sentences for tooltips, ``--help`` and the documentation.
    choices : tuple of str
        The words the field may hold; empty for numbers.
    low, high : float
        Range of a number, both ends included.
    unit : str
        Unit of a number, empty when it has none.
    basic : bool
        Shown in the dock's main part; the others are under Advanced.
    live : bool
        Can be turned while a job runs, see ``changes``.
    relief : bool
        A job turns it itself where memory runs out or numbers go wrong; the weights, which are live, can be turned so
        too.
    """

    default: Any
    help: str
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = math.inf
    unit: str = ""
    basic: bool = False
    live: bool = False
    relief: bool = False

    @property
    def tooltip(self) -> str:
        """The help text, of a number with its range and unit; choices are seen beside it."""
        if isinstance(self.default, bool) or not isinstance(self.default, (int, float)):
            return self.help
        return f"{self.help} {self.range}."

    @property
    def range(self) -> str:
        """The range of a number, with its unit."""
        whole = isinstance(self.high, int) or (self.high < 1e8 and self.high == int(self.high))
        high = f"{int(self.high)}" if whole else f"{self.high:g}"
        return f"{self.low:g} to {high}{' ' + self.unit if self.unit else ''}"


def checked(name: str, value: Any, settings: Mapping[str, Setting], layers: Collection[str]) -> Any:
    """Return a value in its setting's own type.

    Parameters
    ----------
    name : str
        The setting.
    value : Any
        Anything.
    settings : mapping
        What is known of all settings, by name.
    layers : collection of str
        The layers that there are.

    Raises
    ------
    ValueError
        If the setting cannot have the value; the message says what is wrong.
    """
    details = settings[name]
    if name in ("content_layers", "style_layers"):
        return _checked_layers(name, value, layers)
    if name == "changes":
        return _checked_changes(value, settings, layers)
    if name == "tile":
        return value if isinstance(value, str) and value == "auto" else _checked_tile(value, details)
    if name == "size" and (isinstance(value, (tuple, list)) or getattr(value, "ndim", 0) == 1):
        if len(value) != 2:
            raise ValueError(f"size must be one number or (height, width), 384x512 as text, not {brief(value)}.")
        return tuple(_checked_number(name, side, int, details) for side in value)
    if isinstance(details.default, bool):
        if not (isinstance(value, bool) or (getattr(value, "ndim", None) == 0 and str(value.dtype) == "bool")):
            raise ValueError(f"{name} must be true or false, not {brief(value)}.")
        return bool(value)
    if isinstance(details.default, str):
        if isinstance(value, Path):
            value = str(value)
        if not isinstance(value, str) or not value:
            raise ValueError(f"{name} must be a word, not {brief(value)}.")
        if details.choices and value not in details.choices:
            raise ValueError(f"{name} must be one of {', '.join(details.choices)}, not {brief(value)}.")
        return value
    return _checked_number(name, value, type(details.default), details)


def _checked_number(name: str, value: Any, kind: type, details: Setting) -> float | int:
    try:
        number = kind(value)
        exact = not isinstance(value, (str, bytes, bool)) and number == value
    except (TypeError, ValueError, OverflowError):
        exact = False
    if not exact:
        what = "a whole number" if kind is int else "a number"
        raise ValueError(f"{name} must be {what}, not {brief(value)}.")
    if not details.low <= number <= details.high:
        raise ValueError(f"{name} must be {details.range}, not {brief(value)}.")
    return number


def _checked_tile(value: Any, details: Setting) -> int:
    side = int(_checked_number("tile", value, int, details))
    if side % 16:
        raise ValueError(f"tile must be auto, 0 or a multiple of 16, not {brief(value)}.")
    return side


def _checked_layers(name: str, value: Any, layers: Collection[str]) -> LayerWeights:
    if isinstance(value, str) and value == "auto":
        return "auto"
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} must be 'auto' or a mapping of layer names to weights, not {brief(value)}.")
    weight_of = Setting(1.0, "", low=0.0, high=1e12)
    for layer in value:
        if layer not in layers:
            raise ValueError(f"{name}: there is no layer {brief(layer)}; the layers are {', '.join(layers)}.")
    return Fixed(
        (layer, float(_checked_number(f"{name}[{layer}]", weight, float, weight_of)))
        for layer, weight in value.items()
        if weight != 0
    )


def _checked_changes(value: Any, settings: Mapping[str, Setting], layers: Collection[str]) -> Changes:
    if not isinstance(value, Mapping):
        raise ValueError(f"changes must be a mapping of steps to what changes there, not {brief(value)}.")
    live = [name for name, details in settings.items() if details.live or details.relief]
    found: dict[int, dict[str, Any]] = {}
    for step, turned in value.items():
        digits = isinstance(step, str) and step.isascii() and step.isdigit()
        number = _checked_number("A step in changes", int(step) if digits else step, int, settings["steps"])
        if not isinstance(turned, Mapping):
            raise ValueError(f"changes: step {number} must have a mapping of settings to values, not {brief(turned)}.")
        for name in turned:
            if name not in live:
                raise ValueError(f"changes: {brief(name)} cannot change during a run; these can: {', '.join(live)}.")
            if (name == "tile" and turned[name] == "auto") or (name == "precision" and turned[name] != "float32"):
                raise ValueError(f"changes: {name} cannot change to {turned[name]} during a run.")
        if turned:
            found[int(number)] = Fixed((name, checked(name, new, settings, layers)) for name, new in turned.items())
    return Fixed(sorted(found.items()))


def check_weights(weights: Mapping[str, float], changes: Changes, mode: str) -> None:
    """Check that something is optimised throughout a job.

    Parameters
    ----------
    weights : mapping
        The weights of the terms that the mode has, by the names of their settings.
    changes : mapping
        What is turned during the job.
    mode : str
        What the job makes.

    Raises
    ------
    ValueError
        If from some step on all of the weights are 0.
    """
    now = dict(weights)
    for step, turned in {0: {}, **changes}.items():
        now |= {name: turned[name] for name in now if name in turned}
        if not any(now.values()):
            when = f" from step {step} on" if step else ""
            which = " and ".join(now) + (" are both 0" if len(now) > 1 else f" is 0 in mode {mode}")
            raise ValueError(f"{which}{when}: nothing is left to optimise.")
