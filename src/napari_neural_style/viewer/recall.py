"""From a result back to the fields that made it, and to a command line."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Labels

from napari_neural_style.command import asked_of, command_of, early_step, settings_of
from napari_neural_style.files import step_path
from napari_neural_style.settings import StyleSettings
from napari_neural_style.viewer.areas import WHOLE
from napari_neural_style.viewer.provenance import made_by_of, open_layer, sources_of, styles_of
from napari_neural_style.viewer.shown import shown_otherwise

if TYPE_CHECKING:
    import napari
    from napari.layers import Layer

    from napari_neural_style.viewer.inputs import Inputs


def recall(layer: Layer, inputs: Inputs, viewer: napari.viewer.Viewer) -> tuple[StyleSettings, str]:
    """Let the fields for layers hold what a result was made from, as far as it is open.

    Returns
    -------
    settings : StyleSettings
        What it was made with; a device and a precision that were chosen for the machine it was made on are chosen anew.
    differs : str
        What is not open any more, is shown otherwise, or cannot be chosen again: sentences, or nothing.

    Raises
    ------
    ValueError
        If the result's settings cannot be used, or what is kept with it is damaged.
    """
    made_by = made_by_of(layer) or {}
    settings = asked_of(made_by)
    # Pictures from the command line hold an interval that nobody chose: there is no preview. What fitted without tiles
    # takes none with auto either; a larger size, chosen next, may.
    usual = StyleSettings()
    settings = dataclasses.replace(settings, preview_interval=usual.preview_interval, tile=settings.tile or usual.tile)
    sources, styles = sources_of(layer), styles_of(layer)
    missing: list[str] = []
    inputs.more.follow()

    def choose(field: Any, name: Any, kind: type) -> None:
        if name is None:
            return
        found = open_layer(viewer.layers, name, kind)
        if found is None:
            missing.append(str(name))
        else:
            field.value = found

    choose(inputs.content, sources.get("content"), Image)
    stack = _stack_of(made_by)
    offered = inputs.plane_choice.choose(stack.get("axes"))
    if stack:
        inputs.plane_choice.chained.value = stack.get("chained") is not None
    inputs.more.content_regions.value = inputs.more.start_from.value = None
    inputs.more.area.value = WHOLE
    choose(inputs.more.content_regions, sources.get("content_regions"), Labels)
    choose(inputs.more.start_from, sources.get("initial"), Image)
    inputs.more.have_rows(len(styles))
    for row, (name, weight, labels) in zip(inputs.more.rows, styles, strict=False):
        choose(row.layer, name, Image)
        row.weight.value = weight
        row.regions.value = None
        choose(row.regions, labels, Labels)
    words = [f"Not among the layers any more: {', '.join(missing)}."] if missing else []
    if not offered:
        words.append("It was made of all planes along axes that cannot be chosen now: show other axes, or this plane.")
    if otherwise := shown_otherwise(sources, viewer):
        words.append(f"Then shown otherwise: {', '.join(otherwise)}.")
    if sources.get("area"):
        words.append("It was limited to an area: choose that again.")
    return settings, " ".join(words)


def command_for(layer: Layer, viewer: napari.viewer.Viewer) -> tuple[str, str]:
    """Return the command line that makes a result again, and a sentence on what it cannot hold.

    Raises
    ------
    ValueError
        If the result's settings cannot be used.
    """
    made_by = made_by_of(layer) or {}
    sources = sources_of(layer)
    content, style, start = (_path_of(viewer, sources.get(name)) for name in ("content", "style", "initial"))
    settings = settings_of(made_by)
    if settings.mode == "texture" and isinstance(settings.size, int):
        # Here it has no content and is square; there every command names one, whose shape then does not count.
        square = dataclasses.replace(settings, size=(settings.size, settings.size))
        made_by = {**made_by, "settings": square.to_dict()}
    if settings.mode != "transfer":
        content = style = content or style
    command = command_of(made_by, content, style, start)
    early = early_step(made_by, settings)
    lost = [name for name in ("styles", "style_regions", "content_regions", "area") if sources.get(name)]
    if isinstance(looks := sources.get("looks"), Mapping) and any(looks.values()):
        lost.append("contrast limits, gamma and colormaps")
    listed = ", ".join("further styles" if name == "styles" else name.replace("_", " ") for name in lost)
    named = {"CONTENT.png": content, "STYLE.png": style} | ({"START.png": start} if sources.get("initial") else {})
    unknown = [name for name, path in named.items() if path is None]
    words = [f"Put the files' names in place of {' and '.join(unknown)}."] if unknown else []
    if sources.get("planes") and not _stack_of(made_by):
        words.append("It takes files of one plane each.")
    if _stack_of(made_by):
        words.append("It makes one image; `napari-neural-style batch` makes stacks.")
    words += [f"Its picture comes out as {step_path(Path('steps'), early)}."] if early else []
    words += [f"The command leaves out: {listed}."] if lost else []
    return command, " ".join(words)


def _stack_of(made_by: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return which planes a result has, empty for a single picture."""
    stack = made_by.get("stack")
    return stack if isinstance(stack, Mapping) else {}


def _path_of(viewer: napari.viewer.Viewer, name: Any) -> Path | None:
    """Return the file that a layer was opened from, if it is open and has one for itself."""
    layer = open_layer(viewer.layers, name, Image)
    path = None if layer is None else layer.source.path
    if not path:
        return None
    # Readers make a layer of each channel, and a command would take all of them for one picture.
    of_file = [each for each in viewer.layers if isinstance(each, Image) and each.source.path == path]
    return Path(path) if layer.rgb or all(_same_pixels(each, layer) for each in of_file) else None


def _same_pixels(layer: Layer, other: Layer) -> bool:
    """Tell whether two layers are one, or a file that was opened twice; lazy data are not read for that."""
    arrays = layer.data, other.data
    return layer is other or (all(isinstance(data, np.ndarray) for data in arrays) and np.array_equal(*arrays))
