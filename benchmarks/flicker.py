"""How much a stylised stack flickers: planes that start from the one before, and planes that are stylised alone.

``python benchmarks/flicker.py`` prints the mean difference of neighbouring planes, in grey levels of 255, for the
content itself and for the results. Ten planes: the sample photograph gliding under a window, a disc moving across it.
"""

from __future__ import annotations

import argparse
import dataclasses
import time

import numpy as np
import numpy.typing as npt

from napari_neural_style import PRESETS, StyleSettings, stylize
from napari_neural_style.engine.images import to_uint8
from napari_neural_style.stack import Planes, PlaneStep, planes_of, result_size, share, stylize_stack
from napari_neural_style.viewer.samples import painting, photograph

Stack = npt.NDArray[np.uint8]


def moving(planes: int, side: int) -> Stack:
    """Return planes (T, H, W, 3) of smooth motion: one pixel a plane, a disc three."""
    picture = photograph()[40 : 40 + 2 * side : 2, 20 : 20 + 4 * side : 2]
    rows, columns = np.mgrid[:side, :side]
    found = []
    for t in range(planes):
        plane = picture[:, t : t + side].copy()
        disc = (rows - side / 2) ** 2 + (columns - side / 4 - 3 * t) ** 2 < (side / 8) ** 2
        plane[disc] = (220, 160, 60)
        found.append(plane)
    return np.stack(found)


def flicker(stack: Stack) -> float:
    """Return the mean absolute difference of neighbouring planes."""
    return float(np.abs(np.diff(stack.astype(np.float32), axis=0)).mean())


def stylised(planes: Planes, settings: StyleSettings, chain: int | None) -> tuple[Stack, list[PlaneStep]]:
    """Return a stylised stack and the last step of each plane."""
    out = np.zeros((*planes.shape, *result_size(planes, settings), 3), np.uint8)
    style = painting(planes.size[0])
    shared = share(planes, style, settings)
    steps = [s for s in stylize_stack(planes, style, settings, out, chain=chain, shared=shared) if s.over]
    return out, steps


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--planes", type=int, default=10)
    parser.add_argument("--side", type=int, default=112)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--initial", default="content", choices=("content", "noise"))
    options = parser.parse_args()
    settings = dataclasses.replace(
        PRESETS["fast"], size=options.side, steps=options.steps, initial=options.initial, device="cpu"
    )
    stack = moving(options.planes, options.side)
    planes = planes_of(stack, (0,), channels=True)
    print(f"content                                      {flicker(stack):6.2f}")
    style = painting(options.side)
    own = np.stack([to_uint8(list(stylize(plane, style, settings))[-1].image) for plane in stack])
    print(f"alone, features learned for each plane       {flicker(own):6.2f}")
    for name, chain in (("alone, features shared", None), ("each starts from the one before", 0)):
        started = time.perf_counter()
        out, steps = stylised(planes, settings, chain)
        losses = [s.step.losses for s in steps if s.step is not None]
        print(
            f"{name:<44} {flicker(out):6.2f}   {time.perf_counter() - started:.0f} s; total loss, first and last plane "
            f"{losses[0].total:.3f} {losses[-1].total:.3f}, content {losses[0].content:.3f} {losses[-1].content:.3f}"
        )


if __name__ == "__main__":
    main()
