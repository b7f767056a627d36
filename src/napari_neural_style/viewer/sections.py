"""Parts of the dock that fold away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from magicgui.widgets import Container, PushButton
from magicgui.widgets.bases import Widget
from psygnal import Signal


class Section(Container):
    """A button with a widget below it that it shows and hides; magicgui's widgets are slow to make, so it is made late.

    Parameters
    ----------
    title : str
        On the button.
    make : callable
        Returns what folds away; called when it is first opened.
    tooltip : str
        What is in it.

    Attributes
    ----------
    made : Signal
        Emitted when it has been opened for the first time.
    """

    made = Signal()

    def __init__(self, title: str, make: Callable[[], Widget], tooltip: str) -> None:
        self._title = title
        self._make: Callable[[], Widget] | None = make
        self.toggle = PushButton(text=f"▸ {title}", tooltip=tooltip)
        self.inner: Container[Any] = Container(labels=False, visible=False)
        self.inner.margins = (8, 0, 0, 0)
        super().__init__(widgets=[self.toggle, self.inner], labels=False)
        self.margins = (0, 0, 0, 0)
        self.toggle.native.setStyleSheet("text-align: left; padding-left: 6px;")
        self.toggle.changed.connect(lambda: self.open(not self.inner.visible))

    def open(self, shown: bool = True) -> None:
        """Show or hide what is in it."""
        if self._make is not None:
            self.inner.append(self._make())
            self.inner.reset_choices()
            self._make = None
            self.made.emit()
        self.inner.visible = shown
        self.toggle.text = f"{'▾' if shown else '▸'} {self._title}"
        self.native.updateGeometry()
