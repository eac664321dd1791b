"""From what was found to an object in a Labels layer, as one step: its layer, its id, what its row says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from napari.layers import Image, Labels
from napari.utils.notifications import show_info

from napari_samscape.errors import InputError
from napari_samscape.widgets.dock import tell
from napari_samscape.widgets.drawn import prompts_on
from napari_samscape.widgets.features import Table, joined, object_table
from napari_samscape.widgets.labels import Found, FreeIds, new_labels
from napari_samscape.widgets.layers import Plane, plane_of
from napari_samscape.widgets.ledger import COUNT, IOU, union
from napari_samscape.widgets.records import Holds, Record, prompt_count, record_of

if TYPE_CHECKING:
    from napari_samscape.prediction.types import Instance
    from napari_samscape.widgets.prompt import PromptWidget


class Commits:
    """Writes a dock's objects.

    Parameters
    ----------
    dock : PromptWidget
        Whose objects.
    """

    def __init__(self, dock: PromptWidget) -> None:
        self._dock = dock
        self.ids = FreeIds()

    def commit(self) -> None:
        """Write the chosen mask into the Labels layer."""
        from napari_samscape.prediction.instances import instance_from_mask

        dock = self._dock
        image, plane, mask = dock.image.layer, dock.plane, dock.session.state.mask
        if image is None or plane is None or mask is None:
            show_info("There is nothing to commit yet: click on an object first.")
            return
        try:
            if not plane_of(image, dock.viewer.dims).lies_on(plane):
                dock.look()  # the slider has just been moved: the mask belongs elsewhere
                return
            parts = []
            if mask.any():
                parts.append((plane, instance_from_mask(mask, predicted_iou=dock.session.state.iou)))
            self.write(image, parts, plane.holds, dock.viewer.dims, dock.clear)
        except InputError as problem:
            tell(problem)

    def write(
        self,
        image: Image,
        parts: Sequence[tuple[Plane, Instance]],
        holds: Holds,
        dims: Any,
        clear: Callable[[], None],
    ) -> None:
        """Write one object, which lies on one plane or more, as one step of undo.

        Parameters
        ----------
        image : napari.layers.Image
            Where it was found.
        parts : sequence of (Plane, Instance)
            What it is on each plane; the prompts were answered on the first.
        holds : callable
            Says which places, data coordinates (n, ndim), prompts of this object have.
        dims : napari.components.Dims or Sight
            What the viewer shows, or showed.
        clear : callable
            Removes the object's prompts, which is a part of the step.

        Raises
        ------
        InputError
            If nothing could be written.
        """
        dock = self._dock
        labels = dock.labels.layer or self._new_labels(image)
        value, edited, written = self._target(labels), dock.edited, 0
        over = dock.over.isChecked()
        if parts:
            found = [Found(item.mask, image, plane.cut(item.box), value) for plane, item in parts]
            about = self._about(image, parts, value, holds)
            write = dock.ledger.write if edited is None else dock.ledger.replace
            with dock.history.together("commit"):
                written = write(found, labels, dims, over=over, about=about)
                if written:
                    clear()
            if not written:
                dock.history.cancel()
        if not written:
            raise InputError(
                "Nothing was written: the mask is empty, or all of it belongs to objects already "
                f"(to replace those, tick '{dock.over.text()}')."
            )
        labels.selected_label = value

    def _about(
        self, image: Image, parts: Sequence[tuple[Plane, Instance]], value: int, holds: Holds
    ) -> tuple[Table, Record]:
        """What there is to say about an object: its row, and its prompts."""
        dock = self._dock
        table = joined([object_table([item], image, plane, value) for plane, item in parts])
        plane, dims = parts[0][0], dock.viewer.dims
        prompts = prompts_on(image, plane, dims, *dock.canvas.layers)
        turns = () if prompts is None else dock.recall.turns(plane, prompts)
        record = record_of(image, plane, dims, dock.canvas.layers, turns, holds)
        least = min(table[IOU])  # where it is most uncertain is where to look again
        return {**union(table), IOU: [least], COUNT: [prompt_count(record)]}, record

    def _target(self, labels: Labels) -> int:
        """Id that the next commit goes to."""
        dock = self._dock
        if dock.edited is not None:
            return int(dock.edited)
        if not dock.extend.isChecked():
            return self.ids.next(labels)
        if labels.selected_label == 0:
            raise InputError(f"Select the object to extend: '{labels.name}' has the background selected.")
        return int(labels.selected_label)

    def _new_labels(self, image: Image) -> Labels:
        labels = new_labels(image, f"{image.name} objects")
        self._dock._insert_above(image, labels)
        self._dock.labels.choose(labels)
        return labels
