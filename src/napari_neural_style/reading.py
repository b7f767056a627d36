"""What Pillow and tifffile read of a file, as the image that is seen."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_neural_style.tiff_colors import CIELAB, CMYK, WHITE_IS_0, YCBCR, colors_of

if TYPE_CHECKING:
    from PIL import Image

_LARGE = 2**28
_MOST_PACKED = 1100
"""Bytes that one byte of a file becomes at the most; deflate cannot do more, and a file that says so is a trap."""

_ROUNDING = 2
"""Steps of 255 by which profiles of sRGB differ from one another."""

_BESIDE_SLIDES = ("Label", "Macro", "Map", "Thumbnail")
"""What tifffile calls what scanners of slides keep beside them."""


class NoImageError(ValueError):
    """A file was read, but holds no image, or no single one; the message says what it is."""


def why(error: Exception) -> str:
    """Return what is wrong in words, without the number and the path that the system tells with it."""
    if isinstance(error, MemoryError):
        return "there is not enough memory for it. Close other programs, or choose a smaller image."
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def check_unpacked(path: Path, shape: tuple[int, ...], unpacked: int) -> None:
    """Raise a NoImageError if a file is a trap: large once it is unpacked, and tiny as it is."""
    size = path.stat().st_size
    if unpacked > max(_LARGE, _MOST_PACKED * size):
        raise NoImageError(
            f"{str(path)!r} unpacks to more pixels than an image of its kind should: shape {shape} out of {size:,} "
            "bytes."
        )


@contextmanager
def pillow_image(path: str | os.PathLike[str]) -> Iterator[Image.Image]:
    """Open an image with Pillow, whose warning is about any large one; check_unpacked finds those that are traps.

    Raises
    ------
    NoImageError
        If it is none that Pillow reads.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                yield image
    except UnidentifiedImageError as error:
        raise NoImageError(f"{str(path)!r} is no image that can be read (PNG, JPEG, TIFF and others can).") from error
    except Image.DecompressionBombError as error:
        raise NoImageError(
            f"{str(path)!r} has more pixels than are read of its kind of file. Save it as a TIFF, which may have that "
            "many."
        ) from error


