"""The Batch dock: many pictures in one go, in a process of its own, with a list of what was ordered."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import napari.viewer
from napari.utils.notifications import show_info
from qtpy.QtCore import Qt, QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QLineEdit,
    QPlainTextEdit,
    QProgressBar,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_samscape.errors import InputError
from napari_samscape.prediction.detectors import detector_names
from napari_samscape.widgets import jobs
from napari_samscape.widgets.attended import Attended
from napari_samscape.widgets.choosers import ModelChooser
from napari_samscape.widgets.controls import Fold, form
from napari_samscape.widgets.dock import Dock, tell
from napari_samscape.widgets.fields import tip
from napari_samscape.widgets.jobs import Batch, shown_time

ENDINGS = (".ome.zarr", ".tif", ".png")
COLUMNS = ("Batch", "Progress", "Left")


class BatchWidget(Dock):
    """Order batches, and see how far they are.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Filled in by napari.
    """

    # napari recognises the viewer's parameter by just this annotation.
    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__(viewer)
        self.batches: list[Batch] = jobs.saved()
        self._worker: Attended | None = None
        self._current: Batch | None = None
        self._ends: list[Attended] = []  # what is to end with the window
        self._build()
        self._lay_out()
        self._save_soon = self._timer(500, lambda: jobs.save(self.batches))
        self.add_button.clicked.connect(self.add)
        self.go_button.clicked.connect(self.stop_or_go_on)
        self.remove_button.clicked.connect(self.remove)
        self.folder_button.clicked.connect(self._open_folder)
        self.table.itemSelectionChanged.connect(self._show_choice)
        self.destroyed.connect(_ender(self._ends))
        self._show()

    def _build(self) -> None:
        self.source, self.folder = QLineEdit(), QLineEdit()
        self.source.setPlaceholderText("folder, pattern or list")
        self.source.setToolTip(
            tip(
                "A folder, a pattern such as plate/**/*.tif, an OME-Zarr plate, or a .txt or .csv with a "
                "path on each line."
            )
        )
        self.folder.setPlaceholderText("folder for labels and tables")
        self.folder.setToolTip(tip("Labels, a table for each picture, and one table of all objects go here."))
        self.model, self.what, self.ending = ModelChooser(), QComboBox(), QComboBox()
        for text, mode, detector in _modes():
            self.what.addItem(text, (mode, detector))
        self.what.setToolTip(tip("What is done with each picture."))
        self.ending.addItems(ENDINGS)
        self.ending.setToolTip(tip("OME-Zarr for pictures of any size; TIFF and PNG are written whole."))
        self.link = QCheckBox("Link objects through stacks")
        self.link.setToolTip(tip("One id in all slices of a volume, or frames of a series."))
        self.add_button = QPushButton("Add and run")
        self.add_button.setToolTip(tip("Put the batch on the list; it runs when those before it are done."))
        self.add_button.setStyleSheet("font-weight: bold")
        self.add_button.setMinimumHeight(30)
        self.table = QTableWidget(0, len(COLUMNS))
        self.table.setHorizontalHeaderLabels(COLUMNS)
        self.table.verticalHeader().hide()
        self.table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        self.table.horizontalHeader().setSectionResizeMode(2, QHeaderView.ResizeMode.ResizeToContents)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setMinimumHeight(110)
        self.table.setToolTip(tip("Batches, how many pictures are done, and the time that is left."))
        self.go_button = QPushButton("Cancel")
        self.go_button.setToolTip(tip("Stop the batch at once, or let it go on where it was."))
        self.remove_button, self.folder_button = QPushButton("Remove"), QPushButton("Open folder")
        self.remove_button.setToolTip(tip("Take the batch off this list; its files stay."))
        self.folder_button.setToolTip(tip("Show the folder with the labels and tables."))
        self.text = QLabel()
        self.text.setWordWrap(True)
        self.log = QPlainTextEdit()
        self.log.setReadOnly(True)
        self.log.setToolTip(tip("All that was said of the batch, and which pictures failed."))
        self.log.setMinimumHeight(90)
        for button in (self.add_button, self.go_button, self.remove_button, self.folder_button, self.link):
            button.setFocusPolicy(Qt.FocusPolicy.NoFocus)

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        column.setSpacing(8)
        column.addLayout(
            form(
                ("Pictures", _with_browser(self.source)),
                ("Into", _with_browser(self.folder)),
                ("Model", self.model),
                ("Find", self.what),
                ("Save as", self.ending),
            )
        )
        column.addWidget(self.link)
        column.addWidget(self.add_button)
        column.addWidget(self.table, 2)
        column.addWidget(self.text)
        row = QHBoxLayout()
        for button in (self.go_button, self.remove_button, self.folder_button):
            row.addWidget(button)
        column.addLayout(row)
        column.addWidget(Fold("Log", self.log, grows=True), 1)

    # --- what the user does ---

    def add(self) -> None:
        """Add what is set to the list; it is done when those before it are."""
        try:
            order = self._order()
        except InputError as problem:
            tell(problem)
            return
        self.batches.append(Batch(order))
        self._next()
        self._show()
        self.table.selectRow(len(self.batches) - 1)

    def _order(self) -> dict[str, Any]:
        source, folder = self.source.text().strip(), self.folder.text().strip()
        if not source or not folder:
            raise InputError("Say which pictures, and into which folder.")
        if not Path(folder).parent.is_dir():
            raise InputError(f"The folder {Path(folder).parent} does not exist.")
        busy = [batch for batch in self.batches if batch.stage in ("running", "waiting")]
        if any(batch.order["folder"] == folder for batch in busy):
            raise InputError(f"There is a batch into {folder} in the list already; choose another folder.")
        mode, detector = self.what.currentData()
        link: dict[str, Any] | None = {} if self.link.isChecked() else None
        settings = {"model": self.model.currentData(), "mode": mode, "detector": detector, "link": link}
        ending = self.ending.currentText()
        return {
            "source": source,
            "folder": folder,
            "settings": settings,
            "ending": ending,
            "table": "objects.csv",
        }

    def stop_or_go_on(self) -> None:
        """Stop the batch that is selected, or let it go on where it was."""
        batch = self.chosen
        if batch is None:
            return
        if batch is self._current:
            self._end("stopped", "cancelled; Resume goes on from here")
        elif batch.stage == "waiting":
            batch.stop("stopped", "cancelled")
        else:
            batch.stage, batch.text = "waiting", "waiting"
        self._next()
        self._show()

    def remove(self) -> None:
        """Take the batch that is selected off the list; one that is running is stopped."""
        batch = self.chosen
        if batch is not None:
            if batch is self._current:
                self._end("stopped", "cancelled")
            self.batches.remove(batch)
            self._next()
            self._show()

    @property
    def chosen(self) -> Batch | None:
        """The batch whose row is selected."""
        rows = self.table.selectionModel().selectedRows()
        row = rows[0].row() if rows else -1
        return self.batches[row] if 0 <= row < len(self.batches) else None

    def _open_folder(self) -> None:
        if self.chosen is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(self.chosen.order["folder"]))

    # --- the process ---

    def _next(self) -> None:
        """Begin the next batch, if none is running."""
        waiting = [batch for batch in self.batches if batch.stage == "waiting"]
        if self._current is not None or not waiting:
            return
        self._current = waiting[0]
        self._current.start()
        self._worker = Attended(self._current.order)
        self._ends[:] = [self._worker]
        self._worker.said.connect(self._on_said)
        self._worker.ended.connect(self._on_ended)

    def _on_said(self, what: dict[str, Any]) -> None:
        batch = self._current
        if batch is None:
            return
        if "progress" in what:
            done, total, text = what["progress"]
            batch.report(done, total, text, now=time.monotonic())
        elif "result" in what:
            batch.finish(what["result"])
            show_info(f"{batch.name}: {batch.text}.")
        else:
            batch.stop("failed", what["error"])
            tell(InputError(what["error"]))
        self._show_progress()

    def _on_ended(self, worker: Attended) -> None:
        if worker is not self._worker:
            return  # one that was cancelled
        batch = self._current
        if batch is not None and batch.stage == "running":
            batch.stop("failed", "its process ended, perhaps because memory ran out; Resume goes on")
        self._current = self._worker = None
        self._ends.clear()
        self._next()
        self._show()

    def _end(self, stage: jobs.Stage, text: str) -> None:
        worker, batch = self._worker, self._current
        self._worker = self._current = None
        self._ends.clear()
        if worker is not None:
            worker.end()
        if batch is not None:
            batch.stop(stage, text)

    def close_session(self) -> None:
        """Stop what is running; the list is kept, and goes on when somebody says so."""
        if self._current is not None:
            self._end("stopped", "stopped when the dock was closed; Resume goes on")
            jobs.save(self.batches)
        super().close_session()

    # --- showing ---

    def _show(self) -> None:
        row = self.batches.index(self.chosen) if self.chosen in self.batches else len(self.batches) - 1
        self.table.setRowCount(len(self.batches))
        for index, batch in enumerate(self.batches):
            item = QTableWidgetItem(batch.name)
            item.setToolTip(f"{batch.order['source']} → {batch.order['folder']}")
            self.table.setItem(index, 0, item)
            self.table.setItem(index, 2, QTableWidgetItem(""))
            bar = QProgressBar()
            bar.setAlignment(Qt.AlignmentFlag.AlignCenter)
            self.table.setCellWidget(index, 1, bar)
        if self.batches:
            self.table.selectRow(max(row, 0))
        self._show_progress()
        self._save_soon.start()

    def _show_progress(self) -> None:
        now = time.monotonic()
        for index, batch in enumerate(self.batches):
            bar = self.table.cellWidget(index, 1)
            bar.setRange(0, batch.total if batch.stage != "running" else batch.total or 0)
            bar.setValue(batch.done)
            bar.setFormat("%p%" if batch.stage == "running" else batch.stage)
            if batch.stage != "running" and not batch.total:
                bar.setRange(0, 1)
            bar.setToolTip(batch.text)
            self.table.item(index, 2).setText(shown_time(batch.seconds_left(now)))
        self._show_choice()

    def _show_choice(self) -> None:
        batch = self.chosen
        for button in (self.go_button, self.remove_button, self.folder_button):
            button.setEnabled(batch is not None)
        self.text.setText("" if batch is None else batch.text)
        if batch is None:
            return
        busy = batch.stage in ("running", "waiting")
        self.go_button.setText("Cancel" if busy else "Run again" if batch.stage == "done" else "Resume")
        self.go_button.setToolTip(
            tip("What is finished is kept, and is not done again." if busy else "Go on where it was.")
        )
        text = "\n".join(batch.log)
        if self.log.toPlainText() != text:
            self.log.setPlainText(text)
            self.log.verticalScrollBar().setValue(self.log.verticalScrollBar().maximum())


def _modes() -> list[tuple[str, str, str | None]]:
    """What can be looked for: text, mode, detector."""
    boxes = [(f"Objects in boxes of '{name}'", "boxes", name) for name in detector_names()]
    return [("Everything", "everything", None), *boxes, ("Edges", "edges", None)]


def _with_browser(edit: QLineEdit) -> QWidget:
    """Put a button beside a line that lets the user choose a folder."""
    button = QPushButton("…")
    button.setToolTip(tip("Choose a folder."))
    button.setMaximumWidth(30)
    button.setFocusPolicy(Qt.FocusPolicy.NoFocus)

    def browse() -> None:
        if path := QFileDialog.getExistingDirectory(edit, "Choose a folder", edit.text()):
            edit.setText(path)

    button.clicked.connect(browse)
    row = QWidget()
    layout = QHBoxLayout(row)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(4)
    layout.addWidget(edit)
    layout.addWidget(button)
    return row


def _ender(workers: list[Attended]) -> Any:
    """Make a function that ends processes, and needs no Qt object that may be gone."""

    def end(*_: object) -> None:
        for worker in workers:
            worker.end()

    return end
