"""Outlines of masks as polygons along the sides of pixels, so that they hold exactly the mask's pixels.

Here the pixel (y, x) covers the square from (x, y) to (x + 1, y + 1), as programs that draw polygons on
pictures have it (QuPath, QGIS), and points are (x, y).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import find_contours, label

#: Closed: the last point is the first. Where y points up, outer rings run counterclockwise, as GeoJSON asks,
#: and holes clockwise.
Ring = list[list[int]]
#: The outer ring, then its holes.
Polygon = list[Ring]


def mask_polygons(mask: NDArray[np.bool_], offset: tuple[int, int] = (0, 0)) -> list[Polygon]:
    """Outline a mask.

    Parameters
    ----------
    mask : ndarray of bool, shape (y, x)
    offset : tuple of int
        (y, x) in the picture of the mask's first pixel.

    Returns
    -------
    list of polygons
        One for each connected part; pixels that touch by a corner only are apart, for parts and for holes,
        so that no ring touches itself. An island within a hole is a polygon of its own.
    """
    parts = label(mask, connectivity=1)
    polygons = []
    for number, where in enumerate(ndimage.find_objects(parts), start=1):
        part = parts[where] == number
        corner = (where[0].start + offset[0], where[1].start + offset[1])
        whole = ndimage.binary_fill_holes(part)
        holes = label(whole & ~part, connectivity=1)
        inner = [_ring(holes == hole, corner)[::-1] for hole in range(1, int(holes.max()) + 1)]
        polygons.append([_ring(whole, corner), *inner])
    return polygons


def polygon_mask(polygons: Sequence[Sequence[Any]]) -> tuple[NDArray[np.bool_], tuple[int, int]]:
    """Fill polygons: the opposite of `mask_polygons`, and exact where all corners are corners of pixels.

    Parameters
    ----------
    polygons : sequence of polygons
        Each a sequence of closed rings of points (x, y): the outer one, then its holes. A pixel belongs to
        them if its middle lies within an odd number of rings.

    Returns
    -------
    mask : ndarray of bool, shape (y, x)
    offset : tuple of int
        (y, x) in the picture of the mask's first pixel.
    """
    rings = [np.asarray(ring, dtype=np.float64).reshape(-1, 2) for polygon in polygons for ring in polygon]
    points = np.concatenate(rings)
    x0, y0 = np.floor(points.min(axis=0)).astype(int)
    x1, y1 = np.ceil(points.max(axis=0)).astype(int)
    crossed = np.zeros((y1 - y0, x1 - x0 + 1), bool)
    middles = np.arange(y0, y1) + 0.5
    for ring in rings:
        for (xa, ya), (xb, yb) in zip(ring[:-1], ring[1:], strict=True):
            if ya == yb:
                continue
            rows = np.flatnonzero((middles >= min(ya, yb)) & (middles < max(ya, yb)))
            x = xa + (middles[rows] - ya) * (xb - xa) / (yb - ya)
            # Whatever lies to the right of the side, by its middle, is on the other side of it.
            np.logical_xor.at(crossed, (rows, np.ceil(x - 0.5).astype(int) - x0), True)
    mask = np.logical_xor.accumulate(crossed, axis=1)[:, :-1]
    return mask, (int(y0), int(x0))


def _ring(region: NDArray[np.bool_], corner: tuple[int, int]) -> Ring:
    """The outline of one region without holes; ``corner`` is (y, x) of its first pixel."""
    # The contour at one half visits the middles of the pixels' sides; `find_contours` counts from pixels'
    # centres, of which the margin lies one further out.
    (middles,) = find_contours(np.pad(region, 1).astype(np.uint8), 0.5, positive_orientation="low")
    across = middles[:, 0] % 1 == 0.5  # the side lies between two rows
    # Where the next side lies the other way, the outline turns, where the two sides' lines meet.
    turns = np.flatnonzero(across[:-1] != across[1:])
    first, second = middles[turns], middles[turns + 1]
    y = np.where(across[turns], first[:, 0], second[:, 0]) - 0.5 + corner[0]
    x = np.where(across[turns], second[:, 1], first[:, 1]) - 0.5 + corner[1]
    points = np.stack([x, y], axis=1).astype(int).tolist()
    return [*points, points[0]]
