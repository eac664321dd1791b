"""Objects into Labels layers: free ids, and writing a mask as one step of napari's own undo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from napari_samscape.errors import InputError
from napari_samscape.widgets.layers import Plane, data_shape, levels, plane_of, to_layer

if TYPE_CHECKING:
    from napari.layers import Image, Labels

SMALL = 2**24
"""Up to this many pixels a Labels layer is simply searched for its highest id (some ten milliseconds)."""


class FreeIds:
    """The next free id of each Labels layer, without reading large ones again and again.

    A small layer is searched each time, so that undone objects give their ids back. Of a large one the
    highest id is read once and then kept up to date from napari's own paint events.
    """

    def __init__(self) -> None:
        self._highest: WeakKeyDictionary[Labels, int] = WeakKeyDictionary()

    def next(self, labels: Labels) -> int:
        """One more than the highest id in use; an InputError where the data type has no room for it."""
        if int(np.prod(data_shape(labels))) <= SMALL:
            free = _highest(labels) + 1
        else:
            if labels not in self._highest:
                self._watch(labels)
            free = self._highest[labels] + 1
        if free > np.iinfo(labels.data.dtype).max:
            raise InputError(
                f"The layer '{labels.name}' is full: its data type, {labels.data.dtype}, has no id {free}."
            )
        return free

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
    """Highest id, read piece by piece along the first axis: the data may be on disk and large."""
    data = levels(labels)[0]
    rows = max(1, SMALL * data.shape[0] // max(1, int(np.prod(data.shape))))
    return max((int(np.max(data[i : i + rows], initial=0)) for i in range(0, data.shape[0], rows)), default=0)


def _painted(atom: Any) -> int:
    """Highest value written by one step of napari's history, which has two forms."""
    written = atom[-1] if isinstance(atom, tuple) else getattr(atom, "new_value", 0)
    return int(np.max(written, initial=0))


def new_labels(image: Image) -> NDArray[np.int32]:
    """Empty labels for an image: its shape, without the axis of an RGB image's colours."""
    try:
        return np.zeros(data_shape(image), dtype=np.int32)  # memory is only taken where it is written to
    except MemoryError:
        raise InputError(
            f"There is no memory for labels of the size of '{image.name}'; choose a Labels layer on disk."
        ) from None


@dataclass(frozen=True, eq=False)
class Found:
    """A mask, bool (y, x), and what it is a mask of: a plane of an image layer."""

    mask: NDArray[np.bool_]
    image: Image
    plane: Plane


def write_object(labels: Labels, value: int, found: Found, dims: Any, *, over: bool) -> int:
    """Write one object into the plane of a Labels layer that the viewer shows, as one step of undo.

    Parameters
    ----------
    labels : napari.layers.Labels
        Where to; it need not lie or be sized like the image.
    value : int
        The object's id.
    found : Found
        The object.
    dims : napari.components.Dims
        What the viewer shows.
    over : bool
        Whether pixels of other objects are taken over; they are left alone otherwise.

    Returns
    -------
    int
        How many pixels were written; those that had the id already do not count.
    """
    target = plane_of(labels, dims, full_resolution=True)
    corner, cut = carried(found.mask, *_between(labels, target, found, dims), target.shape)
    where: list[Any] = list(target.position)
    for axis, start, size in zip(target.axes, corner, cut.shape, strict=True):
        where[axis] = slice(start, start + size)
    present = np.asarray(labels.data[tuple(where)])
    cut = cut & (present != value) & (True if over else present == 0)
    rows, columns = np.nonzero(cut)
    if len(rows) == 0:
        return 0
    indices = [np.full(len(rows), i) for i in target.position]
    indices[target.axes[0]], indices[target.axes[1]] = rows + corner[0], columns + corner[1]
    try:
        labels.data_setitem(tuple(indices), value)
    except (NotImplementedError, OSError, TypeError, ValueError) as problem:
        raise InputError(f"The layer '{labels.name}' cannot be written to: {problem}.") from None
    return len(rows)


def _between(labels: Labels, target: Plane, found: Found, dims: Any) -> tuple[NDArray, NDArray]:
    """Matrix (2, 2) and shift (2,) from pixels of the labels' plane to those of the image's plane."""
    corners = target.to_data(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    origin, down, right = found.plane.from_data(to_layer(corners, labels, found.image, dims))
    return np.stack([down - origin, right - origin], axis=1), origin


def carried(
    mask: NDArray[np.bool_], matrix: NDArray, shift: NDArray, shape: tuple[int, int]
) -> tuple[tuple[int, int], NDArray[np.bool_]]:
    """Carry a mask into another grid by nearest neighbours, in the bounding box of the object only.

    Parameters
    ----------
    mask : ndarray of bool, shape (y, x)
        The object.
    matrix, shift : ndarray, shapes (2, 2) and (2,)
        ``matrix @ target + shift`` is the position in ``mask`` of a pixel of the target grid.
    shape : tuple of int
        (y, x) of the target grid.

    Returns
    -------
    corner : tuple of int
        (y, x) of the cut in the target grid.
    cut : ndarray of bool
        The object there.
    """
    if not mask.any():
        return (0, 0), np.zeros((0, 0), dtype=bool)
    y0, x0, y1, x1 = bounding_box(mask)
    corners = np.array([[y, x] for y in (y0 - 0.5, y1 - 0.5) for x in (x0 - 0.5, x1 - 0.5)])
    there = (corners - shift) @ np.linalg.inv(matrix).T
    start = np.clip(np.floor(there.min(axis=0)).astype(int), 0, shape)
    stop = np.clip(np.ceil(there.max(axis=0)).astype(int) + 1, start, shape)
    grid = start + np.moveaxis(np.indices(stop - start), 0, -1)
    source = np.floor(grid @ matrix.T + shift + 0.5 + 1e-9).astype(int)
    inside = ((source >= 0) & (source < mask.shape)).all(axis=-1)
    source[~inside] = 0
    return (int(start[0]), int(start[1])), mask[source[..., 0], source[..., 1]] & inside


def bounding_box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Half-open (y0, x0, y1, x1) of the true pixels of a mask that has some."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1
