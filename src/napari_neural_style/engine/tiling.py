"""The same objective over tiles: a whole picture's loss and gradient with the memory of one tile.

The style term depends on the picture only through Gram matrices, which are sums over positions. A first pass over the
tiles adds them up; with them the derivative of the style term by every Gram matrix is known, and a second pass takes
each tile's gradient. Every tile sees as far as its features do, so that nothing is approximated.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from napari_neural_style.engine.graph import Recorded
from napari_neural_style.engine.losses import Target, content_constant_of, style_terms
from napari_neural_style.engine.objective import Objective, Weights, as_rgb
from napari_neural_style.engine.preparation import Brush
from napari_neural_style.engine.regions import Guides
from napari_neural_style.engine.tiles import Tile, positions_of
from napari_neural_style.engine.vgg import Trunk
from napari_neural_style.settings import LAYERS

KEPT = 256 * 2**20
"""Bytes of content targets that are kept; larger ones are computed again, a tile at a time, at every step."""


def make_objective(
    trunk: Trunk, content: Tensor, brushes: Sequence[Brush], weights: Weights, guides: Guides | None, side: int
) -> Objective | Recorded:
    """Return the objective in tiles of a side, or in one piece where that is 0 or the content is no larger.

    What is held away from the trunk's device is always taken to it in tiles.
    """
    if side and (max(content.shape[-2:]) > side or content.device != trunk.device):
        return TiledObjective(trunk, content, brushes, weights, guides, side=side)
    objective = Objective(trunk, content, brushes, weights, guides, side=side)
    return Recorded(objective) if content.is_cuda else objective


class TiledObjective(Objective):
    """An :class:`~napari_neural_style.engine.objective.Objective` that sees one tile of the image at a time.

    Images, guides and gradients stay on the device they are on; tiles go to the trunk's.

    Parameters
    ----------
    trunk, content, brushes, weights, guides
        As for the objective.
    side : int
        Largest side of the content's tiles too, in pixels, a multiple of 16.

    References
    ----------
    Gatys, Ecker and Bethge (2016), equations 1 to 7, with sums over positions taken part by part.
    """

    def _aim_at_content(self, content: Tensor, weights: Weights) -> None:
        """Measure the content targets, and keep them if they are small."""
        layers = list(weights.content_layers)
        self._content_picture = content
        self._kept: list[dict[str, Tensor]] = []
        squares = dict.fromkeys(layers, 0.0)
        counts = {name: LAYERS[name] * positions_of(self._size, name) for name in layers}
        small = sum(counts.values()) * self._trunk.dtype.itemsize <= KEPT
        for tile in self._tiles:
            targets = self._content_at(tile, layers)
            for name, target in targets.items():
                squares[name] += target.float().square().sum().item()
            if small:
                self._kept.append({name: target.clone() for name, target in targets.items()})
        for name, weight in weights.content_layers.items():
            factor = weight * content_constant_of(squares[name], counts[name], weights.normalization)
            self._content.append(Target(name, content.new_empty(0), factor))

    def _content_at(self, tile: Tile, layers: Sequence[str]) -> dict[str, Tensor]:
        activations = self._activations(tile.seen_of(self._content_picture).to(self._trunk.device), layers)
        return {name: tile.own_at(activations[name], name) for name in layers}

    def evaluate(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weighted terms in the order of `names`, and the gradient of their sum."""
        grams = self._sums.of(self._trunk, image, as_rgb) if self._style else {}
        style, slopes = style_terms(grams, self._style, self._factors[1])
        content = torch.zeros(len(self._content), dtype=torch.float32, device=self._trunk.device)
        variation = torch.zeros((), dtype=torch.float32, device=self._trunk.device)
        gradient = torch.zeros_like(image, memory_format=torch.contiguous_format)
        for number, tile in enumerate(self._tiles):
            window = tile.seen_of(image).to(self._trunk.device)
            terms, varied, part = self._up_and_back(window, tile, self._targets(number, tile), lambda _: slopes)
            tile.seen_of(gradient).add_(part.to(gradient.device))
            variation += varied
            if terms:
                content += torch.stack(terms)
        return torch.stack([*content, *style, variation]).to(image.device), gradient

    def _targets(self, number: int, tile: Tile) -> list[Target]:
        """Return a tile's content targets."""
        if not self._content:
            return []
        values = (
            self._kept[number] if self._kept else self._content_at(tile, [target.layer for target in self._content])
        )
        return [Target(target.layer, values[target.layer], target.factor) for target in self._content]
