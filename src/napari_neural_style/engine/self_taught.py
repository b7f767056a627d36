"""Features without a download: VGG-19's architecture with filters learned from the images at hand.

From the input up, each convolution's filters are the centres that spherical k-means finds among whitened
3 × 3 patches of the activations below it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_neural_style.engine.images import resize
from napari_neural_style.engine.vgg import POOLED_AFTER, Features, fingerprint_of, layers_up_to, pool
from napari_neural_style.settings import LAYERS

PATCHES_PER_FILTER = 10
ITERATIONS = 4
FIRING = 0.3
"""Share of positions at which a filter is active."""
COMPONENTS = 256
POWER = 0.5
EIGENVALUE_FLOOR = 1.0
"""Floor under the eigenvalues, in units of their mean: keeps noise from being blown up."""

Progress = Callable[[str, float], None]


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
        Called with a sentence and the fraction done before every layer; what it raises ends the learning.

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
    activations = [image.float() for image in images]
    activations += [half for image in images if (half := _half(image)) is not None]
    convolutions: dict[str, tuple[Tensor, Tensor]] = {}
    for number, name in enumerate(names):
        if progress is not None:
            progress(f"Learning features: {name}", number / len(names))
        filters = LAYERS[name]
        padded = [F.pad(a, (1, 1, 1, 1), mode="reflect") for a in activations]
        patches = _sample_patches(padded, PATCHES_PER_FILTER * filters, generator)
        weight, bias = _filters_of(patches, filters, generator)
        weight = weight.view(filters, -1, 3, 3)
        convolutions[name] = (weight.cpu(), bias.cpu())
        if number + 1 < len(names):
            activations = [F.relu_(F.conv2d(a, weight, bias)) for a in padded]
            if name in POOLED_AFTER:
                activations = [pool(a, pooling) for a in activations if min(a.shape[-2:]) >= 4]
    return Features("self-taught", convolutions, "reflect", fingerprint_of(convolutions))


def _half(image: Tensor) -> Tensor | None:
    height, width = image.shape[-2] // 2, image.shape[-1] // 2
    return resize(image.float(), (height, width)) if min(height, width) >= 32 else None


def _sample_patches(padded: Sequence[Tensor], count: int, generator: torch.Generator) -> Tensor:
    """Return about `count` random 3 × 3 patches (T, 9 C), as many from every image."""
    found = []
    for image in padded:
        channels, height, width = image.shape[1:]
        windows = image[0].unfold(1, 3, 1).unfold(2, 3, 1).permute(1, 2, 0, 3, 4)
        positions = torch.randint((height - 2) * (width - 2), (count // len(padded),), generator=generator)
        positions = positions.to(image.device)
        rows, columns = positions // (width - 2), positions % (width - 2)
        found.append(windows[rows, columns].reshape(-1, 9 * channels))
    return torch.cat(found)


def _filters_of(patches: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return weights (count, D) and biases (count,) learned from patches (T, D)."""
    mean = patches.mean(0)
    centred = patches - mean
    whiten = _whitening(centred)
    directions = _spherical_k_means(centred @ whiten, count, generator)
    weight = directions @ whiten.T
    responses = centred @ weight.T
    rank = 1 + int((1 - FIRING) * len(responses))
    threshold = responses.kthvalue(rank, dim=0).values
    active = F.relu(responses - threshold).mean(0).clamp_min(1e-6)
    bias = -(weight @ mean) - threshold
    return weight / active[:, None], bias / active


def _whitening(centred: Tensor) -> Tensor:
    """Return the matrix (D, K) that takes centred patches to whitened principal components."""
    if centred.shape[1] <= COMPONENTS * 2:
        values, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))
        values, vectors = values[-COMPONENTS:].clamp_min(0), vectors[:, -COMPONENTS:]
    else:
        torch.manual_seed(0)
        _, singular, vectors = torch.svd_lowrank(centred, COMPONENTS, niter=1)
        values = singular.square() / len(centred)
    floor = EIGENVALUE_FLOOR * values.mean().clamp_min(1e-12)
    return vectors * (values + floor) ** -POWER


def _spherical_k_means(points: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return `count` unit directions (count, D) that points (T, D) cluster around."""
    start = torch.randperm(len(points), generator=generator)[:count].to(points.device)
    length = points.norm(dim=1, keepdim=True).clamp_min(1e-12)
    unit = points / length
    centres = unit[start]
    if len(centres) < count:
        extra = torch.randn(count - len(centres), points.shape[1], generator=generator)
        centres = torch.cat([centres, F.normalize(extra).to(points)])
    for _ in range(ITERATIONS):
        similarity = unit @ centres.T
        best, owner = similarity.max(1)
        sums = torch.zeros_like(centres).index_add_(0, owner, unit)
        empty = sums.norm(dim=1) < 1e-6
        worst = best.argsort()[: len(centres)]
        fresh = unit[worst[torch.arange(len(centres), device=worst.device) % len(worst)]]
        centres = F.normalize(torch.where(empty[:, None], fresh, sums))
    return centres
