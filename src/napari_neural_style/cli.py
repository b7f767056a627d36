"""The command line: ``napari-neural-style`` and ``python -m napari_neural_style``."""

from __future__ import annotations

import argparse
import dataclasses
import errno
import logging
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_neural_style import __version__, batch_cli, features_cli
from napari_neural_style.ctrl_c import followed_ctrl_c, leave_to_the_system, watched_ctrl_c
from napari_neural_style.options import add_settings, settings_from
from napari_neural_style.paths import typed
from napari_neural_style.printing import complain, flush, have_streams, is_new, tell
from napari_neural_style.settings import PRESETS, SETTINGS, StyleSettings
from napari_neural_style.whole import FULL

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_neural_style.contents import Content
    from napari_neural_style.engine.step import Step
    from napari_neural_style.report import Seen


_TOLD = (ValueError, ImportError, OSError, MemoryError, ArithmeticError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 1 for a fault, 2 for bad input, 130 if interrupted."""
    have_streams()
    logging.getLogger("tifffile").addFilter(is_new)
    try:
        options = _parser().parse_args(arguments)
        _check_folder()
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: complain(message)
            return int(options.run(options) or 0)
    except (Exception, KeyboardInterrupt) as error:
        if followed_ctrl_c(error):
            if arguments is None:
                leave_to_the_system()
            # Writing that was broken off is told by asyncio at exit, with a traceback; the next run writes it again.
            logging.getLogger("asyncio").disabled = True
            complain("stopped")
            return 130
        if not isinstance(error, _TOLD):
            raise
        complain(_said(error))
        return 2 if isinstance(error, (ValueError, FileNotFoundError, ImportError)) else 1
    finally:
        flush(sys.stdout)
        if arguments is None:  # the process is about to end
            leave_to_the_system()


def _check_folder() -> None:
    """Raise a ValueError if the present folder was removed: MKL would end the process, as if PyTorch were damaged."""
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise ValueError("The folder that this was started in is not there any more: change to another.") from error


def _said(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.EFBIG:
        return "A file is larger than its disk or this system permits. Choose another folder, or a smaller --size."
    if isinstance(error, OSError) and error.errno in FULL:
        named = f", on which {error.filename!r} is to be" if error.filename else ""
        return f"The disk is full{named}. Free some space, and run the same command again."
    if isinstance(error, OSError) and error.filename:
        return f"{str(error.filename)!r} cannot be used: {error.strerror}."
    return str(error) or "out of memory; choose a smaller --size"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="napari-neural-style", description="Neural style transfer (Gatys, Ecker and Bethge 2016)."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    stylize = commands.add_parser(
        "stylize",
        help="repaint one image in the style of another",
        description="Repaint one image in the style of another. Ctrl-C stops after the current step and keeps "
        "the picture; a second one stops at once without it.",
    )
    stylize.add_argument(
        "content", type=typed, metavar="CONTENT", help="the image to repaint; in mode texture only its shape counts"
    )
    stylize.add_argument(
        "style", type=typed, metavar="STYLE", help="the image whose style it takes; in mode content any will do"
    )
    stylize.add_argument(
        "-o",
        "--output",
        type=typed,
        metavar="OUT",
        help="the result: PNG, JPEG, TIFF or .ome.zarr (default: CONTENT-stylized.png here); "
        "an existing file is replaced only if napari-neural-style made it",
    )
    stylize.add_argument(
        "--steps-dir",
        type=typed,
        metavar="DIR",
        help="keep every saved step there, as step-0100.png (without it only the last is kept); existing "
        "files are replaced only if napari-neural-style made them",
    )
    stylize.add_argument(
        "--report",
        type=typed,
        metavar="FILE.json",
        help="write settings, losses and times there; an existing file is replaced only if it is a report",
    )
    stylize.add_argument("--start-from", type=typed, metavar="IMAGE", help="a picture to start from")
    add_settings(stylize)
    stylize.set_defaults(run=_stylize)

    batch_cli.add(commands)

    demo = commands.add_parser("demo", help="stylise the sample pair, in napari where there is a screen")
    demo.add_argument("--headless", action="store_true", help="without napari; the saved steps become PNG files")
    demo.add_argument(
        "-o", "--output", type=typed, metavar="DIR", default="demo", help="for those files (default: %(default)s)"
    )
    demo.set_defaults(run=_demo)

    features_cli.add(commands)
    return parser


def _stylize(options: argparse.Namespace) -> int:
    from napari_neural_style.contents import Content, look_at
    from napari_neural_style.engine.sizes import style_size, working_size
    from napari_neural_style.files import check_steps_folder, check_writable, read_image, stem_of
    from napari_neural_style.report import check_report
    from napari_neural_style.zarr_images import Spacing

    settings = settings_from(vars(options), options.preset)
    name = options.output or f"{stem_of(Path(options.content))}-stylized.png"
    output = check_writable(name, keep_originals=True)
    report = check_report(Path(options.report)) if options.report else None
    steps_folder = check_steps_folder(Path(options.steps_dir), settings.steps) if options.steps_dir else None
    working = partial(working_size, settings=settings)
    images: dict[str, Any] = {"content": read_image(options.content, working)}
    shape = images["content"].shape[:2]
    images["style"] = read_image(options.style, partial(style_size, settings=settings))
    if options.start_from:
        images["initial"] = read_image(options.start_from, lambda _: working(shape))
    whole = look_at(Path(options.content)) if Path(options.content).is_dir() else None
    sources = {"content": Path(options.content).name, "style": Path(options.style).name}
    if options.start_from:
        sources["initial"] = Path(options.start_from).name
    if whole is None:  # its pixels are of size 1
        whole = Content(options.content, ("y", "x"), (int(shape[0]), int(shape[1])), (Spacing(), Spacing()))
    return _run(images, settings, sources, output, steps_folder, report, whole)


def _demo(options: argparse.Namespace) -> int:
    from napari_neural_style.files import check_steps_folder, check_writable
    from napari_neural_style.viewer.samples import painting, photograph

    if not options.headless and _has_screen():
        from napari_neural_style.viewer.demo import show_demo

        show_demo()
        return 0
    settings = PRESETS["fast"]
    folder = check_steps_folder(Path(options.output), settings.steps)
    folder.mkdir(parents=True, exist_ok=True)
    output = check_writable(folder / "stylized.png", keep_originals=True)
    sources = {"content": "photograph", "style": "painting"}
    images = {"content": photograph(), "style": painting()}
    status = _run(images, settings, sources, output, folder, None)
    tell(f"The saved steps are in {folder.resolve()}")
    return status


def _has_screen() -> bool:
    if sys.platform.startswith("linux"):
        return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return True


def _run(
    images: dict[str, Any],
    settings: StyleSettings,
    sources: Mapping[str, str],
    output: Path,
    steps_folder: Path | None,
    report: Path | None,
    whole: Content | None = None,
) -> int:
    """Run one job on the images of :func:`stylize`, writing what is saved as it comes; return the exit status."""
    from tqdm import tqdm

    from napari_neural_style.engine.provenance import made_by
    from napari_neural_style.engine.transfer import stylize
    from napari_neural_style.files import check_writable, step_path, write_image
    from napari_neural_style.reading import why
    from napari_neural_style.report import write_report

    settings = dataclasses.replace(settings, preview_interval=SETTINGS["preview_interval"].high)
    if steps_folder is not None:
        steps_folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    seen: list[Seen] = []
    given_up: list[Exception] = []
    step, stopped, unkept = None, False, False
    with (
        watched_ctrl_c() as ctrl_c,
        tqdm(total=settings.steps, unit="step", dynamic_ncols=True, disable=None) as bar,
    ):
        bar.set_description("Preparing")
        steps = stylize(**images, settings=settings, progress=lambda message, _: bar.set_description(message))
        images.clear()  # they can be as large as the pictures made from them
        for step in _until_given_up(steps, given_up):
            ctrl_c.waits = True
            if step.index == 1:
                _say_features(step, settings, bar)
                bar.set_description("Stylising")
            bar.update(step.index - bar.n)
            seen.append((step.index, step.scale, step.losses, time.perf_counter() - started))
            stopped = ctrl_c.pressed and step.index < step.total
            if step.saved or stopped:
                pixels = _as_uint8(step.pictured())
            if step.saved:
                if steps_folder is not None and not unkept:
                    try:
                        write_image(step_path(steps_folder, step.index), pixels, made_by(step, sources, settings))
                    except (OSError, ValueError) as error:  # the latter where the folder is gone
                        unkept = True
                        complain(f"no steps are kept from step {step.index} on: {why(error)}", bar)
                tell(
                    f"step {step.index}: content {step.losses.content:.6g}  style {step.losses.style:.6g}  "
                    f"total {step.losses.total:.6g}",
                    bar,
                )
            step = dataclasses.replace(step, shown=None)  # not to be held during the next step
            if stopped:
                break
        bar.close()
        if step is None or (given_up and not step.saved):
            raise given_up[0]
        spacing = None if whole is None else whole.spacing_at(pixels.shape[:2])
        try:
            check_writable(output, keep_originals=True)  # the run may have taken hours
            write_image(output, pixels, made_by(step, sources, settings), spacing=spacing)
        except (OSError, ValueError) as error:  # the latter where the folder is gone, or an original has come there
            raise OSError(_kept_elsewhere(output, pixels, made_by(step, sources, settings), error)) from error
        tell(f"Stopped at step {step.index} of {step.total}; wrote {output}." if stopped else f"Wrote {output}")
        if report is not None:
            write_report(report, step, seen, time.perf_counter() - started)
        if given_up:
            raise given_up[0]
        return 130 if stopped else int(unkept)


def _kept_elsewhere(output: Path, pixels: npt.NDArray[Any], made_by: dict[str, Any], error: Exception) -> str:
    """Write a result that cannot be written where it should be among temporary files; return a sentence."""
    from napari_neural_style.files import stem_of, write_image
    from napari_neural_style.reading import why

    fault = str(error) if isinstance(error, ValueError) else f"{str(output)!r} cannot be written: {why(error)}"
    fault = f"{fault.rstrip('.')}."
    folder = None
    try:
        folder = Path(tempfile.mkdtemp(prefix="napari-neural-style-"))
        kept = folder / f"{stem_of(output)}.png"
        write_image(kept, pixels, made_by)
    except (OSError, ValueError):
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        return f"{fault} Nor can it be kept among temporary files."
    return f"{fault} It is kept as {str(kept)!r} instead."


def _until_given_up(steps: Iterator[Step], given_up: list[Exception]) -> Iterator[Step]:
    """Yield the steps until there are no more or the run cannot go on, which is noted."""
    from napari_neural_style.engine.recovery import DivergedError, OutOfMemoryError

    try:
        yield from steps
    except (DivergedError, OutOfMemoryError) as error:
        given_up.append(error)


def _say_features(step: Step, asked: StyleSettings, bar: Any) -> None:
    if asked.features == "auto" and step.settings.features == "self-taught":
        tell(
            "Using self-taught features, learned from these two images. For VGG-19's own, run "
            "`napari-neural-style features download` once (548 MB).",
            bar,
        )


def _as_uint8(step: Step) -> npt.NDArray[Any]:
    from napari_neural_style.engine.images import to_uint8

    assert step.image is not None
    return to_uint8(step.image)
