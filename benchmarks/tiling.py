"""Memory and time of a step in tiles and in one piece, each in a process of its own: python benchmarks/tiling.py.

With --constants it prints what engine/memory.py holds: the bytes that a step and a pass without gradient take for every
pixel, over depths and precisions.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from typing import Any

STYLE_LAYERS = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")
PRECISIONS = ("float32", "bfloat16", "int8")
DEPTHS = ("conv1_1", "conv1_2", "conv2_1", "conv3_1", "conv4_2", "conv5_1")


def measure(size: int, tile: int, deepest: str, precision: str, steps: int, only: str = "") -> dict[str, float]:
    """Return bytes over idle and seconds a step for a picture of size × ⅔ size; `only` names a single pass."""
    import psutil

    import napari_neural_style.engine  # noqa: F401 - says how threads wait, before torch is imported

    # isort: split
    import torch

    from napari_neural_style.engine.allocator import kept_memory
    from napari_neural_style.engine.objective import Weights
    from napari_neural_style.engine.optimizers import Adam
    from napari_neural_style.engine.preparation import Brush
    from napari_neural_style.engine.provenance import peak_memory_bytes
    from napari_neural_style.engine.tiling import make_objective
    from napari_neural_style.engine.vgg import Features, Trunk, layers_up_to
    from napari_neural_style.settings import LAYERS

    names = layers_up_to([deepest])
    style = [name for name in STYLE_LAYERS if name in names]
    content = "conv4_2" if "conv4_2" in names else style[-1]
    convolutions, before = {}, 3
    for name in names:
        weight = torch.randn(LAYERS[name], before, 3, 3) * (2 / (9 * before)) ** 0.5
        convolutions[name] = (weight, torch.zeros(LAYERS[name]))
        before = LAYERS[name]
    features = Features("random", convolutions, "reflect", "")
    trunk = Trunk(features, {*style, content, deepest}, "average", "cpu", getattr(torch, precision))
    weights = Weights(1.0, 16.0, 0.0, {content: 1.0}, dict.fromkeys(style, 1.0), "relative")
    small = torch.rand(1, 3, 64, 64)
    make_objective(trunk, small, [Brush(small, 1.0)], weights, None, 0)(small)

    picture = torch.rand(1, 3, size * 2 // 3, size)
    idle = psutil.Process().memory_info().rss
    seconds = 0.0
    if only == "forward":
        make_objective(trunk, small, [Brush(picture, 1.0)], weights, None, 0)
    elif only == "step":
        make_objective(trunk, picture, [Brush(small, 1.0)], weights, None, tile)(picture)
    else:
        image = picture.clone()
        objective = make_objective(trunk, picture, [Brush(small, 1.0)], weights, None, tile)
        optimizer = Adam(image, 0.05)
        started = time.perf_counter()
        with kept_memory():  # as in every run
            for _ in range(steps):
                _, total, gradient = objective(image)
                optimizer.update(total, gradient)
                del gradient
            seconds = (time.perf_counter() - started) / steps
    return {"bytes": peak_memory_bytes("cpu") - idle, "seconds": seconds, "pixels": picture[0, 0].numel()}


def in_a_process(**what: Any) -> dict[str, float]:
    """Return :func:`measure`'s result from a process of its own."""
    done = subprocess.run([sys.executable, __file__, "--one", json.dumps(what)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr or f"A measurement ended with {done.returncode}: not enough memory?")
    return dict(json.loads(done.stdout))


def compare(options: argparse.Namespace) -> None:
    """Print a table of sizes."""
    print(f"up to {options.deepest}, {options.precision}, tiles of {options.tile}, Adam, {options.steps} steps")
    print("| size | tiles: MB over idle | bytes a pixel | s/step | one piece: MB over idle | s/step | tiles take |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    usual = {"deepest": options.deepest, "precision": options.precision, "steps": options.steps}
    for size in options.sizes:
        tiled = in_a_process(size=size, tile=options.tile, **usual)
        row = [f"{size} × {size * 2 // 3}", f"{tiled['bytes'] / 1e6:.0f}", f"{tiled['bytes'] / tiled['pixels']:.0f}"]
        row.append(f"{tiled['seconds']:.1f}")
        if size <= options.untiled:
            whole = in_a_process(size=size, tile=0, **usual)
            row += [f"{whole['bytes'] / 1e6:.0f}", f"{whole['seconds']:.1f}"]
            row.append(f"{tiled['seconds'] / whole['seconds']:.2f} ×")
        print("| " + " | ".join([*row, "", "", ""][:7]) + " |", flush=True)


def constants(options: argparse.Namespace) -> None:
    """Print bytes a pixel over depths and precisions."""
    from napari_neural_style.engine.memory import values_per_pixel

    print("| deepest layer | values a pixel | precision | step | step in tiles | forward |")
    print("| --- | --- | --- | --- | --- | --- |")
    for precision in PRECISIONS:
        for deepest in DEPTHS:
            usual = {"size": options.sizes[0], "deepest": deepest, "precision": precision, "steps": 1}
            found = [
                in_a_process(only=only, tile=tile, **usual)
                for only, tile in (("step", 0), ("step", options.sizes[0] // 32 * 16), ("forward", 0))
            ]
            per_pixel = [f"{one['bytes'] / one['pixels']:.0f}" for one in found]
            print(
                f"| {deepest} | {values_per_pixel([deepest]):.0f} | {precision} | {' | '.join(per_pixel)} |", flush=True
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024, 2048, 4096, 6000], help="longer sides, px")
    parser.add_argument("--untiled", type=int, default=1024, help="the largest that is also done in one piece, px")
    parser.add_argument("--tile", type=int, default=1024)
    parser.add_argument("--deepest", choices=DEPTHS, default="conv3_1")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--constants", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(**json.loads(options.one))))
    elif options.constants:
        constants(options)
    else:
        compare(options)
