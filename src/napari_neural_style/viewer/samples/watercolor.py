"""A watercolour drawn by code: flowers in transparent washes on rough paper."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from napari_neural_style.viewer.samples.noise import smooth_noise

UInt8Image = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.floating]
Color = tuple[int, int, int]

PAPER: Color = (252, 248, 238)
SKIES: tuple[Color, ...] = ((176, 208, 222), (206, 196, 226), (250, 226, 160), (190, 218, 190))
BLOOMS: tuple[tuple[Color, Color], ...] = (
    ((226, 62, 76), (150, 24, 70)),
    ((240, 120, 66), (206, 44, 62)),
    ((218, 88, 150), (128, 40, 124)),
    ((134, 96, 186), (66, 48, 136)),
    ((248, 186, 64), (226, 104, 44)),
)
"""The colour of each kind of flower, in a thin wash and where a second one runs into it."""
LEAVES: tuple[Color, ...] = ((92, 140, 76), (52, 112, 92), (138, 160, 66), (40, 86, 84))
HEART: Color = (58, 40, 70)
FLOWERS = 20


def watercolor(size: int = 512, seed: int = 1) -> UInt8Image:
    """Paint a sheet of flowers, wash over wash.

    Pigment lies in the paper's grain and gathers at the rim of every wash; where washes cross, they darken each other
    as glass does.

    Parameters
    ----------
    size : int
        Side in pixels.
    seed : int
        Seed of the flowers and washes.

    Returns
    -------
    ndarray
        Shape (size, size, 3), uint8.
    """
    random = np.random.default_rng(seed)
    sheet = _Sheet(size, random)
    for x, y in _scattered(random, 9):
        sheet.wash(_blot(random, x, y, random.uniform(0.16, 0.3)), SKIES, strength=0.55, wet=0.03)
    places, radii = _scattered(random, FLOWERS), random.uniform(0.09, 0.15, FLOWERS)
    for outline in _leaves(random, places, radii):
        sheet.wash(outline, LEAVES, strength=random.uniform(0.5, 1.0))
    for (x, y), radius in zip(places, radii, strict=True):
        _flower(sheet, random, x, y, radius)
    for x, y in random.uniform(0, 1, (45, 2)):
        splash = _blot(random, x, y, random.uniform(0.002, 0.006))
        sheet.wash(splash, BLOOMS[random.integers(len(BLOOMS))], strength=0.8)
    return sheet.dried()


class _Sheet:
    """Paper, and how much of each primary the paint on it absorbs."""

    def __init__(self, size: int, random: np.random.Generator) -> None:
        self._size, self._random = size, random
        self._absorbed = np.zeros((size, size, 3), dtype=np.float32)
        self._grain = smooth_noise(random, size, 230) + 0.6 * smooth_noise(random, size, 90)
        self._clouds = smooth_noise(random, size, 22)

    def wash(self, outline: FloatArray, colors: tuple[Color, ...], strength: float, wet: float = 0.002) -> None:
        """Lay a wash of one of the colours within an outline (n, 2) of x and y in 0..1; a wet one has a soft rim."""
        color = np.array(colors[self._random.integers(len(colors))], dtype=np.float32)
        size, margin = self._size, 3 * wet + 0.01
        low = np.clip((outline.min(0) - margin) * size, 0, size).astype(int)
        high = np.clip((outline.max(0) + margin) * size + 1, 0, size).astype(int)
        if min(high - low) < 2:
            return
        area = (slice(low[1], high[1]), slice(low[0], high[0]))
        mask = Image.new("L", tuple((2 * (high - low)).tolist()))
        ImageDraw.Draw(mask).polygon([tuple(p) for p in (2 * (outline * size - low)).tolist()], fill=255)
        shape = mask.reduce(2).filter(ImageFilter.GaussianBlur(wet * size))
        covered = np.asarray(shape, dtype=np.float32) / 255
        inside = np.asarray(shape.filter(ImageFilter.GaussianBlur(0.008 * size)), dtype=np.float32) / 255
        rim = np.clip(covered - inside, 0, None) * (0.002 / wet) ** 0.5
        pool = self._clouds[area] * 0.35 + self._tilt(covered.shape)
        pigment = covered * np.clip(0.72 + 1.3 * rim + pool, 0.15, None) * (1 + 0.16 * self._grain[area])
        self._absorbed[area] += strength * pigment[..., None] * -np.log(color / 255)

    def _tilt(self, shape: tuple[int, ...]) -> FloatArray:
        """Return how the paint has run to one side."""
        x, y = self._random.normal(0, 0.3, 2)
        down, across = np.linspace(-1, 1, shape[0]), np.linspace(-1, 1, shape[1])
        return np.asarray(y * down[:, None] + x * across, dtype=np.float32)

    def dried(self) -> UInt8Image:
        """Return what is seen of the sheet."""
        light = np.array(PAPER) * np.exp(-self._absorbed) * (1 + 0.012 * self._grain[..., None])
        return np.clip(light, 0, 255).astype(np.uint8)


def _flower(sheet: _Sheet, random: np.random.Generator, x: float, y: float, radius: float) -> None:
    """Paint petals, a second colour that runs into them from the middle, the heart and the anthers around it."""
    thin, thick = BLOOMS[random.integers(len(BLOOMS))]
    petals = int(random.integers(5, 8))
    for angle in random.uniform(0, 2 * np.pi) + 2 * np.pi * np.arange(petals) / petals:
        reach = radius * random.uniform(0.85, 1.15)
        sheet.wash(_petal(random, x, y, angle, reach, 2.2 / petals), (thin,), strength=random.uniform(0.6, 1.0))
        sheet.wash(_petal(random, x, y, angle, 0.6 * reach, 1.15 / petals), (thick,), strength=0.6, wet=0.012)
    sheet.wash(_blot(random, x, y, 0.16 * radius), (HEART,), strength=1.0, wet=0.003)
    for angle in random.uniform(0, 2 * np.pi, 14):
        reach = radius * random.uniform(0.24, 0.42)
        sheet.wash(_blot(random, x + reach * np.cos(angle), y + reach * np.sin(angle), 0.004), (HEART,), strength=1.0)


def _leaves(random: np.random.Generator, places: FloatArray, radii: FloatArray) -> list[FloatArray]:
    """Return the outlines of the halves of the leaves around flowers, where there is room for them."""
    halves: list[FloatArray] = []
    middles: list[FloatArray] = []
    for place, radius in zip(places, radii, strict=True):
        for angle in random.uniform(0, 2 * np.pi) + np.arange(6) * np.pi / 3 + random.normal(0, 0.2, 6):
            length, way = random.uniform(0.12, 0.2), np.array([np.cos(angle), np.sin(angle)])
            start = place + 0.75 * radius * way
            near_tip, middle = start + 0.75 * length * way, start + 0.6 * length * way
            free = (np.linalg.norm(near_tip - places, axis=1) > 0.95 * radii).all()
            if free and all(np.linalg.norm(middle - other) > 0.07 for other in middles):
                middles.append(middle)
                halves += [_blade(random, start, angle, length, side) for side in (-1, 1)]
    return halves


def _scattered(random: np.random.Generator, count: int) -> FloatArray:
    """Return points (count, 2) that keep away from each other."""
    points = random.uniform(-0.03, 1.03, (1, 2))
    for _ in range(count - 1):
        tries = random.uniform(-0.03, 1.03, (30, 2))
        distance = np.linalg.norm(tries[:, None] - points, axis=2).min(1)
        points = np.vstack([points, tries[np.minimum(distance, 0.2).argmax()]])
    return points.astype(np.float32)


def _wobble(random: np.random.Generator, turns: FloatArray, amount: float) -> FloatArray:
    """Return an unsteady hand: about 1 everywhere along a closed outline."""
    waves = np.arange(2, 14)
    phases, heights = random.uniform(0, 2 * np.pi, len(waves)), random.normal(0, amount, len(waves)) / waves
    return np.asarray(1 + (heights * np.cos(np.outer(turns, waves) + phases)).sum(1), dtype=np.float32)


def _turned(x: float, y: float, along: FloatArray, across: FloatArray, angle: float) -> FloatArray:
    """Return an outline (n, 2) that starts from a point at an angle."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([x + along * cos - across * sin, y + along * sin + across * cos], axis=1).astype(np.float32)


