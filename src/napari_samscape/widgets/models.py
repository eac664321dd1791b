"""The Models dock: which checkpoints there are, under which licence; download, verify and remove them."""

from __future__ import annotations

from functools import partial
from html import escape
from typing import Any

import napari.viewer
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
)

from napari_samscape.errors import InputError
from napari_samscape.model import registry
from napari_samscape.model.progress import Progress
from napari_samscape.widgets.controls import StatusRow
from napari_samscape.widgets.dock import Dock, tell

COLUMNS = ("Model", "Size", "Here")
LINK = "#5a8fe0"
"""Qt's own colour of links is dark blue, also on napari's dark theme."""
KILO = 1024
"""Progress is told in units of this: Qt's whole numbers end at 2 GB."""


class ModelsWidget(Dock):
    """Bring, check and remove the known models.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Filled in by napari.
    """

    # napari recognises the viewer's parameter by just this annotation.
    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__(viewer)
        self.table = QTableWidget(len(registry.KNOWN), len(COLUMNS))
        self.about, self.status = QLabel(), StatusRow()
        self.get = _button("Download", "Fetch the model from where it is published, and verify it.")
        self.verify = _button("Verify", "Read the file and compare its checksum with the published one.")
        self.remove = _button("Remove", "Delete the file; it can be downloaded again.")
        self._lay_out()
        self.get.clicked.connect(lambda: self._start("Downloading", self._download))
        self.verify.clicked.connect(lambda: self._start("Reading", self._verify))
        self.remove.clicked.connect(self._remove)
        self.status.cancelled.connect(self._jobs.cancel)
        self.table.itemSelectionChanged.connect(self._on_choice)
        self.table.selectRow(0)
        self._show("")

    def _lay_out(self) -> None:
        table = self.table
        table.setHorizontalHeaderLabels(COLUMNS)
        table.verticalHeader().hide()
        table.verticalHeader().setDefaultSectionSize(self.fontMetrics().height() + 4)
        table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        table.horizontalHeader().setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        table.setMinimumHeight(120)
        table.setToolTip("The published models, how large they are (in MB), and whether they are here.")
        self.about.setWordWrap(True)
        self.about.setOpenExternalLinks(True)
        self.about.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.about.setTextInteractionFlags(Qt.TextInteractionFlag.TextBrowserInteraction)
        row = QHBoxLayout()
        for button in (self.get, self.verify, self.remove):
            row.addWidget(button)
        column = QVBoxLayout(self)
        column.setSpacing(8)
        column.addWidget(table, 1)
        column.addWidget(self.about)
        column.addLayout(row)
        column.addWidget(self.status)

    @property
    def chosen(self) -> str:
        """Name of the model whose row is selected."""
        rows = self.table.selectionModel().selectedRows()
        return list(registry.KNOWN)[rows[0].row() if rows else 0]

    def _on_choice(self) -> None:
        model = registry.KNOWN[self.chosen]
        self.about.setText(
            f"<b>{escape(model.name)}</b>: {escape(model.about)}.<br>"
            f"Licence: <b>{escape(model.licence)}</b>, "
            f'<a style="color: {LINK}" href="{escape(model.source)}">where it comes from</a>.'
        )
        self._enable()

    # --- what is done ---

    def _start(self, text: str, work: Any) -> None:
        if not self._jobs.busy:
            name = self.chosen
            self._jobs.start(partial(work, name), self._show, self._on_failed, self._on_progress)
            self._show(f"{text} {name}…")

    def _download(self, name: str, progress: Progress) -> str:
        registry.download(name, progress=_in_kilobytes(progress))
        return f"'{name}' is here, and can be chosen in every dock."

    def _verify(self, name: str, progress: Progress) -> str:
        if registry.KNOWN[name].url is None:
            return f"'{name}' came with the package."
        if registry.verify(name, progress=_in_kilobytes(progress)):
            return f"'{name}' is exactly what was published."
        return f"'{name}' has not changed since it came; no checksum of it can be checked here."

    def _remove(self) -> None:
        try:
            registry.remove(self.chosen)
        except InputError as problem:
            tell(problem)
            return
        self._show(f"'{self.chosen}' was removed.")

    # --- showing ---

    def _on_failed(self, error: Exception | None) -> None:
        if error is None:
            self._show("Cancelled; the next download goes on from here.")
            return
        self._show(str(error))
        tell(error)

    def _on_progress(self, done: int, total: int, text: str) -> None:
        if text:
            size = f" of {total * KILO / 1e6:.0f}" if total else ""
            self.status.show_status(f"{text}: {done * KILO / 1e6:.0f}{size} MB", True, done, total)

    def _show(self, text: str) -> None:
        self.status.show_status(text, self._jobs.busy, 0, 0)
        for row, model in enumerate(registry.KNOWN.values()):
            path = registry.local_path(model.name)
            size = path.stat().st_size if path is not None else model.size_bytes
            here = "" if path is None else "with the package" if model.url is None else "yes"
            for column, cell in enumerate((model.name, f"{size / 1e6:.0f} MB" if size else "–", here)):
                item = QTableWidgetItem(cell)
                item.setToolTip(f"{model.about} ({model.licence})")
                self.table.setItem(row, column, item)
        self._enable()

    def _enable(self) -> None:
        model, busy = registry.KNOWN[self.chosen], self._jobs.busy
        here = registry.local_path(model.name) is not None
        self.get.setText(f"Download ({model.licence})" if model.url and not here else "Download")
        self.get.setEnabled(not busy and not here)
        self.verify.setEnabled(not busy and here)
        self.remove.setEnabled(not busy and here and model.url is not None)


def _in_kilobytes(progress: Progress) -> Progress:
    return lambda done, total, text: progress(done // KILO, total // KILO, text)


def _button(text: str, tip: str) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tip)
    button.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    return button
