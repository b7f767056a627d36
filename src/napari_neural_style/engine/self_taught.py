"""Features without a download: VGG-19's architecture with filters learned from the images at hand.

From the input up, each convolution's filters are the centres that spherical k-means finds among whitened
3 × 3 patches of the activations below it, to which white noise was added. Without noise the filters would
span only what the images contain, and the optimiser could hide colour speckle and ringing in what they do
not see.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_neural_style.engine.images import resize, where_known
from napari_neural_style.engine.vgg import POOLED_AFTER, Features, fingerprint_of, layers_up_to, pool
from napari_neural_style.settings import LAYERS

PATCHES = 4096
"""Patches that a layer's filters are learned from."""
NOISE = 1.0
"""Variance of the noise in units of the patches' own, mean over their dimensions."""
LEAST_STRUCTURE = 1e-3
"""Root mean square of patches around their mean below which they are flat."""
FLAT_NOISE = 1.0
"""Standard deviation of the noise that filters are learned from where patches are flat."""
LEAST_ACTIVATION = 1e-3
"""Least mean activation that a filter is divided by."""
COMPONENTS = 96
"""Principal components in which patches are compared."""
ITERATIONS = 4
"""Iterations of k-means."""
MOST_PIXELS = 2**20
"""Pixels of a picture that are learned from; a larger one is sampled by nine crops."""
CROP = 336
"""Side of a crop."""
VERSION = repr(
    (PATCHES, NOISE, LEAST_STRUCTURE, FLAT_NOISE, LEAST_ACTIVATION, COMPONENTS, ITERATIONS, MOST_PIXELS, CROP)
)
"""What the learned numbers depend on besides images and seed."""

BAND = 2**22
"""Values of a layer that are computed between two looks at whether to stop."""

Progress = Callable[[str, float], None]
Tick = Callable[[float], None]


def learn(
    images: Sequence[Tensor],
    layers: Iterable[str],
    pooling: str,
    seed: int,
    progress: Progress | None = None,
) -> Features:
    """Learn the filters of every layer up to the deepest asked for.

    Parameters
    ----------
    images : sequence of Tensor
        Normalised RGB, each of shape (1, 3, H, W), on one device.
    layers : iterable of str
        The layers that will be used.
    pooling : str
        ``"max"`` or ``"average"``.
    seed : int
        Seed of the sampling; the same seed, images and device give the same filters.
    progress : callable, optional
        Called with a sentence and the fraction done several times a layer; what it raises ends the learning.

    Returns
    -------
    Features
        With border ``"reflect"`` and every filter's mean activation over the images about 1.

    References
    ----------
    Coates and Ng (2012), "Learning feature representations with k-means"; Krähenbühl, Doersch, Donahue and
    Darrell (2016), "Data-dependent initializations of convolutional neural networks", for its use in CNNs.
    """
    generator = torch.Generator().manual_seed(seed)
    names = layers_up_to(layers)
    pictures = [image.float() for image in images]
    pictures += [half for image in images if (half := _half(image)) is not None]
    activations = [
        (number, crop.contiguous(memory_format=torch.channels_last))  # a fifth faster so
        for number, picture in enumerate(pictures)
        for crop in _crops(picture)
    ]
    pictures.clear()
    convolutions: dict[str, tuple[Tensor, Tensor]] = {}
    for number, name in enumerate(names):

        def tick(done: float, number: int = number, name: str = name) -> None:
            if progress is not None:
                progress(f"Learning features: {name}", (number + done) / len(names))

        tick(0.0)
        padded = []
        while activations:
            picture, activation = activations.pop(0)
            padded.append((picture, F.pad(activation, (1, 1, 1, 1), mode="reflect")))
            del activation
        patches = _sample_patches(padded, PATCHES, generator, tick)
        weight, bias = _filters_of(patches, LAYERS[name], generator, tick)
        del patches
        weight = weight.view(LAYERS[name], -1, 3, 3)
        convolutions[name] = (weight.cpu(), bias.cpu())
        if number + 1 < len(names):
            pooling_here = pooling if name in POOLED_AFTER else None
            while padded:
                picture, below = padded.pop(0)
                activation = _convolved(below, weight, bias, pooling_here, tick)
                if min(activation.shape[-2:]) >= 2:
                    activations.append((picture, activation))
                del below, activation
    return Features("self-taught", convolutions, "reflect", fingerprint_of(convolutions), COMPONENTS)


def _half(image: Tensor) -> Tensor | None:
    height, width = image.shape[-2] // 2, image.shape[-1] // 2
    return resize(image.float(), (height, width)) if min(height, width) >= 32 else None


def _crops(image: Tensor) -> list[Tensor]:
    """Return an image, or parts that stand for it: up to three by three crops, evenly spaced."""
    if image.shape[-2] * image.shape[-1] <= MOST_PIXELS:
        return [image]
    rows, columns = (_starts(length) for length in image.shape[-2:])
    return [image[..., top : top + CROP, left : left + CROP] for top in rows for left in columns]


