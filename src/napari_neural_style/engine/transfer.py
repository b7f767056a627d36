"""stylize(): checks one job and runs it, step by step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import cast

import numpy.typing as npt
import torch
from torch import Tensor

from napari_neural_style.engine.devices import resolve_device, resolve_precision
from napari_neural_style.engine.images import FloatImage, normalized_rgb, size_of, to_array, to_rgb
from napari_neural_style.engine.memory import check_room, chosen_tile, free_bytes, held_apart, state_bytes, too_large
from napari_neural_style.engine.objective import weights_of
from napari_neural_style.engine.optimization import Optimization
from napari_neural_style.engine.preparation import (
    Pictures,
    Sources,
    StyleImage,
    gather,
    prepare,
    style_size,
    working_size,
)
from napari_neural_style.engine.recovery import saying_what_fits
from napari_neural_style.engine.regions import checked_labels
from napari_neural_style.engine.rescaling import rescaled
from napari_neural_style.engine.snapshot import Snapshot, moved
from napari_neural_style.engine.steering import Steering
from napari_neural_style.engine.step import Step
from napari_neural_style.engine.vgg import Features, Trunk, layers_up_to, pools_before
from napari_neural_style.engine.weights import load_features, resolve_source
from napari_neural_style.settings import AUTO_LAYERS, StyleSettings

__all__ = ["Step", "content_for", "features_for", "go_on", "resolved", "stylize", "trained_features"]

Progress = Callable[[str, float], None]
Styles = npt.ArrayLike | Sequence[tuple[npt.ArrayLike, float]]
Regions = npt.ArrayLike | Sequence[npt.ArrayLike | None] | None
Weighted = list[tuple[npt.ArrayLike, float]]


def stylize(
    content: npt.ArrayLike | None,
    style: Styles | None,
    settings: StyleSettings | None = None,
    *,
    initial: npt.ArrayLike | None = None,
    value_range: tuple[float, float] | None = None,
    content_regions: npt.ArrayLike | None = None,
    style_regions: Regions = None,
    features: Features | None = None,
    progress: Progress | None = None,
    steering: Steering | None = None,
) -> Iterator[Step]:
    """Repaint an image in the style of another, step by step.

    Parameters
    ----------
    content : array
        Shape (H, W), (H, W, 3) or (H, W, 4), any real numeric dtype. Integers are scaled by their dtype's range;
        floats are taken as 0..1 when they lie in it, else by their minimum and maximum, with a warning. In mode
        ``"texture"`` only its shape is used; without it ``settings.size`` is the height and the width.
    style : array, or list of (array, weight)
        Likewise. None in mode ``"content"``.
    settings : StyleSettings, optional
        The preset ``balanced`` if not given.
    initial : array, optional
        A picture to start from, resized to the working size, instead of what ``settings.initial`` names.
    value_range : (float, float), optional
        The values of `content` that mean 0 and 1.
    content_regions : array of int, optional
        Labels, shape (H, W). What is labelled 0 stays as it is; the rest takes the style of the style image's same
        label, or the whole style image's where that has no labels. Edges are soft.
    style_regions : array of int, or list of such arrays and None, optional
        Labels of the style image, or of each. Without `content_regions` the style is what is labelled above 0.
    features : Features, optional
        From :func:`features_for`, so that several images are painted with the same; they take the place of what
        ``settings.features`` names.
    progress : callable, optional
        Called with a sentence and a fraction 0..1 while features are learned or loaded, before the first
        step. An exception that it raises ends the job.
    steering : Steering, optional
        Turns settings while the job runs.

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
    settings = resolved(settings or StyleSettings(), features)
    styles = _checked_styles(style, style_regions, settings)
    if content is None and settings.mode != "texture":
        raise ValueError("content: an image is needed in every mode but texture.")
    content_rgb = None if content is None else to_rgb(content, value_range, "content image")
    labels = None
    if content_regions is not None and content_rgb is not None and settings.mode == "transfer":
        labels = checked_labels(content_regions, content_rgb.shape[:2], "content_regions")
    initial_rgb = None if initial is None else to_rgb(initial, name="initial image")
    size = working_size(content_rgb, settings)
    settings = _with_tile(settings, size, [style_size(style.rgb.shape[:2], settings) for style in styles])
    with saying_what_fits(partial(_too_large, size, settings)):
        sources = gather(content_rgb, labels, styles, initial_rgb, settings, _home(settings, size))
        del content_rgb, initial_rgb, styles  # they can be as large as the pictures made from them
        pictures = prepare(sources, settings)
    _check_sizes(pictures, settings)
    return _run(sources, _images(pictures, settings), settings, features, progress, steering, None)


