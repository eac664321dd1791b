"""Objects into Labels layers: free ids, and writing masks as one step of napari's own undo."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from napari_samscape.errors import InputError
from napari_samscape.widgets.layers import Plane, data_shape, levels, placed_like, same_plane, to_layer
from napari_samscape.widgets.pyramids import LARGEST, labels_on_disk, stored, writable
from napari_samscape.widgets.resample import Corners, footprint, resampled

if TYPE_CHECKING:
    from napari.layers import Image, Labels

SMALL = 2**24
"""Up to this many pixels a Labels layer is simply searched for its highest id (some ten milliseconds)."""


BAND = 2**22
"""So many pixels are carried over at a time, with some 100 bytes each."""


class FreeIds:
    """The next free id of each Labels layer, without reading large ones again and again.

    A small layer is searched each time, so that undone objects give their ids back. Of a large one the
    highest id is read once and then kept up to date from napari's own paint events.
    """

    def __init__(self) -> None:
        self._highest: WeakKeyDictionary[Labels, int] = WeakKeyDictionary()

    def next(self, labels: Labels, count: int = 1) -> int:
        """One more than the highest id in use.

        Raises
        ------
        InputError
            If the data type has no room for this many ids from there on.
        """
        if int(np.prod(data_shape(labels))) <= SMALL:
            free = _highest(labels) + 1
        else:
            if labels not in self._highest:
                self._watch(labels)
            free = self._highest[labels] + 1
        last = free + count - 1
        if last > np.iinfo(labels.data.dtype).max:
            raise InputError(
                f"The layer '{labels.name}' is full: its data type, {labels.data.dtype}, has no id {last}."
            )
        return free

    def take(self, labels: Labels, last: int) -> None:
        """Note that ids up to this one are in use, where they were written without a step of undo."""
        if labels in self._highest:
            self._highest[labels] = max(self._highest[labels], last)

    def _watch(self, labels: Labels) -> None:
        self._highest[labels] = _highest(labels)
        labels.events.paint.connect(self._on_paint)
        labels.events.data.connect(self._on_new_data)

    def _on_paint(self, event: Any) -> None:
        painted = max((_painted(atom) for atom in event.value), default=0)
        self._highest[event.source] = max(self._highest.get(event.source, 0), painted)

    def _on_new_data(self, event: Any) -> None:
        self._highest[event.source] = _highest(event.source)


def _highest(labels: Labels) -> int:
    """Highest id, read piece by piece: the data may be on disk and large."""
    data = levels(labels)[0]
    return max((int(np.max(np.asarray(data[part]), initial=0)) for part in stored(data)), default=0)


def _painted(atom: Any) -> int:
    """Highest value written by one step of napari's history, which has two forms."""
    written = atom[-1] if isinstance(atom, tuple) else getattr(atom, "new_value", 0)
    return int(np.max(written, initial=0))


def new_labels(image: Image, name: str) -> Labels:
    """Make a layer of empty labels for an image, in its place; large ones are on disk."""
    from napari.layers import Labels

    if int(np.prod(data_shape(image))) > LARGEST:
        labels = labels_on_disk(image)
        labels.name = name
        return labels
    # Memory is only taken where it is written to.
    return Labels(np.zeros(data_shape(image), dtype=np.int32), name=name, **placed_like(image))


@dataclass(frozen=True, eq=False)
class Found:
    """What was found in a plane of an image layer.

    Attributes
    ----------
    mask : ndarray, shape (y, x)
        One object as bool, or several as whole numbers from 1 on.
    image : napari.layers.Image
        Whose plane it is.
    plane : Plane
        Where it is.
    first : int
        Id for the object 1; that of 2 is one higher, and so on.
    """

    mask: NDArray[Any]
    image: Image
    plane: Plane
    first: int = 1


def write_objects(
    labels: Labels, found: Sequence[Found], dims: Any, *, over: bool, undoable: bool = True
) -> list[NDArray[np.int64]]:
    """Write objects into the planes of a Labels layer in which they lie, as one step of undo.

    Parameters
    ----------
    labels : napari.layers.Labels
        Where to; it need not lie or be sized like the image.
    found : sequence of Found
        The objects, for each plane.
    dims : napari.components.Dims or Sight
        What the viewer shows, or showed.
    over : bool
        Whether pixels of other objects are taken over; they are left alone otherwise.
    undoable : bool
        Whether napari keeps what it takes to undo it, some 30 bytes a pixel; a layer that nobody has seen
        yet does not need it.

    Returns
    -------
    list of ndarray of int64, each of shape (n,)
        How many pixels of each object were written; those that had the id already do not count.
    """
    # All of them before anything is written: one that the layer does not reach is an error.
    targets = [same_plane(labels, part.image, part.plane, dims) for part in found]
    places = [
        (target, _between(labels, target, part, dims)) for target, part in zip(targets, found, strict=True)
    ]
    with labels.block_history():
        return [
            _write_plane(labels, part, place, over, undoable)
            for part, place in zip(found, places, strict=True)
        ]


