"""How much memory a step takes, and the tiles that make it fit."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable
from pathlib import Path

import torch

from napari_neural_style.engine.inverse_hessian import kept_in_full
from napari_neural_style.engine.tiles import halo_of
from napari_neural_style.engine.vgg import layers_up_to, pools_before
from napari_neural_style.settings import LAYERS, SETTINGS, StyleSettings

# Measured by benchmarks/tiling.py --constants, rounded up.
STEP = {"float32": (1310, 0.65), "bfloat16": (1150, 0.1), "int8": (1400, 0.1)}
"""Bytes that a step takes for every pixel, and for every activation of the layers up to the deepest, by precision."""
FORWARD = {"float32": 880, "bfloat16": 490, "int8": 770}
"""Bytes for every pixel that a pass without gradient takes: most are conv1_2's, so that depth does not matter."""
PICTURES = 6
"""Images at the working size that a run holds besides the optimiser's: prepared ones, the optimised one, the one to go
back to, a gradient."""
ADAM = 2
"""Images that Adam holds."""
LBFGS = 5
"""Images that L-BFGS holds besides, those it works with among them."""
IMAGE = 3 * 4
"""Bytes of a pixel of an image."""

USABLE = 0.8
"""Share of the free memory that a run may take."""
HOST_TILE = 512 * 2**20
"""Bytes that a tile may take on the CPU: larger ones are hardly faster."""
LEAST_TILE = 64
"""Smallest side that tiles are made where memory runs out."""
SIDES = (2048, 1536, 1024, 768, 640, 512, 448, 384, 320, 256, 192, 128)
"""Sides that a tile may have, the largest first."""

# What control groups call a limit (or "max"), what is used of it, and how much of that files are.
_VERSION_1 = ("limit_in_bytes", "usage_in_bytes", "total_inactive_file")
_VERSION_2 = ("max", "current", "inactive_file")
_OWN_GROUP, _GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def values_per_pixel(layers: Iterable[str]) -> float:
    """Return how many activations the layers up to the deepest have for every pixel of the image."""
    return sum(LAYERS[name] / 4 ** pools_before(name) for name in layers_up_to(layers))


def step_bytes(pixels: int, layers: Iterable[str], precision: str) -> int:
    """Return about how many bytes the activations and gradients of a step take.

    Parameters
    ----------
    pixels : int
        Of the image, or of what a tile sees.
    layers : iterable of str
        The layers in use.
    precision : str
        ``"float32"``, ``"bfloat16"`` or ``"int8"``.
    """
    fixed, value = STEP[precision]
    return int(pixels * (fixed + value * values_per_pixel(layers)))


def state_bytes(pixels: int, optimizer: str, history: int) -> int:
    """Return about how many bytes a run's images and its optimiser's memory take."""
    # For every step that L-BFGS remembers, and one more, it holds two images, or two of half precision.
    pair = 2 if kept_in_full(history, 3 * pixels) else 1
    remembered = ADAM if optimizer == "adam" else LBFGS + pair * (history + 1)
    return pixels * IMAGE * (PICTURES + remembered)


def free_bytes(device: torch.device) -> int:
    """Return how much memory is free where a device computes."""
    if device.type == "cuda":
        # What PyTorch keeps of what was freed is free for PyTorch.
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    import psutil

    return int(max(0, min(psutil.virtual_memory().available, _left_of_limits())))


def _left_of_limits() -> float:
    """Return how many bytes containers and batch systems leave this process, as Linux's control groups tell."""
    left = math.inf
    try:
        lines = _OWN_GROUP.read_text().splitlines()
    except OSError:
        return left
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        names = _VERSION_1 if controllers else _VERSION_2
        own = _GROUPS / ("memory" if controllers else "") / path.lstrip("/")
        for group in (own, *own.parents):
            with contextlib.suppress(OSError, ValueError, KeyError):  # no group, or one that limits no memory
                limit, used = (int((group / f"memory.{name}").read_text()) for name in names[:2])
                kinds = dict(kind.split() for kind in (group / "memory.stat").read_text().splitlines())
                # Files that were read count as used, and give way.
                left = min(left, limit - used + int(kinds[names[2]]))
    return left


def chosen_tile(
    size: tuple[int, int], styles: int, layers: Iterable[str], settings: StyleSettings, device: torch.device, free: int
) -> int:
    """Return the side of the tiles for a run, 0 where the whole picture fits.

    Parameters
    ----------
    size : (int, int)
        Working height and width.
    styles : int
        Pixels of the largest style picture.
    layers : iterable of str
        The layers in use.
    settings : StyleSettings
        With a resolved precision.
    device : torch.device
        Where to compute.
    free : int
        Bytes that are free there.
    """
    layers, pixels = list(layers), size[0] * size[1]
    state = state_bytes(pixels, settings.optimizer, settings.history)
    whole = max(step_bytes(pixels, layers, settings.precision), styles * FORWARD[settings.precision])
    if state + whole <= USABLE * free:
        return 0
    left = USABLE * free - (0 if held_apart(state, device, free) else state)
    budget = left if device.type == "cuda" else min(left, HOST_TILE)
    halo = halo_of(layers)
    fitting = (side for side in SIDES if step_bytes((side + 2 * halo) ** 2, layers, settings.precision) <= budget)
    return next(fitting, SIDES[-1])


def held_apart(state: int, device: torch.device, free: int) -> bool:
    """Tell whether a run's images stay in host memory, away from the device that has too little for them."""
    return device.type == "cuda" and state > free / 2


def check_room(size: tuple[int, int], settings: StyleSettings, free: int) -> None:
    """Raise a ValueError that says what to do if a run's images and its optimiser's memory do not fit."""
    state = state_bytes(size[0] * size[1], settings.optimizer, settings.history)
    if state > free:
        smaller = "" if settings.optimizer == "adam" else ", a smaller history, or the optimizer adam"
        raise ValueError(
            f"At {size[0]} × {size[1]} pixels the images and the memory of {settings.optimizer} take "
            f"{state / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free. Choose a smaller size{smaller}."
        )


def fitting_size(size: tuple[int, int], layers: Iterable[str], settings: StyleSettings, free: int) -> int:
    """Return the longer side of a picture that fits in the smallest tiles, below three quarters of `size`; 0 if none.

    Parameters
    ----------
    size : (int, int)
        Height and width that do not fit.
    layers, settings, free
        As for :func:`chosen_tile`.
    """
    layers = list(layers)
    tile = (LEAST_TILE + 2 * halo_of(layers)) ** 2
    longer = 3 * max(size) // 4
    while longer >= SETTINGS["size"].low:
        pixels = round(longer * longer * min(size) / max(size))
        state = state_bytes(pixels, settings.optimizer, settings.history)
        if state + step_bytes(min(pixels, tile), layers, settings.precision) <= USABLE * free:
            return longer
        longer = 9 * longer // 10
    return 0


def too_large(size: tuple[int, int], layers: Iterable[str], settings: StyleSettings, device: torch.device) -> str:
    """Return the sentence for a run that the memory that is free on a device does not hold, however small its tiles."""
    fits = fitting_size(size, layers, settings, free_bytes(device))
    cure = f"Choose a size of {fits} or less" if fits else "Close other programs, or choose another device"
    smaller = "" if settings.optimizer == "adam" else ", or the optimizer adam"
    return f"At {size[0]} × {size[1]} pixels memory runs out even in the smallest tiles. {cure}{smaller}."
