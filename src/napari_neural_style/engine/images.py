"""Arrays to tensors and back: dtype, value range, colour and size. Nothing else knows about ranges."""

from __future__ import annotations

import math
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_neural_style.engine.vgg import MEAN, STD

FloatImage = npt.NDArray[np.float32]

GRAY_MEAN = 0.449
GRAY_STD = 0.226
_OTHER_MODES = ("P", "PA", "CMYK", "YCbCr", "LAB", "HSV", "LA", "La", "RGBa", "RGBX")
"""Of Pillow's images, those whose numbers are no grey, RGB or RGBA."""
BAND = 2**20
"""Pixels that are worked on at a time where a whole picture in between would take memory."""


class UnusedRangeWarning(UserWarning):
    """A float image was stretched from its own minimum and maximum to 0..1, or integers use little of their range."""


def to_rgb(image: npt.ArrayLike, value_range: tuple[float, float] | None = None, name: str = "image") -> FloatImage:
    """Return any image array as float RGB.

    Parameters
    ----------
    image : array
        Shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), any real numeric dtype. Integers are scaled by their
        dtype's range; floats are taken as 0..1 when they lie in it, else by their minimum and maximum.
        Transparent pixels take the mean colour of the opaque ones, so that what cannot be seen has no say.
    value_range : (float, float), optional
        The values that mean 0 and 1, instead. Without it a warning tells of floats that are stretched, and of integers
        that use next to nothing of their range.
    name : str
        What to call the image in messages.

    Returns
    -------
    ndarray
        Shape (H, W, 3), float32 in 0..1.

    Raises
    ------
    ValueError
        If the shape, the dtype or a value is none that an image can have.
    """
    if np.ma.is_masked(image):
        raise ValueError(f"The {name} has masked values. Fill them first, or give an alpha channel that is 0 there.")
    if (mode := getattr(image, "mode", "RGB")) in _OTHER_MODES:
        raise ValueError(f"The {name} is an image of Pillow's with mode {mode}. Give image.convert('RGB'), or 'RGBA'.")
    if isinstance(image, (str, bytes, os.PathLike)):
        raise ValueError(
            f"The {name} is a name, {image!r}; expected an array, such as read_image of this package returns."
        )
    try:
        array = np.asarray(image)
    except (TypeError, ValueError, RuntimeError) as error:  # PyTorch's is a RuntimeError
        raise ValueError(f"The {name} is no array of numbers: {error}") from error
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ValueError(
            f"The {name} has shape {array.shape}; expected (height, width), (height, width, 3) or (height, width, 4)."
        )
    if array.size == 0:
        raise ValueError(f"The {name} is empty: its shape is {array.shape}.")
    if array.dtype.kind not in "buif":
        raise ValueError(f"The {name} has dtype {array.dtype}; expected integers, floats or booleans.")
    check_finite(array, name)
    if array.ndim == 2:
        array = array[..., None]
    color, alpha = (array[..., :3], array[..., 3]) if array.shape[2] == 4 else (array, None)
    seen = seen_colors(array)
    if not seen.size:
        raise ValueError(f"The {name} is transparent everywhere: there is nothing to see.")
    low, high = _range_of(seen, value_range, name)
    del seen  # it may be a copy
    part = 1.0 if math.isfinite(high - low) else 2.0  # of numbers whose difference is none
    rgb = np.empty((*color.shape[:2], 3), np.float32)
    for rows in bands(color.shape[:2]):
        with np.errstate(under="ignore"):  # a caller may have let it raise
            rgb[rows] = np.clip((color[rows].astype(np.float64) / part - low / part) / (high / part - low / part), 0, 1)
    if alpha is not None:
        rgb[alpha <= 0] = 0  # it may have been NaN
        full = 1.0 if alpha.dtype.kind == "f" else range_of_dtype(alpha.dtype)[1]
        if alpha.dtype.kind == "f" and alpha.max() > 2:  # interpolation takes others a little above 1
            full = max(high, float(alpha.max()))  # colours of 0 to 255 have such an alpha as well
        _fill_transparent(rgb, alpha, full)
    return rgb


