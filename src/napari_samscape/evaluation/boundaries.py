"""BSDS500's measure of edge maps: how much of what humans drew is found, and how much of a map they drew.

Sources: D. Martin, C. Fowlkes, J. Malik, "Learning to detect natural image boundaries using local brightness,
color, and texture cues", IEEE TPAMI 2004, appendix B (which pixels belong together); P. Arbelaez, M. Maire,
C. Fowlkes, J. Malik, "Contour detection and hierarchical image segmentation", IEEE TPAMI 2011 (ODS, OIS, AP);
P. Dollar, C. L. Zitnick, "Fast edge detection using structured forests", IEEE TPAMI 2015 (R50).

The map is cut at each of 99 thresholds and thinned. Its pixels and those of one human are paired, each with
at most one of the other, no pair further apart than 0.0075 of the picture's diagonal, such that the sum of
all distances is least, where a pixel left alone costs 100 times the largest distance: in effect the most
pairs, and among these the nearest. Recall is the share of human pixels in a pair, summed over the humans;
precision is the share of the map's pixels that are in a pair with any of the humans.

Known differences from the original program, which the definition above leaves open: the best pairs are found
exactly, where the original allows each pixel a few random partners as outliers and rounds distances to 0.01;
the map is not rounded to the 256 values of a PNG; thinning is scikit-image's, by the same algorithm (Guo and
Hall 1989) as the original's, and may leave another pixel here and there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from skimage.morphology import thin

from napari_samscape.errors import InputError
from napari_samscape.prediction.types import BoolArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

MAX_DISTANCE = 0.0075  # of a pair, in diagonals of the picture
OUTLIER_COST = 100  # of a pixel that is left alone, in largest distances
MIXTURES = 100  # steps from one threshold to the next when the best F is looked for


class Counts(NamedTuple):
    """Numbers of pixels at each threshold, each of shape (..., t); sums of several pictures are counts, too.

    Attributes
    ----------
    recalled, human : ndarray of int64
        Pixels of the humans' boundaries, summed over the humans: in a pair, and all.
    precise, drawn : ndarray of int64
        Pixels of the thinned map: in a pair with any of the humans, and all.
    """

    recalled: IntArray
    human: IntArray
    precise: IntArray
    drawn: IntArray

    @property
    def recall(self) -> FloatArray:
        """Found of the humans' pixels; 0 where they drew none."""
        return self.recalled / np.maximum(self.human, 1)

    @property
    def precision(self) -> FloatArray:
        """True of the map's pixels; 0 where there are none."""
        return self.precise / np.maximum(self.drawn, 1)

    @property
    def total(self) -> Counts:
        """Summed over the first axis."""
        return Counts(*(part.sum(axis=0) for part in self))

    def at(self, *index: Any) -> Counts:
        """All four, indexed alike."""
        return Counts(*(part[index] for part in self))


class _Pairs(NamedTuple):
    """Pixels of a map and of a human that are near enough; the former by their index in the flat picture."""

    drawn: IntArray
    human: IntArray
    distance: FloatArray

    def within(self, region: BoolArray) -> _Pairs:
        """Those whose pixel of the map lies in a region (y, x)."""
        inside = region.ravel()[self.drawn]
        return _Pairs(self.drawn[inside], self.human[inside], self.distance[inside])


def thresholds(count: int = 99) -> FloatArray:
    """Where maps of values from 0 to 1 are cut: 1 / (count + 1), 2 / (count + 1), and so on.

    Raises
    ------
    InputError
        If there are none.
    """
    if count < 1:
        raise InputError(f"An edge map must be cut at one threshold at least; {count} are none.")
    return np.arange(1, count + 1) / (count + 1)


