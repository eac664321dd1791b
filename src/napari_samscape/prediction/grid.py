"""Where everything-mode looks: the crops of a picture and the grid of points in each."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
from numpy.typing import NDArray

Box = tuple[int, int, int, int]


def point_grid(per_side: int) -> NDArray[np.float64]:
    """Points at the centres of ``per_side`` x ``per_side`` equal cells of the unit square.

    Returns
    -------
    ndarray of float64, shape (per_side ** 2, 2)
        (y, x), row by row.
    """
    centres = (np.arange(per_side) + 0.5) / per_side
    return np.stack(np.meshgrid(centres, centres, indexing="ij"), axis=-1).reshape(-1, 2)


def point_grids(per_side: int, layers: int, downscale: int) -> list[NDArray[np.float64]]:
    """One grid for the picture and one for each layer of crops, each sparser by ``downscale``."""
    return [point_grid(max(1, int(per_side / downscale**layer))) for layer in range(layers + 1)]


def crop_boxes(shape: tuple[int, int], layers: int, overlap_ratio: float) -> list[tuple[Box, int]]:
    """The picture, then layer by layer 2 x 2, 4 x 4, ... crops of it that overlap.

    Parameters
    ----------
    shape : tuple of int
        (y, x) of the picture.
    layers : int
        How often the number of crops per side doubles; 0 for the picture alone.
    overlap_ratio : float
        How much crops of the first layer overlap, as a fraction of the picture's shorter side; half of that
        in the second layer, and so on.

    Returns
    -------
    list of (box, layer)
        Each box (y0, x0, y1, x1), half open.
    """
    height, width = shape
    crops: list[tuple[Box, int]] = [((0, 0, height, width), 0)]
    for layer in range(1, layers + 1):
        per_side = 2**layer
        overlap = int(overlap_ratio * min(shape) * (2 / per_side))
        rows, columns = (_spans(length, per_side, overlap) for length in shape)
        crops += [((y0, x0, y1, x1), layer) for (x0, x1), (y0, y1) in product(columns, rows)]
    return crops


def _spans(length: int, count: int, overlap: int) -> list[tuple[int, int]]:
    """Cut ``length`` pixels into ``count`` equal stretches that overlap; the last may be shorter."""
    size = math.ceil((length + overlap * (count - 1)) / count)
    starts = [index * (size - overlap) for index in range(count)]
    return [(start, min(start + size, length)) for start in starts if start < length]
