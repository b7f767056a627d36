"""The command ``napari-neural-style batch``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_neural_style.options import add_settings, settings_from

if TYPE_CHECKING:
    from napari_neural_style.batch import Batch, Outcome
    from napari_neural_style.engine.optimization import Step
    from napari_neural_style.workers import Watch, Workers


def add(commands: Any) -> None:
    """Add the command to a parser's subcommands."""
    batch = commands.add_parser(
        "batch",
        help="repaint many images and stacks",
        description="Repaint many images and stacks. Stopped, however that was, the same command goes on where it was.",
    )
    batch.add_argument(
        "contents",
        nargs="+",
        metavar="CONTENT",
        help="image files, folders of them, patterns in quotes, and stacks: TIFF with pages, GIF, Zarr, OME-Zarr",
    )
    batch.add_argument(
        "--style", nargs="+", required=True, metavar="S", help="style images; every content is made in every one"
    )
    batch.add_argument("-o", "--output", required=True, metavar="DIR", help="the folder for the results")
    batch.add_argument(
        "--chain",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="start every plane of a stack from the one before, so that the result does not flicker (default: yes)",
    )
    add_settings(batch)
    batch.set_defaults(run=_batch)


def _batch(options: argparse.Namespace) -> int:
    from napari_neural_style.batch import Batch
    from napari_neural_style.contents import find
    from napari_neural_style.engine.devices import resolve_device
    from napari_neural_style.ledger import alone_in
    from napari_neural_style.workers import Here

    settings = settings_from(vars(options), options.preset)
    folder = Path(options.output).absolute()
    contents = find(options.contents)
    batch = Batch(find(options.style), settings, options.chain)
    resolve_device(settings.device)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{options.output!r} is a file; give a folder with -o.")
    folder.mkdir(parents=True, exist_ok=True)
    with alone_in(folder):
        batch.plan(contents, folder)
        if batch.finished_before:
            print(f"{batch.finished_before} finished before, {batch.total} to do", flush=True)
        return _run(batch, Here)


def _run(batch: Batch, workers: Callable[[Watch], Workers]) -> int:
    from tqdm import tqdm

    failed: list[Outcome] = []
    with tqdm(total=batch.total, unit="picture", dynamic_ncols=True, disable=None) as bar:

        def watch(step: Step) -> None:
            bar.set_postfix_str(f"step {step.index}/{step.total}")

        for outcome in batch.run(workers(watch)):
            bar.update()
            if outcome.failure:
                failed.append(outcome)
            if outcome.written is not None:
                bar.write(f"Wrote {outcome.written}", file=sys.stdout)
                sys.stdout.flush()
    for line in _listed(failed):
        print(f"napari-neural-style: {line}", file=sys.stderr)
    if failed:
        print("napari-neural-style: the same command does only these again", file=sys.stderr)
    return 1 if failed else 0


def _listed(failed: list[Outcome]) -> list[str]:
    """Return a line for each content and reason, with the planes that it concerns."""
    planes: dict[tuple[str, str], list[str]] = {}
    for outcome in failed:
        planes.setdefault((outcome.content, outcome.failure), []).append(",".join(map(str, outcome.index)))
    lines = []
    for (content, reason), numbers in planes.items():
        some = ", ".join(numbers[:5]) + (f" and {len(numbers) - 5} more" if numbers[5:] else "")
        lines.append(f"{content}{f', plane {some}' if some else ''}: {reason}")
    return lines
