"""Sample data: pictures that come with scikit-image or are simulated, and paintings that are drawn by code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_neural_style.viewer.samples.cells import dividing_cells
from napari_neural_style.viewer.samples.glass import stained_glass
from napari_neural_style.viewer.samples.oil import painting
from napari_neural_style.viewer.samples.watercolor import watercolor

__all__ = [
    "dividing_cells",
    "histology",
    "painting",
    "photograph",
    "sample_cells",
    "sample_histology",
    "sample_pair",
    "stained_glass",
    "watercolor",
]

UInt8Image = npt.NDArray[np.uint8]
LayerData = tuple[UInt8Image, dict[str, Any], str]

MICROMETRES, MINUTES = 0.4, 20.0
"""What a pixel and a frame of the simulated movie stand for."""


def photograph() -> UInt8Image:
    """Return a photograph of a cat, shape (300, 451, 3); it comes with scikit-image."""
    import skimage.data

    return np.asarray(skimage.data.chelsea(), dtype=np.uint8)


def histology() -> UInt8Image:
    """Return stained glands of the colon, shape (512, 512, 3); the picture comes with scikit-image."""
    import skimage.data

    return np.asarray(skimage.data.immunohistochemistry(), dtype=np.uint8)


def sample_pair() -> list[LayerData]:
    """Return a photograph and, behind it, a painting, as napari layers.

    In this and the other samples the content comes last: napari selects it, and the dock takes the selected layer.
    """
    photo, paint = photograph(), painting()
    return [
        (paint, {"name": "painting", "rgb": True, **_behind(photo.shape[:2], paint, margin=0)}, "image"),
        (photo, {"name": "photograph", "rgb": True}, "image"),
    ]


def sample_histology() -> list[LayerData]:
    """Return stained tissue and, behind it, a watercolour, as napari layers."""
    tissue, paint = histology(), watercolor()
    about = "Glands of the colon, FHL2 stained brown with DAB, nuclei blue with hematoxylin. Its scale is not recorded."
    return [
        (paint, {"name": "watercolour", "rgb": True, **_behind(tissue.shape[:2], paint, margin=0.15)}, "image"),
        (tissue, {"name": "histology", "rgb": True, "metadata": {"description": about}}, "image"),
    ]


def sample_cells() -> list[LayerData]:
    """Return a movie of dividing cells and, behind it, stained glass, as napari layers."""
    movie, window = dividing_cells(), stained_glass()
    about = (
        "Simulated: an epithelium with a fluorescent protein in its cells and nuclei. Times and lengths are made up."
    )
    place = _behind(movie.shape[1:], window, margin=0.15, pixel=MICROMETRES)
    labels, units = ("time", "y", "x"), ("minute", "micrometer", "micrometer")
    return [
        (
            window,
            {"name": "stained glass", "rgb": True, "axis_labels": labels[1:], "units": units[1:], **place},
            "image",
        ),
        (
            movie,
            {
                "name": "dividing cells",
                "scale": (MINUTES, MICROMETRES, MICROMETRES),
                "axis_labels": labels,
                "units": units,
                "contrast_limits": (0, 220),
                "metadata": {"description": about},
            },
            "image",
        ),
    ]


def _behind(shape: Sequence[int], style: UInt8Image, margin: float, pixel: float = 1.0) -> dict[str, Any]:
    """Return where a square picture lies to have a content of pixels of that shape in its middle.

    The margin is how far it reaches beyond the content's longer side, at both ends and as a share of it.
    """
    scale = pixel * max(shape) * (1 + 2 * margin) / len(style)
    return {
        "scale": (scale, scale),
        "translate": tuple((pixel * (length - 1) - scale * (len(style) - 1)) / 2 for length in shape),
    }
