"""What the Prompt dock looks like; what it does is in `prompt`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from napari.layers import Image, Labels, Layer, Points, Shapes
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QFormLayout, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from napari_samscape.widgets.canvas import role
from napari_samscape.widgets.choosers import LayerChooser, ModelChooser
from napari_samscape.widgets.controls import Fold, MaskRow, StatusRow, ToolRow, key_list
from napari_samscape.widgets.thumbnails import thumbnails

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_samscape.widgets.session import State

# Keys that no layer of napari uses: digits and most letters mean something in Points, Shapes or Labels.
# The names are those of the PromptWidget's methods; those without a text are listed with another key.
KEYS: dict[str, tuple[str, str]] = {
    "Q": ("toggle_kind", "object ⇄ background"),
    "G": ("toggle_box", "points ⇄ box"),
    "W": ("choose_next", "next mask"),
    "Control-1": ("choose_first", "choose a mask"),
    "Control-2": ("choose_second", ""),
    "Control-3": ("choose_third", ""),
    "N": ("commit", "commit the object"),
    "U": ("clear", "clear the prompts"),
    "Control-Z": ("undo", "undo a commit"),
}


class PromptPanel(QWidget):
    """Choosers, tools, masks, buttons; it renders a State and connects nothing.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Whose layers can be chosen.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._masks_shown: Any = None
        self.image = LayerChooser(viewer, lambda layer: isinstance(layer, Image))
        self.model = ModelChooser()
        self.labels = LayerChooser(viewer, _writable, "New layer")
        self.points = LayerChooser(viewer, _users(Points), "Made for you")
        self.shapes = LayerChooser(viewer, _users(Shapes), "Made for you")
        self.tools, self.masks, self.status = ToolRow(), MaskRow(), StatusRow()
        self.commit_button = QPushButton("Commit (N)")
        self.commit_button.setStyleSheet("font-weight: bold")
        self.clear_button = QPushButton("Clear prompts (U)")
        self.extend = QCheckBox("Extend the selected object")
        self.extend.setToolTip("Commit to the label that is selected in the Labels layer, not to a new one.")
        self.over = QCheckBox("Write over other objects")
        self.over.setToolTip("Take pixels over from objects that are there already; else they keep them.")
        for button in (self.commit_button, self.clear_button, self.extend, self.over):
            button.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # the keys work where the focus is: on the canvas
        self._lay_out()

    def _lay_out(self) -> None:
        where, layers = _form(), _form()
        where.addRow("Image", self.image)
        where.addRow("Model", self.model)
        where.addRow("Objects in", self.labels)
        layers.addRow("Points", self.points)
        layers.addRow("Shapes", self.shapes)
        buttons = QHBoxLayout()
        buttons.addWidget(self.commit_button, 3)
        buttons.addWidget(self.clear_button, 2)
        column = QVBoxLayout(self)
        column.setSpacing(8)
        column.addLayout(where)
        column.addWidget(self.tools)
        column.addWidget(self.status)
        column.addWidget(self.masks)
        column.addLayout(buttons)
        column.addWidget(self.extend)
        column.addWidget(self.over)
        column.addWidget(Fold("Keys", key_list(_key_rows()), opened=True))
        column.addWidget(Fold("Prompt layers", layers))
        column.addStretch(1)

    def render_state(self, state: State) -> None:
        """Show a session's state."""
        self.status.show_status(state.text, state.phase == "working", state.done, state.total)
        self.commit_button.setEnabled(state.masks is not None)
        if state.masks is self._masks_shown:
            self.masks.choose(state.chosen)
            return
        self._masks_shown = state.masks
        if state.masks is None:
            self.masks.show_masks([], [], 0)
        else:
            pictures = thumbnails(state.picture, state.masks.masks)
            self.masks.show_masks(pictures, list(state.masks.iou), state.chosen)

    def show_target(self) -> None:
        """Say on the button where the next commit goes."""
        labels = self.labels.layer
        extends = self.extend.isChecked() and labels is not None
        self.commit_button.setText(f"Extend object {labels.selected_label} (N)" if extends else "Commit (N)")


def _users(kind: type[Layer]) -> Callable[[Layer], bool]:
    """Layers of a kind that were not made by the dock itself."""
    return lambda layer: isinstance(layer, kind) and role(layer) is None


def _writable(layer: Layer) -> bool:
    """Labels that objects can go to: napari itself cannot write into a pyramid."""
    return _users(Labels)(layer) and not layer.multiscale


def _form() -> QFormLayout:
    form = QFormLayout()
    form.setContentsMargins(0, 0, 0, 0)
    return form


def _key_rows() -> list[tuple[str, str]]:
    shown = {"Control-1": "Ctrl+1 2 3", "Control-Z": "Ctrl+Z"}
    return [(shown.get(key, key), text) for key, (_, text) in KEYS.items() if text]
