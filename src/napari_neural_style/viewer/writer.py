"""napari's own saving, with what made a result embedded in the file."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from npe2 import PluginContext, PluginManager

from napari_neural_style.files import KEY, SUFFIXES, write_image

COMMAND = "napari-neural-style.write_image"


def activate(context: PluginContext) -> None:
    """Have napari ask this writer before its own, so that saving a result keeps its settings.

    Of two writers for the same files napari takes the one whose plugin it happened to find first. npe2 has no public
    way to say more; should its index change, people still find this writer in the save dialog.
    """
    with contextlib.suppress(AttributeError, TypeError):
        PluginManager.instance()._contrib._writers.sort(key=lambda entry: entry[-1].command != COMMAND)


def write_image_layer(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write an image layer as napari does; a result of ours with what made it.

    Parameters
    ----------
    path : str
        Where to; without a suffix it becomes a TIFF.
    data : array
        The layer's data.
    meta : dict
        The layer's attributes.

    Returns
    -------
    list of str
        The files written.

    Raises
    ------
    OSError
        If a result cannot be written.
    """
    made_by = _made_by(meta)
    if made_by is None:
        return _write_as_without_us(path, data, meta)
    target = Path(path)
    if not target.suffix:
        target = target.with_name(f"{target.name}.tif")
    full = data[0] if meta.get("multiscale") else data
    picture = _one_picture(full, meta)
    cannot = f"{target.name} cannot hold all of {meta.get('name')!r}: save it as TIFF."
    many = sum(n > 1 for n in np.shape(full)[: -1 if meta.get("rgb") else None]) > 2
    if many and target.suffix.lower() in {".png", ".jpg", ".jpeg"}:  # napari's writer begins the file before it fails
        raise OSError(cannot)
    if picture is None or target.suffix.lower() not in SUFFIXES:
        from napari.utils.notifications import show_info

        show_info(
            f"{target.name} does not keep the settings of {meta.get('name')!r}: "
            "only a single 8-bit RGB picture saved as PNG, TIFF or JPEG can."
        )
        try:
            return _write_as_without_us(path, data, meta)
        except (TypeError, KeyError) as error:
            raise OSError(cannot) from error
    try:
        write_image(target, picture, made_by, pixels_per_cm=_pixels_per_cm(np.shape(full), meta))
    except ValueError as error:  # npe2 would take it to mean that nobody can write such a file
        raise OSError(str(error)) from error
    return [str(target)]


def _made_by(meta: dict[str, Any]) -> dict[str, Any] | None:
    made_by = (meta.get("metadata") or {}).get(KEY)
    if not isinstance(made_by, dict):
        return None
    try:
        json.dumps(made_by)
    except (TypeError, ValueError, RecursionError):  # somebody else changed it
        return None
    return made_by


def _one_picture(data: Any, meta: dict[str, Any]) -> npt.NDArray[np.uint8] | None:
    """Return the picture (H, W, 3) that a layer of any number of axes holds, or None for anything else."""
    if not meta.get("rgb") or data.dtype != np.uint8 or data.shape[-1] != 3:
        return None
    shape = data.shape if data.ndim == 3 else (*(n for n in data.shape[:-1] if n > 1), 3)
    return np.asarray(data).reshape(shape) if len(shape) == 3 else None


def _pixels_per_cm(shape: tuple[int, ...], meta: dict[str, Any]) -> tuple[float, float] | None:
    """Return the resolution down and across, or None for a layer without units of length."""
    down, across = [axis for axis, n in enumerate(shape[:-1]) if n > 1 or len(shape) == 3]
    sizes = []
    for axis in (down, across):
        unit = meta["units"][axis]
        if not unit.is_compatible_with("cm"):
            return None
        sizes.append(abs(float(meta["scale"][axis])) * float((1 * unit).to("cm").magnitude))
    return (1 / sizes[0], 1 / sizes[1]) if all(sizes) else None


def _write_as_without_us(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write a layer with the writer that npe2 takes where this one is not installed."""

    def matched(writer: Any) -> int:
        suffixes = [suffix for suffix in writer.filename_extensions if path.lower().endswith(suffix.lower())]
        return max(map(len, suffixes), default=0)

    writers = PluginManager.instance().iter_compatible_writers(["image"])
    writer = max((writer for writer in writers if writer.command != COMMAND), key=matched)
    single = sum(limit.max() for limit in writer.layer_type_constraints()) <= 1
    written = writer.exec(args=(path, data, meta) if single else (path, [(data, meta, "image")]))
    return [written] if isinstance(written, str) else list(written or [])
