"""What a press of Run means: layers and settings, noted at that moment, as work for a thread."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_neural_style.command import asked_of, settings_of
from napari_neural_style.engine.sizes import style_size, working_size
from napari_neural_style.settings import StyleSettings
from napari_neural_style.settings_text import to_text
from napari_neural_style.viewer.areas import labels_reader, part_under, shapes_reader, window_of
from napari_neural_style.viewer.inputs import Inputs, StyleChoice
from napari_neural_style.viewer.layers import (
    Plane,
    check_seen,
    plane_shape,
    reader_of,
    shown_plane,
    size_of,
    spot_of,
    style_plane,
)
from napari_neural_style.viewer.levels import at_level
from napari_neural_style.viewer.libraries import load_pytorch
from napari_neural_style.viewer.names import source_name, style_name, title_of
from napari_neural_style.viewer.outputs import STEPS_AS, Outputs, Place
from napari_neural_style.viewer.plane_choice import axis_names
from napari_neural_style.viewer.provenance import made_by_of, name_of, sources_of
from napari_neural_style.viewer.shown import shown_as
from napari_neural_style.viewer.stack_outputs import StackOutputs, unfinished
from napari_neural_style.viewer.stacks import Reader, Stack, StackStep, StyleReaders
from napari_neural_style.viewer.stopped import KEPT_RUNS, runs_folder, to_go_on
from napari_neural_style.viewer.worker import Report

if TYPE_CHECKING:
    from napari.components import Dims, ViewerModel
    from napari.layers import Image, Labels

    from napari_neural_style.engine.steering import Steering
    from napari_neural_style.engine.step import Step
    from napari_neural_style.viewer.worker import AnyStep


@dataclass(frozen=True)
class Task:
    """A run that waits for its turn.

    Attributes
    ----------
    title : str
        What it is called in the queue.
    settings : StyleSettings
        Its settings.
    outputs : callable
        Called with the viewer and `steps_as`; returns what shows its steps.
    work : callable
        Called on a thread with a callback for progress and the steering; yields steps.
    steerable : bool
        Whether settings can be turned while it runs.
    steps_as : str
        How saved steps are kept, see :class:`~napari_neural_style.viewer.outputs.Outputs`.
    """

    title: str
    settings: StyleSettings
    outputs: Callable[[ViewerModel, str], Outputs | StackOutputs]
    work: Callable[[Report, Steering], Generator[AnyStep]]
    steerable: bool = True
    steps_as: str = STEPS_AS[0]


def why_no_task(viewer: ViewerModel, inputs: Inputs, settings: StyleSettings, only: StyleChoice | None = None) -> str:
    """Return why the chosen layers cannot be run, with one style only if it is given, or nothing."""
    styles = inputs.styles() if only is None else [only]
    if inputs.axes(settings) and inputs.folded("start_from") is not None:
        return "A stack cannot start from a picture: clear start from, or set planes to this plane."
    used = [] if settings.mode == "content" else [style.layer for style in styles]
    needed = 1 if settings.mode == "texture" else len(used) + 1
    if settings.mode != "texture" and inputs.content.value is not None:
        used.append(inputs.content.value)
    transfer = settings.mode == "transfer"
    same = transfer and not inputs.axes(settings) and inputs.same_throughout(styles)
    if same and len(inputs.images()) == 1:
        return "Open one more image: one is repainted in the style of the other (try File › Open Sample)."
    if transfer and len(used) < max(2, needed):
        return "Open two images first: one to repaint, one whose style it takes (try File › Open Sample)."
    if len(used) < max(1, needed):
        return "Open an image first (try File › Open Sample)."
    if same:
        return "Content and style are the same layer: choose another style."
    if settings.mode != "content" and not any(style.weight for style in styles):
        return "No style counts: give at least one a weight above 0."
    try:
        for layer in used:
            style_plane(layer, viewer.dims)
        if settings.mode != "texture":
            shown_plane(inputs.content.value, viewer.dims)
    except ValueError as error:
        return str(error)
    return ""


def make_task(viewer: ViewerModel, inputs: Inputs, settings: StyleSettings, only: StyleChoice | None = None) -> Task:
    """Return a task for the chosen layers, with one style only if it is given.

    Raises
    ------
    ValueError
        If the layers cannot be used as they are shown; the message says why.
    """
    styles = [] if settings.mode == "content" else [only] if only is not None else inputs.styles()
    if settings.mode == "texture":
        return _texture_task(viewer, settings, styles)
    content = inputs.content.value
    regions, area, start = map(inputs.folded, ("content_regions", "area", "start_from"))
    plane = shown_plane(content, viewer.dims)
    axes = inputs.axes(settings)
    check_seen(content, viewer.dims, axes)
    plane = dataclasses.replace(plane, window=window_of(area, content, plane, viewer, axes))
    labels = [regions, *(style.regions for style in styles)]
    used = [content, *(style.layer for style in styles), start, *labels]
    sources: dict[str, Any] = {
        "content": name_of(content),
        **_style_sources(styles),
        **shown_as([layer for layer in used if layer is not None], viewer.dims, content, axes),
    }
    if plane.window is not None:
        sources["area"] = list(plane.window)
    if regions is not None:
        sources["content_regions"] = name_of(regions)
    if start is not None:
        sources["initial"] = name_of(start)
    named = source_name(content)
    called = axis_names(content, viewer.dims)
    # From here on, the content is the level of it that is read.
    whole, (content, plane) = content, at_level(content, plane, partial(working_size, settings=settings))
    read_content = reader_of(content, plane)
    read_regions = _regions_reader(regions, area, content, plane, viewer.dims, axes)
    read_start = None if start is None else _start_reader(viewer, start, content, plane, settings)
    read_styles = [_style_readers(viewer, style, settings) for style in styles]
    layers = "" if settings.content_layers == "auto" else f" {to_text('content_layers', settings.content_layers)}"
    title = f"{named} × {_names(styles)}" if styles else f"{named} · content{layers}"
    if axes:
        chained = bool(inputs.plane_choice.chained.value)
        stack = Stack(whole, content, plane, axes, called, chained, read_styles, read_regions, settings)
        return _stack_task(stack, title, sources, inputs.plane_choice.address)
    place = Place(spot_of(content), plane, title, sources, settings)
    return _single_task(place, settings, read_styles, read_content, read_start, read_regions)


def _single_task(
    place: Place,
    settings: StyleSettings,
    styles: list[StyleReaders],
    content: Reader | None = None,
    start: Reader | None = None,
    regions: Reader | None = None,
) -> Task:
    """Return a task for one picture from what reads its content, what it starts from, and the content's regions."""

    def work(report: Report, steering: Steering) -> Generator[Step]:
        load_pytorch(report)
        from napari_neural_style.engine.transfer import stylize

        steps = stylize(
            _read(content),
            [(read(), weight) for read, weight, _ in styles],
            settings,
            initial=_read(start),
            content_regions=_read(regions),
            style_regions=[_read(style_regions) for *_, style_regions in styles],
            progress=report,
            steering=steering,
        )
        yield from to_go_on(steps, place)

    return Task(place.title, settings, partial(_outputs, place), work)


