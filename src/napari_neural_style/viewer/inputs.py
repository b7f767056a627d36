"""Which layers a run takes: content, styles, their regions, the area to paint and what to start from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from magicgui.widgets import Container, FloatSpinBox, PushButton
from napari.layers import Image, Labels

from napari_neural_style.viewer.areas import WHOLE, area_choices, told_apart
from napari_neural_style.viewer.fields import Choices, labelled
from napari_neural_style.viewer.plane_choice import PlaneChoice
from napari_neural_style.viewer.provenance import made_by_of

if TYPE_CHECKING:
    import napari
    from napari.layers import Layer

    from napari_neural_style.settings import StyleSettings


@dataclass(frozen=True)
class StyleChoice:
    """A style layer, its weight, and the Labels layer that says where in it the styles are."""

    layer: Image
    weight: float
    regions: Labels | None


class StyleRow(Container):
    """One style: its layer, weight and regions; all but the first can be removed."""

    def __init__(self, viewer: napari.viewer.Viewer, layer: Any, number: int) -> None:
        self.layer = layer
        self.weight = FloatSpinBox(
            name="weight",
            value=1.0,
            min=0.0,
            max=1000.0,
            step=0.25,
            tooltip="How much this style counts beside the others.",
        )
        self.regions = _layer_field(
            viewer,
            Labels,
            "regions",
            "",
            "A Labels layer drawn over this style: each content label takes the style of the same label.",
            nullable=True,
        )
        own = [] if number == 1 else [layer]
        self._rows = labelled(*own, self.weight, self.regions)
        self.remove_button = PushButton(
            text="Remove this style", tooltip="Take this style out of the mix.", visible=number > 1
        )
        super().__init__(widgets=[self._rows, self.remove_button], labels=False)
        self.margins = (0, 0, 0, 0)
        self.count(number)

    def count(self, number: int) -> None:
        """Call it the style of a number, from 1."""
        self.weight.label, self.regions.label = f"style {number} weight", f"style {number} regions"
        if number > 1:
            self.layer.label = f"style layer {number}"


class MoreInputs:
    """Further styles, regions, the area to paint and what to start from.

    Attributes
    ----------
    body : Container
        The fields.
    """

    def __init__(self, viewer: napari.viewer.Viewer, content: Any, style: Any) -> None:
        self._viewer = viewer
        self._content = content
        self.content_regions = _layer_field(
            viewer,
            Labels,
            "content_regions",
            "content regions",
            "A Labels layer drawn over the content: label 0 stays as it is, the others are painted.",
            nullable=True,
        )
        self.area = Choices(
            name="area",
            label="area",
            choices=lambda widget: area_choices(viewer.layers),
            value=WHOLE,
            tooltip="Paint the whole layer, what the canvas shows of it, or what a Shapes layer outlines.",
        )
        self.start_from = _layer_field(
            viewer,
            Image,
            "start_from",
            "start from",
            "A picture to start from instead of the content, for example an earlier result.",
            nullable=True,
        )
        self.rows = [StyleRow(viewer, style, 1)]
        self._rows: Container[Any] = Container(widgets=[*self.rows], labels=False)
        self._rows.margins = (0, 0, 0, 0)
        self.add = PushButton(text="Add a style", tooltip="Mix several styles, or give regions styles of their own.")
        self.each = PushButton(
            text="Run each style by itself",
            tooltip="One run for every style, one after another; for two styles or more.",
        )
        fields = labelled(self.content_regions, self.area, self.start_from)
        self.body: Container[Any] = Container(widgets=[fields, self._rows, self.add, self.each], labels=False)
        self.body.margins = (0, 0, 0, 0)
        self.add.changed.connect(self.add_style)

    def add_style(self) -> StyleRow:
        """Add a row for one more style."""
        number = len(self.rows) + 1
        layer = _layer_field(
            self._viewer,
            Image,
            "layer",
            "",
            "One more image layer whose style counts.",
        )
        row = StyleRow(self._viewer, layer, number)
        self.rows.append(row)
        self._rows.append(row)
        row.reset_choices()
        others = [c for c in layer.choices if c not in [r.layer.value for r in self.rows[:-1]] + [self._content.value]]
        if others:
            layer.value = next((other for other in others if made_by_of(other) is None), others[0])
        row.remove_button.changed.connect(lambda: self._remove(row))
        self.body.changed.emit(self.body)  # the button's own signal reached the dock before there was a row
        return row

    def _remove(self, row: StyleRow) -> None:
        self.rows.remove(row)
        self._rows.remove(row)
        row.native.deleteLater()
        for number, other in enumerate(self.rows, 1):
            other.count(number)
        self.body.changed.emit(self.body)

    def have_rows(self, count: int) -> None:
        """Have rows for so many styles, at least one."""
        while len(self.rows) < count:
            self.add_style()
        while len(self.rows) > max(1, count):
            self._remove(self.rows[-1])

    def follow(self) -> None:
        """Follow the viewer's layer list: the style of a layer that is gone goes too; there is always a first one."""
        for row in self.rows[1:]:
            if row.layer.value is not None and row.layer.value not in self._viewer.layers:
                self._remove(row)
        first, *others = self.rows
        if others and first.layer.value is not None and first.layer.value not in self._viewer.layers:
            for name in ("layer", "weight", "regions"):
                getattr(first, name).value = getattr(others[0], name).value
            self._remove(others[0])
        self.body.reset_choices()

    def suit(self, mode: str) -> None:
        """Enable what counts in a mode."""
        self.content_regions.enabled = self.area.enabled = self.start_from.enabled = mode != "texture"
        self._rows.enabled = self.add.enabled = mode != "content"

    @property
    def used(self) -> bool:
        """Whether anything here is chosen."""
        chosen = (self.content_regions.value, self.start_from.value, *(row.regions.value for row in self.rows))
        weighed = len(self.rows) > 1 or self.rows[0].weight.value != 1
        return weighed or self.area.value != WHOLE or any(value is not None for value in chosen)


