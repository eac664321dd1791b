"""Points for everything-mode from the dense head of models that have one.

The head gives logits of 'inside an object' and 'near an object's centre' on a coarse grid of *cells* over the
shown picture. First every peak of the centre map is asked; then places that are inside of something, but of
nothing found so far.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from skimage.feature import peak_local_max

from napari_samscape.prediction.types import BoolArray, Embedding

if TYPE_CHECKING:
    from napari_samscape.prediction.options import EverythingOptions
    from napari_samscape.prediction.types import Instance

Points = NDArray[np.float64]


def dense_points(embedding: Embedding, options: EverythingOptions) -> Points:
    """Peaks of the centre map inside the interior map.

    Parameters
    ----------
    embedding : Embedding
        With a dense head.
    options : EverythingOptions
        The ``dense_*`` options are used.

    Returns
    -------
    ndarray of float64, shape (n, 2)
        (y, x) in pixels of the picture, the highest peak first.
    """
    inside, centre = _maps(embedding)
    # Logits, not probabilities: these saturate, and a plateau has no peak.
    score = np.where(inside > _logit(options.dense_inside_thresh), centre, -np.inf)
    cells = peak_local_max(
        score,
        min_distance=options.dense_min_distance,
        threshold_abs=_logit(options.dense_centre_thresh),
        exclude_border=False,
    )
    return _points(cells, embedding)


def missed_points(
    embedding: Embedding, options: EverythingOptions, found: Iterable[Instance], asked: Points
) -> Points:
    """Points deep inside what the interior map holds, but neither a found mask nor a point asked before.

    Parameters
    ----------
    embedding : Embedding
        With a dense head.
    options : EverythingOptions
        The ``dense_*`` options are used.
    found : iterable of Instance
        Boxes in pixels of the embedding's picture.
    asked : ndarray, shape (n, 2)
        Earlier points (y, x); new ones keep `dense_min_distance` from them.

    Returns
    -------
    ndarray of float64, shape (n, 2)
        (y, x) in pixels of the picture, the deepest first.
    """
    inside, _ = _maps(embedding)
    free = (inside > _logit(options.dense_inside_thresh)) & ~covered_cells(embedding, found)
    unasked = np.ones(inside.shape, dtype=bool)
    cells = np.rint(_cells(asked, embedding)).astype(np.int64)
    unasked[tuple(cells.clip(0, np.array(inside.shape) - 1).T)] = False
    # Outside of the picture there is nothing; a ring of it makes depths right at the edges.
    depth = distance_transform_edt(np.pad(free, 1))[1:-1, 1:-1]
    if not unasked.all():
        depth[distance_transform_edt(unasked) <= options.dense_min_distance] = 0
    # A depth of one cell is the rim that every mask leaves of its object.
    peaks = peak_local_max(
        depth, min_distance=options.dense_min_distance, threshold_abs=1, exclude_border=False
    )
    return _points(peaks, embedding)


def outside(embedding: Embedding, items: Iterable[Instance], points: Points) -> Points:
    """Those of the points (n, 2) in pixels of the picture that lie in cells of none of the masks."""
    covered = covered_cells(embedding, items)
    cells = np.rint(_cells(points, embedding)).astype(np.int64).clip(0, np.array(covered.shape) - 1)
    return points[~covered[tuple(cells.T)]]


def covered_cells(embedding: Embedding, found: Iterable[Instance]) -> BoolArray:
    """Cells of the dense head, shape (h', w'), whose centres lie in one of the masks."""
    shape = _maps(embedding)[0].shape
    # The pixel of the picture that holds each cell's centre.
    scale = np.array(embedding.input_shape) / np.array(embedding.image_shape)
    stride = _stride(embedding)
    rows, columns = (
        ((np.arange(n) + 0.5) * stride / s).astype(np.int64) for n, s in zip(shape, scale, strict=True)
    )
    covered = np.zeros(shape, dtype=bool)
    for item in found:
        y0, x0, y1, x1 = item.box
        top, bottom = np.searchsorted(rows, (y0, y1))
        left, right = np.searchsorted(columns, (x0, x1))
        part = item.mask[np.ix_(rows[top:bottom] - y0, columns[left:right] - x0)]
        covered[top:bottom, left:right] |= part
    return covered


def _maps(embedding: Embedding) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Logits of inside and centre, each (h', w'), without the cells of the padding."""
    assert embedding.dense is not None
    stride = _stride(embedding)
    height, width = (math.ceil(length / stride) for length in embedding.input_shape)
    inside, centre = embedding.dense[0, :2, :height, :width].float().cpu().numpy()
    return inside, centre


def _stride(embedding: Embedding) -> int:
    """Pixels of the shown picture per cell; the longer side is hardly padded, so rounding removes it."""
    assert embedding.dense is not None
    return round(max(embedding.input_shape) / max(embedding.dense.shape[-2:]))


def _points(cells: NDArray[np.int64], embedding: Embedding) -> Points:
    """Cells (n, 2) to the points of the picture that are shown to the model at the cells' centres."""
    shown = (cells + 0.5) * _stride(embedding) - 0.5
    points = shown * (np.array(embedding.image_shape) / np.array(embedding.input_shape))
    return points.clip(0, np.array(embedding.image_shape) - 1)


def _cells(points: Points, embedding: Embedding) -> Points:
    """Points of the picture (n, 2) to fractional cells; the inverse of `_points`."""
    shown = points * (np.array(embedding.input_shape) / np.array(embedding.image_shape))
    return (shown + 0.5) / _stride(embedding) - 0.5


def _logit(probability: float) -> float:
    if probability in (0, 1):
        return -math.inf if probability == 0 else math.inf
    return math.log(probability / (1 - probability))