def seen_colors(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return an image's values, or of one with alpha, (H, W, 4), the colours (..., 3) that are seen at all."""
    if array.ndim < 3 or array.shape[2] != 4:
        return array
    seen = array[..., 3] > 0
    return array[..., :3] if seen.all() else array[..., :3][seen]


def _fill_transparent(rgb: FloatImage, alpha: npt.NDArray[Any], full: float) -> None:
    """Give transparent pixels the mean colour of the opaque ones, whose alpha is `full`, in place."""

    def opacity(rows: slice) -> npt.NDArray[np.float64]:
        # Alphas above 0 may all be 0 in float32.
        return np.clip(alpha[rows].astype(np.float64) / full, 0, 1)[..., None]

    total, opaque = np.zeros(3), 0.0
    for rows in bands(alpha.shape):
        total += (rgb[rows] * opacity(rows)).sum((0, 1))
        opaque += opacity(rows).sum()
    mean = (total / opaque).astype(np.float32)
    for rows in bands(alpha.shape):
        rgb[rows] = rgb[rows] * opacity(rows) + mean * (1 - opacity(rows))


def bands(size: Sequence[int], pixels: int = BAND) -> Iterator[slice]:
    """Yield the rows of a picture of (height, width) in bands of about so many pixels, which take little memory."""
    step = max(1, pixels // size[1])
    yield from (slice(top, min(top + step, size[0])) for top in range(0, size[0], step))


def check_finite(array: npt.NDArray[Any], name: str) -> None:
    """Raise a ValueError that says how many values of an image are NaN or infinite and not hidden, if any."""
    if array.dtype.kind != "f":
        return
    seen = seen_colors(array)
    parts = [seen] if seen is array else [seen, array[..., 3]]
    count = sum(int(part.size - np.isfinite(part).sum()) for part in parts)
    if count:
        values, them = ("1 value that is", "it") if count == 1 else (f"{count} values that are", "them")
        raise ValueError(
            f"The {name} holds {values} NaN or infinite. Replace {them} first, for example with numpy.nan_to_num."
        )


def _range_of(color: npt.NDArray[Any], value_range: tuple[float, float] | None, name: str) -> tuple[float, float]:
    if value_range is not None:
        try:
            low, high = (float(v) for v in value_range)
            right = np.isfinite([low, high]).all() and low < high
        except (TypeError, ValueError):
            right = False
        if not right:
            raise ValueError(f"value_range must be two numbers, the smaller first, not {value_range!r}.")
        return low, high
    if color.dtype.kind in "biu":
        warn_of_one_grey([color], name)
        return range_of_dtype(color.dtype)
    low, high = float(color.min()), float(color.max())
    return range_of_floats(
        low,
        high,
        f"The values of the {name} run from {low:g} to {high:g}, not from 0 to 1: they are stretched to that range.",
    )


def warn_of_one_grey(colors: Sequence[npt.NDArray[Any]], name: str) -> None:
    """Warn if integers use next to nothing of their dtype's range."""
    if not colors or colors[0].itemsize == 1:
        return
    info, low, high = np.iinfo(colors[0].dtype), min(int(c.min()) for c in colors), max(int(c.max()) for c in colors)
    if 0 < high - low < (int(info.max) - int(info.min)) // 256:
        warnings.warn(
            f"The values of the {name} run from {low} to {high}, a small part of the range of {info.dtype}: the image "
            "is almost uniformly grey. Rescale it first.",
            UnusedRangeWarning,
            stacklevel=5,
        )


def range_of_dtype(dtype: np.dtype[Any]) -> tuple[float, float]:
    """Return the values that mean 0 and 1 in integers or booleans."""
    if dtype.kind == "b":
        return 0.0, 1.0
    return float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)


def range_of_floats(low: float, high: float, told: str) -> tuple[float, float]:
    """Return the values that mean 0 and 1 where floats run from `low` to `high`; where that is not 0 to 1, warn."""
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    warnings.warn(told, UnusedRangeWarning, stacklevel=4)
    if low < high:
        return low, high
    around, most = max(0.5, abs(low) / 2**30), sys.float_info.max  # beside large numbers, half is nothing
    return max(low - around, -most), min(low + around, most)


def to_tensor(rgb: FloatImage) -> Tensor:
    """Return an RGB array (H, W, 3) in 0..1 as a tensor (1, 3, H, W) in 0..1."""
    return torch.from_numpy(rgb.transpose(2, 0, 1).copy())[None]


class Shown:
    """A picture on its way to host memory, put there in bands; nothing waits for a GPU until it is read.

    Parameters
    ----------
    size : (int, int)
        Height and width.
    device : torch.device
        Where it comes from.
    """

    def __init__(self, size: tuple[int, int], device: torch.device) -> None:
        try:
            self._picture = torch.empty((*size, 3), dtype=torch.float32, pin_memory=device.type == "cuda")
        except RuntimeError:  # few systems let all of their memory be pinned
            self._picture = torch.empty((*size, 3), dtype=torch.float32)
        self._arrived: torch.cuda.Event | None = None

    def put(self, rows: slice, band: Tensor) -> None:
        """Fetch rows from a tensor (1, 3, h, W), clamped to 0..1."""
        self._picture[rows].copy_(band.detach()[0].clamp(0, 1).permute(1, 2, 0), non_blocking=band.is_cuda)
        if band.is_cuda:
            self._arrived = torch.cuda.current_stream(band.device).record_event()

    def array(self) -> FloatImage:
        """Return the picture as an array (H, W, 3), float32."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._picture.numpy()


def to_array(image: Tensor) -> FloatImage:
    """Return a tensor (1, 3, H, W) as an RGB array (H, W, 3), float32, clamped to 0..1."""
    shown = Shown((image.shape[-2], image.shape[-1]), image.device)
    shown.put(slice(None), image)
    return shown.array()


def to_uint8(rgb: FloatImage) -> npt.NDArray[np.uint8]:
    """Return an RGB array in 0..1 as uint8, rounded."""
    found = np.empty(rgb.shape, np.uint8)
    for rows in bands(rgb.shape[:2]):
        band = np.clip(rgb[rows], 0, 1)
        band *= 255
        band += 0.5
        found[rows] = band
    return found


def normalize(image: Tensor) -> Tensor:
    """Return an image in 0..1 in units of ImageNet's mean and standard deviation; one channel stays one."""
    mean, std = _statistics(image)
    return (image - mean).div_(std)


def normalized_rgb(picture: Tensor) -> Tensor:
    """Return a picture in 0..1 of one or three channels as normalised RGB."""
    return normalize(picture.expand(-1, 3, -1, -1))


def denormalize(image: Tensor) -> Tensor:
    """Undo :func:`normalize`."""
    mean, std = _statistics(image)
    return (image * std).add_(mean)


def deviation(image: Tensor) -> Tensor:
    """Return what :func:`normalize` divides an image (1, C, H, W) by, shape (1, C, 1, 1)."""
    return _statistics(image)[1]


def _statistics(image: Tensor) -> tuple[Tensor, Tensor]:
    mean, std = ((GRAY_MEAN,), (GRAY_STD,)) if image.shape[1] == 1 else (MEAN, STD)
    return _by_channel(image, mean), _by_channel(image, std)


def _by_channel(image: Tensor, values: Sequence[float]) -> Tensor:
    """Return values as (1, C, 1, 1), made where an image is: a GPU would wait for what is sent to it."""
    return torch.cat([image.new_full((1, 1, 1, 1), value) for value in values], 1)


def size_of(image: Tensor) -> tuple[int, int]:
    """Return the height and width of an image tensor (..., H, W)."""
    return image.shape[-2], image.shape[-1]


def where_known(tensor: Tensor) -> Tensor:
    """Return a tensor where every PyTorch knows all operators: not on MPS."""
    return tensor.cpu() if tensor.device.type == "mps" else tensor


def resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Return an image (1, C, H, W) at size (height, width), bilinear and without aliasing."""
    if tuple(image.shape[-2:]) == tuple(size):
        return image
    here = where_known(image)
    return F.interpolate(here, size, mode="bilinear", antialias=True, align_corners=False).to(image.device)


def gaussian_blur(image: Tensor, sigma: float) -> Tensor:
    """Return an image (1, C, H, W) blurred by a Gaussian of standard deviation `sigma` pixels, borders reflected.

    torchvision has this too, but must not be imported beside a canvas, see
    :func:`~napari_neural_style.engine.download.torchvision_url`.
    """
    channels = image.shape[1]
    for side, axis in ((image.shape[-2], 0), (image.shape[-1], 1)):
        radius = min(max(1, round(3 * sigma)), side - 1)
        offsets = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
        kernel = torch.softmax(-offsets.square() / (2 * sigma**2), 0)
        shape, padding = ((-1, 1), (0, 0, radius, radius)) if axis == 0 else ((1, -1), (radius, radius, 0, 0))
        filters = kernel.view(1, 1, *shape).expand(channels, 1, -1, -1)
        padded = F.pad(image, padding, mode="reflect")
        image = torch.empty_like(image)
        # The convolution takes sixteen times the memory of what it is given.
        for rows in bands(size_of(image)):
            seen = padded[..., rows.start : rows.stop + padding[2] + padding[3], :]
            image[..., rows, :] = F.conv2d(seen, filters, groups=channels)
    return image
