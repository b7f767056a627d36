"""Lines on a logarithmic axis; the only module that imports pyqtgraph."""

from __future__ import annotations

import os
from collections.abc import Mapping
from math import ceil, floor, log10
from typing import Any

import numpy as np
import qtpy
from qtpy.QtCore import QSize
from qtpy.QtGui import QColor, QFont, QFontMetrics

# pyqtgraph would otherwise take the first binding that is loaded, which need not be the viewer's.
os.environ["PYQTGRAPH_QT_LIB"] = qtpy.API_NAME

import pyqtgraph as pg

_LEAST_DECADES = 0.31
"""The least height of the axis, a factor of two: a plateau looks flat, and two ticks or more are seen."""

_MANTISSAS = ((1.0,), (2.0, 5.0), (3.0, 7.0), (1.5, 4.0, 6.0, 8.0, 9.0))
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float, plain_to: float) -> str:
    """Return a round number as a short label: 0.02, 500, 3·10⁵; as a power of ten if it is above `plain_to`."""
    if value == 0 or 1e-3 < abs(value) <= plain_to:
        return f"{value:.10g}"
    mantissa, exponent = f"{value:.3e}".split("e")
    power = "10" + str(int(exponent)).translate(_SUPERSCRIPTS)
    mantissa = mantissa.rstrip("0").rstrip(".")
    return power if mantissa == "1" else f"{mantissa}·{power}"


class _LinearAxis(pg.AxisItem):
    """An axis with short numbers, as many as there is room for, and no kilo-seconds."""

    def tickSpacing(self, low: float, high: float, size: float) -> list[tuple[float, float]]:  # noqa: N802
        """Return the distance between ticks, and where they start."""
        digits = max(4, len(f"{high:.0f}") + 1)
        width = QFontMetrics(self.style["tickFont"]).horizontalAdvance("0" * digits)
        least = (high - low) * width / max(size, width)
        power = 10.0 ** floor(log10(least))
        return [(next(m * power for m in (1, 2, 5, 10, 20) if m * power >= least), 0.0)]

    def tickStrings(self, values: list[float], scale: float, spacing: float) -> list[str]:  # noqa: N802
        """Return the labels."""
        return [number(round(v, 6), 99_999) for v in values]


class _LogAxis(pg.AxisItem):
    """An axis of base-10 logarithms, with labels that are legible over any range."""

    def tickValues(self, low: float, high: float, size: float) -> list[tuple[float, list[float]]]:  # noqa: N802
        """Return round numbers, the roundest first, as long as each has room."""
        height = QFontMetrics(self.style["tickFont"]).height() + 3
        gap = (high - low) * height / max(size, height)
        stride = max(1, ceil(gap))
        ticks = [float(v) for v in range(ceil(low / stride) * stride, floor(high) + 1, stride)]
        for mantissas in _MANTISSAS[1:] if stride == 1 else ():
            for tick in (decade + log10(m) for decade in range(floor(low), ceil(high)) for m in mantissas):
                if low <= tick <= high and all(abs(tick - other) >= gap for other in ticks):
                    ticks.append(tick)
        return [(1.0, ticks)]

    def tickStrings(self, values: list[float], scale: float, spacing: float) -> list[str]:  # noqa: N802
        """Return the labels."""
        return [number(float(f"{10**v:.3g}"), 1000) for v in values]


class LossPlot(pg.GraphicsView):
    """Lines on a logarithmic axis.

    Parameters
    ----------
    *names : str
        The lines; the first is drawn below the others and wider.
    """

    def __init__(self, *names: str) -> None:
        super().__init__(background=None)
        self.setMinimumWidth(160)
        self._height = 140
        # The wheel scrolls the dock that the plot is in.
        self.setAttribute(pg.QtCore.Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self._view = pg.ViewBox(enableMouse=False, enableMenu=False, defaultPadding=0.03)
        self._view.setLimits(minYRange=_LEAST_DECADES)
        self.x_axis, self.y_axis = _LinearAxis("bottom"), _LogAxis("left")
        self.x_axis.enableAutoSIPrefix(False)
        layout = pg.GraphicsLayout()
        layout.layout.setSpacing(0)
        # pyqtgraph moves the axes' names 5 px outwards.
        layout.layout.setContentsMargins(5, 5, 10, 5)
        layout.addItem(self.y_axis, 0, 0)
        layout.addItem(self._view, 0, 1)
        layout.addItem(self.x_axis, 1, 1)
        self.setCentralItem(layout)
        for axis in (self.x_axis, self.y_axis):
            axis.linkToView(self._view)
        self.lines = {name: pg.PlotCurveItem(connect="finite", antialias=True) for name in names}
        for line in self.lines.values():
            self._view.addItem(line)

    def restyle(self, text: QColor, colors: Mapping[str, QColor], font: QFont) -> None:
        """Take the colours of a theme and its font."""
        self._height = 80 + 4 * QFontMetrics(font).height()
        self.setMinimumHeight(self._height - 40)  # gives way where the legend wraps
        self.updateGeometry()
        for index, (name, line) in enumerate(self.lines.items()):
            line.setPen(pg.mkPen(colors[name], width=1.5 if index else 3))
        for axis in (self.x_axis, self.y_axis):
            axis.setPen(text)
            axis.setTextPen(text)
            axis.setTickFont(font)
            axis.label.setFont(font)
        self.y_axis.setLabel("loss")
        self.resetCachedContent()  # the background

    def sizeHint(self) -> QSize:  # noqa: N802
        """Return the size that suits the font."""
        return QSize(300, self._height)

    def draw(self, x: np.ndarray[Any, Any], x_label: str, values: Mapping[str, np.ndarray[Any, Any]]) -> list[str]:
        """Draw the lines where they are above zero and finite; return which have a line to see."""
        self.x_axis.setLabel(x_label)
        drawn = []
        for name, line in self.lines.items():
            seen = (values[name] > 0) & np.isfinite(values[name])
            if seen.sum() > 1:
                line.setData(x, np.log10(values[name], out=np.full(len(x), np.nan), where=seen))
                drawn.append(name)
            else:
                line.setData([], [])
        return drawn
