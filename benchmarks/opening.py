"""What opening the dock costs beyond napari's own work, with fifty layers, each time in a fresh process.

    python benchmarks/opening.py [--runs 3]

The control is a dock with a label in it. Drawing the canvas in its new size is the same for both and not counted.
Needs a screen.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import napari_neural_style

PROGRAM = """
import json, sys, time
import numpy as np, napari
from napari.layers import Image
from qtpy.QtWidgets import QApplication, QLabel
viewer = napari.Viewer()
for number in range(50):
    viewer.add_layer(Image(np.zeros((8, 8)), name=f"layer {number}"))
def settle():
    quiet = 0
    while quiet < 5:
        started = time.perf_counter()
        QApplication.processEvents()
        quiet = quiet + 1 if time.perf_counter() - started < 0.002 else 0
        time.sleep(0.01)
def timed(open_it):
    settle()
    started = time.perf_counter()
    open_it()
    opened = time.perf_counter() - started
    settle()
    return opened
timed(lambda: viewer.window.add_dock_widget(QLabel("first"), name="first"))
control = timed(lambda: viewer.window.add_dock_widget(QLabel("nothing"), name="nothing"))
ours = timed(lambda: viewer.window.add_plugin_dock_widget("napari-neural-style", "Style Transfer"))
again = timed(lambda: viewer.layers.append(Image(np.zeros((8, 8)), name="one more")))
print(json.dumps([control, ours, again, "torch" in sys.modules]))
viewer.close()
"""


def main() -> None:
    """Print medians in milliseconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    # As installing it does.
    compileall.compile_dir(Path(napari_neural_style.__file__).parent, quiet=1)
    rows = []
    for _ in range(options.runs):
        with tempfile.TemporaryDirectory() as folder:  # for settings: not the user's own
            own = {"NAPARI_CONFIG": f"{folder}/settings.yaml", "NAPARI_NEURAL_STYLE_CONFIG": f"{folder}/config"}
            done = subprocess.run(
                [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, env=os.environ | own
            )
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    *times, torch = zip(*rows, strict=True)
    for name, values in zip(("a label", "the dock", "one more layer"), times, strict=True):
        print(f"{name}: {statistics.median(values) * 1000:.0f} ms")
    print(f"torch imported: {any(torch)}")


if __name__ == "__main__":
    main()
