"""The Train dock: a model learns from an Image and the Labels drawn on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.layers import Labels
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QComboBox, QDoubleSpinBox, QLabel, QLayout, QLineEdit, QWidget

from napari_samscape.errors import InputError
from napari_samscape.widgets.autosave import data_folder
from napari_samscape.widgets.choosers import LayerChooser, ModelChooser, users
from napari_samscape.widgets.controls import form
from napari_samscape.widgets.dock import NO_IMAGE, tell
from napari_samscape.widgets.fields import tip
from napari_samscape.widgets.layers import Plane, Sight, data_shape, levels, plane_of, planes_like, read_plane
from napari_samscape.widgets.lesson import Learnt, Lesson
from napari_samscape.widgets.task import TaskDock

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_samscape.model.progress import Progress
    from napari_samscape.widgets.engine import Engine

METHODS = (
    ("decoder", "Decoder", "The encoder stays as it is: minutes on a laptop."),
    ("lora", "Decoder and attention", "Low-rank changes to the encoder's attention, too; for a GPU."),
    ("full", "Everything", "All weights; for a GPU, or for nano."),
)
Work = Callable[["Progress"], Learnt]


class TrainWidget(TaskDock):
    """Teach a model what the Labels show."""

    sees_views = False
    ready_text = "Run teaches the model what the labels show."

    def build(self) -> Sequence[QWidget | QLayout]:
        """Make the choosers of labels and method, and the place for the table."""
        about = "Objects to learn from; 65535 marks what is to be ignored."
        self.labels = LayerChooser(self.viewer, users(Labels), about=about)
        self.method = QComboBox()
        self.method.setToolTip(tip("Which of the model's weights change: the more, the longer it takes."))
        self.method.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        for number, (name, text, about) in enumerate(METHODS):
            self.method.addItem(text, name)
            self.method.setItemData(number, about, Qt.ItemDataRole.ToolTipRole)
        self.minutes = QDoubleSpinBox()
        self.minutes.setRange(0.1, 600)
        self.minutes.setValue(2.0)
        self.minutes.setSuffix(" min")
        self.minutes.setToolTip(
            tip("Time to learn, in minutes, at most; it ends earlier when nothing more is gained.")
        )
        self.complete = QCheckBox("All objects are labelled")
        self.complete.setChecked(True)
        self.complete.setToolTip(tip("Then all else is background; uncheck it where some are missing."))
        self.out = QLineEdit(str(_free_path()))
        self.out.setToolTip(tip("Where the new checkpoint goes; its model card is written beside it."))
        self.table = QLabel()
        self.table.setTextFormat(Qt.TextFormat.RichText)
        self.table.setWordWrap(True)
        self.table.hide()
        options = form(("Learns", self.method), ("Time", self.minutes), ("Save as", self.out))
        return self.where(("Labels", self.labels)), self.all_planes, self.complete, options, self.table

    def choosers(self) -> list[LayerChooser]:
        """Image and labels."""
        return [self.image, self.labels]

    def run(self) -> None:
        """Learn from the plane that the viewer shows, or from all that have labels."""
        if self._jobs.busy:
            return
        try:
            work = self._work()
        except InputError as problem:
            self._show(str(problem))
            tell(problem)
            return
        self.table.hide()
        self.begin("Reading the picture…", work, self._on_tuned)

    def _work(self) -> Work:
        image, labels = self.image.layer, self.labels.layer
        if image is None:
            raise InputError(NO_IMAGE)
        if labels is None:
            raise InputError("There is no Labels layer to learn from: draw objects, or commit some.")
        sizes = [tuple(data_shape(layer)) for layer in (labels, image)]
        if sizes[0] != sizes[1]:
            told = [" x ".join(map(str, size)) for size in sizes]
            raise InputError(
                f"The labels '{labels.name}' are {told[0]} pixels, but the image '{image.name}' is {told[1]}."
            )
        plane = plane_of(image, Sight.of(self.viewer.dims), full_resolution=True)
        every = image.ndim > 2 and self.all_planes.isChecked()
        planes = planes_like(image, plane) if every else [plane]
        arrays = levels(image)[:1], levels(labels)[:1]
        settings = {"method": self.method.currentData(), "minutes": self.minutes.value()}
        return partial(
            _learn,
            self._engine,
            planes,
            arrays,
            out=Path(self.out.text()).expanduser(),
            complete=self.complete.isChecked(),
            settings=settings,
        )

    def _on_tuned(self, learnt: Learnt) -> None:
        path = str(learnt.path)
        for chooser in self.window().findChildren(ModelChooser):
            chooser.offer(path)
        self.table.setText(_table(learnt.rows) if learnt.rows else "Too few objects to hold some out.")
        self.table.show()
        self.out.setText(str(_free_path()))
        self._show(f"The model is in {path}; choose it as Model in any dock.")


def _learn(  # noqa: PLR0913  (what the dock was set to)
    engine: Engine,
    planes: Sequence[Plane],
    arrays: tuple[Sequence[Any], Sequence[Any]],
    progress: Progress,
    *,
    out: Path,
    complete: bool,
    settings: dict[str, Any],
) -> Learnt:
    """Read, and have the model learn and write; this runs off the GUI thread."""
    pictures = []
    for number, plane in enumerate(planes):
        progress(number, len(planes), "Reading the pictures…")
        ids: NDArray[Any] = read_plane(arrays[1], plane)
        if ids.any():
            pictures.append((f"plane {number + 1}", read_plane(arrays[0], plane), ids))
    if out.parent == _folder():
        out.parent.mkdir(parents=True, exist_ok=True)
    return engine.tune(Lesson(pictures, complete, out, settings), progress)


def _folder() -> Path:
    return data_folder() / "models"


def _free_path() -> Path:
    """A name in the user's own folder that is not taken."""
    numbers = range(1, 10_000)
    return next(p for n in numbers if not (p := _folder() / f"mine_{n}.safetensors").exists())


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Before and after, for people."""
    kinds = ["th", *["td"] * (len(rows) - 1)]
    lines = [
        "".join(f"<{kind} style='padding: 2px 6px'>{cell}</{kind}>" for cell in row)
        for kind, row in zip(kinds, rows, strict=True)
    ]
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"
