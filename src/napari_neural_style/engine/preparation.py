"""From the images a user gives to the pictures a job works on, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_neural_style.engine.color import luminance, match_color, with_luminance
from napari_neural_style.engine.images import (
    FloatImage,
    denormalize,
    fit,
    resize,
    to_array,
    to_tensor,
)
from napari_neural_style.settings import StyleSettings


@dataclass(frozen=True)
class Pictures:
    """What a job works on, at the working size, values in 0..1, on its device.

    Attributes
    ----------
    content : Tensor
        What the content term takes its target from, shape (1, C, H, W); C is 1 when only luminance is painted.
    styles : list of (Tensor, float)
        Style images of C channels and their weights, each at its own size.
    start : Tensor
        Where the optimisation starts, shape (1, C, H, W).
    colors : Tensor or None
        RGB image whose colours the result gets back, when C is 1.
    original : Tensor
        The content's own luminance, before any recolouring, shape (1, 1, H, W).
    """

    content: Tensor
    styles: list[tuple[Tensor, float]]
    start: Tensor
    colors: Tensor | None
    original: Tensor

    @property
    def size(self) -> tuple[int, int]:
        """Working height and width."""
        return self.content.shape[-2], self.content.shape[-1]

    def finish(self, image: Tensor) -> FloatImage:
        """Return an optimised image, normalised, as the RGB array that users see."""
        image = denormalize(image)
        return to_array(image if self.colors is None else with_luminance(self.colors, image))


def prepare(
    content: FloatImage,
    styles: Sequence[tuple[FloatImage, float]],
    initial: FloatImage | None,
    settings: StyleSettings,
    device: torch.device,
) -> Pictures:
    """Bring a job's images to the working size and to the colours that the settings ask for."""
    size = settings.size if isinstance(settings.size, tuple) else fit(content.shape[:2], settings.size)
    picture = resize(to_tensor(content).to(device), size)
    brushes = [(_style_at_working_size(image, settings, device), weight) for image, weight in styles]
    first = None if initial is None else resize(to_tensor(initial).to(device), size)
    colors = None
    original = luminance(picture)
    if settings.mode == "transfer" and settings.color == "style":
        picture = match_color(picture, [image for image, _ in brushes], [weight for _, weight in brushes])
    elif settings.mode == "transfer" and settings.color == "content":
        colors, picture = picture, luminance(picture)
        first = None if first is None else luminance(first)
        brushes = [(match_color(luminance(image), [picture], [1.0]), weight) for image, weight in brushes]
    if first is None:
        from_content = settings.mode == "transfer" and settings.initial == "content"
        first = picture if from_content else _white_noise(picture, settings.seed)
    return Pictures(picture, brushes, first, colors, original)


def _style_at_working_size(style: FloatImage, settings: StyleSettings, device: torch.device) -> Tensor:
    image = to_tensor(style).to(device)
    if isinstance(settings.size, tuple):
        height, width = settings.size
        return resize(image, (round(height * settings.style_scale), round(width * settings.style_scale)))
    longer = min(max(style.shape[:2]), settings.size)
    return resize(image, fit(style.shape[:2], longer * settings.style_scale))


def _white_noise(like: Tensor, seed: int) -> Tensor:
    """Return white noise of ImageNet's mean and standard deviation, the same on every device."""
    noise = torch.randn(like.shape, generator=torch.Generator().manual_seed(seed))
    return denormalize(noise).to(like.device)


def at_scale(pictures: Pictures, size: tuple[int, int], fraction: float) -> Pictures:
    """Return the pictures of one scale: the content at `size`, the styles shrunk by the same fraction."""
    if size == pictures.size:
        return pictures
    styles = [
        (resize(s, (max(1, round(s.shape[-2] * fraction)), max(1, round(s.shape[-1] * fraction)))), w)
        for s, w in pictures.styles
    ]
    return Pictures(
        resize(pictures.content, size), styles, resize(pictures.start, size), None, resize(pictures.original, size)
    )
