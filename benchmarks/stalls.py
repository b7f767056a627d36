"""How long the viewer's main thread is held up during a run, against a control, and how fast the run is meanwhile.

    python benchmarks/stalls.py [--size 512] [--seconds 30]

A timer asks for the main thread every 5 ms while the canvas is panned; a stall is how late it comes. The control is the
same window and panning beside another process that loads every core.
"""

# ruff: noqa: E402 - napari is imported when its settings are not the user's own any more
from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

_own = tempfile.TemporaryDirectory(prefix="stalls-")
os.environ["NAPARI_CONFIG"] = f"{_own.name}/settings.yaml"
os.environ["NAPARI_NEURAL_STYLE_CONFIG"] = f"{_own.name}/config"

import napari
import numpy as np
from qtpy.QtCore import QEventLoop, QTimer
from qtpy.QtWidgets import QApplication
from scipy.ndimage import median_filter

import napari_neural_style.engine  # noqa: F401 - says how threads wait; the other process inherits it
from napari_neural_style import PRESETS

if TYPE_CHECKING:
    from napari_neural_style.engine.step import Step

EVERY = 0.005
RATED_STEPS = 100


def burn(ready: multiprocessing.synchronize.Event) -> None:
    """Load every core with what the engine does most: convolutions."""
    import torch

    image, weight = torch.rand(1, 128, 128, 128), torch.rand(128, 128, 3, 3)
    ready.set()
    while True:
        torch.nn.functional.conv2d(image, weight, padding=1)


def stalls(viewer: napari.Viewer, seconds: float) -> np.ndarray:
    """Return how late the timer came, in ms, while the canvas was panned."""
    late, last = [], time.perf_counter()

    def tick() -> None:
        nonlocal last
        now = time.perf_counter()
        late.append(max(0.0, now - last - EVERY) * 1000)
        last = now

    def pan() -> None:
        _, y, x = viewer.scene.camera.center
        viewer.scene.camera.center = (0, y, x + (1 if int(time.monotonic()) % 2 else -1))

    ticking, panning = QTimer(), QTimer()
    ticking.setInterval(int(EVERY * 1000))
    panning.setInterval(33)
    ticking.timeout.connect(tick)
    panning.timeout.connect(pan)
    ticking.start()
    panning.start()
    end = time.perf_counter() + seconds
    last = time.perf_counter()
    while time.perf_counter() < end:
        QApplication.processEvents()
        time.sleep(0.0005)
    ticking.stop()
    panning.stop()
    return np.array(late)


class Counted:
    """stylize(), counting: notes when every step was done."""

    def __init__(self) -> None:
        from napari_neural_style.engine import transfer

        self.times: list[float] = []
        self._stylize, transfer.stylize = transfer.stylize, self

    def __call__(self, *arguments: Any, **options: Any) -> Iterator[Step]:
        """Yield the same steps."""
        for step in self._stylize(*arguments, **options):
            self.times.append(time.perf_counter())
            yield step

    def rates(self) -> tuple[float, float]:
        """Return steps per second since the third step, and how many there were undisturbed; forget them.

        The second is what all steps would have made, had each taken no longer than those around it: a machine's speed
        changes from one run to the next, and what holds single steps up does not hide in that.
        """
        taken, self.times = np.diff(self.times[2:]), []
        return len(taken) / taken.sum(), len(taken) / median_filter(taken, 9, mode="nearest").sum()


def rates(viewer: napari.Viewer, widget: Any) -> np.ndarray:
    """Return three pairs of short runs, in the dock, the window left alone, and without it: see `Counted.rates`."""
    counted = Counted()
    content, style = (np.asarray(viewer.layers[name].data) for name in ("photograph", "painting"))
    # One saved step on the way, where the preset has two in 150 steps.
    widget.steps.value, widget.save_every.value = RATED_STEPS, PRESETS["balanced"].save_every
    pairs = []
    for _ in range(3):
        widget.run.native.click()
        loop = QEventLoop()  # as napari's own: it sleeps until there is something to do
        while widget.stop.enabled:
            QTimer.singleShot(100, loop.quit)
            loop.exec()
        docked = counted.rates()
        for _ in counted(content, style, widget.settings):
            pass
        pairs.append((docked, counted.rates()))
    return np.array(pairs)


def report(name: str, late: np.ndarray) -> None:
    """Print a row of the table."""
    median, p99 = np.percentile(late, [50, 99])
    print(f"| {name} | {median:.1f} | {p99:.1f} | {late.max():.1f} |")


def main() -> None:
    """Print the stalls of the idle window, the control and a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--seconds", type=float, default=30)
    options = parser.parse_args()

    viewer = napari.Viewer()
    viewer.open_sample("napari-neural-style", "pair")
    _, widget = viewer.window.add_plugin_dock_widget("napari-neural-style", "Style Transfer")
    print("| window | median, ms | 99 %, ms | longest, ms |\n| --- | --- | --- | --- |")
    stalls(viewer, 2)
    report("alone", stalls(viewer, options.seconds / 3))

    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    other = context.Process(target=burn, args=(ready,), daemon=True)
    other.start()
    ready.wait()
    report("beside a process that loads every core", stalls(viewer, options.seconds))
    other.kill()
    other.join()

    widget.size.value = options.size
    for name, steps, save_every in (
        ("during a run", 1_000_000, 1_000_000),
        ("during a run that saves every 10 steps, as layers", 90, 10),
        ("during a run that saves every 10 steps, in one layer", 1_000_000, 10),
    ):
        widget.steps.value, widget.save_every.value = steps, save_every
        before = len(viewer.layers)
        widget.run.native.click()
        if "torch" not in sys.modules:
            report("from Run to the first picture, PyTorch imported on the way", stalls(viewer, 3))
        while len(viewer.layers) == before:
            QApplication.processEvents()
        report(name, stalls(viewer, options.seconds))
        widget.stop.native.click()
        while not widget.run.enabled:
            QApplication.processEvents()
    picture = viewer.layers[-1].data
    adding = QTimer()
    adding.setInterval(1000)
    adding.timeout.connect(lambda: viewer.add_image(picture, rgb=True, visible=False))
    adding.start()
    report("napari adding a hidden layer every second, no run", stalls(viewer, options.seconds))
    adding.stop()
    pairs = rates(viewer, widget)
    (docked, _), (headless, _) = np.median(pairs, axis=0)
    # Of runs one after the other: a machine's speed changes more from one pair to the next.
    ratio = np.median(pairs[:, 0, 0] / pairs[:, 1, 0])
    kept = pairs[:, :, 0] / pairs[:, :, 1]
    undisturbed = np.median(kept[:, 0] / kept[:, 1])
    print(f"\nSteps per second of preset balanced, {RATED_STEPS} steps, its saved steps added as layers: ", end="")
    print(f"{docked:.2f} in the dock, {headless:.2f} without a window: {ratio:.3f}, medians of three pairs. ", end="")
    print(f"By the steps that were held up alone: {undisturbed:.3f}")
    viewer.close()


if __name__ == "__main__":
    main()
