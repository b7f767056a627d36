"""Memory of a step over the idle process, and how long things take before the first one.

    python benchmarks/footprint.py [--size 512]

Every row is measured in a process of its own.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from napari_neural_style.engine.vgg import Features

PROGRAM = """
import sys, time
sys.path.insert(0, {folder!r})
import napari_neural_style.engine, torch, psutil
from footprint import {what}
{what}(*{arguments!r})
"""


def _peak_over_idle(steps: object, count: int) -> None:
    """Print the megabytes that the process takes over what it had, at the most, while steps are made."""
    import resource

    import psutil

    from napari_neural_style.engine.allocator import give_back

    give_back()  # what is free already is not counted as idle
    idle = psutil.Process().memory_info().rss
    for _ in range(count):
        steps()  # type: ignore[operator]
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - idle) / 1e6)


def _features_and_pictures(size: int) -> tuple[Features, Tensor, Tensor]:
    import torch

    from speed import learned

    torch.manual_seed(0)
    small = torch.rand(1, 3, 128, 128), torch.rand(1, 3, 128, 128)
    return learned(*small), torch.rand(1, 3, size, size), torch.rand(1, 3, size, size)


def plain_step(size: int) -> None:
    """Print the memory of a plain float32 step: one forward pass with autograd, frozen weights, Adam."""
    import torch

    import plain

    features, content, style = _features_and_pictures(size)
    loss = plain.relative_loss(features.convolutions, content, style, 1.0, 1.0)
    image = content.clone().requires_grad_()
    adam = torch.optim.Adam([image], lr=0.02)

    def step() -> None:
        adam.zero_grad()
        loss(image).backward()
        adam.step()

    _peak_over_idle(step, 3)


def our_steps(size: int, precision: str, optimizer: str) -> None:
    """Print the memory of the engine's step."""
    import dataclasses

    import torch

    from napari_neural_style.engine.allocator import kept_memory
    from napari_neural_style.engine.images import normalize
    from napari_neural_style.engine.objective import Objective, weights_of
    from napari_neural_style.engine.optimizers import make_optimizer
    from napari_neural_style.engine.preparation import Brush
    from napari_neural_style.engine.vgg import Trunk
    from speed import RELATIVE, STYLE_LAYERS

    features, content, style = _features_and_pictures(size)
    trunk = Trunk(features, {"conv4_2", *STYLE_LAYERS}, RELATIVE.pooling, "cpu", getattr(torch, precision))
    settings = dataclasses.replace(RELATIVE, optimizer=optimizer, precision=precision)
    objective = Objective(trunk, content, [Brush(style, 1.0)], weights_of(settings))
    image = normalize(content).clone()
    updates = make_optimizer(image, settings)

    uneven = torch.linspace(1, 2, image.numel()).view_as(image)

    def step() -> None:
        for _ in range(settings.history if optimizer == "lbfgs" else 0):
            # Steps down a quadratic fill the history as well as any, and a hundred times as fast.
            gradient = uneven * image
            updates.update((gradient * image).sum() / 2, gradient)
        _, total, gradient = objective(image)
        updates.update(total, gradient)

    with kept_memory():  # as in every run
        _peak_over_idle(step, 3)


def features_ready() -> None:
    """Print the seconds until pretrained features are there from a file of the cache's layout, random numbers in it."""
    import tempfile
    import time
    from pathlib import Path

    import torch
    from safetensors.torch import save_file

    from napari_neural_style.engine.vgg import Trunk
    from napari_neural_style.engine.weights import TORCHVISION_INDEX, features_from_file
    from napari_neural_style.settings import LAYERS, STYLE_LAYERS

    numbers, before = {}, 3
    for name, count in LAYERS.items():
        numbers[f"features.{TORCHVISION_INDEX[name]}.weight"] = torch.randn(count, before, 3, 3)
        numbers[f"features.{TORCHVISION_INDEX[name]}.bias"] = torch.randn(count)
        before = count
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vgg19.safetensors"
        save_file(numbers, path)
        layers = {"conv4_2", *STYLE_LAYERS}
        started = time.perf_counter()
        Trunk(features_from_file(path, layers, "torchvision"), layers, "average")
        print(time.perf_counter() - started)


