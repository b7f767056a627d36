"""Runs the benchmarks and writes RESULTS.md: the machine, the versions, the date, and every table.

    python benchmarks/report.py [--gpu]

With --gpu the parts that need an NVIDIA GPU are run, and written to RESULTS-GPU.md.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent

PUBLISHED = """\
## What others publish

Their figures on their machines, quoted as theirs; nothing of theirs was run here.

| tool | what | figure |
| --- | --- | --- |
| neural-style-pt | 512 px, 500 steps, VGG-19, on a GTX 1080 | 23 s |
"""


def section(title: str, script: str, *options: str, screen: bool = False) -> str:
    """Run a benchmark and return its output under a title, with the command."""
    command = [sys.executable, str(HERE / script), *options]
    if screen and not os.environ.get("DISPLAY"):
        command = [str(HERE.parent / "scripts" / "with-screen"), *command]
    print(f"{title}…", end=" ", flush=True)
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    print(f"{time.monotonic() - started:.0f} s", flush=True)
    words = " ".join(["python", f"benchmarks/{script}", *options])
    return f"## {title}\n\n`{words}`\n\n{done.stdout.strip()}\n"


def machine(gpu: bool) -> str:
    """Return what this was measured on, in a sentence."""
    import torch

    import napari_neural_style
    from napari_neural_style.engine.devices import resolve_precision

    auto = str(resolve_precision("auto", torch.device("cuda" if gpu else "cpu"))).removeprefix("torch.")
    found = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        found = names[0] if names else found
    beside = f"; {torch.cuda.get_device_name()}" if gpu else "; no GPU used"
    return (
        f"{found}, {os.cpu_count()} cores{beside}. {platform.system()}, Python {platform.python_version()}, torch "
        f"{torch.__version__}, napari-neural-style {napari_neural_style.__version__}, {dt.date.today()}. Precision "
        f"auto is {auto} here. Other machines and other loads give other seconds; ratios are within one run."
    )


def main() -> None:
    """Write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpu", action="store_true")
    gpu = parser.parse_args().gpu
    parts = [f"# Measured\n\n{machine(gpu)}\n\nHow good the features are: [QUALITY.md](QUALITY.md).\n"]
    device = ["--device", "cuda" if gpu else "cpu"]
    parts.append(section("Seconds a step, and to a loss", "speed.py", *device))
    if not gpu:
        parts.append(section("Memory, and before the first step", "footprint.py"))
        parts.append(section("The viewer's main thread during a run", "stalls.py", "--seconds", "6", screen=True))
        parts.append(section("Opening the dock, fifty layers open", "opening.py", screen=True))
        parts.append(PUBLISHED)
    target = HERE / ("RESULTS-GPU.md" if gpu else "RESULTS.md")
    target.write_text("\n".join(parts), encoding="utf-8")
    print(f"Wrote {target.name}")


if __name__ == "__main__":
    main()
