"""The parts of docks that know nothing of sessions: tools, mask buttons, status, folds, keys."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QEvent, QObject, QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QIcon, QImage, QPainter, QPen, QPixmap, QPolygonF, QResizeEvent
from qtpy.QtWidgets import (
    QButtonGroup,
    QFormLayout,
    QFrame,
    QHBoxLayout,
    QLabel,
    QLayout,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_samscape.widgets.canvas import BOX_COLOUR, COLOURS
from napari_samscape.widgets.drawn import BACKGROUND, FOREGROUND
from napari_samscape.widgets.thumbnails import SIDE

TOOLS = {
    FOREGROUND: (
        "Object",
        COLOURS[FOREGROUND],
        "Click on the object: this belongs to it.",
    ),
    BACKGROUND: (
        "Background",
        COLOURS[BACKGROUND],
        "Click beside the object: this does not belong to it.",
    ),
    "add_rectangle": ("Box", BOX_COLOUR, "Drag a box round the object. The newest box counts."),
    "add_polygon_lasso": ("Outline", BOX_COLOUR, "Draw roughly round the object with the mouse held down."),
}
"""Name of each tool, its colour, and what it does."""


WIDTH = 270
"""Pixels that a dock likes to be wide."""
FRAME = 16
"""Pixels that a scroll area is higher than its content: a theme may give it a frame, which nobody is told."""

# napari's themes leave tool buttons flat; these greys and the blue sit well on its dark and its light one.
STYLE = """
QToolButton { border: 2px solid transparent; border-radius: 4px; padding: 3px 1px;
              background: rgba(128, 128, 128, 40); }
