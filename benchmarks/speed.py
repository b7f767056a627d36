"""Seconds a step and seconds to a loss, as ratios within one run.

    python benchmarks/speed.py [--size 256 ...] [--device cpu] [--skip-losses]

The baseline is the written procedure done plainly (plain.py). Features are self-taught, seeded, the same for all.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping

import napari_neural_style.engine  # noqa: F401 - says how threads wait, before torch is imported

# isort: split
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from napari_neural_style import PRESETS, Step, StyleSettings, stylize
from napari_neural_style.engine.allocator import kept_memory
from napari_neural_style.engine.convolutions import dtype_of_maps
from napari_neural_style.engine.counts import Counts
from napari_neural_style.engine.devices import resolve_device, resolve_precision
from napari_neural_style.engine.graph import Recorded, fastest_convolutions
from napari_neural_style.engine.images import normalize, resize, to_tensor
from napari_neural_style.engine.objective import Objective, weights_of
from napari_neural_style.engine.optimizers import make_optimizer
from napari_neural_style.engine.preparation import Brush
from napari_neural_style.engine.quantized import Filters
from napari_neural_style.engine.vgg import POOLED_AFTER, Features, Trunk, layers_up_to
from napari_neural_style.engine.weights import load_features
from napari_neural_style.settings import LAYERS, STYLE_LAYERS
from napari_neural_style.viewer.samples import painting, photograph
from plain import network, relative_loss, written_procedure

WRITTEN = dataclasses.replace(PRESETS["written"], features="self-taught", size=(256, 256))
RELATIVE = dataclasses.replace(
    PRESETS["balanced"],
    features="self-taught",
    size=(256, 256),
    scales=1,
    min_structure=0.0,
    color="free",
    content_layers={"conv4_2": 1.0},
    style_layers=dict.fromkeys(STYLE_LAYERS, 1.0),
)
"""The preset balanced with VGG-19's five style layers and a loss that stays the same during a run."""


@functools.cache
def sample_pair() -> tuple[np.ndarray, np.ndarray]:
    """Return the sample pair; drawing it takes longer than a hundred steps at its smallest scale."""
    return photograph(), painting()