def _outputs(place: Place, viewer: ViewerModel, steps_as: str) -> Outputs:
    return Outputs(viewer, place, steps_as)


def _read(reader: Reader | None) -> Any:
    return None if reader is None else reader()


def _regions_reader(
    regions: Labels | None, area: Any, content: Image, plane: Plane, dims: Dims, along: tuple[int, ...]
) -> Reader | None:
    """Return what reads the content's regions, 0 outside of the area; None where there are neither."""
    read_regions = labels_reader(regions, content, plane, dims)
    read_shapes = shapes_reader(area, content, plane, dims, along)
    if read_regions is None or read_shapes is None:
        return read_regions or read_shapes

    def read_both() -> Any:
        found = read_regions() * read_shapes()
        if not found.any():
            raise ValueError("No label of the content regions lies in the area. Move one of them, or choose others.")
        return found

    return read_both


def _stack_task(stack: Stack, title: str, sources: dict[str, Any], scheduler: str, layer: Image | None = None) -> Task:
    def outputs(viewer: ViewerModel, steps_as: str) -> StackOutputs:
        return StackOutputs(viewer, stack, title, sources, layer)

    def work(report: Report, steering: Steering) -> Generator[StackStep]:
        yield from stack.work(report, scheduler)

    missing = stack.total - stack.done
    planes = "1 plane" if missing == 1 else f"{missing} planes"
    return Task(f"{title} · {planes}", stack.settings, outputs, work, steerable=False)


def missing_task(layer: Image, scheduler: str) -> Task:
    """Return a task for the planes that a layer's stack does not have yet, to be painted here or on a cluster.

    Raises
    ------
    ValueError
        If there are none; the message says what to do.
    """
    stack = unfinished(layer)
    if stack is None:
        raise ValueError(f"{layer.name!r} has no missing planes. Select the layer of a stack that was stopped.")
    stack.look_again()
    return _stack_task(stack, title_of(layer), dict(sources_of(layer)), scheduler, layer)