def count_boundary_pixels(
    strength: NDArray[Any], humans: BoolArray, levels: ArrayLike | None = None
) -> Counts:
    """Compare an edge map of one picture with what humans drew.

    Parameters
    ----------
    strength : ndarray, shape (y, x)
        From 0 to 1; it is thinned here in any case.
    humans : ndarray of bool, shape (k, y, x)
        Boundaries as each of the humans drew them.
    levels : array_like, shape (t,), optional
        Thresholds in ascending order; BSDS500's 99 where left out. A pixel counts from its threshold on.

    Returns
    -------
    Counts
        Each of shape (t,).

    Raises
    ------
    InputError
        If the shapes do not go together.
    """
    if strength.ndim != 2 or humans.ndim != 3 or humans.shape[1:] != strength.shape:
        raise InputError(
            f"An edge map of the shape {strength.shape} cannot be compared with boundaries of the shape "
            f"{humans.shape}; it takes (y, x) and (k, y, x)."
        )
    # In the map's own type, so that a pixel of 0.29 is not below 0.29.
    cuts = np.asarray(thresholds() if levels is None else levels).astype(strength.dtype)
    reach = MAX_DISTANCE * float(np.hypot(*strength.shape))
    pairs = [_near(human, reach) for human in humans]
    counts = np.zeros((len(cuts), 4), dtype=np.int64)
    before = None
    for index, level in enumerate(cuts):
        cut = strength >= level
        if before is not None and np.array_equal(cut, before):
            counts[index] = counts[index - 1]
            continue
        # What is below this threshold is below all that follow.
        pairs = [some.within(cut) for some in pairs]
        counts[index] = _counts_of(thin(cut), pairs, reach)
        before = cut
    counts[:, 1] = np.count_nonzero(humans)
    return Counts(*counts.T)


def _counts_of(lines: BoolArray, pairs: Sequence[_Pairs], reach: float) -> tuple[int, int, int, int]:
    """`Counts` of one threshold, in order, but for the number of human pixels."""
    hit = np.zeros(lines.size, dtype=bool)
    recalled = 0
    for some in pairs:
        matched = matched_pixels(some.within(lines), reach)
        hit[matched] = True
        recalled += len(matched)
    return recalled, 0, int(np.count_nonzero(hit)), int(np.count_nonzero(lines))


def _near(human: BoolArray, reach: float) -> _Pairs:
    """Each pixel of a human with each place of the picture that is near enough."""
    steps = np.arange(-int(reach), int(reach) + 1)
    dy, dx = (part.ravel() for part in np.meshgrid(steps, steps, indexing="ij"))
    distance = np.hypot(dy, dx)
    near = distance <= reach
    y, x = (where[:, None] + step[near] for where, step in zip(np.nonzero(human), (dy, dx), strict=True))
    inside = (y >= 0) & (x >= 0) & (y < human.shape[0]) & (x < human.shape[1])
    number, step = np.nonzero(inside)
    return _Pairs((y * human.shape[1] + x)[inside], number, distance[near][step])


def matched_pixels(pairs: _Pairs, reach: float) -> IntArray:
    """Pixels of the map that get a partner, as the module's head describes; their number is that of pairs.

    Parameters
    ----------
    pairs : _Pairs
        All that are allowed.
    reach : float
        The largest distance, in pixels.

    Returns
    -------
    ndarray of int64, shape (n,)
        Indices in the flat picture.
    """
    if len(pairs.drawn) == 0:
        return pairs.drawn
    drawn, rows = _numbered(pairs.drawn)
    human, columns = _numbered(pairs.human)
    n, m = len(drawn), len(human)
    swapped = n > m  # fewer rows take less time
    if swapped:
        n, m, rows, columns = m, n, columns, rows
    # A column of its own for each row that is left alone; one of the other side then is, too. A weight must
    # not be 0, so all have 1 more, which changes nothing, since every row has one.
    alone = 2 * OUTLIER_COST * reach
    own = np.arange(n)
    weights = np.concatenate([pairs.distance, np.full(n, alone)]) + 1
    where = np.concatenate([rows, own]), np.concatenate([columns, m + own])
    row, column = min_weight_full_bipartite_matching(csr_matrix((weights, where), shape=(n, m + n)))
    paired = column < m
    return drawn[column[paired] if swapped else row[paired]]


