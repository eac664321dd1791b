"""An object cut in two, or more, by a line that is drawn across it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Shapes
from numpy.typing import NDArray
from scipy import ndimage

from napari_samscape.errors import InputError
from napari_samscape.widgets.canvas import BOX_COLOUR, OWNER
from napari_samscape.widgets.features import rows_of
from napari_samscape.widgets.labels import BAND
from napari_samscape.widgets.layers import Plane, data_shape, levels, placed_like, plane_of

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_samscape.widgets.dock import Dock


def split(mask: NDArray[np.bool_], line: NDArray[Any]) -> NDArray[np.int64]:
    """Cut a mask along a line.

    Parameters
    ----------
    mask : ndarray of bool, shape (y, x)
        The object.
    line : ndarray, shape (n, 2)
        Corners (y, x) of the line, in pixels of the mask; it may begin and end outside.

    Returns
    -------
    ndarray of int, shape (y, x)
        0 outside the object, 1 for the largest part and all that the line does not reach, 2 and so on for the
        others. Pixels under the line go to the part that is nearest.
    """
    from skimage.draw import line as drawn

    cut = np.zeros(mask.shape, bool)
    corners = np.rint(line).astype(int)
    for start, stop in zip(corners[:-1], corners[1:], strict=True):
        pixels = np.stack(drawn(*start, *stop), axis=1)
        inside = ((pixels >= 0) & (pixels < mask.shape)).all(axis=1)
        cut[tuple(pixels[inside].T)] = True
    # Such a line's pixels may touch by their corners only; so what touches by a corner only is apart.
    before, _ = ndimage.label(mask)
    after, count = ndimage.label(mask & ~cut)
    parts = np.where(mask, 1, 0)
    number = 1
    for whole in np.unique(before[mask & cut]):
        pieces = [piece for piece in np.unique(after[before == whole]) if piece]
        pieces.sort(key=lambda piece: -np.count_nonzero(after == piece))
        for piece in pieces[1:]:
            number += 1
            parts[after == piece] = number
    under = mask & cut
    if number > 1 and (mask & ~cut).any():
        nearest = ndimage.distance_transform_edt(after == 0, return_distances=False, return_indices=True)
        parts[under] = parts[tuple(nearest[:, under])]
    return parts


class Cutter:
    """Lets the user draw a line across an object, once.

    Parameters
    ----------
    dock : Dock
        In whose viewer it is drawn.
    cut : callable
        Called with the layer, the object, the layer's plane, the first pixel (y, x), and what `split` gives.
    """

    def __init__(self, dock: Dock, cut: Callable[..., None]) -> None:
        self._viewer, self._cut = dock.viewer, cut
        self._soon = dock._timer(0, self._finish)  # napari is not done with the mouse when it is let go
        self._object: tuple[Labels, int, Plane] | None = None
        self._line: Shapes | None = None
        self._before: Any = None

    def begin(self, labels: Labels, value: int) -> None:
        """Wait for a line across an object.

        Raises
        ------
        InputError
            If the object is not on the plane shown.
        """
        self.end()
        plane = plane_of(labels, self._viewer.dims, full_resolution=True)
        if not _object(labels, value, plane)[0].any():
            raise InputError(f"Object {value} is not on this plane; go to a plane on which it is.")
        self._object, self._before = (labels, value, plane), self._viewer.layers.selection.active
        pixel = max(min(data_shape(labels)[-2:]) / 500, 0.05)
        line = Shapes(
            ndim=labels.ndim,
            name=f"Line across object {value}",
            metadata={OWNER: "cut"},
            edge_color=BOX_COLOUR,
            edge_width=2 * pixel,
            **placed_like(labels),
        )
        self._line = self._viewer.add_layer(line)
        line.mode = "add_line"
        line.mouse_drag_callbacks.append(self._on_drag)

    def _on_drag(self, _line: Shapes, event: Any) -> Iterator[None]:
        yield
        while event.type == "mouse_move":
            yield
        self._soon.start()

    def _finish(self) -> None:
        line, found = self._line, self._object
        if line is None or found is None or len(line.data) == 0:
            return
        ends = np.asarray(line.data[-1])
        self.end()
        labels, value, plane = found
        mask, corner = _object(labels, value, plane)
        self._cut(labels, value, plane, corner, split(mask, plane.from_data(ends) - corner))

    def end(self) -> None:
        """Take the line away, and give back the tool that was in the user's hand."""
        line, self._line, self._object = self._line, None, None
        if line is not None and line in self._viewer.layers:
            self._viewer.layers.remove(line)
            if self._before in self._viewer.layers:
                self._viewer.layers.selection.active = self._before


def _object(labels: Labels, value: int, plane: Plane) -> tuple[NDArray[np.bool_], tuple[int, int]]:
    """An object's mask on a plane, and its first pixel; in a large layer the table says where it is."""
    corner, stop = (0, 0), plane.shape
    if int(np.prod(plane.shape)) > BAND:
        row = rows_of(labels, [value])
        try:
            corner = (int(row["y0"][0]), int(row["x0"][0]))
            stop = (int(row["y1"][0]), int(row["x1"][0]))
        except (KeyError, IndexError, TypeError):
            raise InputError(
                f"Nobody knows where object {value} is; a layer of this size is not searched."
            ) from None
    where: list[Any] = list(plane.position)
    for axis, first, last in zip(plane.axes, corner, stop, strict=True):
        where[axis] = slice(first, last)
    return np.asarray(levels(labels)[0][tuple(where)]) == value, corner
