"""What several workers on one machine gain: the same batch in one process, and in two that share the cores.

``python benchmarks/workers.py`` prints seconds for the batch, pictures a minute, and how long workers take to start.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path

import napari_neural_style.engine  # noqa: F401 - says how threads wait, before torch is imported

# isort: split
import torch
from PIL import Image

from napari_neural_style import PRESETS
from napari_neural_style.batch import Batch
from napari_neural_style.cluster import local_cluster
from napari_neural_style.viewer.samples import painting, photograph
from napari_neural_style.workers import Here, Workers


def prepared(folder: Path, pictures: int) -> None:
    """Write contents that differ, and a style."""
    photo = photograph()
    for number in range(pictures):
        Image.fromarray(photo[:, number * 8 : photo.shape[1] - 8 * (pictures - number)]).save(folder / f"{number}.png")
    Image.fromarray(painting()).save(folder / "style.png")


def seconds(folder: Path, name: str, workers: Workers, options: argparse.Namespace) -> float:
    """Return how long a batch takes."""
    settings = dataclasses.replace(PRESETS["fast"], size=options.size, steps=options.steps, seed=options.seed)
    batch = Batch([folder / "style.png"], dataclasses.replace(settings, device="cpu"))
    out = folder / name
    out.mkdir()
    batch.plan([folder / f"{number}.png" for number in range(options.pictures)], out)
    started = time.perf_counter()
    failures = [outcome.failure for outcome in batch.run(workers) if outcome.failure]
    assert not failures, failures
    return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=6)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="of the one process")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    options.seed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepared(folder, options.pictures)
        for threads in options.threads:
            torch.set_num_threads(threads)
            options.seed += 1  # features learned before would be taken from the cache
            taken = seconds(folder, f"here-{threads}", Here(), options)
            print(
                f"1 process, {threads} threads: {taken:.1f} s, {60 * options.pictures / taken:.1f} a minute", flush=True
            )
        started = time.perf_counter()
        with local_cluster(options.workers, 0) as workers:
            start = time.perf_counter() - started
            options.seed += 1
            taken = seconds(folder, "workers", workers, options)
        rate = 60 * options.pictures / taken
        print(f"{options.workers} processes: {taken:.1f} s, {rate:.1f} a minute, and {start:.1f} s to start them")


if __name__ == "__main__":
    main()
