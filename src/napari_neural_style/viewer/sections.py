"""Parts of the dock that fold away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from magicgui.widgets import Container, PushButton
from psygnal import Signal

from napari_neural_style.viewer.native import FOLDS


class Section(Container):
    """A button with a widget below it that it shows and hides; magicgui's widgets are slow to make, so it is made late.

    Parameters
    ----------
    title : str
        On the button.
    make : callable
        Returns the container that folds away; called when it is first opened.
    tooltip : str
        What is in it.

    Attributes
    ----------
    made : Signal
        Emitted when it has been opened for the first time.
    inner : Container or None
        What folds away, None before it is made.
    """

    made = Signal()

    def __init__(self, title: str, make: Callable[[], Container[Any]], tooltip: str) -> None:
        self._title = title
        self._make = make
        self.toggle = PushButton(text=f"▸ {title}", tooltip=tooltip)
        self.inner: Container[Any] | None = None
        super().__init__(widgets=[self.toggle], labels=False)
        self.margins = (0, 0, 0, 0)
        self.toggle.native.setProperty(FOLDS, True)
        self.toggle.changed.connect(lambda: self.open(self.inner is None or not self.inner.visible))

    def open(self, shown: bool = True) -> None:
        """Show or hide what is in it."""
        if self.inner is None:
            self.inner = self._make()
            self.inner.margins = (8, 0, 0, 0)
            self.append(self.inner)
            self.inner.reset_choices()
            self.made.emit()
        self.inner.visible = shown
        self.toggle.text = f"{'▾' if shown else '▸'} {self._title}"
        self.native.updateGeometry()
