"""Outlines of masks as polygons along the sides of pixels, so that they hold exactly the mask's pixels.

Here the pixel (y, x) covers the square from (x, y) to (x + 1, y + 1), as programs that draw polygons on
pictures have it (QuPath, QGIS), and points are (x, y).
"""

from __future__ import annotations

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