def _blot(random: np.random.Generator, x: float, y: float, radius: float) -> FloatArray:
    """Return the outline of a blot around a point."""
    turns = np.linspace(0, 2 * np.pi, 60, endpoint=False, dtype=np.float32)
    reach = radius * _wobble(random, turns, 0.3)
    return _turned(x, y, reach * np.cos(turns), reach * np.sin(turns), 0)


def _petal(random: np.random.Generator, x: float, y: float, angle: float, length: float, width: float) -> FloatArray:
    """Return the outline of a petal that grows from a point, broadest near its end."""
    turns = np.linspace(0, 2 * np.pi, 70, endpoint=False, dtype=np.float32)
    along = (1 - np.cos(turns)) / 2
    reach = length * _wobble(random, turns, 0.16)
    return _turned(x, y, (0.06 + along) * reach, width * np.sin(turns) * np.sqrt(along + 0.02) * reach, angle)


def _blade(random: np.random.Generator, start: FloatArray, angle: float, length: float, side: int) -> FloatArray:
    """Return the outline of one half of a leaf; its vein is left out."""
    t = np.linspace(0, 1, 40, dtype=np.float32)
    vein = 0.25 * t**2 + side * 0.012
    rim = vein + side * 0.17 * np.sin(np.pi * t**0.8) * random.uniform(0.8, 1.1)
    along, across = np.concatenate([t, t[::-1]]), np.concatenate([vein, rim[::-1]])
    return _turned(start[0], start[1], length * along, length * across, angle)
