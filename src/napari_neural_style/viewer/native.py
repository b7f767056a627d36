"""What magicgui and napari leave to Qt: wrapping texts, scrolling, typing, foreign widgets, tab order, names."""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import Any

from magicgui.widgets import Container, Label
from magicgui.widgets.bases import BaseContainerWidget, SliderWidget, Widget
from qtpy import QT_VERSION
from qtpy.QtCore import QEvent, QObject, QPoint, QSize, Qt
from qtpy.QtGui import QHelpEvent, QKeyEvent
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QDoubleSpinBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QListWidget,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QSlider,
    QStyle,
    QStyleOptionComboBox,
    QToolTip,
    QVBoxLayout,
    QWidget,
)
from superqt import QLargeIntSpinBox

_MARGIN = 2
"""Space in pixels that napari's style keeps around scroll bars."""


def note(text: str) -> Label:
    """Return a text that wraps to the dock's width."""
    label = Label(value=text)
    native = label.native
    assert isinstance(native, QLabel)
    native.setWordWrap(True)
    native.setTextFormat(Qt.TextFormat.PlainText)  # layers may be called <b>
    native.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.MinimumExpanding)
    return label


def wrapped(native: QWidget) -> Container[Any]:
    """Return a container that holds a Qt widget."""
    container: Container[Any] = Container(labels=False)
    container.margins = (0, 0, 0, 0)
    container.native.layout().addWidget(native)
    return container


def put_in_scroll_area(outer: Container[Any], inner: Container[Any]) -> VerticalScrollArea:
    """Put a scroll area around a container inside another; magicgui's own is lost when napari docks a widget."""
    layout = outer.native.layout()
    layout.removeWidget(inner.native)
    area = VerticalScrollArea()
    column = QWidget()
    QVBoxLayout(column)
    column.layout().setContentsMargins(0, 0, 0, 0)
    area.setWidget(column)
    column.installEventFilter(area)
    layout.insertWidget(0, area, stretch=1)
    # It never leaves the window, which would put it behind the buttons for Tab.
    column.layout().addWidget(inner.native)
    column.layout().addStretch()
    return area


def take_what_is_typed(native: QWidget) -> None:
    """Take a number that is being typed into a field of a widget, as when the keyboard goes elsewhere."""
    field = QApplication.focusWidget()
    if isinstance(field, QAbstractSpinBox) and native.isAncestorOf(field):
        field.clearFocus()
        field.setFocus()


