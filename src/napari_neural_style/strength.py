"""The style strength: one number for the style weight against the content weight."""

from __future__ import annotations

import math

from napari_neural_style.settings import PRESETS, StyleSettings

_USUAL_RATIO = {
    preset.normalization: preset.style_weight / preset.content_weight
    for preset in map(PRESETS.__getitem__, ("balanced", "paper", "written"))
}
_DECADES_PER_POINT = 1 / 20


def style_strength(settings: StyleSettings) -> float:
    """Return the style strength, 0 to 100, of the settings' style_weight / content_weight.

    50 is the usual ratio of the settings' normalization, and 20 points are a factor of ten.
    """
    if settings.content_weight == 0:
        return 100.0
    if settings.style_weight == 0:
        return 0.0
    ratio = settings.style_weight / settings.content_weight / _USUAL_RATIO[settings.normalization]
    return min(100.0, max(0.0, 50 + math.log10(ratio) / _DECADES_PER_POINT))


def style_weight_of(strength: float, settings: StyleSettings) -> float:
    """Return the style weight that gives the settings a style strength, the inverse of `style_strength`."""
    ratio = 10.0 ** ((strength - 50) * _DECADES_PER_POINT)
    return settings.content_weight * ratio * _USUAL_RATIO[settings.normalization]