def pictures(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the sample pair as squares in 0..1, (1, 3, size, size)."""
    content, style = (resize(to_tensor(array / np.float32(255)), (size, size)) for array in sample_pair())
    return content.float().to(device), style.float().to(device)


def synchronized(device: torch.device) -> float:
    """Return the time when all that was asked of a device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def timed(calls: Mapping[str, Callable[[], object]], count: int, device: torch.device) -> dict[str, list[float]]:
    """Return the seconds each call took, the calls taken in turn, after one warm-up."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for repeat in range(count + 1):
        for name, call in calls.items():
            started = synchronized(device)
            call()
            if repeat:
                taken[name].append(synchronized(device) - started)
    return taken


def learned(content: Tensor, style: Tensor) -> Features:
    """Return features up to conv5_1, learned from the pair."""
    layers = {"conv4_2", *STYLE_LAYERS}
    return load_features(WRITTEN, layers, [normalize(content), normalize(style)])


@functools.cache
def features_of_the_pair() -> Features:
    """Return what is learned from the sample pair at 256 px; that takes longer than twenty steps."""
    return learned(*pictures(256, torch.device("cpu")))


def bare_convolutions(size: int, device: torch.device, dtype: torch.dtype) -> Callable[[], None]:
    """Return the convolutions of a step and no more: forward and the gradient at the input.

    Each is done in one step, where the engine takes two smaller ones for self-taught filters of rank 96. Those of int8
    are the engine's own without what rounds for them, and in float32 those of colours.
    """
    integers: list[Callable[[], object]] = []
    cases, before, side = [], 3, size
    for name in layers_up_to(["conv5_1"]):
        if dtype == torch.int8 and before > 3:
            for kinds, count, bias, zero in ((before, LAYERS[name], True, 0), (LAYERS[name], before, False, 128)):
                filters = Filters(torch.rand(count, kinds, 3, 3), torch.rand(count) if bias else None, zero)
                maps = torch.randint(0, 128, (1, kinds, side + 2, side + 2), dtype=torch.uint8)
                maps = maps.contiguous(memory_format=torch.channels_last)
                integers.append(functools.partial(filters.convolve, Counts(maps, 1.0)))
        else:
            options = {"device": device, "dtype": dtype_of_maps(dtype)}
            x = torch.rand(1, before, side, side, **options).contiguous(memory_format=torch.channels_last)
            weight = torch.rand(LAYERS[name], before, 3, 3, **options).contiguous(memory_format=torch.channels_last)
            bias = torch.rand(LAYERS[name], **options)
            cases.append((x, weight, bias, torch.rand_like(F.conv2d(x, weight, bias, padding=1))))
        before, side = LAYERS[name], side // 2 if name in POOLED_AFTER else side
    one, mask = (1, 1), (True, False, False)

    def run() -> None:
        for x, weight, bias, slope in cases:
            F.conv2d(x, weight, bias, padding=1)
            torch.ops.aten.convolution_backward(slope, x, weight, None, one, one, one, False, (0, 0), 1, mask)
        for convolve in integers:
            convolve()

    return recorded(run) if device.type == "cuda" else run


def recorded(run: Callable[[], None]) -> Callable[[], None]:
    """Return the replay of a CUDA graph of some work with the fastest convolutions, as the engine replays its own."""
    with fastest_convolutions():
        run()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            run()
    replay: Callable[[], None] = graph.replay
    return replay


def our_step(
    settings: StyleSettings, features: Features, content: Tensor, style: Tensor, dtype: torch.dtype
) -> Callable[[], None]:
    """Return one step of the engine: loss, gradient and update."""
    trunk = Trunk(features, {"conv4_2", *STYLE_LAYERS}, settings.pooling, content.device, dtype)
    plain = Objective(trunk, content, [Brush(style, 1.0)], weights_of(settings))
    objective = Recorded(plain) if content.is_cuda else plain
    image = normalize(content).clone()
    optimizer = make_optimizer(image, settings)

    def run() -> None:
        _, total, gradient = objective(image)
        optimizer.update(total, gradient)

    return run


def repeats(size: int) -> int:
    """Return how often steps at a size are timed."""
    return 5 if size <= 256 else 3


@functools.cache
def plain_step_time(size: int, device: torch.device) -> float:
    """Return the seconds that a step of the written procedure takes, done plainly: a median."""
    content, style = pictures(size, device)
    model, names = network(features_of_the_pair().convolutions, "reflect")
    plain = written_procedure(model.to(device), names, normalize(content), normalize(style))
    return statistics.median(timed({"plain": lambda: next(plain)}, repeats(size), device)["plain"])


def step_times(size: int, device: torch.device) -> str:
    """Return a table of seconds a step."""
    content, style = pictures(size, device)
    features = features_of_the_pair()
    calls: dict[str, Callable[[], object]] = {}
    for dtype in dict.fromkeys((torch.float32, resolve_precision("auto", device))):
        word = str(dtype).removeprefix("torch.")
        lbfgs = dataclasses.replace(RELATIVE, precision=word)
        calls[f"ours, Adam, {word}"] = our_step(WRITTEN, features, content, style, dtype)
        calls[f"ours, L-BFGS, {word}"] = our_step(lbfgs, features, content, style, dtype)
        like_trained = dataclasses.replace(features, border=(0.0, 0.0, 0.0), rank=None)
        calls[f"ours, L-BFGS, full rank and zeros at the border as in pretrained features, {word}"] = our_step(
            lbfgs, like_trained, content, style, dtype
        )
        calls[f"bare convolutions, {word}"] = bare_convolutions(size, device, dtype)
    first = plain_step_time(size, device)
    with torch.no_grad(), kept_memory():
        times = timed(calls, repeats(size), device)
    lines = [f"{size} × {size} px | seconds a step | times faster | × bare convolutions", "--- | --- | --- | ---"]
    lines.append(f"the written procedure, plainly | {first:.3f} | 1 |")
    for name, taken in times.items():
        seconds, bare = statistics.median(taken), times[f"bare convolutions, {name.split(', ')[-1]}"]
        # Of times a moment apart: a processor's speed changes more from one round to the next.
        ratio = statistics.median(own / other for own, other in zip(taken, bare, strict=True))
        lines.append(f"{name} | {seconds:.3f} | {first / seconds:.1f} | {ratio:.2f}")
    return "\n".join(f"| {line} |" for line in lines)


class Judge:
    """Tells a picture's total loss in float32, with what the others were told to minimise."""

    def __init__(self, settings: StyleSettings, device: torch.device) -> None:
        content, style = pictures(256, device)
        self.device = device
        self.features = features_of_the_pair()
        trunk = Trunk(self.features, {"conv4_2", *STYLE_LAYERS}, settings.pooling, device)
        self.objective = Objective(trunk, content, [Brush(style, 1.0)], weights_of(settings))
        self.start = normalize(content)

    def __call__(self, image: Tensor) -> float:
        """Return the loss of a normalised image."""
        return float(self.objective(image)[1])


def ours(settings: StyleSettings, judge: Judge) -> Iterator[tuple[float, Step]]:
    """Yield the seconds since the start, those between two steps not counted, and every step."""
    quiet = dataclasses.replace(settings, device=str(judge.device), save_every=1_000_000, preview_interval=3600.0)
    content, style = sample_pair()
    spent, started = 0.0, synchronized(judge.device)
    for step in stylize(content, style, quiet, features=judge.features):
        spent += synchronized(judge.device) - started
        yield spent, step
        started = synchronized(judge.device)


def until(name: str, settings: StyleSettings, judge: Judge, loss: float, whole: float) -> str:
    """Return a row: the loss, the seconds and steps until it is no more than `loss`, their share of `whole` seconds."""
    near = 1.03 * loss
    for seconds, step in ours(settings, judge):
        if step.done < 1 and (step.scale < settings.scales or step.losses.total > near):
            continue
        found = judge(step.snapshot().image)
        if found <= loss:
            return f"{name}, to {found:.4g} | {seconds:.1f} | {step.index} | {seconds / whole:.3f}"
        # The judge takes as long as a step or two: it is asked again when the run's own loss has fallen by half of what
        # lacked, since the two do not fall alike.
        near = step.losses.total - (found - loss) / 2
    return f"{name}, {step.index} steps to {found:.4g} | not reached | |"


def plain_lbfgs(judge: Judge, steps: int) -> tuple[float, float]:
    """Return the loss and the seconds of torch's L-BFGS (history 100, no line search) after so many evaluations.

    Done plainly too: autograd, frozen weights, targets computed once, float32. One evaluation in twenty is, and is
    timed; the engine's, which are the same (see tests/engine/test_transfer.py) and faster, stand in for the others.
    """
    style = normalize(pictures(256, judge.device)[1])
    weights = RELATIVE.content_weight, RELATIVE.style_weight
    plain = relative_loss(judge.features.convolutions, judge.start, style, *weights)
    image = judge.start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [image], lr=1, max_iter=steps, max_eval=steps, tolerance_grad=-1, tolerance_change=-1, history_size=100
    )
    taken: list[float] = []

    def closure() -> Tensor:
        started = synchronized(judge.device)
        optimizer.zero_grad()
        if len(taken) % 20 == 0:
            total = plain(image)
            total.backward()
        else:
            _, total, image.grad = judge.objective(image)
        taken.append(synchronized(judge.device) - started)
        return total

    started = synchronized(judge.device)
    optimizer.step(closure)
    besides = synchronized(judge.device) - started - sum(taken)
    return judge(image.detach()), besides + len(taken) * statistics.median(taken[::20])


