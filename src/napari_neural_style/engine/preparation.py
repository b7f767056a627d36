"""From the images a user gives to the pictures a job works on, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_neural_style.engine.color import luminance, match_color, with_luminance
from napari_neural_style.engine.images import (
    FloatImage,
    Shown,
    bands,
    denormalize,
    resize,
    size_of,
    to_tensor,
)
from napari_neural_style.engine.regions import EVERYWHERE, Guides, guides_of
from napari_neural_style.engine.sizes import scaled, style_size, working_size
from napari_neural_style.settings import StyleSettings

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class StyleImage:
    """A style image as users give it: RGB (H, W, 3) in 0..1, its weight, and labels (H, W) if it has regions."""

    rgb: FloatImage
    weight: float
    labels: Labels | None = None


@dataclass(frozen=True)
class Brush:
    """A style picture (1, C, h, w) in 0..1 at the size it is used at, its weight, and its regions if it has any."""

    picture: Tensor
    weight: float
    guides: Guides | None = None

    def serves(self, label: int) -> bool:
        """Tell whether a region of the content can take its style from here."""
        return self.guides is None or label in self.guides

    def guide(self, label: int) -> Tensor | None:
        """Return where the style of a region is; None is the whole picture."""
        return None if self.guides is None else self.guides[label]


@dataclass(frozen=True)
class Sources:
    """A job's images at the sizes they are used at, RGB in 0..1, on its device.

    Attributes
    ----------
    content : Tensor
        Shape (1, 3, H, W).
    brushes : tuple of Brush
        The styles.
    first : Tensor or None
        A picture to start from, shape (1, 3, H, W).
    guides : dict or None
        The content's regions; what is in none stays as it is.
    """

    content: Tensor
    brushes: tuple[Brush, ...]
    first: Tensor | None = None
    guides: Guides | None = None


@dataclass(frozen=True)
class Pictures:
    """What a job works on, in the colours that its settings ask for.

    Attributes
    ----------
    content : Tensor
        What the content term takes its target from, shape (1, C, H, W); C is 1 when only luminance is painted.
    brushes : tuple of Brush
        Style images of C channels.
    start : Tensor
        Where the optimisation starts, shape (1, C, H, W).
    original : Tensor
        The content before any recolouring, shape (1, 3, H, W).
    guides : dict or None
        The content's regions.
    """

    content: Tensor
    brushes: tuple[Brush, ...]
    start: Tensor
    original: Tensor
    guides: Guides | None

    @property
    def size(self) -> tuple[int, int]:
        """Working height and width."""
        return size_of(self.content)

    def as_rgb(self, image: Tensor, rows: slice = slice(None)) -> Tensor:
        """Return (rows of) an optimised image in 0..1 as RGB; a luminance gets the content's colours."""
        return image if image.shape[1] == 3 else with_luminance(self.original[..., rows, :], image)

    def finish(self, image: Tensor) -> Shown:
        """Return an optimised image, normalised, as the RGB picture that users see."""
        finished = Shown(self.size, image.device)
        for rows in bands(self.size):
            picture = self.as_rgb(denormalize(image[..., rows, :]), rows)
            if self.guides is not None:
                painted = _union(guide[..., rows, :] for guide in self.guides.values())
                picture = torch.lerp(self.original[..., rows, :], picture.clamp(0, 1), painted)
            finished.put(rows, picture)
        return finished


def gather(
    content: FloatImage | None,
    content_labels: Labels | None,
    styles: Sequence[StyleImage],
    initial: FloatImage | None,
    settings: StyleSettings,
    device: torch.device,
) -> Sources:
    """Bring a job's images to the sizes they are used at.

    Raises
    ------
    ValueError
        If a region of the content has no style.
    """
    size = working_size(None if content is None else content.shape[:2], settings)
    picture = (
        torch.full((1, 3, *size), 0.5, dtype=torch.float32) if content is None else resize(to_tensor(content), size)
    )
    by_label = content_labels is not None and any(style.labels is not None for style in styles)
    if content_labels is not None and not by_label:
        content_labels = (content_labels > 0).astype(np.int64)
    guides = None if content_labels is None else guides_of(content_labels, size, device)
    brushes = tuple(_brush(style, by_label, settings, device) for style in styles)
    missing = [label for label in guides or () if not any(brush.serves(label) for brush in brushes)]
    if missing and settings.mode != "content":
        raise ValueError(
            f"The content has regions {', '.join(str(label) for label in missing[:5])}, but no style has a region of "
            "that label. Draw it in a style's labels, or remove it from the content's."
        )
    first = None if initial is None else resize(to_tensor(initial).to(device), size)
    return Sources(picture.to(device), brushes, first, guides)