def features_for(
    content: npt.ArrayLike,
    style: Styles | None,
    settings: StyleSettings | None = None,
    *,
    value_range: tuple[float, float] | None = None,
    progress: Progress | None = None,
) -> Features:
    """Return the features that a job would use, ready to be given to several.

    Parameters
    ----------
    content, style, settings, value_range, progress
        As for :func:`stylize`.

    Raises
    ------
    ValueError
        If an image, a setting or the features cannot be used.
    """
    settings = resolved(settings or StyleSettings())
    pictures = _pictures(content, style, settings, value_range)
    settings = _with_tile(settings, pictures.size, [size_of(brush.picture) for brush in pictures.brushes])
    _check_sizes(pictures, settings)
    return _features(settings, _images(pictures, settings), progress)


def content_for(
    content: npt.ArrayLike,
    style: Styles | None,
    settings: StyleSettings,
    value_range: tuple[float, float] | None = None,
) -> FloatImage:
    """Return a content as a job uses it: at the working size, in the style's palette if it is to take that.

    Returns
    -------
    ndarray
        Shape (H, W, 3), float32 in 0..1.
    """
    pictures = _pictures(content, style, dataclasses.replace(settings, device="cpu"), value_range)
    return to_array(pictures.content if pictures.content.shape[1] == 3 else pictures.original)


def _pictures(
    content: npt.ArrayLike, style: Styles | None, settings: StyleSettings, value_range: tuple[float, float] | None
) -> Pictures:
    styles = _checked_styles(style, None, settings)
    rgb = to_rgb(content, value_range, "content image")
    return prepare(gather(rgb, None, styles, None, settings, torch.device(settings.device)), settings)


def trained_features(settings: StyleSettings) -> Features | None:
    """Return the features of any job with these settings, or None if its images have a say in them.

    Raises
    ------
    ValueError
        If the features cannot be used.
    """
    settings = resolved(settings)
    if settings.features == "self-taught" or settings.rescale_features:
        return None
    return load_features(settings, _layers(settings), [])


def go_on(snapshot: Snapshot, *, progress: Progress | None = None, steering: Steering | None = None) -> Iterator[Step]:
    """Go on with a run from where a snapshot was taken, to the same image that it would have given.

    Parameters
    ----------
    snapshot : Snapshot
        From :meth:`Step.snapshot`, or read from a file.
    progress, steering : optional
        As for :func:`stylize`.

    Yields
    ------
    Step
        From the step after the snapshot's.

    Raises
    ------
    ValueError
        If the device or the features are not there any more, or the features are other ones.
    """
    content, *styles = (snapshot.sources.content, *(brush.picture for brush in snapshot.sources.brushes))
    settings = _with_tile(resolved(snapshot.settings), size_of(content), [size_of(style) for style in styles])
    sources = moved(snapshot, _home(settings, size_of(content)))
    return _run(sources, _images(prepare(sources, settings), settings), settings, None, progress, steering, snapshot)


def resolved(settings: StyleSettings, features: Features | None = None) -> StyleSettings:
    """Return settings in which every ``"auto"`` is replaced by what it means here and now.

    What ``tile`` becomes depends on the images: it is noted in every step's settings.

    Parameters
    ----------
    settings : StyleSettings
        Any.
    features : Features, optional
        Features at hand, instead of those that the settings name.

    Raises
    ------
    ValueError
        If the device or the features that the settings name are not there.
    """
    device = resolve_device(settings.device)
    source = resolve_source(settings.features) if features is None else features.source
    auto = AUTO_LAYERS["self-taught" if source == "self-taught" else "trained"]
    return dataclasses.replace(
        settings,
        device=str(device),
        precision=str(resolve_precision(settings.precision, device)).removeprefix("torch."),
        features=source,
        content_layers=auto["content"] if settings.content_layers == "auto" else settings.content_layers,
        style_layers=auto["style"] if settings.style_layers == "auto" else settings.style_layers,
    )


def _with_tile(settings: StyleSettings, size: tuple[int, int], styles: Sequence[tuple[int, int]]) -> StyleSettings:
    """Return resolved settings with the tile that pictures of these sizes need here and now."""
    if settings.tile != "auto":
        return settings
    device, largest = torch.device(settings.device), max((height * width for height, width in styles), default=0)
    tile = chosen_tile(size, largest, _layers(settings), settings, device, free_bytes(device))
    return dataclasses.replace(settings, tile=tile)


def _home(settings: StyleSettings, size: tuple[int, int]) -> torch.device:
    """Return where a run's images are held: where it computes, unless that has no room for them beside a tile."""
    device, host = torch.device(settings.device), torch.device("cpu")
    state = state_bytes(size[0] * size[1], settings.optimizer, settings.history)
    home = host if settings.tile and held_apart(state, device, free_bytes(device)) else device
    check_room(size, settings, free_bytes(home))
    return home


