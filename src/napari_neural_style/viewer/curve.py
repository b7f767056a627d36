"""A live curve of the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QEvent, Qt, QTimer
from qtpy.QtGui import QColor, QHideEvent, QShowEvent
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget

if TYPE_CHECKING:
    from napari_neural_style.viewer.loss_plot import LossPlot

MOST = 1000
"""The most points that are kept, and so drawn; even."""

DRAW_MS = 500
"""The least time between two drawings, in milliseconds."""

TERMS = ("total", "content", "style")

_AGAINST = {"steps": "step", "seconds": "time (s)"}
_ON_DARK = {"content": "#56b4e9", "style": "#e69f00"}
_ON_LIGHT = {"content": "#0072b2", "style": "#c04f00"}
_EMPTY = "The loss of a run appears here."
_MISSING = 'The loss curve needs pyqtgraph: pip install "pyqtgraph>=0.13.7"'


class LossCurve(QWidget):
    """Total, content and style loss against steps or seconds.

    Points can be added at any rate: they are drawn about twice a second, and only while the widget is seen.
    When there are too many, every other one is dropped; the first and the last always stay. pyqtgraph is imported
    when the widget is first shown. For the main thread only.
    """

    def __init__(self) -> None:
        super().__init__()
        self.legend = QLabel(_EMPTY)
        self.legend.setWordWrap(True)
        self.legend.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.legend.setToolTip("The loss before each step and its weighted terms, on a logarithmic axis.")
        self.against = QComboBox()
        self.against.addItems(list(_AGAINST))
        self.against.setToolTip("What the loss is drawn against.")
        _hide_in_place(self.against)
        header = QHBoxLayout()
        header.addWidget(self.legend, stretch=1)
        header.addWidget(self.against, alignment=Qt.AlignmentFlag.AlignRight)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addLayout(header)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self.plot: LossPlot | None = None
        self._missing = False
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(DRAW_MS)
        self._timer.timeout.connect(self._draw)
        self.against.currentTextChanged.connect(self._draw)
        self._kept = np.empty((MOST, 5))
        self.clear()

    def clear(self) -> None:
        """Forget all points."""
        self._count = 0
        self._added = 0
        self._stride = 1
        self._last: tuple[float, ...] | None = None
        self._draw()

    def add(self, step: int, seconds: float, total: float, content: float, style: float) -> None:
        """Add the weighted losses of a step.

        Parameters
        ----------
        step : int
            Number of the step.
        seconds : float
            Time since the run began, in s.
        total, content, style : float
            The weighted terms; where one is zero or not a number, its line has a gap.
        """
        self._last = (step, seconds, total, content, style)
        if self._added % self._stride == 0:
            if self._count == MOST:
                self._kept[: MOST // 2] = self._kept[::2]
                self._count = MOST // 2
                self._stride *= 2
            self._kept[self._count] = self._last
            self._count += 1
        self._added += 1
        if not self._timer.isActive() and self.isVisible():
            self._timer.start()

    def points(self) -> np.ndarray[Any, Any]:
        """Return what is drawn: step, seconds, total, content and style, in columns."""
        points = self._kept[: self._count]
        if self._last is None or (self._added - 1) % self._stride == 0:
            return points.copy()
        return np.vstack([points, self._last])

    def _draw(self) -> None:
        if self.plot is None or not self.isVisible():
            return
        points = self.points()
        against = self.against.currentText()
        x = points[:, list(_AGAINST).index(against)]
        drawn = self.plot.draw(x, _AGAINST[against], dict(zip(TERMS, points[:, 2:].T, strict=True)))
        self.plot.setVisible(bool(drawn))
        self.against.setVisible(bool(drawn))
        colors = self._colors()
        entries = (f'<span style="color:{colors[name].name()}"><b>—</b></span>&nbsp;{name}' for name in drawn)
        self.legend.setText("&nbsp; ".join(entries) or _EMPTY)

    def _colors(self) -> dict[str, QColor]:
        text = self.palette().windowText().color()
        others = _ON_DARK if text.lightness() > 127 else _ON_LIGHT
        return {"total": text, **{name: QColor(color) for name, color in others.items()}}

    def _restyle(self) -> None:
        if self.plot is not None:
            colors = self._colors()
            self.legend.ensurePolished()  # the style sheet sizes the text of labels, not of this widget
            self.plot.restyle(colors["total"], colors, self.legend.font())
            self._draw()

    def _make_plot(self) -> None:
        try:
            from napari_neural_style.viewer.loss_plot import LossPlot
        except ImportError:
            self._missing = True
            self.legend.setText(_MISSING)
            return
        self.plot = LossPlot(*TERMS)
        _hide_in_place(self.plot)
        self.layout().addWidget(self.plot)
        self._restyle()

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802
        """Draw what was added meanwhile."""
        super().showEvent(event)
        if self.plot is None and not self._missing:
            self._make_plot()
        else:
            self._draw()

    def hideEvent(self, event: QHideEvent) -> None:  # noqa: N802
        """Draw no more."""
        self._timer.stop()
        super().hideEvent(event)

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802
        """Follow the viewer's theme, whose style sheet sets the palette."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.StyleChange):
            self._restyle()


def _hide_in_place(widget: QWidget) -> None:
    """Hide a widget but keep its place, so that nothing jumps when it is shown."""
    policy = widget.sizePolicy()
    policy.setRetainSizeWhenHidden(True)
    widget.setSizePolicy(policy)
    widget.hide()