def _brush(style: StyleImage, by_label: bool, settings: StyleSettings, device: torch.device) -> Brush:
    size = style_size(style.rgb.shape[:2], settings)
    picture = resize(to_tensor(style.rgb).to(device), size)
    if style.labels is None:
        return Brush(picture, style.weight)
    if by_label:
        return Brush(picture, style.weight, guides_of(style.labels, size, device))
    (union,) = guides_of((style.labels > 0).astype(np.int64), size, device).values()
    return Brush(picture, style.weight, {EVERYWHERE: union})


def prepare(sources: Sources, settings: StyleSettings) -> Pictures:
    """Give a job's images the colours that the settings ask for, and choose where to start."""
    content, brushes, first = sources.content, sources.brushes, sources.first
    if settings.mode == "transfer" and settings.color == "style":
        content = _by_region(content, sources.guides, partial(_in_palette, sources))
    elif settings.mode == "transfer" and settings.color == "content":
        content = luminance(content)
        first = None if first is None else luminance(first)
        brushes = tuple(_in_luminance(brush, content, sources.guides) for brush in brushes)
    if first is None:
        from_content = settings.mode == "transfer" and settings.initial == "content"
        first = content if from_content else _white_noise(content, settings.seed)
    return Pictures(content, brushes, first, sources.content, sources.guides)


def _by_region(picture: Tensor, guides: Guides | None, recolored: Callable[[int, Tensor | None], Tensor]) -> Tensor:
    """Return a picture recoloured region by region, or as a whole where it has none."""
    if guides is None:
        return recolored(EVERYWHERE, None)
    blended = picture * (1 - _union(guides.values()))
    for label, guide in guides.items():
        blended.addcmul_(recolored(label, guide), guide)
    return blended.clamp_(0, 1)


def _in_palette(sources: Sources, label: int, guide: Tensor | None) -> Tensor:
    """Return the content in the palette that the styles have for a region."""
    serving = [brush for brush in sources.brushes if brush.serves(label)]
    styles, weights = [brush.picture for brush in serving], [brush.weight for brush in serving]
    return match_color(sources.content, styles, weights, guide, [brush.guide(label) for brush in serving])


def _in_luminance(brush: Brush, content: Tensor, guides: Guides | None) -> Brush:
    """Return the luminance of a style, spread as the content's is where it is painted."""
    picture = luminance(brush.picture)

    def spread(label: int, guide: Tensor | None) -> Tensor:
        there = None
        if guides is not None:
            there = _union(guides.values()) if brush.guides is None else guides.get(label)
            if there is None:
                return picture
        return match_color(picture, [content], [1.0], guide, [there])

    return replace(brush, picture=_by_region(picture, brush.guides, spread))


def _union(guides: Iterable[Tensor]) -> Tensor:
    """Return how much each pixel belongs to any region."""
    return sum(guides).clamp(0, 1)  # type: ignore[union-attr]


def _white_noise(like: Tensor, seed: int) -> Tensor:
    """Return white noise of ImageNet's mean and standard deviation, the same on every device."""
    noise = torch.randn(like.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)
    return denormalize(noise).to(like.device)


def at_scale(pictures: Pictures, size: tuple[int, int], fraction: float) -> Pictures:
    """Return the pictures of one scale: the content at `size`, the styles shrunk by the same fraction."""
    if size == pictures.size:
        return pictures

    def all_resized(guides: Guides | None, size: tuple[int, int]) -> Guides | None:
        return None if guides is None else {label: resize(guide, size) for label, guide in guides.items()}

    brushes = []
    for brush in pictures.brushes:
        small = scaled(size_of(brush.picture), fraction)
        brushes.append(Brush(resize(brush.picture, small), brush.weight, all_resized(brush.guides, small)))
    given = pictures.content, pictures.start, pictures.original
    resized = {p: resize(p, size) for p in dict.fromkeys(given)}  # what is one picture stays one
    content, start, original = (resized[p] for p in given)
    return Pictures(content, tuple(brushes), start, original, all_resized(pictures.guides, size))