def _weighted(style: Styles) -> Weighted:
    """Return style images with their weights; a single image weighs 1."""
    pairs = isinstance(style, (list, tuple)) and all(isinstance(e, tuple) and len(e) == 2 for e in style)
    if not pairs:
        return [(cast("npt.ArrayLike", style), 1.0)]
    styles = [(image, float(weight)) for image, weight in cast("Weighted", style)]
    if not all(weight >= 0 for _, weight in styles) or not sum(weight for _, weight in styles) > 0:
        raise ValueError("style: give at least one image, no weight below 0 and at least one above.")
    return styles


def _checked_styles(style: Styles | None, regions: Regions, settings: StyleSettings) -> list[StyleImage]:
    if settings.mode == "content":
        return []
    if style is None:
        raise ValueError("style: an image is needed in every mode but content.")
    pairs = _weighted(style)
    labels = cast(
        "list[npt.ArrayLike | None]", list(regions) if isinstance(regions, (list, tuple)) else [regions] * len(pairs)
    )
    if len(labels) != len(pairs):
        raise ValueError(f"style_regions: there are {len(labels)} for {len(pairs)} styles; give one or None for each.")
    styles = []
    for (image, weight), found in zip(pairs, labels, strict=True):
        if weight == 0:
            continue
        rgb = to_rgb(image, name="style image")
        checked = None if found is None else checked_labels(found, rgb.shape[:2], "style_regions")
        styles.append(StyleImage(rgb, weight, checked))
    return styles


def _too_large(size: tuple[int, int], settings: StyleSettings) -> str:
    return too_large(size, _layers(settings), settings, torch.device(settings.device))


def _smallest_side(settings: StyleSettings) -> int:
    """Return the shortest side that the deepest layer in use can see; 2 pixels of it are needed."""
    return 2 * 2 ** max(pools_before(layer) for layer in _layers(settings))


def _layers(settings: StyleSettings) -> set[str]:
    weights = weights_of(settings)
    return {
        *(weights.content_layers if weights.content else ()),
        *(weights.style_layers if weights.style else ()),
    }


def _check_sizes(pictures: Pictures, settings: StyleSettings) -> None:
    smallest = _smallest_side(settings)
    named = [("content image", pictures.content), *(("style image", brush.picture) for brush in pictures.brushes)]
    for name, picture in named:
        height, width = picture.shape[-2:]
        if min(height, width) < smallest:
            raise ValueError(
                f"The {name} is {height} × {width} pixels at this working size, but the layers in use need "
                f"{smallest} a side. Choose a larger size, an image that is less narrow, or layers that are "
                "less deep."
            )


def _images(pictures: Pictures, settings: StyleSettings) -> list[Tensor]:
    """Return the images that features are learned from or rescaled by, normalised."""
    content = [] if settings.mode == "texture" else [pictures.content]
    return [normalized_rgb(picture) for picture in (*content, *(brush.picture for brush in pictures.brushes))]


def _features(settings: StyleSettings, images: list[Tensor], progress: Progress | None) -> Features:
    layers = _layers(settings)
    features = load_features(settings, layers, images, progress)
    if not settings.rescale_features:
        return features
    return rescaled(features, images, layers, settings.pooling, int(settings.tile))


def _run(
    sources: Sources,
    images: list[Tensor],
    settings: StyleSettings,
    features: Features | None,
    progress: Progress | None,
    steering: Steering | None,
    snapshot: Snapshot | None,
) -> Iterator[Step]:
    layers = _layers(settings)
    too_large_here = partial(_too_large, size_of(sources.content), settings)
    if features is None:
        with saying_what_fits(too_large_here):
            features = _features(settings, images, progress)
    elif missing := set(layers_up_to(layers)) - set(features.convolutions):
        raise ValueError(f"The features given have no {', '.join(sorted(missing))}, which the settings need.")
    images.clear()
    if snapshot is not None and features.fingerprint != snapshot.fingerprint:
        raise ValueError("This run was made with other features than are here now; it cannot be gone on with.")
    make_trunk = partial(_trunk, features, layers, settings)
    fingerprint, smallest = features.fingerprint, _smallest_side(settings)
    with saying_what_fits(too_large_here):
        run = Optimization(sources, settings, make_trunk, fingerprint, smallest, steering, snapshot)
    del features, make_trunk, sources
    yield from run


def _trunk(features: Features, layers: set[str], settings: StyleSettings, precision: str) -> Trunk:
    return Trunk(features, layers, settings.pooling, settings.device, getattr(torch, precision))
