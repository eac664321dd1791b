"""The Project dock: picture after picture is labelled, and the model learns from them on the way."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import napari.viewer
from napari.layers import Image, Labels
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QPushButton, QVBoxLayout

from napari_samscape.errors import InputError
from napari_samscape.widgets.assistant import Assistant, Next, ProcessAssistant
from napari_samscape.widgets.controls import StatusRow
from napari_samscape.widgets.dock import Dock, tell
from napari_samscape.widgets.fields import tip

if TYPE_CHECKING:
    from pathlib import Path

    from napari_samscape.annotation.project import Entry, Project
    from napari_samscape.model.progress import Progress

TOLD = "Begin a project over a folder of pictures, or open one."
FOLDERS = {
    "pictures": "The pictures, or an OME-Zarr plate",
    "new": "An empty folder for the project",
    "open": "A project's folder",
}


class ProjectWidget(Dock):
    """Go through the pictures of an annotation project."""

    # napari recognises the viewer's parameter by just this annotation.
    def __init__(
        self, viewer: napari.viewer.Viewer, assistant: Callable[[], Assistant] = ProcessAssistant
    ) -> None:
        super().__init__(viewer)
        self._assistant = self._engines.take(assistant())
        self.project: Project | None = None
        self._shown: tuple[Entry, Image, Labels] | None = None
        self.new_button = _button("New…", "Begin a project over a folder of pictures.")
        self.open_button = _button("Open…", "Go on with a project.")
        self.next_button = _button(
            "Next picture", "The one the model is least sure of, with what it is sure of filled in."
        )
        self.accept_button = _button(
            "Accept",
            "Take the Labels as all objects of this picture, go to the next; now and then the model learns.",
        )
        self.status = StatusRow()
        layout = QVBoxLayout(self)
        for pair in ((self.new_button, self.open_button), (self.next_button, self.accept_button)):
            row = QHBoxLayout()
            for button in pair:
                row.addWidget(button)
            layout.addLayout(row)
        layout.addWidget(self.status)
        layout.addStretch(1)
        self.new_button.clicked.connect(self.begin)
        self.open_button.clicked.connect(self.go_on)
        self.next_button.clicked.connect(self.show_next)
        self.accept_button.clicked.connect(self.accept)
        self.status.cancelled.connect(self._jobs.cancel)
        self._show(TOLD)

    def begin(self) -> None:
        """Ask for two folders and make a project."""
        if (source := self._folder("pictures")) and (folder := self._folder("new")):
            from napari_samscape.annotation.project import Project

            self._enter(lambda: Project.create(folder, source))

    def go_on(self) -> None:
        """Ask for a folder and open the project in it."""
        if folder := self._folder("open"):
            from napari_samscape.annotation.project import Project

            self._enter(lambda: Project.open(folder))

    def show_next(self) -> None:
        """Look for the next picture, off the GUI thread."""
        if self.project is None or self._jobs.busy:
            return
        work = partial(_next, self._assistant, self.project.folder)
        self._jobs.start(work, self._on_next, self._on_failed, self._show)
        self._show("Looking for the next picture…")

    def accept(self) -> None:
        """Take what the Labels layer holds."""
        if self._shown is None or self._jobs.busy or self.project is None:
            return
        entry, _, labels = self._shown
        if labels not in self.viewer.layers:
            self._say(InputError(f"The Labels of '{entry.name}' were removed; press Next picture."))
            return
        from napari_samscape.annotation.loop import accept_labels, train_in_background
        from napari_samscape.annotation.project import Project

        try:
            accept_labels(self.project, entry.name, labels.data, getpass.getuser(), True)
            self.project = Project.open(self.project.folder)  # another process may have made a model
            train_in_background(self.project)
        except InputError as problem:
            self._say(problem)
            return
        self.show_next()

    def _enter(self, make: Callable[[], Project]) -> None:
        try:
            self.project = make()
        except InputError as problem:
            self._say(problem)
            return
        self.show_next()

    def _on_next(self, found: tuple[Project, Next] | None) -> None:
        for layer in self._shown[1:] if self._shown else ():
            if layer in self.viewer.layers:
                self.viewer.layers.remove(layer)
        self._shown = None
        if found is None:
            self._show("All pictures are done.")
            return
        self.project, (name, pixels, labels) = found
        image, drawn = Image(pixels, name=name), Labels(labels, name=f"{name} objects")
        self.viewer.add_layer(image)
        self.viewer.add_layer(drawn)
        self._shown = self.project.entry(name), image, drawn
        left, every = len(self.project.left()), len(self.project.state.pictures)
        told = f"{every - left} of {every} pictures done; model version {self.project.newest.number}."
        self._show(f"{told} Label all objects of '{name}', then Accept.")

    def _on_failed(self, error: Exception | None) -> None:
        if error is None:
            self._show("Cancelled.")
        else:
            self._say(error)

    def _say(self, error: Exception) -> None:
        self._show(str(error))
        tell(error)

    def _show(self, *said: Any) -> None:
        """Show a text, or progress: (done, total, text)."""
        *amounts, text = said
        busy = self._jobs.busy
        done, total = amounts or (0, 0)
        self.status.show_status(text, busy, done, total)
        for button in (self.new_button, self.open_button):
            button.setEnabled(not busy)
        self.next_button.setEnabled(not busy and self.project is not None)
        self.accept_button.setEnabled(not busy and self._shown is not None)

    def _folder(self, what: str) -> str:
        return str(QFileDialog.getExistingDirectory(self, FOLDERS[what]))


def _next(assistant: Assistant, folder: Path, progress: Progress) -> tuple[Project, Next] | None:
    """The next picture, and the project as it is by then: it may have a new model."""
    from napari_samscape.annotation.project import Project

    found = assistant.next(folder, progress)
    return None if found is None else (Project.open(folder), found)


def _button(text: str, about: str) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tip(about))
    button.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    return button
