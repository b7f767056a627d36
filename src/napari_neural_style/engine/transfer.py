"""stylize(): runs one job and yields its steps."""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy.typing as npt
import torch

from napari_neural_style.engine.devices import resolve_device, resolve_precision
from napari_neural_style.engine.images import FloatImage, denormalize, normalize, normalized_rgb, to_rgb
from napari_neural_style.engine.losses import Losses
from napari_neural_style.engine.objective import Objective, Weights
from napari_neural_style.engine.optimizers import make_optimizer
from napari_neural_style.engine.preparation import Pictures, at_scale, prepare
from napari_neural_style.engine.pyramid import Scale, enlarge, schedule
from napari_neural_style.engine.structure import SIGMA, ContentBoost, structure
from napari_neural_style.engine.vgg import Trunk, pools_before, rescaled
from napari_neural_style.engine.weights import load_features, resolve_source
from napari_neural_style.settings import AUTO_LAYERS, StyleSettings

Progress = Callable[[str, float], None]
Styles = npt.ArrayLike | Sequence[tuple[npt.ArrayLike, float]]
Weighted = list[tuple[npt.ArrayLike, float]]

_PLATEAU = 10
"""Steps over which `min_improvement` is averaged."""


@dataclass(frozen=True)
class Step:
    """One step of the optimisation.

    Attributes
    ----------
    index, total : int
        Number of the step, from 1, and how many there will be.
    scale : int
        Number of the scale, from 1 (the coarsest).
    losses : Losses
        The weighted terms before the step's update.
    saved : bool
        True on every ``save_every``-th step and on the last.
    image : ndarray or None
        The picture after the step's update at the working size, (H, W, 3) float32 in 0..1, when the step
        is saved or a preview is due.
    done : float
        Share of the whole work that is done, 0..1: a step's work grows with the pixels of its scale.
    settings : StyleSettings
        The job's settings with what every ``"auto"`` became.
    fingerprint : str
        SHA-256 of the features.
    """

    index: int
    total: int
    scale: int
    losses: Losses
    saved: bool
    image: FloatImage | None
    done: float
    settings: StyleSettings
    fingerprint: str


def stylize(
    content: npt.ArrayLike,
    style: Styles,
    settings: StyleSettings | None = None,
    *,
    initial: npt.ArrayLike | None = None,
    value_range: tuple[float, float] | None = None,
    progress: Progress | None = None,
) -> Iterator[Step]:
    """Repaint an image in the style of another, step by step.

    Parameters
    ----------
    content : array
        Shape (H, W), (H, W, 3) or (H, W, 4), any real numeric dtype. Integers are scaled by their dtype's range;
        floats are taken as 0..1 when they lie in it, else by their minimum and maximum, with a warning. In mode
        ``"texture"`` only its shape is used.
    style : array, or list of (array, weight)
        Likewise. Mode ``"content"`` does not use it.
    settings : StyleSettings, optional
        The preset ``balanced`` if not given.
    initial : array, optional
        A picture to start from, resized to the working size, instead of what ``settings.initial`` names.
    value_range : (float, float), optional
        The values of `content` that mean 0 and 1.
    progress : callable, optional
        Called with a sentence and a fraction 0..1 while features are learned or loaded, before the first
        step. An exception that it raises ends the job.

    Yields
    ------
    Step
        One for each evaluation of loss and gradient. The images of a seed, device and settings are the same
        every time, on the CPU bit for bit.

    Raises
    ------
    ValueError
        If an image or a setting cannot be used; the message says what is wrong and what to do. Raised by the
        call itself, before the first step, except for what only a features file can tell.

    References
    ----------
    Gatys, Ecker and Bethge (2016), "Image style transfer using convolutional neural networks".

    Examples
    --------
    >>> import numpy as np
    >>> from napari_neural_style import StyleSettings, stylize
    >>> settings = StyleSettings(size=32, scales=1, steps=2, features="self-taught",
    ...                          style_layers={"conv1_1": 1}, content_layers={"conv1_1": 1})
    >>> random = np.random.default_rng(0)
    >>> steps = stylize(random.random((32, 48)), random.random((32, 32, 3)), settings)
    >>> [step.index for step in steps]
    [1, 2]
    """
    settings = resolved(settings or StyleSettings())
    content_rgb = to_rgb(content, value_range, "content image")
    style_rgb = [(to_rgb(image, name="style image"), weight) for image, weight in _weighted(style)]
    initial_rgb = None if initial is None else to_rgb(initial, name="initial image")
    pictures = prepare(content_rgb, style_rgb, initial_rgb, settings, torch.device(settings.device))
    _check_sizes(pictures, settings)
    return _run(pictures, settings, progress)


def resolved(settings: StyleSettings) -> StyleSettings:
    """Return settings in which every ``"auto"`` is replaced by what it means here and now.

    Raises
    ------
    ValueError
        If the device or the features that the settings name are not there.
    """
    device = resolve_device(settings.device)
    source = resolve_source(settings.features)
    auto = AUTO_LAYERS["self-taught" if source == "self-taught" else "trained"]
    return dataclasses.replace(
        settings,
        device=str(device),
        precision=str(resolve_precision(settings.precision, device)).removeprefix("torch."),
        features=source,
        content_layers=auto["content"] if settings.content_layers == "auto" else settings.content_layers,
        style_layers=auto["style"] if settings.style_layers == "auto" else settings.style_layers,
    )


