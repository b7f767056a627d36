"""How near self-taught features come to trained ones, judged by trained VGG-19 features they have never seen.

    python benchmarks/quality.py --judge vgg19.safetensors [--size 256] [--sheet sheet.png]

For every pair: the relative Frobenius error of the Gram matrices at conv1_1, conv2_1 and conv3_1 between result and
style, and the structure, the correlation of the blurred luminance (σ 2 px) of result and content. The judge needs
VGG-19's convolutions up to conv3_1 in any of the three conventions.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
import time
import warnings
from pathlib import Path

import napari_neural_style.engine  # noqa: F401 - says how threads wait, before torch is imported

# isort: split
import numpy as np
import numpy.typing as npt
import skimage.data
import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from skimage.filters import gaussian

from napari_neural_style import PRESETS, StyleSettings, stylize
from napari_neural_style.cache import pretrained_path
from napari_neural_style.engine.color import luminance
from napari_neural_style.engine.images import normalize, resize, to_array, to_rgb, to_tensor, to_uint8
from napari_neural_style.engine.losses import gram_matrix
from napari_neural_style.engine.sizes import fit
from napari_neural_style.engine.vgg import Trunk
from napari_neural_style.engine.weights import TORCHVISION_INDEX, features_from_file
from napari_neural_style.settings import AUTO_LAYERS, LAYERS
from napari_neural_style.viewer.samples import painting

Array = npt.NDArray[np.float32]

JUDGED = ("conv1_1", "conv2_1", "conv3_1")
CELL = 192


def pairs() -> dict[str, tuple[npt.ArrayLike, npt.ArrayLike]]:
    """Return content and style of different kinds; all but the painting come with scikit-image."""
    data = skimage.data
    return {
        "cat × painting": (data.chelsea(), painting()),
        "cat × histology": (data.chelsea(), data.immunohistochemistry()),
        "astronaut × dark sky": (data.astronaut(), data.hubble_deep_field()[:512, :512]),
        "coffee × grass": (data.coffee(), data.grass()),
        "histology × painting": (data.immunohistochemistry(), painting()),
        "grey cell × histology": (data.cell(), data.immunohistochemistry()),
        "rocket × gravel": (data.rocket(), data.gravel()),
        "retina × colour wheel": (data.retina()[300:1100, 300:1100], data.colorwheel()),
        "moon × coffee": (data.moon(), data.coffee()),
        "camera × text": (data.camera(), data.page()),
        **HELD_OUT,
    }


HELD_OUT: dict[str, tuple[npt.ArrayLike, npt.ArrayLike]] = {
    "astronaut × retina": (skimage.data.astronaut(), skimage.data.retina()[300:1100, 300:1100]),
    "coins × brick": (skimage.data.coins(), skimage.data.brick()),
    "coffee × painting": (skimage.data.coffee(), painting()),
    "clock × dark sky": (skimage.data.clock(), skimage.data.hubble_deep_field()[:512, :512]),
}
"""Pairs that were chosen after every number of the learner was, and changed none."""


class Judge:
    """Measures results by features that took no part in making them."""

    def __init__(self, path: Path) -> None:
        self._trunk = Trunk(features_from_file(path, JUDGED), JUDGED, "max")

    @torch.no_grad()
    def _grams(self, image: Array) -> dict[str, torch.Tensor]:
        return {k: gram_matrix(v) for k, v in self._trunk(normalize(to_tensor(image))).items()}

    def errors(self, result: Array, style: Array) -> list[float]:
        """Return the relative Frobenius errors of the Gram matrices, layer by layer."""
        ours, wanted = self._grams(result), self._grams(style)
        return [float((ours[k] - wanted[k]).norm() / wanted[k].norm()) for k in JUDGED]


def structure(result: Array, content: Array) -> float:
    """Return the correlation of blurred luminance."""
    blurred = [gaussian(luminance(to_tensor(image))[0, 0].numpy(), 2).ravel() for image in (result, content)]
    return float(np.corrcoef(*blurred)[0, 1])


def random_features(folder: Path) -> Path:
    """Write filters of random numbers, scaled as He et al. (2015) do, up to conv4_2."""
    generator = torch.Generator().manual_seed(0)
    numbers, before = {}, 3
    for layer, filters in list(LAYERS.items())[:10]:
        deviation = (2 / (9 * before)) ** 0.5
        stem = f"features.{TORCHVISION_INDEX[layer]}"
        numbers[f"{stem}.weight"] = torch.randn(filters, before, 3, 3, generator=generator) * deviation
        numbers[f"{stem}.bias"] = torch.zeros(filters)
        before = filters
    path = folder / "random.safetensors"
    save_file(numbers, path, {"convention": "torchvision"})
    return path


def at_size(image: npt.ArrayLike, size: int) -> Array:
    """Return an image as RGB with its longer side at most `size`."""
    rgb = to_rgb(image)
    return to_array(resize(to_tensor(rgb), fit(rgb.shape[:2], min(size, max(rgb.shape[:2])))))


def make(content: npt.ArrayLike, style: npt.ArrayLike, settings: StyleSettings) -> tuple[Array, float]:
    """Return the result, and the seconds before its first step: learning."""
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        steps = stylize(content, style, settings)
        last = next(steps)
        learning = time.perf_counter() - started
        for step in steps:
            last = step
    assert last.image is not None
    return last.image, learning


def main() -> None:
    """Print the table and write the contact sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judge", type=Path, required=True, help="VGG-19's first layers, .safetensors or .pth")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sheet", type=Path, help="contact sheet to write")
    parser.add_argument("--only", help="names of pairs that contain this")
    parser.add_argument("--self-taught-only", action="store_true")
    options = parser.parse_args()

    judge = Judge(options.judge)
    trained = pretrained_path()
    base = dataclasses.replace(
        PRESETS["balanced"], size=options.size, seed=options.seed, save_every=10**6, preview_interval=3600.0
    )
    kinds = {"self-taught": dataclasses.replace(base, features="self-taught")}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAPARI_NEURAL_STYLE_CACHE"] = folder  # so that features are learned, not remembered
        if not options.self_taught_only:
            random = dataclasses.replace(
                base,
                features=str(random_features(Path(folder))),
                content_layers=AUTO_LAYERS["self-taught"]["content"],
                style_layers=AUTO_LAYERS["self-taught"]["style"],
            )
            kinds = {"random": random, **kinds}
            if trained.is_file():
                kinds["pretrained"] = dataclasses.replace(base, features=str(trained))
        rows = []
        errors: dict[str, list[list[float]]] = {kind: [] for kind in kinds}
        print(f"{options.size} px | pair | " + " | ".join(f"{k}: errors, structure, learning" for k in kinds))
        for name, (content, style) in pairs().items():
            if options.only and options.only not in name:
                continue
            seen = at_size(style, options.size)
            row, cells = [], []
            for kind, settings in kinds.items():
                result, learning = make(content, style, settings)
                shown = to_array(resize(to_tensor(to_rgb(content)), result.shape[:2]))
                found = judge.errors(result, seen)
                errors[kind].append(found)
                numbers = " ".join(f"{e:.2f}" for e in found)
                cells.append(f"{numbers}, {structure(result, shown):.2f}, {learning:.1f} s")
                row.append(result)
            print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
            rows.append((name, [shown, seen, *row]))
    for kind, found in errors.items():
        print(f"{kind}: mean error {np.mean(found):.3f}, worst {np.max(found):.2f}")
    if options.sheet:
        contact_sheet(rows, ["content", "style", *kinds]).save(options.sheet)


def contact_sheet(rows: list[tuple[str, list[Array]]], titles: list[str]) -> Image.Image:
    """Return all pictures in a grid, a row for each pair."""
    sheet = Image.new("RGB", (CELL * len(titles), 20 + (CELL + 18) * len(rows)), "white")
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        draw.text((column * CELL + 4, 4), title, fill="black")
    for number, (name, pictures) in enumerate(rows):
        top = 20 + number * (CELL + 18)
        draw.text((4, top), name.replace(" × ", ", "), fill="black")  # the default font has no ×
        for column, picture in enumerate(pictures):
            image = Image.fromarray(to_uint8(picture))
            image.thumbnail((CELL - 4, CELL - 2), Image.Resampling.LANCZOS)
            sheet.paste(image, (column * CELL + 2, top + 14))
    return sheet


if __name__ == "__main__":
    main()
