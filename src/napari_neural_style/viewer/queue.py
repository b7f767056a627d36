"""The runs that wait for their turn."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QKeySequence, QShortcut
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

if TYPE_CHECKING:
    from napari_neural_style.viewer.tasks import Task


class Queue(QWidget):
    """A list of waiting runs; the first is next. Drag or press Up and Down to reorder, Remove to cancel one."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._tasks: dict[int, Task] = {}
        self._next_key = 0
        self.list = QListWidget()
        self.list.setAccessibleName("waiting runs")
        self.list.setDragDropMode(QAbstractItemView.DragDropMode.InternalMove)
        self.list.setMaximumHeight(90)
        self.list.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)  # else nothing is elided
        self.empty = QLabel("Runs that you start during another one wait here.")
        self.empty.setWordWrap(True)
        self.empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        QVBoxLayout(self.list.viewport()).addWidget(self.empty)
        self.up, self.down, self.remove = (QPushButton(text) for text in ("Up", "Down", "Remove"))
        self.up.setToolTip("Let the selected run start sooner.")
        self.down.setToolTip("Let the selected run start later.")
        self.remove.setToolTip("Do not make the selected run.")
        self.up.clicked.connect(lambda: self._move(-1))
        self.down.clicked.connect(lambda: self._move(1))
        self.remove.clicked.connect(self._remove)
        delete = QShortcut(QKeySequence(QKeySequence.StandardKey.Delete), self.list)
        delete.setContext(Qt.ShortcutContext.WidgetShortcut)
        delete.activated.connect(self._remove)
        buttons = QHBoxLayout()
        for button in (self.up, self.down, self.remove):
            buttons.addWidget(button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.list)
        column.addLayout(buttons)
        rows = self.list.model()
        assert rows is not None
        rows_changed = (rows.rowsInserted, rows.rowsRemoved, rows.rowsMoved, rows.modelReset)
        for moved in (self.list.currentRowChanged, *rows_changed):
            moved.connect(self._follow)
        self._follow()

    def __len__(self) -> int:
        return self.list.count()

    def add(self, task: Task) -> None:
        """Let a run wait behind the others."""
        steps = task.settings.steps
        item = QListWidgetItem(f"{task.title} · {steps} {'step' if steps == 1 else 'steps'}")
        item.setToolTip(f"<span>{html.escape(item.text())}</span>")
        item.setData(Qt.ItemDataRole.UserRole, self._next_key)
        self._tasks[self._next_key] = task
        self._next_key += 1
        self.list.addItem(item)
        self.changed.emit()

    def take(self) -> Task | None:
        """Return the run that is next, and wait for it no longer."""
        item = self.list.takeItem(0)
        if item is None:
            return None
        self.changed.emit()
        return self._tasks.pop(item.data(Qt.ItemDataRole.UserRole))

    def clear(self) -> None:
        """Let nothing wait any more."""
        self.list.clear()
        self._tasks.clear()
        self.changed.emit()

    def _follow(self) -> None:
        """Enable what can be done with the selected run, or say what the list is for."""
        self.empty.setVisible(not len(self))
        row = self.list.currentRow()
        self.up.setEnabled(row > 0)
        self.down.setEnabled(0 <= row < len(self) - 1)
        self.remove.setEnabled(row >= 0)

    def _move(self, by: int) -> None:
        row = self.list.currentRow()
        if row < 0 or not 0 <= row + by < len(self):
            return
        item = self.list.takeItem(row)
        self.list.insertItem(row + by, item)
        self.list.setCurrentRow(row + by)

    def _remove(self) -> None:
        row = self.list.currentRow()
        if row >= 0:
            item = self.list.takeItem(row)
            self._tasks.pop(item.data(Qt.ItemDataRole.UserRole))
            self.changed.emit()
