"""A window of stained glass drawn by code: a sun over hills and water, leaded pane by pane."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from napari_neural_style.viewer.samples.noise import smooth_noise

UInt8Image = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]
Color = tuple[int, int, int]

SUN, SUN_RADIUS = (0.62, 0.31), 0.125
CORE: tuple[Color, ...] = ((255, 240, 170), (255, 216, 96))
SKY: tuple[Color, ...] = (
    (255, 190, 60),
    (246, 132, 44),
    (220, 58, 48),
    (170, 28, 76),
    (104, 34, 118),
    (54, 40, 132),
    (30, 50, 116),
)
LAND: tuple[tuple[float, float, float, float, tuple[Color, ...]], ...] = (
    (0.50, 0.045, 5.2, 0.065, ((112, 72, 158), (146, 88, 170), (84, 84, 172))),
    (0.60, 0.050, 4.1, 0.062, ((22, 122, 124), (40, 156, 140), (14, 92, 112))),
    (0.71, 0.040, 6.3, 0.058, ((40, 138, 62), (92, 172, 56), (20, 104, 70), (164, 188, 56))),
    (0.83, 0.012, 11.0, 0.036, ((18, 82, 160), (36, 134, 194), (84, 188, 210), (22, 56, 132), (248, 176, 84))),
)
"""Hills from far to near, and water: how far down, how high its waves, how many, how wide its bands, its glass."""
LEAD: Color = (24, 22, 28)


def stained_glass(size: int = 512, seed: int = 4) -> UInt8Image:
    """Draw a leaded window.

    Parameters
    ----------
    size : int
        Side in pixels.
    seed : int
        Seed of the cuts, and of the tones and streaks of the panes.

    Returns
    -------
    ndarray
        Shape (size, size, 3), uint8.
    """
    random = np.random.default_rng(seed)
    side = 2 * size
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    x += 0.006 * smooth_noise(random, side, 8)
    y += 0.006 * smooth_noise(random, side, 8)
    panes, colors = _sky(x, y, random)
    for down, height, waves, band, glass in LAND:
        phase = random.uniform(0, 2 * np.pi)
        top = down + height * np.sin(waves * x + phase) + 0.4 * height * np.sin(2.3 * waves * x + 2 * phase)
        depth = np.clip((y - top) / band, 0, None)
        row = depth.astype(np.int32)
        cuts = random.uniform(0, 1, row.max() + 1)
        slant = 0.3 * (depth - row) * np.where(row % 2, 1, -1)
        column = (x / (2.4 * band) + slant + cuts[row] + 1).astype(np.int32)
        panes = np.where(y > top, len(colors) + 64 * row + column, panes)
        colors = np.vstack([colors, _cut(random, glass, 64 * (row.max() + 1))])
    light = _glass(colors[panes], panes, random)
    return _leaded(light, panes, size)


def _sky(x: FloatArray, y: FloatArray, random: np.random.Generator) -> tuple[IntArray, FloatArray]:
    """Return the panes in rings around the sun, and the colour of each."""
    dx, dy = x - SUN[0], y - SUN[1]
    distance, turn = np.hypot(dx, dy) / SUN_RADIUS, np.arctan2(dy, dx) / (2 * np.pi) + 0.5
    edges = np.array([0.45, 1.0, 1.55, 2.2, 2.95, 3.8, 4.75, 5.8])
    ring = np.searchsorted(edges, distance).astype(np.int32)
    cuts = np.array([1, 9, 14, 18, 22, 26, 30, 34, 40])
    panes = 64 * ring + (turn * cuts[ring] + random.uniform(0, 1, 9)[ring]).astype(np.int32) % cuts[ring]
    glass = [CORE, CORE[1:], *(SKY[i : i + 2] for i in range(len(SKY)))]
    colors = np.vstack([_cut(random, sheets, 64) for sheets in glass])
    return panes, colors


def _cut(random: np.random.Generator, glass: Sequence[Color], count: int) -> FloatArray:
    """Return the colours of panes cut from sheets of glass, shape (count, 3) in 0..1."""
    sheets = np.array(glass, dtype=np.float32)[random.integers(len(glass), size=count)] / 255
    return np.asarray(sheets * random.normal(1, 0.1, (count, 1)) + random.normal(0, 0.02, (count, 3)), dtype=np.float32)


def _glass(colors: FloatArray, panes: IntArray, random: np.random.Generator) -> FloatArray:
    """Return the light that falls through the panes: streaks of the melt, one way or the other, and ripples."""
    side = len(panes)
    streaks = np.where(panes % 2, smooth_noise(random, side, 90, 14), smooth_noise(random, side, 14, 90))
    clouds = smooth_noise(random, side, 18)
    ripples = smooth_noise(random, side, 130)
    return np.asarray(colors * (1 + 0.13 * streaks + 0.12 * clouds + 0.05 * ripples)[..., None])


def _leaded(light: FloatArray, panes: IntArray, size: int) -> UInt8Image:
    """Return the panes with lead between them, dim beside it, and the lead shining where it is round."""
    seams = np.zeros(panes.shape, dtype=np.uint8)
    seams[1:] |= (panes[1:] != panes[:-1]) * np.uint8(255)
    seams[:, 1:] |= (panes[:, 1:] != panes[:, :-1]) * np.uint8(255)
    came = Image.fromarray(seams).filter(ImageFilter.GaussianBlur(size / 180))
    height = np.asarray(came, dtype=np.float32) * size / 180 / 100
    halo = np.asarray(came.filter(ImageFilter.GaussianBlur(size / 50)), dtype=np.float32) * size / 180 / 100
    lead = np.clip((height - 0.32) / 0.16, 0, 1)[..., None]
    shine = np.clip(-np.gradient(height, axis=0) - np.gradient(height, axis=1), 0, None)[..., None]
    metal = np.array(LEAD, dtype=np.float32) / 255 + 0.9 * shine
    lit = light * (1.12 - 0.55 * np.clip(halo, 0, 1))[..., None]
    window = np.clip(255 * (lit * (1 - lead) + metal * lead), 0, 255).astype(np.uint8)
    return np.asarray(Image.fromarray(window).resize((size, size), Image.Resampling.LANCZOS))