def _starts(length: int) -> list[int]:
    count = min(3, max(1, length // CROP))
    return [(length - CROP) * (2 * k + 1) // (2 * count) if length > CROP else 0 for k in range(count)]


def _convolved(padded: Tensor, weight: Tensor, bias: Tensor, pooling: str | None, tick: Tick) -> Tensor:
    """Return the layer's activations, band by band: a stop is heard in time, and little is held at once."""
    rows, columns = padded.shape[-2] - 2, padded.shape[-1] - 2
    band = max(2, BAND // (columns * weight.shape[0]) // 2 * 2)
    found = []
    for top in range(0, rows, band):
        tick(0.9)
        activation = F.relu_(F.conv2d(padded[..., top : top + band + 2, :], weight, bias))
        if pooling is None:
            found.append(activation)
        elif activation.shape[-2] >= 2:
            found.append(pool(activation, pooling))
    return torch.cat(found, 2)


def _sample_patches(padded: Sequence[tuple[int, Tensor]], count: int, generator: torch.Generator, tick: Tick) -> Tensor:
    """Return about `count` random 3 × 3 patches (T, 9 C), as many from every picture, whose number is given."""
    parts = Counter(picture for picture, _ in padded)
    found = []
    for picture, image in padded:
        tick(0.1)
        channels, height, width = image.shape[1:]
        windows = image[0].unfold(1, 3, 1).unfold(2, 3, 1).permute(1, 2, 0, 3, 4)
        here = count // len(parts) // parts[picture]
        positions = torch.randint((height - 2) * (width - 2), (here,), generator=generator)
        positions = positions.to(image.device)
        rows, columns = positions // (width - 2), positions % (width - 2)
        found.append(windows[rows, columns].reshape(-1, 9 * channels))
    return torch.cat(found)


def _filters_of(patches: Tensor, count: int, generator: torch.Generator, tick: Tick) -> tuple[Tensor, Tensor]:
    """Return weights (count, D) and biases (count,) learned from patches (T, D), which are centred in place.

    A filter fires at half of the noisy patches; its mean activation over the clean ones is 1.
    """
    mean = patches.mean(0)
    centred = patches.sub_(mean)
    variance = centred.square().mean()
    flat = bool(variance < LEAST_STRUCTURE**2)
    deviation = FLAT_NOISE if flat else (NOISE * variance).sqrt()
    tick(0.15)
    noisy = (
        torch.randn(centred.shape, generator=generator, dtype=torch.float32).to(centred).mul_(deviation).add_(centred)
    )
    tick(0.2)
    whitening = _whitening(noisy, generator, tick)
    weight = _spherical_k_means(noisy @ whitening, count, generator, tick) @ whitening.T
    tick(0.7)
    threshold = (noisy @ weight.T).median(0).values
    tick(0.8)
    seen = noisy if flat else centred
    active = F.relu_((seen @ weight.T).sub_(threshold)).mean(0).clamp_min(LEAST_ACTIVATION)
    bias = -(weight @ mean) - threshold
    return weight / active[:, None], bias / active


def _whitening(centred: Tensor, generator: torch.Generator, tick: Tick) -> Tensor:
    """Return the matrix (D, K) that takes centred patches (T, D) to whitened principal components.

    References
    ----------
    Halko, Martinsson and Tropp (2011), algorithm 4.4 with one power iteration, where D is large.
    """
    dimensions = centred.shape[1]
    basis = torch.eye(dimensions).to(centred)
    if dimensions > COMPONENTS:
        basis = torch.randn(dimensions, COMPONENTS, generator=generator, dtype=torch.float32).to(centred)
        for _ in range(2):
            tick(0.25)
            basis = torch.linalg.qr(where_known(centred.T @ (centred @ basis))).Q.to(centred)
    projected = centred @ basis
    values, vectors = torch.linalg.eigh(where_known(projected.T @ projected / len(centred)))
    return basis @ (vectors * values.rsqrt()).to(centred)


def _spherical_k_means(points: Tensor, count: int, generator: torch.Generator, tick: Tick) -> Tensor:
    """Return `count` unit directions (count, D) that points (T, D) cluster around."""
    start = torch.randperm(len(points), generator=generator)[:count].to(points.device)
    unit = F.normalize(points)
    centres = unit[start]
    for iteration in range(ITERATIONS):
        tick(0.3 + 0.4 * iteration / ITERATIONS)
        similarity = unit @ centres.T
        best, owner = similarity.max(1)
        sums = _sums(unit, owner, count)
        empty = sums.norm(dim=1) < 1e-6
        loneliest = unit[best.argsort()[:count]]
        centres = F.normalize(torch.where(empty[:, None], loneliest, sums))
    return centres


def _sums(points: Tensor, owner: Tensor, count: int) -> Tensor:
    """Return the sum (count, D) of the points (T, D) that each of `count` owners has, the same bits every time."""
    if points.is_cuda:  # which adds by index in any order
        return F.one_hot(owner, count).to(points).T @ points
    return points.new_zeros(count, points.shape[1]).index_add_(0, owner, points)
