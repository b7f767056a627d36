"""A fluorescence movie made by code: cells of an epithelium that drift, grow and divide."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

UInt8Array = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float64]

CYCLE = 17.0
"""Frames between two divisions."""
MITOSIS = 0.85
"""The share of a cycle after which a nucleus condenses."""


@dataclass(frozen=True)
class _Nucleus:
    place: FloatArray
    velocity: FloatArray
    angle: float
    radius: float
    age: float
    filled: float
    """How bright the cell around it is."""
    chromatin: FloatArray
    """Bright spots: (n, 3), their place in the nucleus's own frame and how bright they are."""


def dividing_cells(frames: int = 10, size: int = 160, seed: int = 2) -> UInt8Array:
    """Simulate a movie of an epithelium under a fluorescence microscope.

    Parameters
    ----------
    frames : int
        How many frames.
    size : int
        Side of a frame in pixels.
    seed : int
        Seed of the cells and of the noise.

    Returns
    -------
    ndarray
        Shape (frames, size, size), uint8.
    """
    random = np.random.default_rng(seed)
    nuclei = [_seeded(random, place) for place in _apart(random, 16)]
    movie = []
    for _ in range(frames):
        movie.append(_photographed(nuclei, size, random))
        nuclei = _pushed(_pushed([part for nucleus in nuclei for part in _older(nucleus, random)]))
    return np.stack(movie)


def _apart(random: np.random.Generator, count: int) -> FloatArray:
    """Return places (count, 2) of y and x in 0..1 that keep away from each other."""
    places = random.uniform(0.05, 0.95, (1, 2))
    for _ in range(count - 1):
        tries = random.uniform(0.03, 0.97, (40, 2))
        places = np.vstack([places, tries[np.linalg.norm(tries[:, None] - places, axis=2).min(1).argmax()]])
    return places


def _chromatin(random: np.random.Generator) -> FloatArray:
    return np.column_stack([random.uniform(-0.6, 0.6, (7, 2)), random.uniform(0.1, 0.5, 7)])


def _seeded(random: np.random.Generator, place: FloatArray) -> _Nucleus:
    velocity, angle = random.normal(0, 0.005, 2), random.uniform(0, np.pi)
    return _Nucleus(
        place,
        velocity,
        angle,
        random.uniform(0.058, 0.07),
        random.uniform(0, 1),
        random.uniform(25, 85),
        _chromatin(random),
    )


def _older(nucleus: _Nucleus, random: np.random.Generator) -> list[_Nucleus]:
    """Return the nucleus a frame later, or the two that it divides into."""
    age = nucleus.age + 1 / CYCLE
    place = nucleus.place + nucleus.velocity
    angle = nucleus.angle + random.normal(0, 0.06)
    if age < 1:
        return [replace(nucleus, place=place, angle=angle, age=age)]
    way = np.array([np.sin(nucleus.angle), np.cos(nucleus.angle)])
    return [
        _Nucleus(
            place + side * 0.034 * way,
            nucleus.velocity + side * 0.008 * way + random.normal(0, 0.002, 2),
            angle,
            nucleus.radius * random.uniform(0.94, 1.02),
            0.0,
            nucleus.filled,
            _chromatin(random),
        )
        for side in (-1, 1)
    ]


def _pushed(nuclei: list[_Nucleus]) -> list[_Nucleus]:
    """Return the nuclei, those that overlap pushed apart."""
    places = np.array([nucleus.place for nucleus in nuclei])
    gaps = places[:, None] - places
    distances = np.linalg.norm(gaps, axis=2) + np.eye(len(nuclei))
    push = np.clip(0.15 - distances, 0, None) * 0.3 / distances
    moves = (push[..., None] * gaps).sum(1)
    return [
        replace(nucleus, place=nucleus.place + move, velocity=0.92 * nucleus.velocity)
        for nucleus, move in zip(nuclei, moves, strict=True)
    ]


def _photographed(nuclei: list[_Nucleus], size: int, random: np.random.Generator) -> UInt8Array:
    """Return a frame: light of the cells, dark between each other, and of their nuclei, and the noise of photons."""
    y, x = np.mgrid[0:size, 0:size] / size
    owner, off = _owners(np.stack([y, x], axis=2), np.array([nucleus.place for nucleus in nuclei]))
    filled = np.array([nucleus.filled for nucleus in nuclei])[owner]
    light = 7 + filled * (1 - np.exp(-((off / 0.013) ** 2)))
    for nucleus in nuclei:
        dy, dx = y - nucleus.place[0], x - nucleus.place[1]
        near = np.maximum(abs(dy), abs(dx)) < 0.13
        dy, dx = dy[near], dx[near]
        cos, sin = np.cos(nucleus.angle), np.sin(nucleus.angle)
        along, across = dx * cos + dy * sin, dy * cos - dx * sin
        short, long, bright = _shape(nucleus)
        reach = np.hypot(along / short, across / long)
        body = 1 / (1 + np.exp((reach - 1) * short / 0.0055))
        spots = sum(
            b * np.exp(-((along / short - u) ** 2 + (across / long - v) ** 2) / 0.05) for u, v, b in nucleus.chromatin
        )
        light[near] += bright * body * (0.75 + 0.25 * (1 - np.clip(reach, 0, 1) ** 2) + spots)
    return np.clip(random.poisson(light) + random.normal(0, 1.5, light.shape), 0, 255).astype(np.uint8)


def _owners(points: FloatArray, places: FloatArray) -> tuple[npt.NDArray[np.intp], FloatArray]:
    """Return whose cell points (h, w, 2) are in, that of the nearest place, and how far they are from its wall."""
    distances = np.hypot(points[..., :1] - places[:, 0], points[..., 1:] - places[:, 1])
    first, second = np.moveaxis(np.argpartition(distances, 1, axis=2)[..., :2], 2, 0)
    near, far = np.moveaxis(np.take_along_axis(distances, np.stack([first, second], axis=2), axis=2), 2, 0)
    return first, (far**2 - near**2) / (2 * np.linalg.norm(places[first] - places[second], axis=2))


def _shape(nucleus: _Nucleus) -> tuple[float, float, float]:
    """Return half of the width along and across the way it divides, and how bright the nucleus is.

    It grows over the cycle, condenses to a bright plate, and its halves swell again.
    """
    radius = nucleus.radius * (0.8 + 0.25 * nucleus.age)
    if nucleus.age > MITOSIS:
        part = (nucleus.age - MITOSIS) / (1 - MITOSIS)
        return radius * (0.8 - 0.42 * part), radius * (1.0 - 0.1 * part), 85 + 60 * part
    young = np.exp(-nucleus.age * CYCLE / 1.2)
    return radius * (0.88 - 0.4 * young), radius * (1.12 - 0.35 * young), 75 + 60 * young
