"""stylize(): runs one job, step by step."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from functools import partial
from reprlib import repr as brief

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_neural_style.engine.allocator import give_back
from napari_neural_style.engine.given import Regions, Styles, check_sizes, checked_styles
from napari_neural_style.engine.images import FloatImage, normalized_rgb, size_of, to_array, to_rgb
from napari_neural_style.engine.memory import too_large
from napari_neural_style.engine.modes import in_usual_modes, usual_modes
from napari_neural_style.engine.optimization import Optimization
from napari_neural_style.engine.position import Network, turned_until
from napari_neural_style.engine.preparation import Pictures, Sources, gather, prepare
from napari_neural_style.engine.recovery import saying_what_fits
from napari_neural_style.engine.regions import checked_labels
from napari_neural_style.engine.rescaling import rescaled
from napari_neural_style.engine.resolving import home_of, layers_of, resolved, with_tile
from napari_neural_style.engine.sizes import style_size, working_size
from napari_neural_style.engine.snapshot import Snapshot, moved
from napari_neural_style.engine.steering import Steering
from napari_neural_style.engine.step import Step
from napari_neural_style.engine.vgg import Features, Trunk, padded
from napari_neural_style.engine.weights import load_features
from napari_neural_style.settings import StyleSettings

Progress = Callable[[str, float], None]


@usual_modes()
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
) -> Generator[Step]:
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
        label, or the whole style image's where that has no labels. Edges are soft. In mode ``"content"`` all labels
        above 0 are one; in mode ``"texture"`` they are not used.
    style_regions : array of int, or list of such arrays and None, optional
        Labels of the style image, or of each. Without `content_regions` the style is what is labelled above 0.
    features : Features, optional
        From :func:`features_for`, so that several images are painted with the same; they take the place of what
        ``settings.features`` names.
    progress : callable, optional
        Called with a sentence and a fraction 0..1 while features are learned, before the first
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
    MemoryError
        If memory runs out and nothing smaller fits; after a step with the last picture, if there is one.
    ArithmeticError
        If numbers go wrong and no safer way helps; likewise.

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
    _check(progress, steering)
    sources, settings = _gathered(content, style, settings, value_range, content_regions, style_regions, initial)
    return in_usual_modes(_run(sources, settings, features, progress, steering, None))


@usual_modes()
def features_for(
    content: npt.ArrayLike | None,
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

    Returns
    -------
    Features
        The filters of VGG-19 up to the deepest layer in use; in units of their mean activations over the images if
        ``settings.rescale_features``.

    Raises
    ------
    ValueError
        If an image, a setting or the features cannot be used.
    MemoryError
        If memory runs out.
    """
    sources, settings = _gathered(content, style, resolved(settings or StyleSettings()), value_range)
    with _within_memory(size_of(sources.content), settings):
        return _features(settings, partial(prepare, sources, settings), progress)


@usual_modes()
def content_for(
    content: npt.ArrayLike,
    style: Styles | None,
    settings: StyleSettings,
    value_range: tuple[float, float] | None = None,
    content_regions: npt.ArrayLike | None = None,
    style_regions: Regions = None,
) -> FloatImage:
    """Return a content as a job uses it: at the working size, in the style's palette if it is to take that.

    Parameters
    ----------
    content, style, settings, value_range, content_regions, style_regions
        As for :func:`stylize`.

    Returns
    -------
    ndarray
        Shape (H, W, 3), float32 in 0..1.
    """
    styles = checked_styles(style, style_regions, settings)
    rgb, labels = _content(content, value_range, content_regions, settings)
    pictures = prepare(gather(rgb, labels, styles, None, settings, torch.device("cpu")), settings)
    return to_array(pictures.content if pictures.content.shape[1] == 3 else pictures.original)


def _gathered(
    content: npt.ArrayLike | None,
    style: Styles | None,
    settings: StyleSettings,
    value_range: tuple[float, float] | None,
    content_regions: npt.ArrayLike | None = None,
    style_regions: Regions = None,
    initial: npt.ArrayLike | None = None,
) -> tuple[Sources, StyleSettings]:
    """Return a job's images, and its resolved settings with the tile that images of their sizes need."""
    styles = checked_styles(style, style_regions, settings)
    content_rgb, labels = _content(content, value_range, content_regions, settings)
    initial_rgb = None if initial is None else to_rgb(initial, name="initial image")
    size = working_size(None if content_rgb is None else content_rgb.shape[:2], settings)
    settings = with_tile(settings, size, [style_size(style.rgb.shape[:2], settings) for style in styles])
    with _within_memory(size, settings):
        sources = gather(content_rgb, labels, styles, initial_rgb, settings, home_of(settings, size))
    check_sizes(sources, settings)
    return sources, settings


def _content(
    content: npt.ArrayLike | None,
    value_range: tuple[float, float] | None,
    regions: npt.ArrayLike | None,
    settings: StyleSettings,
) -> tuple[FloatImage | None, npt.NDArray[np.int64] | None]:
    """Return the content as float RGB and its labels, as far as there are any and the mode uses them."""
    if content is None:
        if settings.mode != "texture":
            raise ValueError("content: an image is needed in every mode but texture.")
        return None, None
    rgb = to_rgb(content, value_range, "content image")
    if regions is None or settings.mode == "texture":
        return rgb, None
    return rgb, checked_labels(regions, rgb.shape[:2], "content_regions")


