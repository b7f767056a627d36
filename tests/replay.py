"""What a run that recovered has to be: the same image when it is made again."""

from __future__ import annotations

import json

import numpy as np

from napari_neural_style import StyleSettings, stylize
from napari_neural_style.engine.provenance import made_by


def assert_replayed(pair, end, **given) -> None:
    """A re-run from the provenance, without the fault, gives the same image and is silent."""
    settings = StyleSettings.from_dict(json.loads(json.dumps(made_by(end, {})))["settings"])
    *_, again = stylize(*pair, settings, **given)
    np.testing.assert_array_equal(again.image, end.image)
    assert again.settings == end.settings
