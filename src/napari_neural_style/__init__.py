"""Repaint one napari image layer in the style of another.

The engine (:func:`stylize`) works on arrays and needs no viewer. Importing the package imports neither
torch nor Qt nor napari; `stylize` and `Step` bring torch in when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_neural_style.settings import PRESETS, StyleSettings

if TYPE_CHECKING:
    from napari_neural_style.engine.step import Step
    from napari_neural_style.engine.transfer import stylize

__version__ = "0.1.0"
__all__ = ["PRESETS", "Step", "StyleSettings", "__version__", "stylize"]


def __getattr__(name: str) -> Any:
    if name == "Step":
        from napari_neural_style.engine.step import Step

        return Step
    if name == "stylize":
        from napari_neural_style.engine.transfer import stylize

        return stylize
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
