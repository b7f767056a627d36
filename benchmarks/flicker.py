"""How much a stylised stack flickers: planes that start with the paint of the one before, and planes stylised alone.

``python benchmarks/flicker.py`` prints mean differences of neighbouring planes, in grey levels of 255, for the content
itself and for the results. Two stacks: a still picture with noise in it and a disc that moves across, and the same
picture gliding by one pixel a plane, whose planes are also compared after the motion is taken away.
"""

from __future__ import annotations

import argparse
import dataclasses
import time

import numpy as np
import numpy.typing as npt

from napari_neural_style import PRESETS, StyleSettings
from napari_neural_style.planes import planes_of
from napari_neural_style.shared import share
from napari_neural_style.stack import result_size, stylize_stack
from napari_neural_style.viewer.samples import painting, photograph

Stack = npt.NDArray[np.uint8]
DISC = 3
"""Pixels a plane that the disc moves."""


def scene(planes: int, side: int, glide: int, noise: float) -> Stack:
    """Return planes (T, H, W, 3)."""
    picture = photograph()[40 : 40 + 2 * side : 2, 20 : 20 + 4 * side : 2]
    generator = np.random.default_rng(0)
    found = []
    for t in range(planes):
        plane = picture[:, glide * t : glide * t + side].copy()
        plane[_distance(side, t) < side / 8] = (220, 160, 60)
        found.append((plane + generator.normal(0, noise, plane.shape)).clip(0, 255).astype(np.uint8))
    return np.stack(found)


def _distance(side: int, t: int) -> npt.NDArray[np.float64]:
    rows, columns = np.mgrid[:side, :side]
    return np.hypot(rows - side / 2, columns - side / 4 - DISC * t)


def flicker(stack: Stack, glide: int = 0) -> float:
    """Return the mean difference of neighbouring planes away from the disc, the motion taken away."""
    side, found = stack.shape[1], []
    for t, (one, two) in enumerate(zip(stack.astype(np.float32), stack[1:].astype(np.float32), strict=False)):
        far = _distance(side, t)[:, glide:] > side / 8 + 2 * DISC
        found.append(np.abs(two[:, : side - glide] - one[:, glide:]).mean(2)[far].mean())
    return float(np.mean(found))


def stylised(stack: Stack, settings: StyleSettings, chain: int | None) -> tuple[Stack, list[float]]:
    """Return a stylised stack and the last loss of each plane."""
    planes = planes_of(stack, (0,), channels=True)
    style = painting(planes.size[0])
    out = np.zeros((*planes.shape, *result_size(planes, settings), 3), np.uint8)
    shared = share(planes, style, settings)
    steps = stylize_stack(planes, style, settings, out, chain=chain, shared=shared)
    return out, [step.step.losses.total for step in steps if step.over and step.step is not None]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--planes", type=int, default=12)
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--steps", type=int, default=60)
    options = parser.parse_args()
    settings = dataclasses.replace(PRESETS["fast"], size=options.side, steps=options.steps, device="cpu")
    for name, glide, noise in (("still, with noise", 0, 4.0), ("gliding", 1, 0.0)):
        stack = scene(options.planes, options.side, glide, noise)
        print(f"{name}: content {flicker(stack):.1f}, motion taken away {flicker(stack, glide):.1f}")
        for way, chain in (("alone", None), ("chained", 0)):
            started = time.perf_counter()
            out, losses = stylised(stack, settings, chain)
            print(
                f"  {way}: {flicker(out):.1f}, motion taken away {flicker(out, glide):.1f}; loss of the first plane "
                f"{losses[0]:.2f}, mean of the last three {np.mean(losses[-3:]):.2f}; "
                f"{time.perf_counter() - started:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
