"""Parts of the dock that fold away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from magicgui.widgets import Container, PushButton
from magicgui.widgets.bases import Widget


class Section(Container):
    """A button with widgets below it that it shows and hides.

    Parameters
    ----------
    title : str
        On the button.
    widgets : sequence of Widget
        What folds away; closed at first.
    tooltip : str
        What is in it.
    """

    def __init__(self, title: str, widgets: Sequence[Widget], tooltip: str) -> None:
        self._title = title
        self.toggle = PushButton(text=f"▸ {title}", tooltip=tooltip)
        self.inner: Container[Any] = Container(widgets=list(widgets), labels=False, visible=False)
        self.inner.margins = (8, 0, 0, 0)
        super().__init__(widgets=[self.toggle, self.inner], labels=False)
        self.margins = (0, 0, 0, 0)
        self.toggle.native.setStyleSheet("text-align: left; padding-left: 6px;")
        self.toggle.changed.connect(lambda: self.open(not self.inner.visible))

    def open(self, shown: bool = True) -> None:
        """Show or hide what is in it."""
        self.inner.visible = shown
        self.toggle.text = f"{'▾' if shown else '▸'} {self._title}"
        self.native.updateGeometry()
