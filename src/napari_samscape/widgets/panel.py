"""What the Prompt dock looks like; what it does is in `prompt`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.layers import Image, Points, Shapes
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QPushButton, QVBoxLayout

from napari_samscape.widgets.along import PropagateRow
from napari_samscape.widgets.choosers import LayerChooser, ModelChooser, users, writable
from napari_samscape.widgets.controls import (
    Fold,
    MaskRow,
    RestoreRow,
    StatusRow,
    ToolRow,
    form,
    key_list,
    one_at_a_time,
)
from napari_samscape.widgets.dock import Dock
from napari_samscape.widgets.fields import tip
from napari_samscape.widgets.object_table import ObjectTable
from napari_samscape.widgets.thumbnails import thumbnails

if TYPE_CHECKING:
    from napari.viewer import Viewer

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
    "Shift-G": ("propagate_both", "propagate both ways; stop"),
    ",": ("propagate_down", "propagate to lower planes"),
    ".": ("propagate_up", "propagate to higher planes"),
    "H": ("edit", "edit the selected object"),
    "J": ("next_uncertain", "next uncertain object"),
    "K": ("previous_uncertain", "the one before"),
    "U": ("clear", "clear the prompts"),
    "Control-Z": ("undo", "undo"),
    "Control-Shift-Z": ("redo", "do it again"),
}


class PromptPanel(Dock):
    """Choosers, tools, masks, buttons; it renders a State and connects nothing.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Whose layers can be chosen.
    """

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(viewer)
        self._masks_shown: Any = None
        self.image = LayerChooser(self.viewer, users(Image), about="The image with the objects.")
        self.model = ModelChooser()
        self.labels = LayerChooser(
            self.viewer, writable, "New layer", "The Labels layer that a commit writes the object into."
        )
        self.points = LayerChooser(
            self.viewer, users(Points), "Made for you", "Points that are prompts: a layer of yours, or ours."
        )
        self.shapes = LayerChooser(
            self.viewer, users(Shapes), "Made for you", "Shapes that are prompts: a layer of yours, or ours."
        )
        self.tools, self.masks, self.status = ToolRow(), MaskRow(), StatusRow()
        self.propagate = PropagateRow()
        self.objects, self.restore = ObjectTable(), RestoreRow()
        self.commit_button = QPushButton("Commit (N)")
        self.commit_button.setStyleSheet("font-weight: bold")
        self.commit_button.setToolTip(tip("Write what is shown into the Labels layer, as one object."))
        self.clear_button = QPushButton("Clear prompts (U)")
        self.clear_button.setToolTip(
            tip("Remove the prompts on this plane; or, after Propagate, what was found on other planes.")
        )
        self.extend = QCheckBox("Extend the selected object")
        self.extend.setToolTip("Commit to the label that is selected in the Labels layer, not to a new one.")
        self.over = QCheckBox("Write over other objects")
        self.over.setToolTip("Take pixels over from objects that are there already; else they keep them.")
        self.preview = QCheckBox("Preview under the cursor")
        self.preview.setToolTip(
            "Show what a click would give: before the first prompt the object under the cursor, "
            "later, with Shift held down, what a background point would take away."
        )
        self.preview.setChecked(True)
        for button in (self.commit_button, self.clear_button, self.preview, self.extend, self.over):
            button.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # the keys work where the focus is: on the canvas
        self._lay_out()

    def _lay_out(self) -> None:
        where = form(("Image", self.image), ("Model", self.model), ("Objects in", self.labels))
        layers = form(("Points", self.points), ("Shapes", self.shapes))
        buttons = QHBoxLayout()
        buttons.addWidget(self.commit_button, 3)
        buttons.addWidget(self.clear_button, 2)
        column = QVBoxLayout(self)
        column.setSpacing(8)
        column.addWidget(self.restore)
        column.addLayout(where)
        column.addWidget(self.tools)
        column.addWidget(self.status)
        column.addWidget(self.masks)
        column.addLayout(buttons)
        column.addWidget(self.propagate)
        column.addWidget(self.preview)
        column.addWidget(self.extend)
        column.addWidget(self.over)
        folds = [
            Fold("Objects", self.objects, opened=True, grows=True),
            Fold("Keys", key_list(_key_rows())),
            Fold("Prompt layers", layers),
        ]
        one_at_a_time(folds)
        for fold in folds:
            column.addWidget(fold, 100 if fold is folds[0] else 0)
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

    def render_propagation(self, text: str, busy: bool, progress: tuple[int, int], planes: int) -> None:
        """Show how far an object has been followed, and on how many planes it was found."""
        self.status.show_status(text, busy, *progress)
        self.status.cancel.setText("Stop")
        if self._masks_shown is not None:
            self._masks_shown = None
            self.masks.show_masks([], [], 0)
        self.commit_button.setEnabled(planes > 0)
        self.commit_button.setText(f"Accept {planes} plane{'s' * (planes != 1)} (N)")
        self.clear_button.setText("Discard (U)")

    def show_target(self, editing: int | None = None) -> None:
        """Say on the button where the next commit goes."""
        labels = self.labels.layer
        text = "Commit (N)"
        if editing is not None:
            text = f"Replace object {editing} (N)"
        elif self.extend.isChecked() and labels is not None:
            text = f"Extend object {labels.selected_label} (N)"
        self.commit_button.setText(text)
        self.clear_button.setText("Clear prompts (U)")
        self.status.cancel.setText("Cancel")


def _key_rows() -> list[tuple[str, str]]:
    shown = {"Control-1": "Ctrl+1 2 3"}
    keys = {key: key.replace("Control", "Ctrl").replace("-", "+") for key in KEYS} | shown
    rows = [(keys[key], text) for key, (_, text) in KEYS.items() if text]
    return [
        *rows,
        ("Shift+click", "background, whatever the tool"),
        ("Shift+wheel", "next mask, mask before"),
    ]
