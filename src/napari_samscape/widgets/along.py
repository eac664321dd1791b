"""Buttons to follow an object through a volume or through time, and the axis along which."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QPushButton, QWidget

from napari_samscape.widgets.fields import tip

BUTTONS = (
    ((-1,), "◀  (,)", "Follow the object towards lower planes, until it ends there; the key , does it too."),
    (
        (-1, 1),
        "Propagate",
        "Follow the object through the planes on both sides, until it ends there (Shift+G). What is found is "
        "shown; click to correct it on any plane, then accept or discard it.",
    ),
    ((1,), "▶  (.)", "Follow the object towards higher planes, until it ends there; the key . does it too."),
)


class PropagateRow(QWidget):
    """Hidden where there is no axis to go along; the choice of one is shown where there are several."""

    wanted = Signal(object)
    """Ways to go: a tuple of 1 and -1."""

    def __init__(self) -> None:
        super().__init__()
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(4)
        self.buttons: dict[tuple[int, ...], QPushButton] = {}
        for ways, text, about in BUTTONS:
            button = QPushButton(text)
            button.setToolTip(tip(about))
            button.setMinimumWidth(20)
            button.setFocusPolicy(Qt.FocusPolicy.NoFocus)
            button.clicked.connect(lambda _checked, ways=ways: self.wanted.emit(ways))
            row.addWidget(button, 2 if len(ways) > 1 else 1)
            self.buttons[ways] = button
        self.along = QComboBox()
        self.along.setToolTip(tip("The axis along which an object is followed; the other sliders stay."))
        self.along.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        row.addWidget(self.along)
        self.offer(())

    @property
    def axis(self) -> int | None:
        """The chosen axis of the image's data; None where there is none to go along."""
        axis = self.along.currentData()
        return None if axis is None else int(axis)

    def offer(self, axes: Sequence[tuple[int, str]]) -> None:
        """List axes of the data with their names; a choice that is still there stays, else it is the last."""
        chosen = self.along.currentText()
        self.along.clear()
        for axis, name in axes:
            self.along.addItem(f"along {name}", axis)
        index = self.along.findText(chosen)
        self.along.setCurrentIndex(index if index >= 0 else len(axes) - 1)
        self.along.setVisible(len(axes) > 1)
        self.setVisible(bool(axes))
