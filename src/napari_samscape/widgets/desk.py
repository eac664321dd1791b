"""What is done with objects that are there already: select, look at, re-open, merge, delete, review."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image
from napari.utils.notifications import show_info

from napari_samscape.errors import InputError
from napari_samscape.widgets.canvas import role
from napari_samscape.widgets.dock import tell
from napari_samscape.widgets.features import rows_of
from napari_samscape.widgets.labels import SMALL
from napari_samscape.widgets.layers import data_shape, levels, to_world
from napari_samscape.widgets.records import draw, records, turns_of, window_of
from napari_samscape.widgets.split import Cutter

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_samscape.widgets.layers import Plane
    from napari_samscape.widgets.prompt import PromptWidget
    from napari_samscape.widgets.records import Record


class Desk:
    """Links the table of objects with the Labels layer, both ways.

    Parameters
    ----------
    dock : PromptWidget
        Whose objects.
    """

    def __init__(self, dock: PromptWidget) -> None:
        self._dock = dock
        self._labels: Labels | None = None
        self._show_soon = dock._timer(0, self._show)
        table = dock.objects
        table.selected.connect(self.select)
        table.opened.connect(lambda i: self._try(self.reopen, i))
        table.merged.connect(lambda ids: self._try(self.merge, ids))
        table.deleted.connect(lambda ids: self._try(self.delete, ids))
        table.stepped.connect(self.step)
        table.divided.connect(lambda i: self._try(self.split, i))
        table.classed.connect(self.classify)
        self._cutter = Cutter(dock, lambda *cut: self._try(self._divide, cut))

    def use(self, labels: Labels | None) -> None:
        """Show another layer's objects."""
        self._labels = labels
        if labels is not None:
            listen = self._dock._listening.to
            listen("table", labels, ("features", "colormap"), lambda *_: self._show_soon.start())
            listen("row", labels, ("selected_label",), lambda *_: self._on_label())
        self._show()

    def _show(self) -> None:
        self._show_soon.stop()
        self._dock.objects.show_layer(self._labels)
        self._on_label()

    def _on_label(self) -> None:
        """Select the row of the label that is selected."""
        if self._labels is None or self._show_soon.isActive():
            return
        chosen, label = self._dock.objects.chosen(), int(self._labels.selected_label)
        if label not in chosen[-1:]:
            self._dock.objects.select([label])

    # --- looking ---

    def select(self, ids: Sequence[int]) -> None:
        """Select the label of an object, and show where it is; of several it is the last one."""
        if self._labels is None:
            return
        self._labels.selected_label = ids[-1]
        self._look_at(self._labels, ids[-1])

    def step(self, by: int) -> None:
        """Go to the next object by predicted IoU, from the most uncertain one on, or to the one before."""
        order = self._dock.objects.model.uncertain()
        if self._labels is None or not order:
            show_info("No object has a predicted IoU to go by.")
            return
        current = int(self._labels.selected_label)
        to = order.index(current) + by if current in order else 0
        if not 0 <= to < len(order):
            show_info("That was the last one." if by > 0 else "That is the most uncertain one.")
            return
        self._dock.objects.select([order[to]])
        self.select([order[to]])

    def _look_at(self, labels: Labels, value: int) -> None:
        place = centre(labels, value)
        if place is None:
            return
        viewer = self._dock.viewer
        dims = viewer.dims
        world = np.array(dims.point, dtype=float)
        world[-labels.ndim :] = to_world(place[None], labels, dims)[0][-dims.ndim :]
        hidden = dims.not_displayed
        if len(hidden):
            dims.set_point(hidden, world[list(hidden)])
        # napari 0.9 has moved the camera.
        getattr(viewer, "scene", viewer).camera.center = (0.0, *world[list(dims.displayed)])[-3:]

    # --- editing ---

    def edit(self) -> None:
        """Re-open the object whose label is selected."""
        if self._labels is not None:
            self._try(self.reopen, int(self._labels.selected_label))

    def reopen(self, value: int) -> None:
        """Put an object's prompts back on the canvas, as they were asked; a commit replaces the object then.

        Raises
        ------
        InputError
            If nothing is known of how it came to be, or the image is not there.
        """
        dock, labels = self._dock, self._labels
        if labels is None:
            return
        record = records(labels).get(value)
        if record is None:
            raise InputError(
                f"Object {value} cannot be re-opened: it was not made by prompts, or was changed since."
            )
        dock.settle_prompts()
        self.put_on_canvas(self._choose_image(record, value), record, (labels, value))
        labels.selected_label = value

    def put_on_canvas(self, image: Image, record: Record, editing: tuple[Labels, int] | None) -> None:
        """Put prompts on their plane, instead of those that are there, and have them asked as they were."""
        dock = self._dock
        dock.propagation.leave(look=False)
        dock.image.choose(image)
        if dock.canvas.points is None:
            dock.take_image()  # the dock has just been opened
        self._show_plane(image, record)
        dock.look()
        if dock.canvas.points is None or dock.canvas.shapes is None or dock.plane is None:
            return
        dock.canvas.clear(image, dock.plane.holds)
        draw(record, image, dock.viewer.dims, dock.canvas.points, dock.canvas.shapes)
        window = window_of(record, image)
        if window is not None:
            dock.gaze.look_at(window)
        dock.recall.editing = editing
        dock.recall.expect(image, dock.plane, turns_of(record))
        dock.recall.note("edit")
        dock.ask()

    def _choose_image(self, record: Record, value: int) -> Image:
        image = self._dock.image.layer
        if image is not None and image.name == record["image"]:
            return image
        for layer in self._dock.viewer.layers:
            if isinstance(layer, Image) and role(layer) is None and layer.name == record["image"]:
                return layer
        raise InputError(f"Object {value} was found in the image '{record['image']}', which is not open.")

    def _show_plane(self, image: Image, record: Record) -> None:
        dims = self._dock.viewer.dims
        missing = dims.ndim - image.ndim
        axes = tuple(axis + missing for axis in record["axes"])
        if tuple(sorted(dims.displayed)) != axes:
            dims.order = (*(i for i in range(dims.ndim) if i not in axes), *axes)
        world = to_world(np.asarray(record["position"]), image, dims)[0]
        others = [axis for axis in range(image.ndim) if axis not in record["axes"]]
        if others:
            dims.set_point([axis + missing for axis in others], world[others])

    def merge(self, ids: Sequence[int]) -> None:
        """Make one object of several."""
        if self._labels is not None and len(ids) > 1:
            self._dock.settle_prompts()
            self._labels.selected_label = self._dock.ledger.merge(self._labels, ids)

    def delete(self, ids: Sequence[int]) -> None:
        """Erase objects."""
        if self._labels is not None and ids:
            self._dock.settle_prompts()
            self._dock.ledger.delete(self._labels, ids)

    def classify(self, ids: Sequence[int], text: str) -> None:
        """Give objects a class."""
        if self._labels is not None:
            self._dock.settle_prompts()
            self._dock.ledger.classify(self._labels, ids, text)

    def split(self, value: int) -> None:
        """Let the user draw a line along which an object is cut."""
        if self._labels is not None:
            self._dock.settle_prompts()
            self._cutter.begin(self._labels, value)
            show_info(f"Draw a line across object {value}, with the mouse held down.")

    def _divide(self, cut: tuple[Labels, int, Plane, tuple[int, int], np.ndarray]) -> None:
        labels, value, plane, corner, parts = cut
        count = int(parts.max())
        if count < 2:
            raise InputError(f"The line does not cut object {value} in two: it has to cross it.")
        first = self._dock.commits.ids.next(labels, count - 1)
        self._dock.ledger.divide(labels, value, plane, (corner, np.where(parts > 1, parts + first - 2, 0)))

    def _try(self, act: Any, what: Any) -> None:
        try:
            act(what)
        except InputError as problem:
            tell(problem)


def centre(labels: Labels, value: int) -> np.ndarray | None:
    """Data coordinates of an object's middle, on one of the planes that it lies on; None where not known."""
    if int(np.prod(data_shape(labels))) <= SMALL:
        pixels = np.argwhere(np.asarray(levels(labels)[0]) == value)
        if len(pixels) == 0:
            return None
        middle = pixels[len(pixels) // 2]
        plane = (pixels[:, :-2] == middle[:-2]).all(axis=1)
        return np.asarray(pixels[plane].mean(axis=0))
    row = rows_of(labels, [value])
    if labels.ndim == 2 and all(row.get(name, [None])[0] is not None for name in ("y0", "x0", "y1", "x1")):
        return np.array([(row["y0"][0] + row["y1"][0] - 1) / 2, (row["x0"][0] + row["x1"][0] - 1) / 2])
    return None
