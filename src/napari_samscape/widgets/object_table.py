"""The table of a Labels layer's objects, as the Prompt dock shows it; what it does is in `desk`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QAbstractTableModel, QItemSelectionModel, QModelIndex, Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QAbstractItemView, QHBoxLayout, QHeaderView, QPushButton, QTableView, QVBoxLayout
from qtpy.QtWidgets import QWidget as Widget

from napari_samscape.widgets.features import INDEX, all_rows
from napari_samscape.widgets.ledger import AREA, CLASS, COUNT, IOU

if TYPE_CHECKING:
    from napari.layers import Labels

COLUMNS = {
    INDEX: ("Id", "The object's number in the Labels layer, and its colour."),
    AREA: ("Area", "In pixels of the Labels layer, on all planes."),
    IOU: ("IoU", "As the model predicts it, from 0 to 1, the lowest on any plane; empty without its mask."),
    COUNT: ("Prompts", "Points, boxes and outlines."),
    CLASS: ("Class", "A name of your own; a double click changes it, for all rows that are selected."),
}
"""What the table shows of a layer's features: heading and tip."""
HEIGHT = 96
"""The table is never lower than this many pixels: its heading and a few rows."""


class ObjectModel(QAbstractTableModel):
    """Rows of a Labels layer's features, in an order that can be chosen."""

    classed = Signal(int, str)
    """The user has typed a class for an object."""

    def __init__(self) -> None:
        super().__init__()
        self._rows: list[tuple[Any, ...]] = []
        self._order = (0, Qt.SortOrder.AscendingOrder)
        self._colour: Callable[[int], Any] = lambda _: None

    def show_layer(self, labels: Labels | None) -> None:
        """Read a layer's features afresh."""
        self.beginResetModel()
        table = {} if labels is None else all_rows(labels)
        count = len(table.get(INDEX, []))
        self._rows = list(zip(*(table.get(name, [None] * count) for name in COLUMNS), strict=True))
        self._rows = [row for row in self._rows if row[0] != 0]
        self._colour = (lambda _: None) if labels is None else labels.get_color
        self._sort()
        self.endResetModel()

    def ids(self) -> list[int]:
        """The objects in the order of the rows."""
        return [int(row[0]) for row in self._rows]

    def uncertain(self) -> list[int]:
        """The objects that have a predicted IoU, the lowest first."""
        return [i for _, i in sorted((iou, int(i)) for i, _, iou, *_ in self._rows if _known(iou))]

    def rowCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802 - Qt's name
        """Number of objects."""
        return 0 if parent is not None and parent.isValid() else len(self._rows)

    def columnCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802 - Qt's name
        """Number of columns."""
        return 0 if parent is not None and parent.isValid() else len(COLUMNS)

    def headerData(self, section: int, orientation: Any, role: int = 0) -> Any:  # noqa: N802 - Qt's name
        """Headings and their tips."""
        if orientation != Qt.Orientation.Horizontal:
            return None
        heading, tip = list(COLUMNS.values())[section]
        return {Qt.ItemDataRole.DisplayRole: heading, Qt.ItemDataRole.ToolTipRole: tip}.get(role)

    def data(self, index: QModelIndex, role: int = 0) -> Any:
        """Text, colour and alignment of a cell."""
        value = self._rows[index.row()][index.column()]
        if index.column() == len(COLUMNS) - 1:
            texts = (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.EditRole)
            return str(value) if role in texts and _known(value) else None
        if role == Qt.ItemDataRole.DisplayRole:
            return _text(value, decimals=2 if index.column() == 2 else 0)
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        if role == Qt.ItemDataRole.DecorationRole and index.column() == 0:
            colour = self._colour(int(value))
            return None if colour is None else QColor.fromRgbF(*map(float, colour[:3]))
        return None

    def flags(self, index: QModelIndex) -> Any:
        """Classes can be changed."""
        flags = super().flags(index)
        return flags | Qt.ItemFlag.ItemIsEditable if index.column() == len(COLUMNS) - 1 else flags

    def setData(self, index: QModelIndex, value: Any, role: int = 0) -> bool:  # noqa: N802 - Qt's name
        """Take a class that was typed; the layer's features say what is shown."""
        if str(value).strip() != (self.data(index, Qt.ItemDataRole.EditRole) or ""):
            self.classed.emit(self.ids()[index.row()], str(value).strip())
        return True

    def sort(self, column: int, order: Any = Qt.SortOrder.AscendingOrder) -> None:
        """Put the rows in the order of a column; what is unknown comes last."""
        self._order = column, order
        self.layoutAboutToBeChanged.emit()
        self._sort()
        self.layoutChanged.emit()

    def _sort(self) -> None:
        column, order = self._order
        down = order == Qt.SortOrder.DescendingOrder
        known = [row for row in self._rows if _known(row[column])]
        known.sort(key=lambda row: (_key(row[column]), row[0]), reverse=down)
        self._rows = known + [row for row in self._rows if not _known(row[column])]


