"""The command ``napari-neural-style batch``."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_neural_style.options import add_settings, settings_from
from napari_neural_style.paths import typed
from napari_neural_style.printing import complain, tell

if TYPE_CHECKING:
    from napari_neural_style.batch import Batch, Outcome
    from napari_neural_style.engine.step import Step
    from napari_neural_style.settings import StyleSettings
    from napari_neural_style.workers import Workers


def add(commands: Any) -> None:
    """Add the command to a parser's subcommands."""
    batch = commands.add_parser(
        "batch",
        help="repaint many images and stacks",
        description="Repaint many images and stacks. If it is stopped in any way, the same command "
        "goes on where it was.",
    )
    batch.add_argument(
        "contents",
        nargs="+",
        metavar="CONTENT",
        help="image files, folders of them, patterns in quotes, and stacks: TIFF with pages, animated GIF, WebP or "
        "PNG, Zarr, OME-Zarr",
    )
    batch.add_argument(
        "--style", nargs="+", required=True, metavar="S", help="style images; every content is made in every one"
    )
    batch.add_argument("-o", "--output", type=typed, required=True, metavar="DIR", help="the folder for the results")
    batch.add_argument(
        "--chain",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="start every plane of a stack from the one before, so that the result does not flicker (default: yes)",
    )
    batch.add_argument(
        "--workers", type=int, metavar="N", help="processes that share the work (default: one for every GPU, else one)"
    )
    batch.add_argument("--scheduler", metavar="ADDRESS", help="use a Dask cluster, such as tcp://host:8786")
    add_settings(batch)
    batch.set_defaults(run=_batch)


def _batch(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from napari_neural_style.batch import Batch
    from napari_neural_style.contents import find
    from napari_neural_style.engine.devices import resolve_device, resolve_precision
    from napari_neural_style.files import first_there
    from napari_neural_style.ledger import alone_in

    settings = settings_from(vars(options), options.preset)
    folder = Path(options.output).absolute()
    contents = find(options.contents)
    batch = Batch(find(options.style), settings, options.chain)
    if options.scheduler is None:
        resolve_precision(settings.precision, resolve_device(settings.device))
    there = first_there(folder)
    if not there.is_dir():
        raise ValueError(f"{str(there)!r} is a file; give a folder with -o.")
    with tqdm(unit="picture", dynamic_ncols=True, disable=None) as bar, _workers(options, settings, bar) as workers:
        folder.mkdir(parents=True, exist_ok=True)
        with alone_in(folder):
            batch.plan(contents, folder)
            if batch.finished_before:
                tell(f"Pictures and planes finished before: {batch.finished_before}, to do: {batch.total}", bar)
            return _run(batch, workers, bar)


@contextmanager
def _workers(options: argparse.Namespace, settings: StyleSettings, bar: Any) -> Iterator[Workers]:
    """Give what the options ask for: a cluster, processes here, or this process alone."""
    from napari_neural_style.engine.devices import available_devices
    from napari_neural_style.workers import Here

    if options.workers is not None and (options.workers < 1 or options.scheduler is not None):
        raise ValueError(
            "--workers must be at least 1, and cannot be combined with --scheduler, which has its own workers."
        )
    if options.scheduler is not None:
        from napari_neural_style.cluster import cluster_at

        with cluster_at(options.scheduler) as cluster:
            yield cluster
        return
    devices = available_devices() if settings.device in ("auto", "cuda") else {}
    gpus = [int(name[5:]) for name, reason in devices.items() if name.startswith("cuda:") and not reason]
    count = options.workers or max(1, len(gpus) if find_spec("distributed") else 1)
    if options.workers is None and count < len(gpus):
        tell(f'One of {len(gpus)} GPUs is used; to use all: python -m pip install "napari-neural-style[cluster]"', bar)
    if count > 1:
        from napari_neural_style.cluster import local_cluster

        with local_cluster(count, gpus) as cluster:
            yield cluster
        return

    def watch(step: Step) -> None:
        bar.set_postfix_str(f"step {step.index}/{step.total}")

    yield Here(watch)


def _run(batch: Batch, workers: Workers, bar: Any) -> int:
    from napari_neural_style.engine.images import UnusedRangeWarning
    from napari_neural_style.engine.recovery import RecoveredWarning

    of_contents = UnusedRangeWarning, RecoveredWarning
    failed: list[Outcome] = []
    told: set[str] = set()
    bar.reset(batch.total)

    def say(noticed: list[warnings.WarningMessage], content: str = "") -> None:
        for warning in noticed:
            whose = f"{content}: " if content and issubclass(warning.category, of_contents) else ""
            if (line := f"{whose}{warning.message}") not in told:
                complain(line, bar)
            told.add(line)
        noticed.clear()

    with warnings.catch_warnings(record=True) as noticed:
        for kind in of_contents:
            warnings.simplefilter("always", kind)  # else a sentence is said of the first content alone
        try:
            for outcome in batch.run(workers):
                bar.update()
                say(noticed, outcome.content)
                if outcome.failure:
                    failed.append(outcome)
                if outcome.written is not None:
                    tell(f"Wrote {outcome.written}", bar)
        finally:
            say(noticed)  # of what was not ended
    bar.close()
    for line in _listed(failed):
        complain(line)
    if failed:
        complain("run the same command again to do only these")
    return 1 if failed else 0


def _listed(failed: list[Outcome]) -> list[str]:
    """Return a line for each content and reason, with the planes that it concerns."""
    planes: dict[tuple[str, str], list[str]] = {}
    for outcome in failed:
        planes.setdefault((outcome.content, outcome.failure), []).append(",".join(map(str, outcome.index)))
    lines = []
    for (content, reason), indices in planes.items():
        numbers = [index for index in indices if index]  # a single image has none
        some = ", ".join(numbers[:5]) + (f" and {len(numbers) - 5} more" if numbers[5:] else "")
        told = reason.removeprefix(f"{content!r} ")
        lines.append(f"{content}{f', plane {some}' if some else ''}: {told}")
    return lines
