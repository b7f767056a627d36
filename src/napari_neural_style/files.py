"""Image files in and out, with the settings embedded."""

from __future__ import annotations

import json
import math
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from napari_neural_style.reading import (
    NoImageError,
    check_unpacked,
    is_tiff,
    pillow_image,
    pillow_pixels,
    tiff_pixels,
    why,
)
from napari_neural_style.whole import own_part_of, whole_file, why_not

if TYPE_CHECKING:
    from napari_neural_style.engine.sizes import SizeOf
    from napari_neural_style.zarr_images import Spacing

KEY = "napari-neural-style"
"""Name under which files and layers carry what made them."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
OME_ZARR = ".ome.zarr"
"""How the name of a folder ends that is written like an image file."""

_ANIMATED = ("GIF", "WEBP", "PNG")
"""Formats whose frames are a stack; those of others are previews and other views of one picture."""
_LONGEST_NAME = 255
"""Bytes that file systems take."""

_EXIF_DESCRIPTION = 0x010E
_MOST_EXIF = 65_000
"""Bytes of text that fit into a JPEG's EXIF segment."""


def read_image(path: str | os.PathLike[str], used: SizeOf | None = None) -> npt.NDArray[Any]:
    """Read one image.

    Parameters
    ----------
    path : path
        TIFF, or any format that Pillow reads, EXIF orientation applied; or a folder with a Zarr array or an OME-Zarr
        image.
    used : callable, optional
        At what size, (height, width), an image of some size is used. Of an OME-Zarr image that is used at half its size
        or less, a smaller level is read that is no smaller than that.

    Returns
    -------
    ndarray
        Shape (H, W), (H, W, 3) or (H, W, 4) in the file's own dtype, 8 or 16 bits an integer; of PNG in colour with 16
        bits Pillow keeps 8.

    Raises
    ------
    ValueError
        If there is no such file or it holds no single image; the message says which.
    """
    # Here, as wherever they are used: they take a while, and the dock imports this module.
    from PIL import ImageOps

    path = Path(path)
    if path.is_dir():
        return _read_zarr(path, used)
    if not path.is_file():
        if path.exists():
            raise ValueError(f"{str(path)!r} is a pipe or a device: save the image to a file first.")
        raise ValueError(f"There is no image file {str(path)!r}.")
    try:
        if is_tiff(path):
            return tiff_pixels(path)
        with pillow_image(path) as image:
            shape = image.height, image.width, len(image.getbands())
            check_unpacked(path, shape, math.prod(shape))
            frames = getattr(image, "n_frames", 1) if image.format in _ANIMATED else 1
            if frames > 1:
                raise NoImageError(
                    f"{str(path)!r} holds an animation of {frames} frames, not one image. Give a single "
                    "frame of it; `napari-neural-style batch` repaints stacks."
                )
            pixels = pillow_pixels(ImageOps.exif_transpose(image))
        # Pillow's can only be read. A run only reads them, and spares the copy.
        return pixels if used or pixels.flags.writeable else pixels.copy()
    except NoImageError:
        raise
    except Exception as error:  # a damaged file makes the decoders fail in any way
        raise ValueError(f"{str(path)!r} cannot be read: {why(error)}") from error


def _read_zarr(path: Path, used: SizeOf | None) -> npt.NDArray[Any]:
    from napari_neural_style.contents import look_at
    from napari_neural_style.zarr_images import is_zarr

    if not is_zarr(path):
        raise ValueError(f"{str(path)!r} is a folder, and no Zarr array or OME-Zarr image.")
    try:
        content = look_at(path, used)
    except ValueError as error:
        raise ValueError(f"{str(path)!r}: {error}") from error
    if content.stacked:
        raise ValueError(
            f"{str(path)!r} is a stack of shape {content.shape}, not one image; `napari-neural-style batch` repaints "
            "stacks."
        )
    try:
        return content.planes().read(())
    except Exception as error:  # a damaged chunk makes the readers fail in any way
        raise ValueError(f"{str(path)!r} cannot be read: {why(error)}") from error


def check_writable(path: str | os.PathLike[str], *, keep_originals: bool = False) -> Path:
    """Return where an image would be written, or say why it cannot be.

    Parameters
    ----------
    path : path
        Where.
    keep_originals : bool
        Whether an image that is there and was not written by :func:`write_image` is to stay. An OME-Zarr always is.

    Raises
    ------
    ValueError
        If the name ends in none of :data:`SUFFIXES` nor in :data:`OME_ZARR` or is too long, the folder is not there or
        cannot be written to, or what is to stay would be replaced.
    """
    path = Path(path)
    ome_zarr = is_ome_zarr(path)
    if path.suffix.lower() not in SUFFIXES and not ome_zarr:
        raise ValueError(f"{str(path)!r}: the name of an image must end in one of {', '.join((*SUFFIXES, OME_ZARR))}.")
    target = check_folder_of(path)
    if path.is_dir() and not ome_zarr:
        raise ValueError(f"{str(path)!r} is a folder: choose another name.")
    if (ome_zarr or keep_originals) and path.exists() and read_made_by(path) is None:
        raise ValueError(f"{str(path)!r} already exists and was not made by napari-neural-style: choose another name.")
    if reason := why_not(target):
        raise ValueError(f"{str(path)!r} cannot be written ({reason}): choose another folder.")
    return path


def check_folder_of(path: Path) -> Path:
    """Return the file that a path leads to; raise a ValueError if its name is too long, or it has no folder."""
    path = Path(os.path.realpath(path))  # of a link, what it leads to is replaced
    if len(os.fsencode(own_part_of(path).name)) > _LONGEST_NAME:
        raise ValueError(f"The name {path.name!r} is too long to be written: choose a shorter one.")
    if path.is_symlink():
        raise ValueError(f"{str(path)!r} is a link that leads round in a circle: choose another name.")
    if not path.parent.is_dir():
        raise ValueError(f"There is no folder {str(path.parent)!r} to write {path.name!r} to.")
    return path


