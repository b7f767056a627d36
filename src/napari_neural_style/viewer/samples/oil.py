"""A painting in oil drawn by code: whirls of short strokes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

PALETTE = (
    (16, 34, 92),
    (28, 68, 150),
    (62, 122, 190),
    (140, 184, 205),
    (240, 225, 160),
    (245, 180, 45),
    (205, 95, 40),
)
"""Colours of the painting from its depth to its lights, RGB 0..255."""

UInt8Image = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float64]


def painting(size: int = 512, seed: int = 1) -> UInt8Image:
    """Draw whirls of oil paint: thousands of short strokes along a field of vortices.

    Parameters
    ----------
    size : int
        Side in pixels.
    seed : int
        Seed of the vortices and strokes.

    Returns
    -------
    ndarray
        Shape (size, size, 3), uint8.
    """
    random = np.random.default_rng(seed)
    whirls = _Whirls(random)
    canvas = 2 * size
    image = Image.new("RGB", (canvas, canvas), PALETTE[1])
    relief = Image.new("L", (canvas, canvas), 128)
    draw, draw_relief = ImageDraw.Draw(image), ImageDraw.Draw(relief)
    for width, count in ((0.030, 900), (0.019, 2600), (0.013, 3600)):
        paths = whirls.streamlines(random.uniform(-0.12, 1.05, (count, 2)), points=9, step=width / 1.9)
        tones = whirls.tones(paths[:, 4]) + random.normal(0, 0.09, count)
        sides = _left_of(np.gradient(paths, axis=1))
        for path, side, tone in zip(paths, sides, tones, strict=True):
            thickness = width * canvas * random.uniform(0.6, 1.1)
            length = random.integers(6, 10)
            path, side = path[:length] * canvas, side[:length]
            _stroke(draw, draw_relief, path, side, _color(tone, random), thickness, random)
    heights = np.asarray(relief.filter(ImageFilter.GaussianBlur(canvas / 900)), dtype=np.float32)
    light = np.gradient(heights, axis=0) + np.gradient(heights, axis=1)
    shaded = np.clip(np.asarray(image, dtype=np.float32) - 1.6 * light[..., None], 0, 255).astype(np.uint8)
    return np.asarray(Image.fromarray(shaded).resize((size, size), Image.Resampling.LANCZOS))


class _Whirls:
    """A breeze with vortices in it; positions are (x, y) in 0..1."""

    def __init__(self, random: np.random.Generator, count: int = 9) -> None:
        self._centres = random.uniform(-0.05, 1.05, (count, 2))
        self._strengths = random.uniform(0.8, 1.8, count) * np.where(np.arange(count) % 3, 1, -1)
        self._radii = random.uniform(0.08, 0.17, count)

    def streamlines(self, starts: FloatArray, points: int, step: float) -> FloatArray:
        """Return the paths (n, points, 2) that the flow carries points (n, 2) along."""
        path = [starts]
        for _ in range(points - 1):
            dx, dy = np.moveaxis(path[-1][:, None] - self._centres, -1, 0)
            pull = self._strengths * np.exp(-(dx**2 + dy**2) / (2 * self._radii**2)) / self._radii
            flow = np.stack([0.9 - (pull * dy).sum(1), 0.25 + (pull * dx).sum(1)], axis=1)
            path.append(path[-1] + step * flow / (np.linalg.norm(flow, axis=1, keepdims=True) + 1e-9))
        return np.stack(path, axis=1)

    def tones(self, points: FloatArray) -> FloatArray:
        """Return how light the painting is at points (n, 2): bright in the whirls, banded around them."""
        distances = np.linalg.norm(points[:, None] - self._centres, axis=2) / self._radii
        nearest = distances.argmin(1)
        distance = distances[np.arange(len(points)), nearest]
        lit = self._strengths[nearest] > 0
        glow = np.where(lit, 0.85 * np.exp(-(distance**2) / 0.8), 0.3 * np.exp(-distance))
        return np.asarray(0.24 + glow + 0.15 * np.cos(7 * distance))


def _color(tone: float, random: np.random.Generator) -> tuple[int, int, int]:
    position = float(np.clip(tone, 0, 1)) * (len(PALETTE) - 1)
    low = min(int(position), len(PALETTE) - 2)
    mixed = np.array(PALETTE[low]) + (position - low) * (np.array(PALETTE[low + 1]) - PALETTE[low])
    r, g, b = np.clip(mixed + random.normal(0, 9, 3), 0, 255).astype(int).tolist()
    return r, g, b


def _stroke(
    draw: ImageDraw.ImageDraw,
    relief: ImageDraw.ImageDraw,
    path: FloatArray,
    side: FloatArray,
    color: tuple[int, int, int],
    width: float,
    random: np.random.Generator,
) -> None:
    """Draw one stroke as three bristles side by side, each a little lighter or darker."""
    across = _left_of(path[-1] - path[0])
    edge = side * max(1, round(width * 0.5)) / 2
    # A polygon each: lines with rounded joints take Pillow seven times as long.
    outline = np.concatenate([path + edge, (path - edge)[::-1]])
    for offset in (-0.3, 0.3, 0.0):
        shade = float(random.normal(1, 0.07))
        r, g, b = (int(min(255, channel * shade)) for channel in color)
        corners = (outline + across * offset * width).ravel().tolist()
        draw.polygon(corners, fill=(r, g, b))
        relief.polygon(corners, fill=int(random.integers(90, 170)))


def _left_of(along: FloatArray) -> FloatArray:
    """Return unit vectors at right angles to vectors (..., 2)."""
    return np.stack([-along[..., 1], along[..., 0]], -1) / (np.linalg.norm(along, axis=-1, keepdims=True) + 1e-9)
