"""What is done to the objects of Labels layers, as steps of the history: pixels, table and prompts together.

Pixels are undone by the layer itself, whose own history has each of our edits as one item; a step of ours
calls it and puts the rest back. What the user paints by hand is followed in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np

from napari_samscape.widgets.features import INDEX, Table, chosen_rows, joined, put_rows, rows_of
from napari_samscape.widgets.history import History, Step
from napari_samscape.widgets.labels import SMALL, Found, areas, gains, renumber, write_objects, write_part
from napari_samscape.widgets.layers import data_shape, same_plane
from napari_samscape.widgets.records import Record, put_records, records

if TYPE_CHECKING:
    from napari.layers import Labels
    from numpy.typing import NDArray

    from napari_samscape.widgets.layers import Plane

Parts = tuple[tuple[int, int], "NDArray[np.int64]"]
AREA, IOU, COUNT, CLASS = "area", "predicted_iou", "prompts", "class"
UNDO, REDO = "Control-Z", "Control-Shift-Z"


class Ledger:
    """Follows the Labels layers that a dock writes to.

    Parameters
    ----------
    history : History
        Where the steps go.
    here : callable
        Says whether a layer is still in the viewer.
    """

    def __init__(self, history: History, here: Callable[[Labels], bool]) -> None:
        self._history = history
        self._here = here
        self._followed: WeakSet[Labels] = WeakSet()
        self.changed: WeakSet[Labels] = WeakSet()
        """Layers whose pixels are others than when this was last cleared."""
        self._keys: list[tuple[Labels, str]] = []

    # --- layers ---

    def follow(self, labels: Labels) -> None:
        """Note from now on what happens in a layer, and let its keys for undo lead here."""
        if labels in self._followed:
            return
        self._followed.add(labels)
        self._complete(labels)
        labels.events.paint.connect(self._on_paint)
        for key, act in ((UNDO, self.undo), (REDO, self.redo)):
            with suppress(ValueError):  # somebody else's key
                labels.bind_key(key, lambda layer, act=act: act(layer))
                self._keys.append((labels, key))

    @property
    def layers(self) -> list[Labels]:
        """The layers that are followed and still there."""
        here = [labels for labels in self._followed if self._here(labels)]
        return sorted(here, key=lambda labels: labels.name)

    def close(self) -> None:
        """Let the layers be as they were, but for what was done to them."""
        for labels, key in self._keys:
            labels.bind_key(key, None)
        for labels in self._followed:
            labels.events.paint.disconnect(self._on_paint)
        self._keys.clear()
        self._followed = WeakSet()

    def _complete(self, labels: Labels) -> None:
        """Give each object a row; a large layer is not searched for them."""
        if int(np.prod(data_shape(labels))) > SMALL:
            return
        known, counted = areas_known(labels), areas(labels)
        found = {i: area for i, area in counted.items() if i not in known}
        unknown = {i for i, area in known.items() if i in counted and not _number(area)}
        if unknown:
            rows = rows_of(labels, unknown)
            put_rows(labels, unknown, {**rows, AREA: [counted[i] for i in rows[INDEX]]})
        if found:
            put_rows(labels, found, {INDEX: list(found), AREA: list(found.values())})

    # --- undo and redo ---

    def undo(self, labels: Labels) -> None:
        """Undo the last edit of a layer, and whatever was done since; then what it knows from before."""
        if self._history.undo(about=labels):
            return
        if getattr(labels, "_undo_history", ()):  # napari has no public name for it
            labels.undo()
            self.changed.add(labels)
            self._history.add_undone(self._pixels(labels, "paint"))
            self._recount(labels)

    def redo(self, labels: Labels) -> None:
        """Do again what was undone last in a layer, and whatever comes before."""
        if not self._history.redo(about=labels):
            labels.redo()

    def _pixels(self, labels: Labels, text: str) -> Step:
        def undo() -> bool:
            self.changed.add(labels)
            labels.undo()
            return self._here(labels)

        def redo() -> bool:
            self.changed.add(labels)
            labels.redo()
            return self._here(labels)

        return Step(text, undo, redo, (labels,))

    def _recount(self, labels: Labels) -> None:
        if int(np.prod(data_shape(labels))) <= SMALL:
            found, gone = areas(labels), areas_known(labels)
            self._set_areas(labels, {i: found.get(i, 0) for i in {*found, *gone}})

    # --- edits ---

    def write(
        self,
        found: Sequence[Found],
        labels: Labels,
        dims: Any,
        *,
        over: bool,
        about: tuple[Table, Record | None],
    ) -> int:
        """Write an object, on one plane or more, with its row (without the area) and its record.

        All of its parts have its id as ``first``. Where there is an object of this id, it is extended.
        Returns how many pixels were written.
        """
        (table, record), value = about, found[0].first
        if value in areas_known(labels):
            table, record = union(joined([rows_of(labels, [value]), table])), None
        with self._history.together("commit"), self._table(labels, [value]):
            written = _sum(write_objects(labels, found, dims, over=over))
            if written:
                self._describe(labels, value, {**table, AREA: [written]}, record)
        return written

    def replace(
        self,
        found: Sequence[Found],
        labels: Labels,
        dims: Any,
        *,
        over: bool,
        about: tuple[Table, Record | None],
    ) -> int:
        """Write an object in place of the one that has its id; otherwise like `write`.

        One that is found on one plane replaces the other on that plane, one on several planes everywhere.
        """
        (table, record), value = about, found[0].first
        target = same_plane(labels, found[0].image, found[0].plane, dims) if len(found) == 1 else None
        with self._history.together("edit"), self._table(labels, [value]):
            with labels.block_history():
                renumber(labels, [value], 0, target)
                written = _sum(write_objects(labels, found, dims, over=over))
            if written:
                self._describe(labels, value, {**table, AREA: [written]}, record)
        return written

    def delete(self, labels: Labels, ids: Iterable[int]) -> None:
        """Erase objects."""
        ids = list(ids)
        with self._history.together("delete"), self._table(labels, ids):
            renumber(labels, ids, 0)
            put_rows(labels, ids, {})
            put_records(labels, ids, {})

    def merge(self, labels: Labels, ids: Iterable[int]) -> int:
        """Make one object of several, under the lowest of their ids, which is returned."""
        first, *others = ids = sorted(ids)
        rows = rows_of(labels, ids)
        with self._history.together("merge"), self._table(labels, ids):
            renumber(labels, others, first)
            area = rows_of(labels, [first])[AREA]
            put_rows(labels, ids, {**union(rows), INDEX: [first], AREA: area})
            put_records(labels, ids, {})
        return first

    def classify(self, labels: Labels, ids: Iterable[int], text: str) -> None:
        """Give objects a class; an empty text takes it away."""
        ids = list(ids)
        with self._history.together("class"), self._table(labels, ids):
            rows = rows_of(labels, ids)
            put_rows(labels, ids, {**rows, CLASS: [text or None] * len(rows.get(INDEX, []))})

    def divide(self, labels: Labels, value: int, plane: Plane, parts: Parts) -> None:
        """Give parts of an object on a plane ids of their own; all have its class, and no mask behind.

        `parts` are the first pixel (y, x), and an array (y, x) of the new ids, 0 where nothing changes.
        """
        corner, ids = parts
        new = [int(i) for i in np.unique(ids) if i]
        row = rows_of(labels, [value])
        with self._history.together("split"), self._table(labels, [value, *new]):
            with labels.block_history():
                write_part(labels, plane, corner, ids)
            left = rows_of(labels, [value])
            if left.get(INDEX):
                put_rows(labels, [value], {**left, IOU: [None], COUNT: [0]})
            put_records(labels, [value], {})
            for number in new if row.get(INDEX) else ():
                area = int(np.count_nonzero(ids == number))
                put_rows(labels, [number], {**row, INDEX: [number], AREA: [area], IOU: [None], COUNT: [0]})

    def _describe(self, labels: Labels, value: int, table: Table, record: Record | None) -> None:
        # Of a large layer nobody counts pixels but those that are written.
        area = rows_of(labels, [value]).get(AREA) or table[AREA]
        put_rows(labels, [value], {**table, INDEX: [value], AREA: area})
        put_records(labels, [value], {} if record is None else {value: record})

    # --- the table follows the pixels ---

    def _on_paint(self, event: Any) -> None:
        """Note an edit of a layer, by us or by hand."""
        labels = event.source
        self.changed.add(labels)
        grown = gains(event.value)
        with self._history.together("paint"):
            self._history.add(self._pixels(labels, "paint"))
            with self._table(labels, grown):
                known = {i: _number(a) for i, a in areas_known(labels).items()}
                small = int(np.prod(data_shape(labels))) <= SMALL
                self._set_areas(
                    labels, {i: known.get(i, 0) + n for i, n in grown.items() if small or i in known}
                )

    def _set_areas(self, labels: Labels, counts: dict[int, int]) -> None:
        """Let rows have these areas; an object without a pixel has neither row nor record."""
        rows = rows_of(labels, counts)
        present = rows.get(INDEX, [])
        kept = [row for row, i in enumerate(present) if counts[i] > 0]
        table = chosen_rows(rows, kept)
        new = [i for i, area in counts.items() if area > 0 and i not in set(present)]
        if table:
            table[AREA] = [counts[i] for i in table[INDEX]]
        put_rows(labels, counts, _added(table, {INDEX: new, AREA: [counts[i] for i in new]}))
        put_records(labels, [i for i, area in counts.items() if area <= 0], {})

    @contextmanager
    def _table(self, labels: Labels, ids: Iterable[int]) -> Iterator[None]:
        """Note what becomes of rows and records meanwhile."""
        ids = list(ids)
        stored = [_entries(labels, ids)]

        def swap() -> bool:
            now = _entries(labels, ids)
            rows, prompts = stored[0]
            put_rows(labels, ids, rows)
            put_records(labels, ids, prompts)
            stored[0] = now
            return self._here(labels)

        yield
        self._history.add(Step("table", swap, swap))


def areas_known(labels: Labels) -> dict[int, Any]:
    """The area of each object that has a row, by id."""
    features = labels.features
    if INDEX not in features:
        return {}
    area = features[AREA].tolist() if AREA in features else [0] * len(features)
    return dict(zip(features[INDEX].tolist(), area, strict=True))


def _sum(pixels: Iterable[NDArray[np.int64]]) -> int:
    return sum(int(counts.sum()) for counts in pixels)


def _entries(labels: Labels, ids: list[int]) -> tuple[Table, dict[int, Record]]:
    known = records(labels)
    return rows_of(labels, ids), {i: known[i] for i in ids if i in known}


def _number(value: Any) -> int:
    return 0 if value is None or value != value else int(value)


def _added(table: Table, more: Table) -> Table:
    return joined([part for part in (table, more) if part.get(INDEX)])


def union(rows: Table) -> Table:
    """One row for several: what they have in common, the box round all, the prompts of all."""
    table: Table = {}
    for name, column in rows.items():
        values = [value for value in column if value is not None and value == value]
        if name in ("y0", "x0"):
            table[name] = [min(values, default=None)]
        elif name in ("y1", "x1"):
            table[name] = [max(values, default=None)]
        else:
            table[name] = [values[0] if values and all(v == values[0] for v in values) else None]
    # No mask of the model is the whole of it.
    return {**table, IOU: [None], COUNT: [sum(_number(n) for n in rows.get(COUNT, []))]}