def _numbered(ids: IntArray) -> tuple[IntArray, IntArray]:
    """The ids that occur, ascending, and for each its place among them; quicker than sorting."""
    there = np.zeros(int(ids.max()) + 1, dtype=bool)
    there[ids] = True
    occurring = np.flatnonzero(there)
    place = np.zeros(len(there), dtype=np.int64)
    place[occurring] = np.arange(len(occurring))
    return occurring, place[ids]


def boundary_figures(counts: Counts, levels: ArrayLike) -> dict[str, float | None]:
    """BSDS500's figures of a data set.

    Parameters
    ----------
    counts : Counts
        Each of shape (pictures, t).
    levels : array_like, shape (t,)
        The thresholds, ascending.

    Returns
    -------
    dict
        ``ods``: F of the data set at its best threshold, with ``ods_recall``, ``ods_precision`` and
        ``ods_threshold``. ``ois``: F when each picture has its own best threshold. ``ap``: the area under the
        curve of precision against recall. ``r50``: recall at a precision of one half, None if that is never
        reached.

    Notes
    -----
    As the original: between thresholds the counts' ratios are interpolated for ODS, but not for OIS. AP takes
    the curve at recalls 0, 0.01, ..., 1, and 0 where it does not reach; so a map of zeros and ones, whose
    curve is a point, has an AP of 0. R50 is interpolated between points in the order of their precision, and
    is that at the lowest precision where all are above one half.
    """
    total = counts.total
    own = f_measure(counts.recall, counts.precision).argmax(axis=1)
    best = counts.at(np.arange(len(own)), own).total
    return {
        **best_f(total, levels),
        "ois": float(f_measure(best.recall, best.precision)),
        "ap": average_precision(total),
        "r50": recall_at_half(total),
    }


def f_measure(recall: FloatArray, precision: FloatArray) -> FloatArray:
    """Harmonic mean, 0 where both are."""
    both = np.asarray(recall + precision)
    return np.divide(2 * recall * precision, both, out=np.zeros_like(both), where=both > 0)


def best_f(total: Counts, levels: ArrayLike) -> dict[str, float]:
    """The best F of a data set, (t,), with the recall, precision and threshold where it is reached."""
    mix = np.linspace(0, 1, MIXTURES)
    lines = [total.recall, total.precision, np.asarray(levels, dtype=np.float64)]
    recall, precision, level = (
        line if len(line) == 1 else (line[:-1, None] * (1 - mix) + line[1:, None] * mix).ravel()
        for line in lines
    )
    f = f_measure(recall, precision)
    best = int(f.argmax())
    return {
        "ods": float(f[best]),
        "ods_recall": float(recall[best]),
        "ods_precision": float(precision[best]),
        "ods_threshold": float(level[best]),
    }


def average_precision(total: Counts) -> float:
    """Area under the curve of precision against recall, (t,)."""
    recall, first = np.unique(total.recall, return_index=True)
    if len(recall) < 2:
        return 0.0
    at = np.interp(np.arange(101) / 100, recall, total.precision[first], left=0, right=0)
    return float(at.sum() / 100)


def recall_at_half(total: Counts) -> float | None:
    """Recall where precision is one half, (t,); None where it is always below."""
    drawn = total.drawn > 0
    precision, first = np.unique(total.precision[drawn], return_index=True)
    if len(precision) == 0 or precision[-1] < 0.5:
        return None
    return float(np.interp(0.5, precision, total.recall[drawn][first]))


def ods_interval(
    counts: Counts, levels: ArrayLike, *, resamples: int = 1000, seed: int = 0
) -> tuple[float, float] | None:
    """95 % interval of ODS, by drawing pictures with replacement; None for fewer than two pictures."""
    pictures = len(counts.drawn)
    if pictures < 2:
        return None
    rng = np.random.default_rng(seed)
    found = [
        best_f(counts.at(rng.integers(pictures, size=pictures)).total, levels)["ods"]
        for _ in range(resamples)
    ]
    low, high = np.percentile(found, (2.5, 97.5))
    return float(low), float(high)