def losses(device: torch.device) -> str:
    """Return a table of seconds to a loss at 256 px."""
    judge = Judge(WRITTEN, device)
    baseline = 500 * plain_step_time(256, device)
    adam = dataclasses.replace(WRITTEN, precision="float32", steps=500)
    for seconds, step in ours(adam, judge):
        if step.done == 1:
            loss, adam_seconds = judge(step.snapshot().image), seconds
    lines = ["256 × 256 px | seconds | steps | share of the time", "--- | --- | --- | ---"]
    lines.append(f"the written procedure, plainly: 500 Adam steps to a loss of {loss:.4g} | {baseline:.0f} | 500 | 1")
    lines.append(f"ours, the same steps, float32 | {adam_seconds:.0f} | 500 | {adam_seconds / baseline:.3f}")
    fast = dataclasses.replace(WRITTEN, optimizer="lbfgs", steps=500)
    lines.append(until("ours, L-BFGS", fast, judge, loss, baseline))
    lines.append(
        until("ours, L-BFGS, three scales", dataclasses.replace(fast, scales=3, steps=75), judge, loss, baseline)
    )

    judge = Judge(RELATIVE, device)
    reached, plain_seconds = plain_lbfgs(judge, 300)
    lines.append(f"plain L-BFGS, float32, 300 steps to a loss of {reached:.4g} | {plain_seconds:.0f} | 300 | 1")
    # One scale: in so many steps a coarse one's head start is made up for by what L-BFGS remembers.
    lines.append(
        until("ours, history 75", dataclasses.replace(RELATIVE, steps=400, history=75), judge, reached, plain_seconds)
    )
    return "\n".join(f"| {line} |" for line in lines)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs="*", default=[256, 512])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--skip-losses", action="store_true")
    options = parser.parse_args()
    device = resolve_device(options.device)
    for size in options.size:
        print(step_times(size, device), end="\n\n", flush=True)
    print(
        "Bare convolutions are done in one step each. Those of self-taught filters from conv3_1 up, which are of rank"
    )
    print("96, the engine does in two smaller steps, which pretrained filters do not allow.", end="\n\n")
    if not options.skip_losses:
        print(losses(device))


if __name__ == "__main__":
    main()