def _weighted(style: Styles) -> Weighted:
    """Return style images with their weights; a single image weighs 1."""
    pairs = isinstance(style, (list, tuple)) and all(isinstance(e, tuple) and len(e) == 2 for e in style)
    if not pairs:
        return [(cast("npt.ArrayLike", style), 1.0)]
    styles = [(image, float(weight)) for image, weight in cast("Weighted", style)]
    if not all(weight >= 0 for _, weight in styles) or not sum(weight for _, weight in styles) > 0:
        raise ValueError("style: give at least one image, no weight below 0 and at least one above.")
    return [(image, weight) for image, weight in styles if weight > 0]


def _smallest_side(settings: StyleSettings) -> int:
    """Return the shortest side that the deepest layer in use can see; 2 pixels of it are needed."""
    return 2 * 2 ** max(pools_before(layer) for layer in _layers(settings))


def _layers(settings: StyleSettings) -> set[str]:
    weights = _weights(settings)
    return {
        *(weights.content_layers if weights.content else ()),
        *(weights.style_layers if weights.style else ()),
    }


def _weights(settings: StyleSettings) -> Weights:
    """Return the weights of the terms; a mode is a weight of 0."""
    assert not isinstance(settings.content_layers, str)
    assert not isinstance(settings.style_layers, str)
    return Weights(
        content=0.0 if settings.mode == "texture" else settings.content_weight,
        style=0.0 if settings.mode == "content" else settings.style_weight,
        variation=settings.variation_weight,
        content_layers=settings.content_layers,
        style_layers=settings.style_layers,
        normalization=settings.normalization,
    )


def _check_sizes(pictures: Pictures, settings: StyleSettings) -> None:
    smallest = _smallest_side(settings)
    named = [("content image", pictures.content), *(("style image", s) for s, _ in pictures.styles)]
    for name, picture in named:
        height, width = picture.shape[-2:]
        if min(height, width) < smallest:
            raise ValueError(
                f"The {name} is {height} × {width} pixels at this working size, but the layers in use need "
                f"{smallest} a side. Choose a larger size, an image that is less narrow, or layers that are "
                "less deep."
            )


def _run(pictures: Pictures, settings: StyleSettings, progress: Progress | None) -> Iterator[Step]:
    layers = _layers(settings)
    images = [normalized_rgb(picture) for picture in (pictures.content, *(s for s, _ in pictures.styles))]
    features = load_features(settings, layers, images, progress)
    if settings.rescale_features:
        features = rescaled(features, images, layers, settings.pooling)
    trunk = Trunk(features, layers, settings.pooling, settings.device, getattr(torch, settings.precision))
    del images
    scales = schedule(pictures.size, settings.scales, settings.steps, _smallest_side(settings))
    start = normalize(pictures.start)
    image = start
    index = 0
    work, done = sum(_pixels(scale) * scale.steps for scale in scales), 0
    last_image = -float("inf")
    boost = ContentBoost(settings.min_structure if settings.mode == "transfer" else 0.0)
    for number, scale in enumerate(scales, 1):
        here = at_scale(pictures, scale.size, scale.fraction)
        objective = Objective(trunk, here.content, here.styles, _weights(settings))
        objective.content_weight *= boost.factor
        entry = normalize(here.start)
        image = entry.clone() if number == 1 else enlarge(image, entry)
        optimizer = make_optimizer(image, settings)
        recent: deque[Losses] = deque(maxlen=_PLATEAU + 1)
        for _ in range(scale.steps):
            index += 1
            if boost.due(index) and boost.look(structure(denormalize(image), here.original, SIGMA * scale.fraction)):
                objective.content_weight = settings.content_weight * boost.factor
                optimizer.objective_changed()
                recent.clear()
            losses, total, gradient = objective(image)
            optimizer.update(total, gradient)
            done += _pixels(scale)
            recent.append(losses)
            ended = _on_a_plateau(recent, settings.min_improvement)
            last = index == settings.steps or (ended and number == len(scales))
            saved = last or index % settings.save_every == 0
            due = saved or time.monotonic() - last_image >= settings.preview_interval
            if due:
                picture = pictures.finish(enlarge(image, start))
                last_image = time.monotonic()
            yield Step(
                index=index,
                total=settings.steps,
                scale=number,
                losses=losses,
                saved=saved,
                image=picture if due else None,
                done=1.0 if last else done / work,
                settings=settings,
                fingerprint=features.fingerprint,
            )
            if ended:
                break


def _pixels(scale: Scale) -> int:
    return scale.size[0] * scale.size[1]


def _on_a_plateau(recent: deque[Losses], min_improvement: float) -> bool:
    """Tell whether the loss fell by less than `min_improvement` a step over the recent steps."""
    if not min_improvement or len(recent) <= _PLATEAU:
        return False
    first, last = recent[0].total, recent[-1].total
    return first - last < min_improvement * _PLATEAU * first
