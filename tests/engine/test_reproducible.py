"""The same image from the same provenance: in another process bit for bit, with other threads nearly."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_neural_style import StyleSettings, stylize
from napari_neural_style.engine import feature_cache
from napari_neural_style.engine.provenance import made_by

MAKE = """
import json, sys
import numpy as np
from test_reproducible import made
content, style, settings, threads, out = sys.argv[1:]
again, image = made((np.load(content), np.load(style)), json.loads(settings), int(threads))
np.save(out, image)
print(json.dumps(again))
"""


def made(pair, settings: dict, threads: int):
    """Return what is kept with an image that so many threads make, and the image."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        *_, end = stylize(*pair, StyleSettings.from_dict(settings))
        return made_by(end, {}), end.image
    finally:
        torch.set_num_threads(before)


def made_elsewhere(pair, settings: dict, threads: int, folder: Path):
    """Do the same in another process, which learns the features anew."""
    paths = [folder / "content.npy", folder / "style.npy"]
    for path, picture in zip(paths, pair, strict=True):
        np.save(path, picture)
    arguments = [*map(str, paths), json.dumps(settings), str(threads), str(folder / "out.npy")]
    paths_of_modules = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": paths_of_modules, "NAPARI_NEURAL_STYLE_CACHE": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", MAKE, *arguments], capture_output=True, text=True, check=True, env=environment
    )
    return json.loads(done.stdout), np.load(folder / "out.npy")


def test_another_process_and_another_number_of_threads(pair, quick, tmp_path):
    settings = dataclasses.replace(quick, size=96, scales=2, steps=10, tile="auto", device="auto", precision="auto")
    kept, image = made(pair, settings.to_dict(), 2)
    assert kept["threads"] == 2
    assert kept["settings"]["device"] != "auto"
    assert kept["settings"]["precision"] != "auto"
    assert isinstance(kept["settings"]["tile"], int)
    if kept["settings"]["device"] != "cpu":
        pytest.skip("bit for bit is for the CPU")
    again, same = made_elsewhere(pair, kept["settings"], kept["threads"], tmp_path)
    assert image.tobytes() == same.tobytes()
    assert again == kept
    other, near = made(pair, {**kept["settings"], "precision": "float32"}, 1)
    _, exact = made(pair, {**kept["settings"], "precision": "float32"}, 2)
    assert other["threads"] == 1
    assert np.abs(near - exact).mean() < 0.005
    assert np.abs(near - exact).max() < 0.2  # much is chance: .0002 to .05 with other pictures


def test_pytorchs_default_dtype_changes_nothing(pair, quick):
    settings = dataclasses.replace(quick, initial="noise", rescale_features=True, precision="auto").to_dict()
    expected, image = made(pair, settings, 2)
    feature_cache.clear()
    torch.set_default_dtype(torch.float64)
    try:
        found, same = made(pair, settings, 2)
    finally:
        torch.set_default_dtype(torch.float32)
    assert same.dtype == np.float32
    assert same.tobytes() == image.tobytes()
    assert found == expected