@usual_modes()
def trained_features(settings: StyleSettings) -> Features | None:
    """Return the features of any job with these settings, or None if its images have a say in them.

    Raises
    ------
    ValueError
        If the features cannot be used.
    """
    settings = resolved(settings)
    return None if _by_images(settings) else load_features(settings, layers_of(settings), [])


@usual_modes()
def go_on(
    snapshot: Snapshot,
    *,
    features: Features | None = None,
    progress: Progress | None = None,
    steering: Steering | None = None,
) -> Generator[Step]:
    """Go on with a run from where a snapshot was taken, to the same image that it would have given.

    Parameters
    ----------
    snapshot : Snapshot
        From :meth:`Step.snapshot`, or read from a file.
    features, progress, steering : optional
        As for :func:`stylize`; a run that was given features is to be given them again.

    Yields
    ------
    Step
        From the step after the snapshot's.

    Raises
    ------
    ValueError
        If the device, the precision or the features are not there any more, or the features are other ones.
    """
    if not isinstance(snapshot, Snapshot):
        raise ValueError(f"snapshot must be a Snapshot, as read_snapshot returns of a file, not {brief(snapshot)}.")
    _check(progress, steering)
    size, *styles = map(size_of, (snapshot.sources.content, *(brush.picture for brush in snapshot.sources.brushes)))
    settings = with_tile(resolved(snapshot.settings, features), size, styles)
    with _within_memory(size, settings):
        sources = moved(snapshot, home_of(settings, size))
    return in_usual_modes(_run(sources, settings, features, progress, steering, snapshot))


def _check(progress: Progress | None, steering: Steering | None) -> None:
    if progress is not None and not callable(progress):
        raise ValueError(f"progress must be a function of a sentence and a fraction, not {brief(progress)}.")
    if steering is not None and not isinstance(steering, Steering):
        raise ValueError(f"steering must be a Steering, not {brief(steering)}.")


def _within_memory(size: tuple[int, int], settings: StyleSettings) -> AbstractContextManager[None]:
    """Let memory that runs out end in a sentence that says which size fits."""
    return saying_what_fits(lambda: too_large(size, layers_of(settings), settings, torch.device(settings.device)))


def _by_images(settings: StyleSettings) -> bool:
    """Tell whether a job's images have a say in its features."""
    return settings.features == "self-taught" or settings.rescale_features


def _features(
    settings: StyleSettings,
    pictures: Callable[[], Pictures],
    progress: Progress | None,
    fingerprint: str | None = None,
) -> Features:
    layers = layers_of(settings)
    images = _images(pictures(), settings) if _by_images(settings) else []
    features = padded(load_features(settings, layers, images, progress, fingerprint), settings.padding)
    if not settings.rescale_features:
        return features
    return rescaled(features, images, layers, settings.pooling, int(settings.tile))


def _images(pictures: Pictures, settings: StyleSettings) -> list[Tensor]:
    """Return the images that features are learned from or rescaled by, normalised."""
    content = [] if settings.mode == "texture" else [pictures.content]
    return [normalized_rgb(picture) for picture in (*content, *(brush.picture for brush in pictures.brushes))]


def _run(
    sources: Sources,
    settings: StyleSettings,
    features: Features | None,
    progress: Progress | None,
    steering: Steering | None,
    snapshot: Snapshot | None,
) -> Generator[Step]:
    size = size_of(sources.content)
    learns = features is None and settings.features == "self-taught"
    if features is None:
        # Learned ones were learned again where colour was turned.
        colored = turned_until(settings, snapshot.index) if snapshot is not None and learns else settings
        fingerprint = None if snapshot is None else snapshot.fingerprint
        with _within_memory(size, settings):
            features = _features(settings, partial(prepare, sources, colored), progress, fingerprint)
    give_back()  # what learning took lies between what the run will take
    if snapshot is not None and features.fingerprint != snapshot.fingerprint:
        raise ValueError(
            "This run was made with other features than are here now; it cannot be gone on with. Give those that it "
            "had; self-taught ones come out again with the number of threads and the PyTorch that learned them."
        )
    network = _network(features, settings, learns)
    with _within_memory(size, settings):
        run = Optimization(sources, settings, network, steering, snapshot)
    del features, network, sources, snapshot
    yield from run


def _network(features: Features, settings: StyleSettings, learns: bool) -> Network:
    make_trunk = partial(_trunk, features, settings)
    return Network(make_trunk, features.fingerprint, partial(_learned_from, settings) if learns else None)


def _learned_from(settings: StyleSettings, pictures: Pictures) -> Network:
    return _network(_features(settings, lambda: pictures, None), settings, learns=True)


def _trunk(features: Features, settings: StyleSettings, precision: str) -> Trunk:
    features = padded(features, settings.padding)  # those given may be otherwise
    return Trunk(features, layers_of(settings), settings.pooling, settings.device, getattr(torch, precision))
