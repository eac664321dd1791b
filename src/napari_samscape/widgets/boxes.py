"""The Boxes dock: one object for each rectangle of a Shapes layer, with its class and score."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari.layers import Shapes
from napari.utils.notifications import show_info

from napari_samscape.errors import InputError
from napari_samscape.widgets.choosers import ColumnChooser, LayerChooser, users
from napari_samscape.widgets.drawn import Rectangles, rectangles_on
from napari_samscape.widgets.features import Table
from napari_samscape.widgets.fields import tip
from napari_samscape.widgets.objects import Answer, ObjectsDock, painted
from napari_samscape.widgets.task import Question, Task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtpy.QtWidgets import QLayout, QWidget

    from napari_samscape.prediction.types import Instances
    from napari_samscape.widgets.engine import Engine

LISTED = 8
"""At most this many boxes are listed by number in a sentence."""


class BoxesWidget(ObjectsDock):
    """Find the object in each rectangle."""

    ready_text = "Run finds the object in each rectangle on the plane shown."
    name = "in boxes"
    keeps_hidden = True
    many_planes = False

    def build(self) -> Sequence[QWidget | QLayout]:
        """Make the choosers of boxes, classes and scores."""
        self.build_target()
        self._left_out = 0
        self.shapes = LayerChooser(self.viewer, users(Shapes), about="A Shapes layer with rectangles.")
        self.classes = ColumnChooser(("class", "category", "label"))
        self.classes.setToolTip(
            tip("The column of the Shapes layer's features with each box's class: whole numbers or texts.")
        )
        self.scores = ColumnChooser(("score", "confidence"))
        self.scores.setToolTip(
            tip("The column of the Shapes layer's features with the detector's score of each box.")
        )
        self.shapes.chosen.connect(self._on_shapes)
        self._on_shapes()
        boxes = (("Boxes", self.shapes), ("Class", self.classes), ("Score", self.scores))
        return self.where(*boxes, ("Objects in", self.labels)), self.over

    def choosers(self) -> list[LayerChooser]:
        """The choosers of layers, which are kept up to date."""
        return [*super().choosers(), self.shapes]

    def _on_shapes(self) -> None:
        if self.shapes.layer is not None:
            self._listening.to("features", self.shapes.layer, ("features",), self._show_columns)
        self._show_columns()

    def _show_columns(self, *_: object) -> None:
        names = [] if self.shapes.layer is None else [str(name) for name in self.shapes.layer.features]
        for chooser in (self.classes, self.scores):
            chooser.offer(names)

    def question(self, engine: Engine, task: Task) -> Question:
        """Ask about the rectangles on the plane."""
        shapes = self.shapes.layer
        if shapes is None:
            raise InputError("Add a Shapes layer with rectangles first.")
        (plane,) = task.planes
        found = rectangles_on(task.image, plane, task.sight, shapes)
        where = "this plane"
        if plane.window is not None:
            found, where = found.within(plane.shape), "what is seen of this plane"
        if len(found.boxes) == 0:
            raise InputError(f"The layer '{shapes.name}' has no rectangle on {where}.")
        self._left_out = found.others
        found = replace(
            found,
            classes=self._column(self.classes, found, shapes, _as_class),
            scores=self._column(self.scores, found, shapes, _as_number),
        )
        return lambda pixels, progress: painted(engine.boxes(pixels, found, progress))

    @staticmethod
    def _column(chooser: ColumnChooser, found: Rectangles, shapes: Shapes, convert: Any) -> Any:
        if chooser.column is None:
            return None
        values = shapes.features[chooser.column].tolist()
        return [convert(values[index], chooser.column) for index in found.indices]

    def columns(self, instances: Instances) -> Table:
        """Class and score, where they are known."""
        table: Table = {}
        if self.classes.column is not None:
            table["class"] = [item.category for item in instances]
        if self.scores.column is not None:
            table["score"] = [float(item.score) for item in instances]
        return table

    def deliver(self, task: Task, answers: list[Answer]) -> str:
        """Write the objects, and say of which boxes nothing came."""
        (answer,) = answers
        written = self.write(task, answers)
        empty = [written.first + i for i, item in enumerate(answer.instances) if item.area == 0]
        count = len(answer.instances)
        text = f"Found {count - len(empty)} object{'s' * (count - len(empty) != 1)} in {count} "
        text += f"box{'es' * (count != 1)}, now in '{written.labels.name}'."
        notices = [f"Nothing was found in {_listed(empty)}."] if empty else []
        if self._left_out:
            verb = "s were" if self._left_out > 1 else " was"
            notices.append(f"{self._left_out} other shape{verb} left out.")
        if notices:
            show_info(" ".join(notices))
        return " ".join([text, *notices])


def _listed(ids: list[int]) -> str:
    listed = ", ".join(str(i) for i in ids[:LISTED]) + (", …" if len(ids) > LISTED else "")
    return f"{'boxes' if len(ids) > 1 else 'box'} {listed}"


def _as_class(value: Any, _: str) -> int | str | None:
    """A class as whole number or text; what is missing is None."""
    if value is None or value != value:
        return None
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return int(value) if whole else str(value)


def _as_number(value: Any, column: str) -> float:
    try:
        return float("nan") if value is None else float(value)
    except (TypeError, ValueError):
        raise InputError(f"The column '{column}' must hold numbers as scores; {value!r} is none.") from None
