"""Makes the README's pictures from a run in a real window: python scripts/animation.py.

It needs a screen (scripts/with-screen gives one) and takes about a minute.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from session import Window, window

FOLDER = Path(__file__).parents[1] / "docs" / "pictures"
SIZE = (800, 450)
MOST_BYTES = 2_000_000
SHOWN = (
    1,
    2,
    4,
    7,
    11,
    16,
    22,
    30,
    40,
    55,
    70,
    71,
    73,
    77,
    83,
    90,
    100,
    115,
    130,
    145,
    146,
    149,
    155,
    165,
    180,
    200,
    225,
)
"""Steps that are frames: more of them where a scale begins and much changes."""
SETTINGS = {"size": 384, "scales": 3, "steps": 240, "save_every": 80, "preview_interval": 0.1}


def seen(w: Window) -> Image.Image:
    """Return the window as it is now."""
    return Image.fromarray(w.viewer.screenshot(canvas_only=False, flash=False)).convert("RGB")


def main() -> None:
    """Make the animation, a picture of the window in the middle of a run, and one of before, style and after."""
    with window("pair", **SETTINGS) as w:
        photograph, painting = w.viewer.layers["photograph"], w.viewer.layers["painting"]
        frames = [seen(w)]
        w.press(w.dock.run)
        for step in SHOWN:
            w.until_step(step)
            frames.append(seen(w))
        frames[-2].save(FOLDER / "window.jpg", quality=85, optimize=True)
        w.until(lambda: w.dock._job is None)
        w.wait(0.5)
        frames.append(seen(w))
        write_animation([frame.resize(SIZE, Image.Resampling.LANCZOS) for frame in frames], FOLDER / "run.gif")
        saved = next(layer for layer in w.viewer.layers if layer.name.endswith("step 80"))
        w.in_grid(2, {"before": photograph, "style": painting, "after 80 steps": saved, "after": w.viewer.layers[-1]})
        w.wait(0.5)
        seen(w).save(FOLDER / "before-after.jpg", quality=88, optimize=True)


def write_animation(frames: list[Image.Image], path: Path) -> None:
    """Write frames as an animated GIF that is small enough: in fewer colours if need be, all from one palette."""
    both = Image.fromarray(np.vstack([np.asarray(frames[0]), np.asarray(frames[-1])]))
    durations = [1800, *[170] * (len(frames) - 2), 3000]
    for colors in (256, 192, 128, 96, 64, 48):
        palette = both.quantize(colors)
        first, *others = (frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames)
        first.save(path, save_all=True, append_images=others, duration=durations, loop=0, optimize=True)
        if path.stat().st_size <= MOST_BYTES:
            break
    print(f"{path.name}: {len(frames)} frames, {colors} colours, {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
