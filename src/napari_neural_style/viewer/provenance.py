"""What made a layer, whether it came from a run or from a file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from napari_neural_style.files import KEY, SUFFIXES, read_made_by

if TYPE_CHECKING:
    from napari.layers import Layer


def made_by_of(layer: Layer) -> dict[str, Any] | None:
    """Return what made a layer's picture: from its metadata, else from the file it was read from.

    Only the file's header is read, and only once as long as it stays the same.

    Parameters
    ----------
    layer : napari.layers.Layer
        Any layer.

    Returns
    -------
    dict or None
        Not to be changed; :func:`napari_neural_style.command.settings_of` reads it. None for what no run made.
    """
    found = layer.metadata.get(KEY)
    if isinstance(found, dict):
        return found
    path = layer.source.path
    # A stack of files has the path of its first.
    if path is None or layer.ndim != 2 or Path(path).suffix.lower() not in SUFFIXES:
        return None
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return _in_file(os.fspath(path), status.st_mtime_ns, status.st_size)


def sources_of(layer: Layer) -> Mapping[str, Any]:
    """Return the names of what a layer's picture was made from, empty where they are not known."""
    sources = (made_by_of(layer) or {}).get("sources")
    return sources if isinstance(sources, Mapping) else {}


def styles_of(layer: Layer) -> list[tuple[Any, float, Any]]:
    """Return the name of every style that a layer's picture was made from, its weight, and its regions' name or None.

    Raises
    ------
    ValueError
        If what is kept with the picture is damaged.
    """
    sources = sources_of(layer)
    try:
        styles = sources.get("styles") or [[sources.get("style"), 1.0]]
        regions = sources.get("style_regions") or [None] * len(styles)
        return [(name, float(weight), labels) for (name, weight), labels in zip(styles, regions, strict=True)]
    except (TypeError, ValueError) as error:
        raise ValueError(f"What is kept with {layer.name!r} is damaged: its styles cannot be read.") from error


_named: WeakKeyDictionary[Layer, set[str]] = WeakKeyDictionary()
"""What layers that runs were made from were called then: users rename them."""


def name_of(layer: Layer) -> str:
    """Return what a layer that a run is made from is called, for :func:`open_layer` to find it by."""
    _named.setdefault(layer, set()).add(layer.name)
    return str(layer.name)


def open_layer(layers: Iterable[Layer], name: Any, kind: type[Layer]) -> Any:
    """Return the layer of a kind that had a name when a run was made from it, else the first that has it, or None."""
    if not isinstance(name, str):
        return None
    of_kind = [layer for layer in layers if isinstance(layer, kind)]
    had = [layer for layer in of_kind if name in _named.get(layer, ())]
    has = [layer for layer in of_kind if layer.name == name]
    return next(iter([*(layer for layer in had if layer in has), *had, *has]), None)


@lru_cache(maxsize=256)
def _in_file(path: str, mtime: int, size: int) -> dict[str, Any] | None:
    """Return what made the image in a file; time and size are there to notice that it changed."""
    return read_made_by(path)
