"""The layers that a run adds: a live one that follows it, and one for each saved step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.layers import Image

from napari_neural_style.files import KEY
from napari_neural_style.viewer.layers import Plane, placed_like, source_name

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_neural_style.engine.transfer import Step


class Outputs:
    """Turns a run's steps into layers that lie on the content layer's plane; nothing there is overwritten.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Where the layers go.
    content, style : napari.layers.Image
        What the run was made from.
    plane : Plane
        The plane of the content.
    """

    def __init__(self, viewer: ViewerModel, content: Image, style: Image, plane: Plane) -> None:
        self._viewer = viewer
        self._content = content
        self._plane = plane
        self._sources = {"content": source_name(content), "style": source_name(style)}
        self._title = f"{self._sources['content']} × {self._sources['style']}"
        self._live: Image | None = None
        self._shown: Step | None = None

    def show(self, step: Step) -> None:
        """Show a step's picture in the live layer, and keep it in a layer of its own if it is saved."""
        from napari_neural_style.engine.images import to_uint8

        if step.image is None:
            return
        data, place = placed_like(self._content, self._plane, to_uint8(step.image))
        if self._live is None:
            self._live = Image(data, name=f"{self._title} · live", **place)
            self._viewer.add_layer(self._live)
        else:
            self._live.data = data
        self._shown = step
        if step.saved and step.done < 1:
            kept = Image(data, name=self._name(step), metadata=self._made_by(step), visible=False, **place)
            self._keep_below_live(kept)

    def _keep_below_live(self, kept: Image) -> None:
        layers = self._viewer.layers
        selected = set(layers.selection)
        layers.insert(layers.index(self._live) if self._live in layers else len(layers), kept)
        layers.selection = selected

    def finish(self) -> None:
        """Make the live layer the layer of the step it shows; if it was deleted, it comes back as that."""
        if self._live is None or self._shown is None:
            return
        self._live.name = self._name(self._shown)
        self._live.metadata = self._made_by(self._shown)
        if self._live not in self._viewer.layers:
            self._viewer.add_layer(self._live)

    def _name(self, step: Step) -> str:
        return f"{self._title} · step {step.index}"

    def _made_by(self, step: Step) -> dict[str, Any]:
        from napari_neural_style.engine.provenance import made_by

        return {KEY: made_by(step, self._sources)}
