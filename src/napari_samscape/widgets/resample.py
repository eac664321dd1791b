"""Masks from one grid of pixels into another."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: First and one past last (y, x).
Corners = tuple[tuple[int, int], tuple[int, int]]


def footprint(mask: NDArray[Any], matrix: NDArray, shift: NDArray, shape: tuple[int, int]) -> Corners:
    """Where in the target grid a mask may lie.

    Parameters
    ----------
    mask : ndarray of bool or int, shape (y, x)
        One object, or several; not empty.
    matrix, shift : ndarray, shapes (2, 2) and (2,)
        ``matrix @ target + shift`` is the position in ``mask`` of a pixel of the target grid.
    shape : tuple of int
        (y, x) of the target grid.

    Returns
    -------
    tuple of tuple of int
        First and one past last (y, x).
    """
    y0, x0, y1, x1 = bounding_box(mask)
    corners = np.array([[y, x] for y in (y0 - 0.5, y1 - 0.5) for x in (x0 - 0.5, x1 - 0.5)])
    there = (corners - shift) @ np.linalg.inv(matrix).T
    start = np.clip(np.floor(there.min(axis=0)).astype(int), 0, shape)
    stop = np.clip(np.ceil(there.max(axis=0)).astype(int) + 1, start, shape)
    return (int(start[0]), int(start[1])), (int(stop[0]), int(stop[1]))


def resampled(mask: NDArray[Any], matrix: NDArray, shift: NDArray, where: Corners) -> NDArray[Any]:
    """What lies of a mask in a part of the target grid, by nearest neighbours; see `footprint`.

    Outside of the mask's array there is nothing.
    """
    start, stop = np.asarray(where)
    if np.allclose(matrix, np.eye(2)) and np.allclose(shift, np.rint(shift)):
        return _shifted(mask, np.rint(shift).astype(int), start, stop)
    grid = start + np.moveaxis(np.indices(stop - start), 0, -1)
    source = np.floor(grid @ matrix.T + shift + 0.5 + 1e-9).astype(int)
    inside = ((source >= 0) & (source < mask.shape)).all(axis=-1)
    source[~inside] = 0
    return np.where(inside, mask[source[..., 0], source[..., 1]], mask.dtype.type(0))


def _shifted(mask: NDArray[Any], shift: NDArray, start: NDArray, stop: NDArray) -> NDArray[Any]:
    """What `resampled` gives where pixels lie on pixels."""
    cut = np.zeros(stop - start, mask.dtype)
    first, last = np.maximum(start + shift, 0), np.minimum(stop + shift, mask.shape)
    if (first < last).all():
        to = first - shift - start
        size = last - first
        cut[to[0] : to[0] + size[0], to[1] : to[1] + size[1]] = mask[first[0] : last[0], first[1] : last[1]]
    return cut


def bounding_box(mask: NDArray[Any]) -> tuple[int, int, int, int]:
    """Half-open (y0, x0, y1, x1) of the pixels of a mask, or of labels, that are not 0; there are some."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1