class VerticalScrollArea(QScrollArea):
    """A scroll area that is never narrower than what is in it."""

    def __init__(self) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setFrameShape(QScrollArea.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        """Ask for more room when what is in it needs it, and keep its fields aligned."""
        if event.type() == QEvent.Type.LayoutRequest:
            _align_fields(self.widget())
            self.updateGeometry()
        return super().eventFilter(watched, event)

    def bring_into_view(self, part: QWidget) -> None:
        """Scroll as little as shows all of a part that has just grown, or its top."""
        QApplication.sendPostedEvents(None, QEvent.Type.LayoutRequest.value)
        top, bar = part.mapTo(self.widget(), QPoint()).y(), self.verticalScrollBar()
        bar.setValue(max(bar.value(), min(top, top + part.height() - self.viewport().height())))

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        """Return the content's least width beside a scroll bar."""
        width = self.widget().minimumSizeHint().width() if self.widget() is not None else 0
        bar = self.verticalScrollBar()
        return QSize(width + max(bar.sizeHint().width(), bar.width()) + 2 * _MARGIN, 120)


def _align_fields(column: QWidget) -> None:
    """Give the labels of each group one width; magicgui measures them before napari's style sets their font."""
    groups: dict[QWidget, list[QLabel]] = {}
    for label in column.findChildren(QLabel):
        row = label.parentWidget()
        if isinstance(row.layout(), QHBoxLayout) and label is row.layout().itemAt(0).widget() and label.isVisible():
            groups.setdefault(row.parentWidget(), []).append(label)
    # napari's style gives its font size to numbers, and none to other line edits.
    number = column.findChild(QAbstractSpinBox)
    for field in column.findChildren(QLineEdit) if number is not None else ():
        if not _in_a_box(field) and field.font().pointSize() != number.font().pointSize():
            field.setFont(number.font())
    for labels in groups.values():
        widest = max(label.sizeHint().width() for label in labels)
        for label in labels:
            label.setMinimumWidth(widest)


def show_whole_choices(box: QComboBox) -> None:
    """Let the list of a combo box be as wide as its words and scroll when there are many; its tooltip has all words."""
    box.setMaxVisibleItems(20)
    box.installEventFilter(_ListWidth(box))
    box.installEventFilter(_WholeChoice(box))


class _WholeNumber(QObject):
    """Takes a number that is typed as soon as its box can hold it.

    superqt's boxes take every digit for a number, so that a 5 becomes 32 where that is the least, and the keyboard goes
    to whichever box's number was changed last, by whomever.
    """

    def __init__(self, box: QLargeIntSpinBox) -> None:
        super().__init__(box)
        box.setKeyboardTracking(False)  # takes what is typed when the keyboard goes elsewhere
        box.lineEdit().textChanged.connect(self._take)

    def _take(self, text: str) -> None:
        box = self.parent()
        number = int(text) if text.isdecimal() else -1
        if box.minimum() <= number <= box.maximum():
            box.setValue(number)


def let_type(native: QWidget) -> None:
    """Let whole numbers be typed digit by digit into a box, or into the one beside a slider."""
    boxes = [native] if isinstance(native, QLargeIntSpinBox) else native.findChildren(QLargeIntSpinBox)
    for box in boxes:
        _WholeNumber(box)


class _DecimalSign(QObject):
    """Takes a typed comma or point for the sign of the box's language: the other one would part thousands."""

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        """Look at keys."""
        if isinstance(watched, QDoubleSpinBox) and isinstance(event, QKeyEvent) and event.text() in (",", "."):
            if event.type() == QEvent.Type.KeyPress:
                watched.lineEdit().insert(watched.locale().decimalPoint())
            return True
        return super().eventFilter(watched, event)


def take_either_sign(native: QWidget) -> None:
    """Let numbers be typed with a comma or a point into a box, or into the one beside a slider."""
    for box in [native] if isinstance(native, QDoubleSpinBox) else native.findChildren(QDoubleSpinBox):
        box.installEventFilter(_DecimalSign(box))


def look_after_slider(native: QWidget) -> None:
    """Let a click beside a slider's handle move it by five steps, and its number be seen."""
    for slider in native.findChildren(QSlider):
        # superqt counts in small units, and leaves Qt's ten of them.
        slider.setPageStep(max(slider.pageStep(), 5 * slider.singleStep()))
    for box in native.findChildren(QAbstractSpinBox):
        # Qt 6.12 leaves a number without buttons one pixel under a style sheet such as napari's.
        if tuple(map(int, str(QT_VERSION).split(".")[:2])) >= (6, 12):
            box.setButtonSymbols(QAbstractSpinBox.ButtonSymbols.UpDownArrows)


class _ListWidth(QObject):
    """Gives a combo box's list its width just before it opens."""

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        """Look at clicks and keys."""
        if isinstance(watched, QComboBox) and event.type() in (QEvent.Type.MouseButtonPress, QEvent.Type.KeyPress):
            view = watched.view()
            view.setMinimumWidth(view.sizeHintForColumn(0) + view.verticalScrollBar().sizeHint().width())
        return super().eventFilter(watched, event)


class _WholeChoice(QObject):
    """Begins the tooltip of a combo box with what is chosen where the box has no room for it."""

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        """Look at the mouse's rest."""
        if isinstance(watched, QComboBox) and isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip:
            option = QStyleOptionComboBox()
            option.initFrom(watched)
            parts = QStyle.ComplexControl.CC_ComboBox, option, QStyle.SubControl.SC_ComboBoxEditField, watched
            text = watched.currentText()
            if watched.fontMetrics().horizontalAdvance(text) > watched.style().subControlRect(*parts).width():
                words = "".join(f"<p>{html.escape(part)}</p>" for part in (text, watched.toolTip()))
                QToolTip.showText(event.globalPos(), words, watched)
                return True
        return super().eventFilter(watched, event)


class _ScrolledOver(QObject):
    """Leaves the wheel to what is around a field, unless that has the keyboard: who scrolls wants nothing changed."""

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        """Look at the wheel."""
        if event.type() == QEvent.Type.Wheel and isinstance(watched, QWidget) and not watched.hasFocus():
            event.ignore()
            return True
        return super().eventFilter(watched, event)


def let_scroll(native: QWidget) -> None:
    """Let a wheel over a field, or the parts of one, scroll and not turn it."""
    for part in (native, *native.findChildren(QWidget)):
        if isinstance(part, (QAbstractSpinBox, QComboBox, QSlider)):
            part.installEventFilter(_ScrolledOver(part))
            if part.focusPolicy() == Qt.FocusPolicy.WheelFocus:
                part.setFocusPolicy(Qt.FocusPolicy.StrongFocus)


FOLDS = "folds"
"""A property of buttons that fold away what is below them."""

_STYLE = f"""
QPushButton[{FOLDS}="true"] {{ text-align: left; padding-left: 6px; }}
QComboBox {{ combobox-popup: 0; }}
QPushButton:focus, QComboBox:focus, QAbstractSpinBox:focus, QLineEdit:focus,
QCheckBox:focus, QListWidget:focus {{ border: 1px solid #4c8dff; }}
QSlider::handle:horizontal:disabled {{ background-color: rgba(128, 128, 128, 35%); }}
QAbstractSpinBox[buttonSymbols="NoButtons"] {{ min-width: 32px; padding: 1px 2px; }}
"""
"""napari's style does not show where the keyboard is, nor that a slider is disabled, and gives a slider's number more
room than the slider; Qt's lists of choices take the height of the screen. The colours are seen on napari's dark and
its light theme."""


class _Styled(QObject):
    """Styles a widget once its window has: with a style of its own before, Qt styles all in it at every step there."""

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        """Wait for the window's style."""
        if isinstance(watched, QWidget) and event.type() == QEvent.Type.Polish:
            watched.removeEventFilter(self)
            watched.setStyleSheet(_STYLE)
        return super().eventFilter(watched, event)


def style_in_window(widget: QWidget) -> None:
    """Show where the keyboard is and what can be pressed, when a widget has come into a window."""
    widget.installEventFilter(_Styled(widget))


def make_accessible(container: Container[Any]) -> None:
    """Give every control a name for screen readers, and let Tab go from top to bottom."""
    before: QWidget | None = None
    for widget in _controls(container):
        name = getattr(widget, "text", "") or widget.label or widget.name
        for part in _parts(widget):
            if not part.accessibleName() or part is widget.native:
                words = part.text() if isinstance(part, QPushButton) else str(name)
                part.setAccessibleName(words.replace("&", "").lstrip("▸▾⇅ "))
            part.setAccessibleDescription(part.toolTip() or widget.tooltip or "")
            part.setToolTip(part.toolTip() or widget.tooltip or "")
            if part.focusPolicy() == Qt.FocusPolicy.NoFocus:
                continue
            if before is not None:
                QWidget.setTabOrder(before, part)
            before = part


def _controls(container: Container[Any]) -> Iterator[Widget]:
    for widget in container:
        if isinstance(widget, Container) and (len(widget) or not _inside(widget)):
            yield from _controls(widget)
        elif not isinstance(widget, Label):
            yield widget


def _parts(widget: Widget) -> list[QWidget]:
    """Return a widget and what takes keys in it: magicgui's sliders and files, and what :func:`wrapped` holds."""
    inside = _inside(widget) if isinstance(widget, (SliderWidget, BaseContainerWidget)) else []
    return [widget.native, *inside]


def _inside(widget: Widget) -> list[QWidget]:
    parts = widget.native.findChildren(QWidget)
    return [part for part in parts if isinstance(part, _TAKE_KEYS) and not _in_a_box(part)]


_TAKE_KEYS = (QAbstractSpinBox, QLineEdit, QListWidget, QPushButton, QSlider)


def _in_a_box(part: QWidget) -> bool:
    return isinstance(part.parentWidget(), QAbstractSpinBox)
