"""Objects of single planes followed along one axis, z or t.

Planes come one after another. Of each, only counts are needed: the pixels of its objects, and the pixels
that these share with the objects of the planes before it (`overlaps`, which can be added up over parts).
A `Linker` goes through such counts along one axis. Each object of a plane goes on with at most one object of
the plane before, and the other way round, such that the sum of their IoU is as high as can be. Where a slice
misses an object, it goes on from the last slice that has it, if that is near enough.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from napari_samscape.errors import InputError

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class LinkOptions:
    """How objects are followed through a stack.

    Attributes
    ----------
    min_iou : float
        Two objects of neighbouring slices may be one only if their intersection over union is at least this.
        Objects end in caps, which shrink quickly, so it is lower than for two views of the same thing.
    max_gap : int
        So many slices in between may miss an object, if the IoU over the gap is at least one half, too. There
        it stays missing, but its id goes on.
    min_extent : int
        Objects found in fewer slices are dropped: what is in one only is mostly a cap that overlaps too
        little with its object, or an error. Slices are counted along z where that is linked, else frames.
    axes : str or None
        "z", "t", or "zt" for both, z first; all that the stack has where left out.

    Raises
    ------
    InputError
        If a number is out of its range, or the axes are others.
    """

    min_iou: float = 0.25
    max_gap: int = 1
    min_extent: int = 2
    axes: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.min_iou <= 1:
            raise InputError(
                f"The least IoU of linked objects must be above 0 and at most 1, not {self.min_iou}."
            )
        for value, name, least in ((self.max_gap, "gap", 0), (self.min_extent, "least extent", 1)):
            if not isinstance(value, int) or value < least:
                raise InputError(
                    f"The {name} of linked objects must be a whole number from {least} on, not {value}."
                )
        if self.axes not in (None, "z", "t", "zt", "tz"):
            raise InputError(f"Objects are linked along 'z', 't' or 'zt', not along '{self.axes}'.")

    def chosen(self, stacked: Mapping[str, int]) -> str:
        """Which axes of a stack are linked, in this order; ``stacked`` has the number of planes along each.

        Raises
        ------
        InputError
            If one was asked for that the stack does not have, or it has none at all.
        """
        there = [axis for axis in "zt" if axis in stacked]
        missing = [axis for axis in self.axes or "" if axis not in there]
        if missing or not there:
            has = f"it is stacked along {' and '.join(there)}" if there else "it is a single plane"
            along = f" along {missing[0]}" if missing else ""
            raise InputError(f"The objects of this picture cannot be linked{along}; {has}.")
        return "".join(axis for axis in there if axis in (self.axes or "zt"))


#: Least IoU over a gap. An object that a slice has missed looks much the same on both sides, whereas two that
#: lie one above the other show their caps. On true labels of nuclei, 0.25 made one of two far more often.
GAP_MIN_IOU = 0.5
NOTHING_SHARED = np.zeros((0, 3), np.int64)


def overlaps(one: NDArray[Any], other: NDArray[Any]) -> Ints:
    """Count the pixels that objects of two label images of the same shape share.

    Returns
    -------
    ndarray of int64, shape (n, 3)
        Rows of an id in ``one``, an id in ``other``, and the pixels that both have, ascending; 0 is left out.
    """
    both = (one > 0) & (other > 0)
    width = int(other.max(initial=0)) + 1
    keys, pixels = np.unique(one[both].astype(np.int64) * width + other[both], return_counts=True)
    return np.column_stack([*np.divmod(keys, width), pixels]).astype(np.int64, copy=False)


def summed(rows: Ints) -> Ints:
    """Add up the pixels of equal pairs of ids; rows as `overlaps` gives them, of several parts together."""
    if len(rows) == 0:
        return NOTHING_SHARED
    pairs, which = np.unique(rows[:, :2], axis=0, return_inverse=True)
    pixels = np.zeros(len(pairs), np.int64)
    np.add.at(pixels, which.ravel(), rows[:, 2])
    return np.column_stack([pairs, pixels])


def assign(rows: Ints, areas: tuple[Ints, Ints], min_iou: float) -> Ints:
    """Pair objects one to one, such that the sum of their IoU is as high as can be.

    Parameters
    ----------
    rows : ndarray of int64, shape (n, 3)
        See `overlaps`.
    areas : pair of ndarray of int64
        Pixels by id, of both sides.
    min_iou : float
        What is less alike is no pair.

    Returns
    -------
    ndarray of int64, shape (k, 2)
        Pairs of ids, ascending.

    Notes
    -----
    Objects that share no pixel, directly or through others, cannot take partners from each other. So each
    such group is solved by itself, and nothing grows with the square of the number of objects.
    """
    union = areas[0][rows[:, 0]] + areas[1][rows[:, 1]] - rows[:, 2]
    iou = rows[:, 2] / np.maximum(union, 1)
    likely = iou >= min_iou
    pairs, iou = rows[likely, :2], iou[likely]
    if len(pairs) == 0:
        return np.zeros((0, 2), np.int64)
    first, second = (np.unique(side, return_inverse=True) for side in pairs.T)
    count = len(first[0]) + len(second[0])
    edges = first[1], second[1] + len(first[0])
    graph = coo_array((np.ones(len(pairs), bool), edges), shape=(count, count))
    group = connected_components(graph, directed=False)[1][edges[0]]
    order = np.argsort(group, kind="stable")
    kept = [
        part if len(part) == 1 else part[_best(pairs[part], iou[part])]
        for part in np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
    ]
    return pairs[np.sort(np.concatenate(kept))]


def _best(pairs: Ints, iou: NDArray[np.float64]) -> Ints:
    """Which of the pairs of one group are taken."""
    (rows, row), (columns, column) = (np.unique(side, return_inverse=True) for side in pairs.T)
    gain = np.zeros((len(rows), len(columns)))
    gain[row, column] = iou
    place = np.full(gain.shape, -1)
    place[row, column] = np.arange(len(pairs))
    taken = place[linear_sum_assignment(gain, maximize=True)]
    chosen: Ints = taken[taken >= 0]
    return chosen


@dataclass(eq=False)
class _Seen:
    """One of the last slices: by id, the track, the pixels, and whether the track ends there so far."""

    tracks: Ints
    areas: Ints
    is_end: NDArray[np.bool_]


class Linker:
    """Follows objects along one axis, slice after slice.

    Parameters
    ----------
    options : LinkOptions

    Attributes
    ----------
    found : list of int
        By track, in how many slices it is.
    """

    def __init__(self, options: LinkOptions) -> None:
        self.options = options
        self.found: list[int] = []
        self._seen: deque[_Seen] = deque(maxlen=options.max_gap + 1)

    def add(self, areas: Ints, shared: Sequence[Ints]) -> Ints:
        """Take the next slice.

        Parameters
        ----------
        areas : ndarray of int64, shape (n + 1,)
            Pixels by id; the first is not looked at.
        shared : sequence of ndarray of int64, shape (k, 3)
            What it shares with the slice before it, with that before the latter, and so on.

        Returns
        -------
        ndarray of int64, shape (n + 1,)
            By id, the number of its track, from 0 on in the order of slices and then of ids; -1 for
            background.
        """
        tracks = np.full(len(areas), -1, np.int64)
        # The nearest slice first: what was found there is better evidence than what was found before.
        for distance, (seen, rows) in enumerate(zip(self._seen, shared, strict=False), start=1):
            free = rows[seen.is_end[rows[:, 0]] & (tracks[rows[:, 1]] < 0)]
            least = self.options.min_iou if distance == 1 else max(self.options.min_iou, GAP_MIN_IOU)
            pairs = assign(free, (seen.areas, areas), least)
            tracks[pairs[:, 1]] = seen.tracks[pairs[:, 0]]
            seen.is_end[pairs[:, 0]] = False
        new = np.flatnonzero(tracks[1:] < 0) + 1
        tracks[new] = np.arange(len(self.found), len(self.found) + len(new))
        self.found += [0] * len(new)
        for track in tracks[1:]:
            self.found[track] += 1
        self._seen.appendleft(_Seen(tracks, areas, np.ones(len(areas), bool)))
        return tracks

    def kept(self) -> NDArray[np.bool_]:
        """By track, whether it is in enough slices."""
        return np.array(self.found, np.int64) >= self.options.min_extent