def pillow_pixels(image: Image.Image) -> npt.NDArray[Any]:
    """Return the pixels of an image of Pillow's as they are seen, transparency included."""
    see_through = image.mode in ("PA", "La", "RGBa", "LA")
    # Of 16 bits Pillow can make no RGBA.
    if see_through or ("transparency" in image.info and image.mode in ("P", "RGB", "L", "1")):
        image = image.convert("RGBA")
    elif image.mode in ("P", "YCbCr", "LAB", "HSV", "RGBX"):
        image = image.convert("RGB")
    image = _in_srgb(image, image.info.get("icc_profile"))
    if image.mode == "CMYK":
        image = image.convert("RGB")
    pixels = np.asarray(image)
    if image.mode == "I" and pixels.min() >= 0 and pixels.max() < 2**16:
        return pixels.astype(np.uint16)  # Pillow's only mode for a PGM of 16 bits
    return pixels


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Return an image of Pillow's in sRGB, which all else takes colours for, if its profile says that it is in another.

    One whose profile cannot be used stays as it is: most programs that show it do not look at that.
    """
    from PIL import Image, ImageCms

    if image.mode not in ("RGB", "RGBA", "CMYK") or not profile:
        return image
    try:
        own, srgb = ImageCms.getOpenProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
        if image.mode != "CMYK":
            levels = np.arange(0, 256, 51, dtype=np.uint8)
            colors = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(-1, 6, 3)
            seen = ImageCms.profileToProfile(Image.fromarray(colors), own, srgb)
            if np.abs(np.asarray(seen, int) - colors).max() <= _ROUNDING:
                return image
        becomes = "RGB" if image.mode == "CMYK" else image.mode
        return ImageCms.profileToProfile(image, own, srgb, outputMode=becomes) or image
    except (ImageCms.PyCMSError, ImportError):
        return image


def first_series(file: Any) -> Any:
    """Return what is read of a TIFF that is open; of one that was cut off nothing but its beginning may be there."""
    if not file.series:
        raise ValueError("there is no image in it. Copy the file again.")
    return file.series[0]


def warn_of_missing(path: Path, file: Any) -> None:
    """Warn of what of a TIFF is not read: images that are no pages of its first stack, and what was cut off.

    Parameters
    ----------
    path : Path
        Where it is.
    file : tifffile.TiffFile
        It, open.
    """
    first, *others = file.series
    images = [each for each in others if each.name not in _BESIDE_SLIDES]
    if left_out := sum(each.keyframe.subfiletype in (0, 2) for each in images):  # no smaller copies, no masks
        more = "another image" if left_out == 1 else f"{left_out} other images"
        warnings.warn(f"{str(path)!r} also holds {more}: save each as a file of its own to use it.", stacklevel=2)
    if first.kind not in ("generic", "uniform"):  # what was cut off others cannot be read
        return
    pages, handle = len(file.pages), file.filehandle
    handle.seek(file.pages.next_page_offset)  # tifffile gives what is left, as if that were all
    following = handle.read(file.tiff.offsetsize)
    offset = int.from_bytes(following, "little" if file.byteorder == "<" else "big")
    if len(following) < file.tiff.offsetsize or offset >= handle.size:
        warnings.warn(
            f"{str(path)!r} is cut off: nothing after page {pages} is left. Copy the file again.", stacklevel=2
        )


def is_tiff(path: Path) -> bool:
    """Tell whether a file is a TIFF, whatever its name ends in."""
    with path.open("rb") as file:
        return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def tiff_pixels(path: Path) -> npt.NDArray[Any]:
    """Return the pixels of a TIFF with one image as they are seen.

    Raises
    ------
    NoImageError
        If it holds something else.
    """
    import tifffile
    from PIL import Image

    with tifffile.TiffFile(path) as file:
        series = first_series(file)
        warn_of_missing(path, file)
        check_unpacked(path, series.shape, series.nbytes)
        page = file.pages[0]
        palette = getattr(page, "colormap", None)
        tags = page.tags if isinstance(page, tifffile.TiffPage) else {}
        orientation, profile = (tag and tag.value for tag in map(tags.get, ("Orientation", "InterColorProfile")))
        colors = colors_of(page)
        if colors == CIELAB:
            raise ValueError("its colours are CIELAB. Save it as RGB.")
        bits = getattr(page, "bitspersample", None)
        extra = tuple(getattr(page, "extrasamples", ()))
        axes, array = series.axes, series.asarray()
    alone = tuple(axis for axis, name in enumerate(axes) if name not in "YXS" and array.shape[axis] == 1)
    array, axes = array.squeeze(alone), "".join(name for axis, name in enumerate(axes) if axis not in alone)
    if palette is None and isinstance(bits, int) and array.dtype.kind == "u":
        array = in_full_range(array, bits)
    if axes.startswith("S") and len(axes) == 3:
        array = np.moveaxis(array, 0, -1)
    if palette is not None and array.ndim == 2:
        array = _of_palette(palette, array)
    elif palette is not None and array.dtype == np.uint8 and array.shape[-1] == 2 and any(extra):
        array = np.dstack([_of_palette(palette, array[..., 0]), array[..., 1] * np.uint16(257)])
    if colors == WHITE_IS_0 and array.dtype.kind in "bu":
        grey = (..., slice(1)) if extra else ...
        array = array.copy()
        array[grey] = ~array[grey]
    if "S" in axes and array.ndim == 3 and array.shape[-1] == 2 and any(extra):
        array = array[..., [0, 0, 0, 1]]  # grey and alpha
    if extra[:1] == (tifffile.EXTRASAMPLE.ASSOCALPHA,) and array.ndim == 3 and array.shape[-1] == 4:
        array = _unmultiplied(array)
    if extra[-1:] == (tifffile.EXTRASAMPLE.UNSPECIFIED,) and array.ndim == 3 and array.shape[-1] == 4:
        array = array[..., :3]  # a selection of Photoshop's, near infrared: anything but alpha
    if colors == YCBCR:
        array = _rgb_of_ycbcr(array)
    if colors == CMYK and "S" in axes and array.ndim == 3:
        array = _rgb_of_cmyk(array, profile)
    elif profile and array.ndim == 3 and array.shape[-1] in (3, 4) and array.dtype in (np.uint8, np.uint16):
        # Of 16 bits Pillow changes 8.
        stored = Image.fromarray(array if array.dtype == np.uint8 else (array >> 8).astype(np.uint8))
        seen = _in_srgb(stored, profile)
        array = array if seen is stored else np.asarray(seen)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] not in (1, 3, 4)):
        raise NoImageError(
            f"{str(path)!r} holds a stack of shape {array.shape}, not one image. Give a single plane of "
            "it; `napari-neural-style batch` repaints stacks."
        )
    return _oriented(array, int(orientation or 1))


def _of_palette(palette: Any, array: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    return np.moveaxis(np.asarray(palette)[:, array], 0, -1).astype(np.uint16)


def in_full_range(array: npt.NDArray[Any], bits: int) -> npt.NDArray[Any]:
    """Return numbers of so many bits in the range of their dtype, which may have more."""
    full, most = int(np.iinfo(array.dtype).max), 2**bits - 1
    if full <= most:
        return array
    return ((array.astype(np.uint64) * full + most // 2) // most).astype(array.dtype)


def _unmultiplied(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return RGBA whose colours were multiplied with its alpha as it was before."""
    from napari_neural_style.engine.images import bands

    whole = array.dtype.kind in "iu"
    full = np.iinfo(array.dtype).max if whole else 1
    if (array[..., 3] == full).all():
        return array
    found = array.copy()
    for rows in bands(array.shape):
        colors, alpha = array[rows, :, :3].astype(np.float64), array[rows, :, 3:]
        np.divide(colors * full, alpha, out=colors, where=alpha > 0)
        found[rows, :, :3] = colors.round().clip(0, full) if whole else colors
    return found


def _rgb_of_ycbcr(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    from PIL import Image

    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[-1] != 3:
        raise ValueError("its colours are YCbCr of an unusual kind. Save it as RGB.")
    pixels = np.ascontiguousarray(array).tobytes()
    return np.asarray(Image.frombytes("YCbCr", array.shape[1::-1], pixels).convert("RGB"))


def _rgb_of_cmyk(array: npt.NDArray[Any], profile: bytes | None) -> npt.NDArray[Any]:
    """Return inks as Pillow shows them: it turns files of some kinds twice, so it is given their pixels alone."""
    from PIL import Image

    if array.dtype not in (np.uint8, np.uint16) or array.shape[-1] < 4:
        raise ValueError("its colours are CMYK of an unusual kind. Save it as RGB.")
    inks = array[..., :4] if array.dtype == np.uint8 else (array[..., :4] >> 8).astype(np.uint8)
    return np.asarray(_in_srgb(Image.frombytes("CMYK", array.shape[1::-1], inks.tobytes()), profile).convert("RGB"))


def _oriented(array: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """Return an array as the TIFF or EXIF orientation 1 to 8 shows it."""
    if orientation in (5, 6, 7, 8):
        array = np.swapaxes(array, 0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return np.ascontiguousarray(array)