class ObjectTable(Widget):
    """The table, and what can be done with the rows that are selected."""

    selected = Signal(object)
    """Ids that the user has selected, the one clicked last at the end."""
    opened = Signal(int)
    """The object that the user wants to edit."""
    merged = Signal(object)
    deleted = Signal(object)
    divided = Signal(int)
    """The object that the user wants to cut in two."""
    classed = Signal(object, str)
    """Objects, and the class that the user wants them to have."""
    stepped = Signal(int)
    """1 for the next uncertain object, -1 for the one before."""

    def __init__(self) -> None:
        super().__init__()
        self.model = ObjectModel()
        self.view = QTableView()
        self.view.setModel(self.model)
        self.view.setSortingEnabled(True)
        self.view.sortByColumn(0, Qt.SortOrder.AscendingOrder)
        self.view.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.view.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.view.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.view.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # the keys work where the focus is: on the canvas
        self.view.setMinimumHeight(HEIGHT)
        self.view.setToolTip("The objects of the Labels layer; a double click takes one up again.")
        self.view.verticalHeader().hide()
        self.view.verticalHeader().setDefaultSectionSize(self.fontMetrics().height() + 4)
        self.view.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        self.view.selectionModel().selectionChanged.connect(lambda *_: self._on_selection())
        self.view.clicked.connect(lambda _: self._on_selection())  # also of a row that is selected already
        self.view.doubleClicked.connect(self._on_double_click)
        self.model.classed.connect(self._on_class)
        self.edit = _button("Edit", "Take the object up again with its prompts; a commit replaces it (H).")
        self.merge = _button("Merge", "Make one object of those selected, under the lowest id.")
        self.divide = _button(
            "Split", "Cut the object in two: draw a line across it, with the mouse held down."
        )
        self.delete = _button("Delete", "Erase the objects selected; undo brings them back.")
        self.before = _button("◀", "Previous object by predicted IoU: a more uncertain one (K).")
        self.after = _button("▶", "Next object by predicted IoU, from the most uncertain one on (J).")
        self.edit.clicked.connect(lambda: self._edit())
        self.merge.clicked.connect(lambda: self.merged.emit(self.chosen()))
        self.divide.clicked.connect(lambda: self.divided.emit(self.chosen()[-1]))
        self.delete.clicked.connect(lambda: self.deleted.emit(self.chosen()))
        self.before.clicked.connect(lambda: self.stepped.emit(-1))
        self.after.clicked.connect(lambda: self.stepped.emit(1))
        self._lay_out()
        self._enable()

    def _lay_out(self) -> None:
        row = QHBoxLayout()
        row.setSpacing(4)
        for button in (self.edit, self.merge, self.divide, self.delete):
            button.setMinimumWidth(20)
            row.addWidget(button, 1)
        for button in (self.before, self.after):
            button.setMaximumWidth(26)
            row.addWidget(button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(self.view, 1)
        column.addLayout(row)

    def show_layer(self, labels: Labels | None) -> None:
        """Show a layer's objects; those that were selected stay so."""
        chosen = self.chosen()
        self.model.show_layer(labels)
        self.select(chosen)

    def chosen(self) -> list[int]:
        """Ids of the selected rows, the current one at the end."""
        ids, selection = self.model.ids(), self.view.selectionModel()
        current = selection.currentIndex().row()
        rows = sorted((index.row() for index in selection.selectedRows()), key=lambda row: row == current)
        return [ids[row] for row in rows]

    def select(self, ids: Iterable[int]) -> None:
        """Select rows without a word to anybody."""
        rows = {i: row for row, i in enumerate(self.model.ids())}
        selection = self.view.selectionModel()
        flags = QItemSelectionModel.SelectionFlag
        blocked = selection.blockSignals(True)
        selection.clear()
        for i in ids:
            if i in rows:
                index = self.model.index(rows[i], 0)
                selection.select(index, flags.Select | flags.Rows)
                selection.setCurrentIndex(index, flags.NoUpdate)
                self.view.scrollTo(index)
        selection.blockSignals(blocked)
        self.view.viewport().update()
        self._enable()

    def _edit(self) -> None:
        if self.chosen():
            self.opened.emit(self.chosen()[-1])

    def _on_double_click(self, index: QModelIndex) -> None:
        if index.column() == len(COLUMNS) - 1:
            self.view.edit(index)
        else:
            self._edit()

    def _on_class(self, value: int, text: str) -> None:
        chosen = self.chosen()
        self.classed.emit(chosen if value in chosen else [value], text)

    def _on_selection(self) -> None:
        self._enable()
        if self.chosen():
            self.selected.emit(self.chosen())

    def _enable(self) -> None:
        count = len(self.chosen())
        self.edit.setEnabled(count == 1)
        self.divide.setEnabled(count == 1)
        self.merge.setEnabled(count > 1)
        self.delete.setEnabled(count > 0)
        for button in (self.before, self.after):
            button.setEnabled(self.model.rowCount() > 0)


def _button(text: str, tip: str) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tip)
    button.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    return button


def _known(value: Any) -> bool:
    return value is not None and value == value


def _key(value: Any) -> Any:
    """What to sort by; classes may be numbers and texts."""
    return (1, value) if isinstance(value, str) else (0, value)


def _text(value: Any, decimals: int) -> str:
    if not _known(value):
        return ""
    return f"{min(max(value, 0), 1):.{decimals}f}" if decimals else f"{int(value):,}".replace(",", "\u202f")
