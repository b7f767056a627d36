"""The written procedure, done plainly: the baseline that the engine is compared with.

Four whole forward passes a step, weights that require gradients, targets computed again every step; nothing is shared
with the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

STYLE_LAYERS = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")
CONTENT_LAYER = "conv4_2"
POOLED_AFTER = ("conv1_2", "conv2_2", "conv3_4", "conv4_4")
ALPHA, BETA, LEARNING_RATE = 1.0, 1e6, 1.0


def network(
    convolutions: Mapping[str, tuple[Tensor, Tensor]], padding_mode: str, pooling: type[nn.Module] = nn.MaxPool2d
) -> tuple[nn.Sequential, dict[int, str]]:
    """Return VGG-19 as a plain Sequential, and which of its modules' outputs have which layer's name."""
    modules: list[nn.Module] = []
    names = {}
    for name, (weight, bias) in convolutions.items():
        convolution = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1, padding_mode=padding_mode)
        convolution.weight.data.copy_(weight)
        convolution.bias.data.copy_(bias)
        modules += [convolution, nn.ReLU()]
        names[len(modules) - 1] = name
        if name in POOLED_AFTER:
            modules.append(pooling(2))
    return nn.Sequential(*modules), names


def activations(model: nn.Sequential, names: Mapping[int, str], image: Tensor) -> dict[str, Tensor]:
    """Run the whole network and return every layer's activations."""
    found = {}
    for number, module in enumerate(model):
        image = module(image)
        if number in names:
            found[names[number]] = image
    return found


def gram(features: Tensor) -> Tensor:
    """Return F Fᵀ / (N M)."""
    _, channels, height, width = features.shape
    flat = features.view(channels, height * width)
    return flat @ flat.t() / (channels * height * width)


def relative_loss(
    convolutions: Mapping[str, tuple[Tensor, Tensor]], content: Tensor, style: Tensor, alpha: float, beta: float
) -> Callable[[Tensor], Tensor]:
    """Return the loss relative to its targets, of an image: frozen weights, average pooling, targets computed once."""
    model, names = network(convolutions, "reflect", nn.AvgPool2d)
    model.to(content.device).requires_grad_(False)
    wanted = activations(model, names, content)[CONTENT_LAYER]
    grams = {layer: gram(maps) for layer, maps in activations(model, names, style).items()}

    def relative(found: Tensor, target: Tensor) -> Tensor:
        return (found - target).square().sum() / target.square().sum()

    def loss(image: Tensor) -> Tensor:
        found = activations(model, names, image)
        style_loss = sum(relative(gram(found[layer]), grams[layer]) for layer in STYLE_LAYERS)
        return alpha * relative(found[CONTENT_LAYER], wanted) + beta * style_loss

    return loss


def written_procedure(
    model: nn.Sequential, names: Mapping[int, str], content: Tensor, style: Tensor
) -> Iterator[tuple[float, float, float, Tensor]]:
    """Yield (total, content, style) before each step's update, and the image after it.

    Parameters
    ----------
    model, names
        From :func:`network`.
    content, style : Tensor
        Normalised images, shape (1, 3, H, W).
    """
    mse = nn.MSELoss()
    image = content.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([image], lr=LEARNING_RATE)
    while True:
        content_loss = mse(
            activations(model, names, image)[CONTENT_LAYER], activations(model, names, content)[CONTENT_LAYER].detach()
        )
        generated, wanted = activations(model, names, image), activations(model, names, style)
        style_loss = sum(mse(gram(generated[layer]), gram(wanted[layer].detach())) for layer in STYLE_LAYERS)
        total = ALPHA * content_loss + BETA * style_loss
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        yield total.item(), ALPHA * content_loss.item(), BETA * style_loss.item(), image.detach().clone()