QToolButton:hover { background: rgba(128, 128, 128, 80); }
QToolButton:checked { border-color: #5a78e0; background: rgba(90, 120, 224, 60); }
QToolButton:disabled { background: rgba(128, 128, 128, 20); }
"""


def _button(text: str, tip: str = "") -> QToolButton:
    """Make a tool button; it does not take the keyboard from the canvas, where the keys work."""
    button = QToolButton()
    button.setText(text)
    button.setToolTip(tip)
    button.setCheckable(True)
    button.setStyleSheet(STYLE)
    button.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextUnderIcon)
    button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    return button


class ToolRow(QWidget):
    """One button per kind of prompt; at most one is down."""

    used = Signal(str)
    """The tool that the user wants."""

    def __init__(self) -> None:
        super().__init__()
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(4)
        self._group = QButtonGroup(self)
        self.buttons: dict[str, QToolButton] = {}
        for name, (text, colour, tip) in TOOLS.items():
            button = _button(text, tip)
            button.setIcon(_icon(name, colour))
            button.setIconSize(QSize(20, 20))
            button.clicked.connect(lambda _checked, tool=name: self.used.emit(tool))
            self._group.addButton(button)
            self.buttons[name] = button
            row.addWidget(button)

    def show_tool(self, name: str | None) -> None:
        """Press the button of the tool in use, or none."""
        self._group.setExclusive(False)
        for tool, button in self.buttons.items():
            button.setChecked(tool == name)
        self._group.setExclusive(name is not None)


class MaskRow(QWidget):
    """The masks as small pictures with their predicted IoU; the chosen one is down."""

    picked = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(4)
        self.buttons: list[QToolButton] = []
        for index in range(3):
            button = _button("", f"Choose this mask (Ctrl+{index + 1}).")
            button.setIconSize(QSize(SIDE, SIDE))
            button.setMinimumSize(SIDE + 8, SIDE + 30)
            button.clicked.connect(lambda _checked, i=index: self.picked.emit(i))
            self.buttons.append(button)
            row.addWidget(button)
        self.show_masks([], [], 0)

    def show_masks(self, pictures: Sequence[NDArray[np.uint8]], iou: Sequence[float], chosen: int) -> None:
        """Show what there is; the other buttons stay, empty, so that nothing jumps."""
        for index, button in enumerate(self.buttons):
            here = index < len(pictures)
            button.setEnabled(here)
            button.setIcon(QIcon(_pixmap(pictures[index])) if here else QIcon())
            text = f"{index + 1}"
            if here:  # the model only predicts it, and may predict more than there can be
                text += f"  ·  IoU {min(max(iou[index], 0), 1):.2f}"
            button.setText(text)
            button.setChecked(here and index == chosen)

    def choose(self, chosen: int) -> None:
        """Press another button."""
        for index, button in enumerate(self.buttons):
            button.setChecked(index == chosen and button.isEnabled())


class StatusRow(QWidget):
    """One line of text; while there is work, its progress and a button to cancel it as well."""

    cancelled = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.text = QLabel()
        self.text.setWordWrap(True)
        self.text.setMinimumHeight(2 * self.text.fontMetrics().lineSpacing() + 4)  # two lines, always
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(6)
        self.cancel = QPushButton("Cancel")
        self.cancel.setToolTip("Stop the work under way.")
        self.cancel.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.cancel.clicked.connect(self.cancelled)
        row = QHBoxLayout()
        row.addWidget(self.text, 1)
        row.addWidget(self.cancel)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addLayout(row)
        column.addWidget(self.bar)
        policy = self.bar.sizePolicy()
        policy.setRetainSizeWhenHidden(True)  # its room stays, so that nothing jumps
        self.bar.setSizePolicy(policy)

    def show_status(self, text: str, busy: bool, done: int, total: int) -> None:
        """Show a line, and progress while busy; a total of 0 means that nobody knows how long."""
        self.text.setText(text)
        self.bar.setVisible(busy)
        self.cancel.setVisible(busy)
        self.bar.setRange(0, total)
        self.bar.setValue(done)


class RestoreRow(QWidget):
    """A question about work that was left behind, with two buttons; hidden while there is none."""

    accepted = Signal()
    refused = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.text = QLabel()
        self.text.setWordWrap(True)
        self.yes, self.no = QPushButton("Restore"), QPushButton("Discard")
        self.yes.setToolTip("Put objects, prompts and settings back as they were.")
        self.no.setToolTip("Delete what was saved of them, for good.")
        self.yes.clicked.connect(self.accepted)
        self.no.clicked.connect(self.refused)
        row = QHBoxLayout()
        for button in (self.yes, self.no):
            button.setFocusPolicy(Qt.FocusPolicy.NoFocus)
            row.addWidget(button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(self.text)
        column.addLayout(row)
        self.hide()

    def ask(self, text: str) -> None:
        """Show the question."""
        self.text.setText(text)
        self.show()


class Fold(QWidget):
    """A heading that opens and closes what is below it.

    Parameters
    ----------
    title : str
        The heading.
    content : QWidget or QLayout
        What is below it.
    opened : bool
        Whether it is open at first.
    grows : bool
        Whether it takes up what room there is while it is open.
    """

    opening = Signal()

    def __init__(
        self, title: str, content: QWidget | QLayout, opened: bool = False, grows: bool = False
    ) -> None:
        super().__init__()
        self._grows = grows
        self._content = content if isinstance(content, QWidget) else QWidget()
        if isinstance(content, QLayout):
            self._content.setLayout(content)
        self._heading = QToolButton()
        self._heading.setText(title)
        self._heading.setToolTip(f"Show or hide: {title}.")
        self._heading.setCheckable(True)
        self._heading.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._heading.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self._heading.setStyleSheet("QToolButton { border: none; background: transparent; padding: 0; }")
        self._heading.toggled.connect(self.open)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(self._heading)
        column.addWidget(self._content)
        self._heading.setChecked(opened)
        self.open(opened)

    def open(self, opened: bool) -> None:
        """Show or hide the content."""
        self._heading.setArrowType(Qt.ArrowType.DownArrow if opened else Qt.ArrowType.RightArrow)
        self._content.setVisible(opened)
        self._heading.setChecked(opened)
        growing = QSizePolicy.Policy.Expanding if opened and self._grows else QSizePolicy.Policy.Maximum
        self.setSizePolicy(QSizePolicy.Policy.Preferred, growing)
        if opened:
            self.opening.emit()


def one_at_a_time(folds: Sequence[Fold]) -> None:
    """Let a fold close the others when it is opened: there is room for one."""
    for fold in folds:
        others = [other for other in folds if other is not fold]
        fold.opening.connect(lambda others=others: [other.open(False) for other in others])


class Scroll(QScrollArea):
    """As high as its content where there is room; else the content scrolls up and down."""

    def __init__(self, content: QWidget) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Maximum)
        self.setWidget(content)

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """The content's, and room for the scroll bar; wide enough for sentences below it."""
        content = self.widget().sizeHint()
        bar = self.verticalScrollBar().sizeHint().width()
        # Sentences are the higher, the narrower they are; before it is shown it has no width of its own.
        wrapped = self.widget().heightForWidth(self.viewport().width()) if self.isVisible() else 0
        return QSize(max(content.width() + bar, WIDTH), max(content.height(), wrapped) + FRAME)

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 - Qt's name
        """Ask for the height that the content has at this width."""
        super().resizeEvent(event)
        if event.size().width() != event.oldSize().width():
            self.updateGeometry()

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Never too narrow, as there is no bar to scroll sideways."""
        bar = self.verticalScrollBar().sizeHint().width()
        return QSize(self.widget().minimumSizeHint().width() + bar, 100)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 - Qt's name
        """Take up more or less room when the content grows or shrinks, as it does when it gets its style."""
        if event.type() in (QEvent.Type.LayoutRequest, QEvent.Type.StyleChange, QEvent.Type.Polish):
            self.updateGeometry()
        return bool(super().eventFilter(watched, event))

    def showEvent(self, event: QEvent) -> None:  # noqa: N802 - Qt's name
        """Ask for the room that the content takes up now that it has its style."""
        super().showEvent(event)
        self.widget().layout().invalidate()
        self.updateGeometry()


def form(*rows: tuple[str, QWidget]) -> QFormLayout:
    """Make a form without margins, of labels and what they belong to."""
    layout = QFormLayout()
    layout.setContentsMargins(0, 0, 0, 0)
    for label, widget in rows:
        layout.addRow(label, widget)
    return layout


def column(*parts: QWidget | QLayout) -> QVBoxLayout:
    """Stack parts without margins; room that is left goes below them."""
    layout = QVBoxLayout()
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(8)
    for part in parts:
        if isinstance(part, QWidget):
            layout.addWidget(part)
        else:
            layout.addLayout(part)
    layout.addStretch(1)
    return layout


def key_list(keys: Iterable[tuple[str, str]]) -> QLabel:
    """Make a table of keys and what they do."""
    rows = "".join(
        f"<tr><td style='padding-right: 10px'><b>{escape(key)}</b></td><td>{escape(text)}</td></tr>"
        for key, text in keys
    )
    label = QLabel(f"<table cellspacing='1'>{rows}</table>")
    label.setTextFormat(Qt.TextFormat.RichText)
    return label


def _pixmap(picture: NDArray[np.uint8]) -> QPixmap:
    height, width = picture.shape[:2]
    data = np.ascontiguousarray(picture)
    return QPixmap.fromImage(QImage(data.data, width, height, 3 * width, QImage.Format.Format_RGB888).copy())


def _icon(tool: str, colour: str) -> QIcon:
    pixmap = QPixmap(40, 40)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(QPen(QColor(colour), 4))
    if tool == FOREGROUND:
        painter.setBrush(QColor(colour))
        painter.drawEllipse(QRectF(9, 9, 22, 22))
    elif tool == BACKGROUND:
        painter.setPen(QPen(QColor(colour), 6))
        painter.drawLine(QPointF(10, 10), QPointF(30, 30))
        painter.drawLine(QPointF(30, 10), QPointF(10, 30))
    elif tool == "add_rectangle":
        painter.drawRect(QRectF(6, 9, 28, 22))
    else:
        corners = [(6, 22), (12, 9), (24, 6), (34, 15), (31, 29), (18, 34)]
        painter.drawPolygon(QPolygonF([QPointF(x, y) for x, y in corners]))
    painter.end()
    return QIcon(pixmap)