def _write_plane(
    labels: Labels,
    found: Found,
    place: tuple[Plane, tuple[NDArray, NDArray]],
    over: bool,
    undoable: bool,
) -> NDArray[np.int64]:
    target, (matrix, shift) = place
    written = np.zeros(int(found.mask.max(initial=0)), dtype=np.int64)
    if len(written) == 0:
        return written
    start, stop = footprint(found.mask, matrix, shift, target.shape)
    rows_at_once = max(1, BAND // max(1, stop[1] - start[1]))
    for row in range(start[0], stop[0], rows_at_once):
        band = (row, start[1]), (min(row + rows_at_once, stop[0]), stop[1])
        cut = resampled(found.mask, matrix, shift, band)
        where = _slices(target, band)
        ids = np.where(cut, cut + np.int64(found.first - 1), 0)
        present = np.asarray(levels(labels)[0][where])
        new = (ids != 0) & (present != ids) & (True if over else present == 0)
        if undoable:
            write_part(labels, target, band[0], np.where(new, ids, 0))
        else:
            _put(labels, where, np.where(new, ids, present))
        written += np.bincount(cut[new], minlength=len(written) + 1)[1:]
    return written


def _slices(target: Plane, where: Corners) -> tuple[Any, ...]:
    index: list[Any] = list(target.position)
    for axis, start, stop in zip(target.axes, *where, strict=True):
        index[axis] = slice(start, stop)
    return tuple(index)


def write_part(labels: Labels, target: Plane, corner: tuple[int, int], ids: NDArray[np.int64]) -> None:
    """Set pixels of a plane to ids (y, x) where these are not 0, as an atom of the layer's history."""
    rows, columns = np.nonzero(ids)
    indices = [np.full(len(rows), i) for i in target.position]
    indices[target.axes[0]], indices[target.axes[1]] = rows + corner[0], columns + corner[1]
    _set(labels, tuple(indices), ids[rows, columns])


def _put(labels: Labels, where: tuple[Any, ...], values: NDArray[Any]) -> None:
    """Set a part of a layer, (y, x) on one plane, without a word to its history."""
    pyramid = writable(labels)
    if pyramid is None:
        labels.data[where] = values
        return
    across = tuple(axis for axis, part in enumerate(where) if not isinstance(part, slice))
    parts = tuple(part if isinstance(part, slice) else slice(part, part + 1) for part in where)
    pyramid.put(parts, np.expand_dims(values, across))


def _set(labels: Labels, indices: tuple[NDArray, ...], values: Any) -> None:
    """Set pixels as one atom of the layer's history."""
    if len(indices[0]) == 0:
        return
    try:
        pyramid = writable(labels)
        if pyramid is None:
            labels.data_setitem(indices, values)
        else:
            pyramid.set_noted(labels, indices, values)
    except (NotImplementedError, OSError, TypeError, ValueError) as problem:
        raise InputError(f"The layer '{labels.name}' cannot be written to: {problem}.") from None


def renumber(labels: Labels, ids: Iterable[int], value: int, plane: Plane | None = None) -> None:
    """Give all pixels of some objects another id, 0 to erase them; everywhere, or on one plane of the layer.

    The layer is searched for them, piece by piece along its first axis; it is one step of napari's undo.
    """
    wanted, data = np.array(sorted(ids)), levels(labels)[0]
    limits = [slice(0, size) for size in data.shape]
    if plane is not None:
        for axis in plane.others:
            limits[axis] = slice(plane.position[axis], plane.position[axis] + 1)
    with labels.block_history():
        for part in _parts(data, limits):
            found = np.nonzero(np.isin(np.asarray(data[part]), wanted))
            indices = tuple(index + where.start for index, where in zip(found, part, strict=True))
            _set(labels, indices, value)


def _parts(data: Any, limits: Sequence[slice]) -> Iterator[tuple[slice, ...]]:
    """What is `stored` within limits."""
    for part in stored(data):
        full = (*part, *limits[len(part) :])
        pairs = zip(full, limits, strict=True)
        inside = tuple(slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in pairs)
        if all(each.start < each.stop for each in inside):
            yield inside


def areas(labels: Labels) -> dict[int, int]:
    """Number of pixels of each object in a layer, which is read whole."""
    ids, counts = np.unique(np.asarray(levels(labels)[0]), return_counts=True)
    return {int(i): int(n) for i, n in zip(ids, counts, strict=True) if i != 0}


def gains(atoms: Iterable[Any]) -> dict[int, int]:
    """By how many pixels each object has grown or shrunk in one step of napari's history."""
    total: Counter[int] = Counter()
    for atom in atoms:
        old, new = np.ravel(atom[-2]), np.ravel(np.broadcast_to(atom[-1], np.shape(atom[-2])))
        for values, sign in ((old, -1), (new, 1)):
            ids, counts = np.unique(values, return_counts=True)
            for i, n in zip(ids, counts, strict=True):
                total[int(i)] += sign * int(n)
    return {i: n for i, n in total.items() if n != 0 and i != 0}


def _between(labels: Labels, target: Plane, found: Found, dims: Any) -> tuple[NDArray, NDArray]:
    """Matrix (2, 2) and shift (2,) from pixels of the labels' plane to those of the image's plane."""
    corners = target.to_data(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    origin, down, right = found.plane.from_data(to_layer(corners, labels, found.image, dims))
    return np.stack([down - origin, right - origin], axis=1), origin
