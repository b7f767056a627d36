from __future__ import annotations

import dataclasses

import pytest

from napari_neural_style import StyleSettings


@pytest.fixture
def large(quick) -> StyleSettings:
    """Large enough for tiles."""
    return dataclasses.replace(quick, size=160, scales=1, steps=8, save_every=4)