def _texture_task(viewer: ViewerModel, settings: StyleSettings, styles: list[StyleChoice]) -> Task:
    """Return a task for a texture, which lies to the right of its style."""
    first = styles[0].layer
    plane = style_plane(first, viewer.dims)
    height, width = plane_shape(first, plane)
    size = settings.size if isinstance(settings.size, tuple) else (settings.size, settings.size)
    scale = min(max(height, width), max(size)) * settings.style_scale / max(height, width)
    left = round(width * 1.05)
    window = (0, left, round(size[0] / scale), left + round(size[1] / scale))
    title = f"{_names(styles)} · texture"
    used = [layer for style in styles for layer in (style.layer, style.regions) if layer is not None]
    sources = _style_sources(styles) | shown_as(used, viewer.dims)
    place = Place(spot_of(first), dataclasses.replace(plane, window=window), title, sources, settings)
    return _single_task(place, settings, [_style_readers(viewer, style, settings) for style in styles])


def go_on_task(layer: Image) -> Task:
    """Return a task that goes on with the stopped run that a layer shows.

    Raises
    ------
    ValueError
        If there is none; the message says why.
    """
    made_by = made_by_of(layer) or {}
    run = made_by.get("run")
    if not isinstance(run, str) or not run:
        raise ValueError(f"{layer.name!r} is not the result of a stopped run. Select the layer of one.")
    path = runs_folder() / Path(run).name
    if not path.is_file():
        raise ValueError(
            f"The run of {layer.name!r} is not in {runs_folder()}, where the last {KEPT_RUNS} stopped ones are kept."
        )
    settings = settings_of(made_by)
    title = title_of(layer)
    # The run's axes: others may be shown by now. A file that was opened again has the last two of them only.
    last = layer.ndim - 2, layer.ndim - 1
    match made_by.get("run_axes"):
        case [int(down), int(across)] if down != across:
            pass
        case _:  # not kept, or damaged
            down, across = last
    if not {down, across} <= set(range(layer.ndim)):
        down, across = last if down < across else last[::-1]
    plane = Plane((down, across), (0,) * layer.ndim)
    size = list(plane_shape(layer, plane))
    if made_by.get("run_size", size) != size:
        raise ValueError(
            f"{layer.name!r} was cropped or resized after its run was stopped. Select the layer as it was then."
        )
    place = Place(spot_of(layer), plane, title, dict(sources_of(layer)), asked_of(made_by))

    def work(report: Report, steering: Steering) -> Generator[Step]:
        load_pytorch(report)
        from napari_neural_style.engine.snapshot import read_snapshot
        from napari_neural_style.engine.transfer import go_on

        yield from to_go_on(go_on(read_snapshot(path), progress=report, steering=steering), place)

    return Task(f"{title} (going on)", settings, partial(_outputs, place), work)


def _style_readers(viewer: ViewerModel, style: StyleChoice, settings: StyleSettings) -> StyleReaders:
    plane = style_plane(style.layer, viewer.dims)
    layer, plane = at_level(style.layer, plane, partial(style_size, settings=settings))
    return reader_of(layer, plane), style.weight, labels_reader(style.regions, layer, plane, viewer.dims)


def _start_reader(viewer: ViewerModel, layer: Image, content: Image, plane: Plane, settings: StyleSettings) -> Reader:
    """Return what reads a picture to start from, or the part in the area, which becomes of the working size."""
    there = style_plane(layer, viewer.dims)
    if plane.window is not None:
        there = part_under(content, plane, layer, there, viewer.dims)
    size = working_size(size_of(content, plane), settings)
    return reader_of(*at_level(layer, there, lambda _: size))


def _names(styles: list[StyleChoice]) -> str:
    """Return the names of the styles that count."""
    return " + ".join(style_name(style.layer) for style in styles if style.weight)


def _style_sources(styles: list[StyleChoice]) -> dict[str, Any]:
    """Return the names of styles for the provenance: one as a name, several with their weights."""
    if not styles:
        return {}
    sources: dict[str, Any] = {"style": name_of(styles[0].layer)}
    if len(styles) > 1:
        sources["styles"] = [[name_of(style.layer), style.weight] for style in styles]
    if any(style.regions is not None for style in styles):
        sources["style_regions"] = [None if s.regions is None else name_of(s.regions) for s in styles]
    return sources
