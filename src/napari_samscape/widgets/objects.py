"""What the docks that find objects share: the Labels layer, its table, and what is written over what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from napari.layers import Labels
from numpy.typing import NDArray
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox

from napari_samscape.errors import InputError
from napari_samscape.widgets.choosers import LayerChooser, writable
from napari_samscape.widgets.dock import tell
from napari_samscape.widgets.features import Table, add_rows, chosen_rows, joined, object_table
from napari_samscape.widgets.fields import tip
from napari_samscape.widgets.labels import Found, FreeIds, new_labels, write_objects
from napari_samscape.widgets.task import Task, TaskDock

if TYPE_CHECKING:
    from napari_samscape.prediction.types import Instances


class Answer(NamedTuple):
    """The objects of one plane, and the same painted as labels (y, x), the first one's id being 1."""

    instances: Instances
    painted: NDArray[Any]


class Written(NamedTuple):
    """Where objects have gone, the first one's id, and how many of them have no pixel there."""

    labels: Labels
    first: int
    hidden: int


def painted(instances: Instances) -> Answer:
    """Paint objects; the smaller lie on top, so that a part is seen on its whole."""
    from napari_samscape.prediction.instances import labels_from_instances

    return Answer(instances, labels_from_instances(instances))


class ObjectsDock(TaskDock):
    """A dock whose result are objects in a Labels layer."""

    name = "objects"
    keeps_hidden = False
    """Whether objects without a pixel in the layer have a row in its table all the same."""

    def build_target(self) -> None:
        """Make the chooser of the Labels layer, and what belongs to it."""
        self._ids = FreeIds()
        self.labels = LayerChooser(
            self.viewer, writable, "New layer", "The Labels layer that the objects are written into."
        )
        self.over = QCheckBox("Write over other objects")
        self.over.setToolTip(
            tip("Take pixels over from objects that are in the layer already; else they keep them.")
        )
        self.over.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.over.setVisible(False)
        self.labels.chosen.connect(lambda: self.over.setVisible(self.labels.layer is not None))

    def choosers(self) -> list[LayerChooser]:
        """The choosers of layers, which are kept up to date."""
        return [self.image, self.labels]

    def columns(self, instances: Instances) -> Table:
        """Further columns of the table, one value for each object."""
        raise NotImplementedError

    def write(self, task: Task, answers: Sequence[Answer]) -> Written:
        """Put the objects into the chosen layer, or into a new one; a run's result is never lost."""
        chosen = self.labels.layer
        if chosen is not None and chosen in self.viewer.layers:
            try:
                return self._write_to(chosen, task, answers, undoable=True)
            except InputError as problem:
                tell(problem)
        image = task.image
        labels = new_labels(image, f"{image.name} {self.name}")
        written = self._write_to(labels, task, answers, undoable=False)
        self._insert_above(image, labels)
        if task.planes[0].window is not None:
            self.labels.choose(labels)  # the next view's objects go there, too
        return written

    def _write_to(self, labels: Labels, task: Task, answers: Sequence[Answer], undoable: bool) -> Written:
        count = sum(len(answer.instances) for answer in answers)
        if count == 0:
            return Written(labels, 1, 0)
        next_id = first = self._ids.next(labels, count)
        found, tables = [], []
        for plane, (instances, mask) in zip(task.planes, answers, strict=True):
            found.append(Found(mask, task.image, plane, next_id))
            table = object_table(instances, task.image, plane, next_id)
            tables.append({**table, **self.columns(instances)})
            next_id += len(instances)
        over = self.over.isChecked()
        pixels = write_objects(labels, found, task.sight, over=over, undoable=undoable)
        self._ids.take(labels, first + count - 1)
        rows = [
            [row for row in range(len(table["index"])) if self.keeps_hidden or (row < len(n) and n[row] > 0)]
            for table, n in zip(tables, pixels, strict=True)
        ]
        add_rows(labels, joined([chosen_rows(*pair) for pair in zip(tables, rows, strict=True)]))
        return Written(labels, first, count - sum(int((n > 0).sum()) for n in pixels))
