"""The Edges dock: a map of edges as an Image layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Image
from napari.utils.notifications import show_info
from numpy.typing import NDArray

from napari_samscape.prediction.options import EdgeOptions
from napari_samscape.widgets.canvas import OWNER
from napari_samscape.widgets.controls import Fold
from napari_samscape.widgets.fields import Field, OptionFields
from napari_samscape.widgets.layers import data_shape, placed_like_planes
from napari_samscape.widgets.task import Question, Task, TaskDock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtpy.QtWidgets import QLayout, QWidget

    from napari_samscape.widgets.engine import Engine

SHOWN = (
    Field(
        "thin",
        "Lines",
        "Thin lines are one pixel wide; soft ones are bands, wider where it is less sure where the edge is.",
        choices=((True, "Thin"), (False, "Soft")),
    ),
    Field(
        "points_per_side",
        "Points per side",
        "The model is asked at a grid of this many points along each side; the time grows with its square.",
    ),
)
FURTHER = (
    Field(
        "box_nms_thresh",
        "Box overlap up to",
        "Of masks whose boxes' overlap (IoU, 0 to 1) is above this, the one with the best predicted IoU "
        "stays; 1 keeps all.",
    ),
    Field(
        "pred_iou_thresh",
        "Predicted IoU",
        "How sure the model has to be of a mask, from 0 (any counts) to 1.",
    ),
)


class EdgesWidget(TaskDock):
    """Draw the edges of an image."""

    ready_text = "Run draws the edges on the plane shown."

    def build(self) -> Sequence[QWidget | QLayout]:
        """Make the options."""
        self.options = OptionFields((*SHOWN, *FURTHER), EdgeOptions())
        further = Fold("More options", self.options.rows(FURTHER))
        return self.where(), self.all_planes, self.options.rows(SHOWN), further

    def question(self, engine: Engine, task: Task) -> Question:
        """Ask for edges with the options as they are set."""
        options = EdgeOptions(**self.options.values())
        return lambda pixels, progress: engine.edges(pixels, options, progress)

    def deliver(self, task: Task, answers: list[NDArray[np.float32]]) -> str:
        """Show the map over the image."""
        layer = Image(
            _stacked(task, answers),
            name=f"{task.image.name} edges",
            metadata={OWNER: "edges"},
            rgb=False,
            colormap="yellow",
            blending="additive",
            contrast_limits=(0, 1),
            **placed_like_planes(task.image, task.planes),
        )
        self._insert_above(task.image, layer)
        if not any(answer.any() for answer in answers):
            text = f"No edge was found; '{layer.name}' is black."
            show_info(text)
            return text
        return f"The edges are in '{layer.name}', from 0 to 1."


def _stacked(task: Task, answers: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Maps of planes as an array with the image's axes; a single one has one pixel along the others."""
    plane = task.planes[0]
    sizes = list(data_shape(task.image)) if len(answers) > 1 else [1] * task.image.ndim
    for axis, size in zip(plane.axes, plane.shape, strict=True):
        sizes[axis] = size
    stack = np.zeros(sizes, np.float32)
    for place, answer in zip(task.planes, answers, strict=True):
        where = [position if len(answers) > 1 else 0 for position in place.position]
        index = tuple(slice(None) if axis in plane.axes else where[axis] for axis in range(len(where)))
        stack[index] = answer
    return stack