class Inputs:
    """The fields for layers.

    Attributes
    ----------
    main : list
        Content, style, and the button that swaps them.
    plane_choice : PlaneChoice
        The fields for planes, made late.
    """

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        self._viewer = viewer
        self.content = _layer_field(
            viewer, Image, "content", "content layer", "The image layer to repaint; mode texture has none."
        )
        self.style = _layer_field(
            viewer, Image, "style", "style layer", "The image layer whose style it takes; mode content has none."
        )
        self.swap = PushButton(text="⇅ Swap content and style", tooltip="Exchange the two layers.")
        self.plane_choice = PlaneChoice(viewer, self.content)
        self.main = [self.content, self.style, self.swap]
        self.swap.changed.connect(self._swap)
        self.note()
        for field in (self.content, self.style):
            field.changed.connect(self.note)

    @cached_property
    def more(self) -> MoreInputs:
        """The fields that are folded away, made when they are first needed."""
        return MoreInputs(self._viewer, self.content, self.style)

    def folded(self, name: str) -> Any:
        """Return what one of the fields that are folded away holds, None before they are made."""
        return getattr(self.more, name).value if "more" in self.__dict__ else None

    def _swap(self) -> None:
        content, style = self.content.value, self.style.value
        if content is not None and style is not None:
            self.content.value, self.style.value = style, content

    def axes(self, settings: StyleSettings) -> tuple[int, ...]:
        """Return the axes of the content to go along, none for the plane that is shown."""
        return () if settings.mode == "texture" else self.plane_choice.axes

    def styles(self) -> list[StyleChoice]:
        """Return the chosen styles; those without a layer are left out."""
        if "more" not in self.__dict__:
            return [] if self.style.value is None else [StyleChoice(self.style.value, 1.0, None)]
        return [
            StyleChoice(row.layer.value, float(row.weight.value), row.regions.value)
            for row in self.more.rows
            if row.layer.value is not None
        ]

    def tell_apart(self) -> None:
        """Where both fields hold one layer because there was no other, or a chosen one is gone, take another there."""
        images = self.images()
        content, style = self._chosen
        both = self.content.value
        others = [layer for layer in images if layer is not both]
        if both is self.style.value and others:
            if self._alone or (both is style and content not in images):
                self.content.value = others[-1]
            elif both is content and style not in images:
                self.style.value = others[0]

    def note(self) -> None:
        """Note what is chosen and whether there was a choice, for :meth:`tell_apart` when layers come or go."""
        self._chosen = (self.content.value, self.style.value)
        self._alone = len(self.images()) < 2

    def images(self) -> list[Image]:
        """Return the image layers there are, the lowest first."""
        return [layer for layer in self._viewer.layers if isinstance(layer, Image)]

    def same_throughout(self, styles: list[StyleChoice]) -> bool:
        """Tell whether the content is the only one of styles, nothing setting one part of it apart from another."""
        if any(style.layer is not self.content.value or style.regions is not None for style in styles):
            return False
        return self.folded("content_regions") is None and self.folded("area") in (None, WHOLE)

    def take_selected(self) -> None:
        """Take the selected image layer as content, and another as style."""
        active = self._viewer.layers.selection.active
        if isinstance(active, Image) and active in self.content.choices:
            self.content.value = active
        others = [layer for layer in self.images() if layer is not self.content.value]
        if self.style.value is self.content.value and others:
            self.style.value = others[0]


def _layer_field(
    viewer: napari.viewer.Viewer, kind: type[Layer], name: str, label: str, tooltip: str, nullable: bool = False
) -> Any:
    """Return a choice among the layers of a kind; magicgui's own loses a layer that is renamed."""

    def choices(widget: Any) -> list[tuple[str, Layer]]:
        return [(told_apart(layer, [Choices.null_string]), layer) for layer in viewer.layers if isinstance(layer, kind)]

    return Choices(name=name, label=label, choices=choices, tooltip=tooltip, nullable=nullable)
