"""Numbers that say how alike masks are; nothing here knows models or files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from scipy.stats import rankdata

from napari_samscape.prediction.types import BoolArray, Instance

FloatArray = NDArray[np.float64]
#: IoU from which on a found object counts as the true one, from DSB 2018 and COCO.
THRESHOLDS = np.arange(50, 100, 5) / 100


def intersections(one: Sequence[Instance], other: Sequence[Instance]) -> NDArray[np.int64]:
    """Number of pixels that each of ``one`` shares with each of ``other``, shape (n, m)."""
    shared = np.zeros((len(one), len(other)), dtype=np.int64)
    if shared.size == 0:
        return shared
    boxes = np.array([item.box for item in other])
    masks = [item.mask for item in other]
    for row, item in enumerate(one):
        y0, x0, y1, x1 = item.box
        mask = item.mask
        near = (boxes[:, 0] < y1) & (boxes[:, 1] < x1) & (boxes[:, 2] > y0) & (boxes[:, 3] > x0)
        for column in np.flatnonzero(near):
            v0, u0, v1, u1 = boxes[column]
            top, left, bottom, right = max(y0, v0), max(x0, u0), min(y1, v1), min(x1, u1)
            mine = mask[top - y0 : bottom - y0, left - x0 : right - x0]
            theirs = masks[column][top - v0 : bottom - v0, left - u0 : right - u0]
            shared[row, column] = np.count_nonzero(mine & theirs)
    return shared


def iou_matrix(one: Sequence[Instance], other: Sequence[Instance]) -> FloatArray:
    """Intersection over union of each of ``one`` with each of ``other``, shape (n, m)."""
    shared = intersections(one, other)
    areas = [np.array([item.area for item in items], dtype=np.int64) for items in (one, other)]
    union = areas[0][:, None] + areas[1][None] - shared
    return np.divide(shared, union, out=np.zeros(shared.shape), where=union > 0)


def count_matches(iou: FloatArray, thresholds: ArrayLike = THRESHOLDS) -> NDArray[np.int64]:
    """How many pairs can be made of true and found objects at each threshold.

    Parameters
    ----------
    iou : ndarray, shape (true, found)
    thresholds : array_like, shape (t,)
        A pair needs at least this IoU.

    Returns
    -------
    ndarray of int64, shape (t,)

    Notes
    -----
    As StarDist's ``matching``: the most pairs, and among these the highest sum of IoU. Each object is in at
    most one pair.
    """
    counts = []
    for threshold in np.asarray(thresholds).ravel():
        if min(iou.shape) == 0 or not (iou >= threshold).any():
            counts.append(0)
            continue
        good = iou >= threshold
        rows, columns = linear_sum_assignment(-good.astype(float) - iou / (2 * min(iou.shape)))
        counts.append(int(good[rows, columns].sum()))
    return np.array(counts, dtype=np.int64)


def precision(matches: ArrayLike, true: ArrayLike, found: ArrayLike) -> FloatArray:
    """TP / (TP + FP + FN), StarDist's and DSB 2018's 'average precision'; 1 where there is nothing at all."""
    hits = np.asarray(matches, dtype=np.float64)
    everyone = np.asarray(true, dtype=np.float64) + np.asarray(found, dtype=np.float64) - hits
    return np.divide(hits, everyone, out=np.ones(np.broadcast(hits, everyone).shape), where=everyone > 0)


def aggregated_jaccard(true: Sequence[Instance], found: Sequence[Instance]) -> float:
    """Aggregated Jaccard index of one picture (Kumar et al., IEEE TMI 2017, algorithm 1).

    Each true object takes the found one of highest IoU; the intersections are summed over the unions, to
    which the areas of all found objects that nothing took are added. 1 where there is nothing at all.
    """
    areas = np.array([item.area for item in true], dtype=np.int64)
    others = np.array([item.area for item in found], dtype=np.int64)
    if len(areas) == 0 or len(others) == 0:
        return float(len(areas) == len(others))
    shared = intersections(true, found)
    union = areas[:, None] + others[None] - shared
    rows = np.arange(len(areas))
    best = (shared / union).argmax(axis=1)
    hit = shared[rows, best] > 0
    left_over = np.ones(len(others), dtype=bool)
    left_over[best[hit]] = False
    total = union[rows, best][hit].sum() + areas[~hit].sum() + others[left_over].sum()
    return float(shared[rows, best][hit].sum() / total)


def mostly_inside(items: Sequence[Instance], region: BoolArray | None) -> BoolArray:
    """Which of the instances have more than half of their pixels in a region (y, x), shape (n,)."""
    if region is None:
        return np.zeros(len(items), dtype=bool)
    inside = [np.count_nonzero(item.mask & region[_slices(item)]) for item in items]
    return np.array(inside) * 2 > np.array([item.area for item in items])


def _slices(item: Instance) -> tuple[slice, slice]:
    y0, x0, y1, x1 = item.box
    return slice(y0, y1), slice(x0, x1)


def bootstrap_interval(
    numerators: ArrayLike, denominators: ArrayLike, *, resamples: int = 1000, seed: int = 0
) -> tuple[float, float] | None:
    """95 % interval of a ratio of sums over pictures, by drawing pictures with replacement.

    Parameters
    ----------
    numerators, denominators : array_like, shape (n,)
        One for each picture; a mean over objects has the sum and the number of objects.
    resamples : int
    seed : int

    Returns
    -------
    tuple of float, or None
        Percentiles 2.5 and 97.5; None for fewer than two pictures, which say nothing of others.
    """
    above, below = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    if len(above) < 2:
        return None
    drawn = np.random.default_rng(seed).integers(len(above), size=(resamples, len(above)))
    tops, bottoms = above[drawn].sum(axis=1), below[drawn].sum(axis=1)
    ratios = tops[bottoms > 0] / bottoms[bottoms > 0]
    if len(ratios) == 0:
        return None
    low, high = np.percentile(ratios, (2.5, 97.5))
    return float(low), float(high)


def rank_correlation(one: ArrayLike, other: ArrayLike) -> float | None:
    """Spearman's rank correlation; None where a list is constant or shorter than two."""
    ranks = [rankdata(values) for values in (one, other)]
    if len(ranks[0]) < 2 or any(np.ptp(rank) == 0 for rank in ranks):
        return None
    return float(np.corrcoef(*ranks)[0, 1])


def calibration(predicted: ArrayLike, true: ArrayLike, bins: int = 10) -> list[dict[str, Any]]:
    """Mean predicted and mean true IoU in equal bins of the predicted one; empty bins are left out.

    Returns
    -------
    list of dict
        ``n``, ``predicted`` and ``true`` of each bin, lowest first. What is predicted below 0 or above 1 is
        in the first or last bin.
    """
    said, is_so = np.asarray(predicted, dtype=np.float64), np.asarray(true, dtype=np.float64)
    index = np.clip((said * bins).astype(int), 0, bins - 1)
    return [
        {
            "n": int((index == number).sum()),
            "predicted": float(said[index == number].mean()),
            "true": float(is_so[index == number].mean()),
        }
        for number in range(bins)
        if (index == number).any()
    ]