def check_steps_folder(folder: Path, steps: int) -> Path:
    """Return a folder for the pictures of a run's steps, there or not, or say why it cannot be one.

    Parameters
    ----------
    folder : Path
        Where they go, named by :func:`step_path`.
    steps : int
        How many there are at most.

    Raises
    ------
    ValueError
        If it is a file, cannot be written to, or holds an image that is no result and would be replaced.
    """
    there = first_there(folder)
    if not there.is_dir():
        raise ValueError(f"{str(there)!r} is a file: name a folder.")
    if reason := why_not(step_path(there, steps)):
        raise ValueError(f"The folder {str(folder)!r} cannot be written to ({reason}): choose another.")
    for path in folder.glob("step-*.png"):
        number = path.stem.removeprefix("step-")
        if number.isdecimal() and int(number) <= steps and path.name == step_path(folder, int(number)).name:
            check_writable(path, keep_originals=True)
    return folder


def first_there(folder: Path) -> Path:
    """Return a folder, or the first of those around it that is there.

    Raises
    ------
    ValueError
        If there is none, as on a drive that is not there, or behind a link that leads nowhere.
    """
    for path in (folder, *folder.absolute().parents):
        if path.exists():
            return path
        if path.is_symlink():
            raise ValueError(f"{str(path)!r} is a link that leads nowhere: choose another folder.")
    raise ValueError(f"There is no {folder.absolute().anchor!r}: choose another folder.")


def step_path(folder: Path, index: int) -> Path:
    """Return where the picture of a step goes."""
    return folder / f"step-{index:04d}.png"


def stem_of(path: Path) -> str:
    """Return a file's name without its suffix, or both of ``.ome.tif`` and the like."""
    stem = path.stem
    return stem[:-4] if stem.lower().endswith(".ome") else stem


def is_ome_zarr(path: Path) -> bool:
    """Tell whether a name is that of an OME-Zarr."""
    return path.name.lower().endswith(OME_ZARR)


def write_image(
    path: str | os.PathLike[str],
    image: npt.NDArray[Any],
    made_by: dict[str, Any],
    *,
    pixels_per_cm: tuple[float, float] | None = None,
    spacing: dict[str, Spacing] | None = None,
) -> None:
    """Write an image with what made it; the file appears whole or not at all.

    Parameters
    ----------
    path : path
        Ends in one of :data:`SUFFIXES`, or in :data:`OME_ZARR`: a folder with an OME-Zarr image and smaller levels.
    image : ndarray
        Shape (H, W, 3), uint8.
    made_by : dict
        JSON types, kept in the file: a text chunk of PNG, the description of JPEG and TIFF, an attribute of OME-Zarr.
    pixels_per_cm : (float, float), optional
        Resolution down and across, kept in TIFF only.
    spacing : dict, optional
        Where pixels lie along ``y`` and ``x``; kept in OME-Zarr only.

    Raises
    ------
    ValueError
        As :func:`check_writable`, or if it is no such image.
    OSError
        If writing fails, for example on a full disk.
    """
    import numpy as np
    from PIL import Image, PngImagePlugin

    path, image = check_writable(path), np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(
            f"An image to write has shape (height, width, 3) and dtype uint8, not {image.shape} and {image.dtype}; "
            "napari_neural_style.engine.images.to_uint8 makes it of a step's."
        )
    if is_ome_zarr(path):
        from napari_neural_style.stack_store import write_ome_image

        write_ome_image(path, image, made_by, spacing or {})
        return
    text = json.dumps({KEY: made_by})
    with whole_file(path) as part:
        if path.suffix.lower() in (".tif", ".tiff"):
            resolution: dict[str, Any] = {}
            if pixels_per_cm:
                resolution = {"resolution": pixels_per_cm[::-1], "resolutionunit": "CENTIMETER"}
            import tifffile

            tifffile.imwrite(
                part, image, photometric="rgb", compression="zlib", description=text, metadata=None, **resolution
            )
        elif path.suffix.lower() == ".png":
            info = PngImagePlugin.PngInfo()
            info.add_itxt(KEY, text)
            Image.fromarray(image).save(part, format="PNG", pnginfo=info)
        else:
            exif = Image.Exif()
            if len(text.encode()) < _MOST_EXIF:
                exif[_EXIF_DESCRIPTION] = text
            else:
                warnings.warn(
                    f"{path.name}: what made it is too long for a JPEG and is not in it; PNG and TIFF take it.",
                    stacklevel=2,
                )
            Image.fromarray(image).save(part, format="JPEG", quality=95, exif=exif)


def read_made_by(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Return what made an image that :func:`write_image` wrote, or None for any other; only headers are read."""
    path = Path(path)
    try:
        if path.is_dir():
            import zarr

            found = zarr.open(path, mode="r").attrs[KEY]
            return found if isinstance(found, dict) else None
        if not path.is_file():  # a pipe would be waited for
            return None
        if is_tiff(path):
            import tifffile

            with tifffile.TiffFile(path) as file:
                text = file.pages[0].description
        else:
            with pillow_image(path) as image:
                # A PNG that is asked for EXIF unpacks all its pixels.
                png = image.format == "PNG"
                text = image.info.get(KEY) if png else image.getexif().get(_EXIF_DESCRIPTION)
        found = json.loads(str(text))[KEY]
    except Exception:  # a damaged file makes the decoders fail in any way
        return None
    return found if isinstance(found, dict) else None