def whole_run(preset: str) -> None:
    """Print the seconds from the call to the first picture and to the last step, and whether products are int8's.

    Features are learned anew, and torch is imported already.
    """
    import os
    import tempfile
    import time

    from napari_neural_style import PRESETS, stylize
    from napari_neural_style.viewer.samples import painting, photograph

    content, style = photograph(), painting()
    first = None
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAPARI_NEURAL_STYLE_CACHE"] = folder
        started = time.perf_counter()
        for step in stylize(content, style, PRESETS[preset]):
            if first is None and step.image is not None:
                first = time.perf_counter() - started
        print(first, time.perf_counter() - started, int(step.settings.precision == "int8"))


_LAPTOP = {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
LIMITS = [{**_LAPTOP, "ONEDNN_MAX_CPU_ISA": name} for name in ("AVX2_VNNI", "AVX2")]
"""What keeps PyTorch's libraries from using more than laptops have, of the last years and older ones."""


def measured(what: str, *arguments: object, limits: Mapping[str, str] | None = None) -> list[float]:
    """Run one of the functions above in a process of its own and return the numbers it prints."""
    import os
    from pathlib import Path

    program = PROGRAM.format(folder=str(Path(__file__).parent), what=what, arguments=arguments)
    environment = {**os.environ, **(limits or {})}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    return [float(number) for number in done.stdout.splitlines()[-1].split()]


def import_seconds() -> float:
    """Return how much longer a process takes that imports the package than one that does not."""
    import time

    def taken(program: str) -> float:
        times = []
        for _ in range(5):
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", program], check=True)
            times.append(time.perf_counter() - started)
        return sorted(times)[2]

    return taken("import napari_neural_style") - taken("pass")


def tables(size: int) -> str:
    """Return the tables; bfloat16 and int8 are left out where a processor would only imitate them."""
    from napari_neural_style.engine.devices import cpu_bfloat16
    from napari_neural_style.engine.quantized import has_int8_products

    (plain,) = measured("plain_step", size)
    lines = [f"{size} × {size} px | MB over idle | of plain | bytes a pixel", "--- | --- | --- | ---"]
    lines.append(f"plain autograd, float32, Adam | {plain:.0f} | 1 | {plain * 1e6 / size**2:.0f}")
    had = {"float32": True, "bfloat16": any(cpu_bfloat16()), "int8": has_int8_products()}
    for precision in (name for name, there in had.items() if there):
        for optimizer in ("adam", "lbfgs"):
            (used,) = measured("our_steps", size, precision, optimizer)
            name = {"adam": "Adam", "lbfgs": "L-BFGS"}[optimizer]
            lines.append(f"ours, {name}, {precision} | {used:.0f} | {used / plain:.2f} | {used * 1e6 / size**2:.0f}")
    lines += ["", "before the first step | seconds", "--- | ---"]
    lines.append(f"import of the package | {import_seconds():.2f}")
    (ready,) = measured("features_ready")
    lines.append(f"pretrained features from the cache to conv5_1 (random numbers in its layout) | {ready:.2f}")
    runs = {preset: measured("whole_run", preset) for preset in ("fast", "balanced")}
    for preset, (first, *_) in runs.items():
        lines.append(f"first picture, preset {preset}, features learned on the way | {first:.1f}")
    lines += ["", "whole runs, the sample pair, self-taught features | seconds", "--- | ---"]
    for preset, (_, whole, _) in runs.items():
        lines.append(f"preset {preset}, learning included | {whole:.0f}")
    if platform.machine().lower() in ("x86_64", "amd64"):
        for limits in LIMITS:
            for preset in runs:
                _, whole, integers = measured("whole_run", preset, limits=limits)
                products = "8-bit integers (VNNI)" if integers else "float32"
                lines.append(f"preset {preset}, learning included, limited to AVX2 and {products} | {whole:.0f}")
            if not integers:
                break  # the next limit is the same here
    return "\n".join(f"| {line} |" if line else "" for line in lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512)
    print(tables(parser.parse_args().size))
