"""Small pictures of the masks, side by side in the same frame, so that they can be compared."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion

from napari_samscape.widgets.resample import bounding_box

TINT = np.array([255, 176, 0], dtype=float)
SIDE = 84
"""Width and height of a thumbnail, in pixels."""
LEAST = 24
"""The frame is never smaller than this many pixels of the picture, or nothing could be recognised."""


def thumbnails(
    picture: NDArray[np.uint8], masks: NDArray[np.bool_], side: int = SIDE
) -> list[NDArray[np.uint8]]:
    """Draw each mask over the picture, cut out around all of them.

    Parameters
    ----------
    picture : ndarray of uint8, shape (y', x', 3)
        The picture, possibly with fewer pixels than the masks.
    masks : ndarray of bool, shape (n, y, x)
        The masks.
    side : int
        Width and height of a thumbnail, in pixels.

    Returns
    -------
    list of ndarray of uint8, shape (side, side, 3)
    """
    rows, columns = _frame(masks, side)
    inside = ((rows >= 0) & (rows < masks.shape[1]))[:, None] & ((columns >= 0) & (columns < masks.shape[2]))[
        None
    ]
    y = np.clip(rows, 0, masks.shape[1] - 1)
    x = np.clip(columns, 0, masks.shape[2] - 1)
    height, width = picture.shape[:2]
    background = picture[(y * height // masks.shape[1])[:, None], x * width // masks.shape[2]]
    background = np.where(inside[..., None], background, 38)
    return [_over(background, mask[y[:, None], x] & inside) for mask in masks]


def _frame(masks: NDArray[np.bool_], side: int) -> tuple[NDArray, NDArray]:
    """Rows and columns, `side` of each, of a square round all masks with some air; they may lie outside."""
    union: NDArray[np.bool_] = np.logical_or.reduce(masks)
    y0, x0, y1, x1 = bounding_box(union) if union.any() else (0, 0, *union.shape)
    size = max(1.25 * max(y1 - y0, x1 - x0), LEAST)
    steps = ((np.arange(side) + 0.5) / side - 0.5) * size
    return (
        np.floor((y0 + y1) / 2 + steps).astype(int),
        np.floor((x0 + x1) / 2 + steps).astype(int),
    )


def _over(background: NDArray, mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    edge = mask & ~binary_erosion(mask, iterations=1)
    share = np.where(edge, 1.0, np.where(mask, 0.35, 0.0))[..., None]
    return np.asarray(background * (1 - share) + TINT * share).astype(np.uint8)
