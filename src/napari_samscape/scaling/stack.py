"""From labels of single planes to objects of a whole stack, with ids along z, along t, or along both.

Which axis (`LinkOptions.axes`): a stack over z is linked through z, one over t through t. Where there are
both, slices become volumes first, through z within each time point, and then the volumes go on from time
point to time point.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_samscape.errors import InputError
from napari_samscape.scaling.link import NOTHING_SHARED, Ints, Linker, LinkOptions, overlaps, summed

Place = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class PlaneCounts:
    """What is known of one plane, whose objects have the ids 1, 2, ... n.

    Attributes
    ----------
    areas : ndarray of int64, shape (n + 1,)
        Pixels of each id; the first is not looked at.
    shared : mapping
        By axis and distance along it, ("z", 1): rows of an id in the plane so far before this one, an id in
        this one, and the pixels that both have. What is not there shares nothing.
    """

    areas: Ints
    shared: Mapping[tuple[str, int], Ints] = field(default_factory=dict)


def number_stack(
    stacked: Mapping[str, int], counts_of: Callable[[Place], PlaneCounts], options: LinkOptions
) -> tuple[dict[Place, Ints], int]:
    """Number the objects of a whole stack.

    Parameters
    ----------
    stacked : mapping
        Number of planes along each axis before y and x, in the picture's order: {"t": 5, "z": 20}.
    counts_of : callable
        Gives what is known of the plane at a place along these axes; called once for each, in C order.
    options : LinkOptions

    Returns
    -------
    tables : dict
        By place, ndarray of int64, of which item i is the id in the stack of the plane's id i, or 0 if it is
        dropped. Ids are 1, 2, ... without gaps, in the order of each object's first plane (in C order) and of
        its id there.
    count : int
        How many objects there are.
    """
    axes = options.chosen(stacked)
    if axes == "zt":
        tracks, kept = _through_both(stacked, counts_of, options)
    else:
        tracks, kept = _through_one(axes, stacked, counts_of, options)
    number = np.zeros(len(kept) + 1, np.int64)  # the last is that of background, track -1
    tables, count = {}, 0
    for place, of_plane in tracks.items():
        new = of_plane[(of_plane >= 0) & (number[of_plane] == 0)]
        new = new[kept[new]]
        number[new] = np.arange(count + 1, count + len(new) + 1)
        count += len(new)
        tables[place] = number[of_plane]
    return tables, count


def places_before(
    place: Place, stacked: Mapping[str, int], options: LinkOptions
) -> Iterator[tuple[str, int, Place]]:
    """Say which planes' overlaps with the one at ``place`` are wanted: axis, distance, and their place."""
    names = list(stacked)
    for axis, distance in product(options.chosen(stacked), range(1, options.max_gap + 2)):
        before = list(place)
        before[names.index(axis)] -= distance
        if before[names.index(axis)] >= 0:
            yield axis, distance, tuple(before)


def _shared(counts: PlaneCounts, axis: str, options: LinkOptions) -> list[Ints]:
    return [counts.shared.get((axis, distance), NOTHING_SHARED) for distance in range(1, options.max_gap + 2)]


def _through_one(
    axis: str, stacked: Mapping[str, int], counts_of: Callable[[Place], PlaneCounts], options: LinkOptions
) -> tuple[dict[Place, Ints], NDArray[np.bool_]]:
    """Tracks of each plane's ids, and which are kept; what lies apart along another axis stays apart."""
    along = list(stacked).index(axis)
    linkers: dict[Place, Linker] = {}
    tracks: dict[Place, Ints] = {}
    for place in np.ndindex(*stacked.values()):
        counts = counts_of(place)
        linker = linkers.setdefault(place[:along] + place[along + 1 :], Linker(options))
        tracks[place] = linker.add(counts.areas, _shared(counts, axis, options))
    start, starts = 0, {}
    for beside, linker in linkers.items():
        starts[beside] = start
        start += len(linker.found)
    for place, of_plane in tracks.items():
        of_plane[of_plane >= 0] += starts[place[:along] + place[along + 1 :]]
    return tracks, np.concatenate([linker.kept() for linker in linkers.values()])


def _through_both(
    stacked: Mapping[str, int], counts_of: Callable[[Place], PlaneCounts], options: LinkOptions
) -> tuple[dict[Place, Ints], NDArray[np.bool_]]:
    """The same, where slices become volumes and these go on through time."""
    times = Linker(replace(options, min_extent=1))  # how long a volume lasts is not asked
    volumes_of: deque[list[Ints]] = deque(maxlen=options.max_gap + 1)
    tracks: dict[Place, Ints] = {}
    for t in range(stacked["t"]):
        counts = [counts_of((t, z)) for z in range(stacked["z"])]
        slices = Linker(options)
        found = [slices.add(each.areas, _shared(each, "z", options)) for each in counts]
        kept = slices.kept()
        number = np.append(np.where(kept, np.cumsum(kept), 0), 0)
        volumes = [number[of_plane] for of_plane in found]
        areas = np.zeros(int(kept.sum()) + 1, np.int64)
        for of_plane, each in zip(volumes, counts, strict=True):
            np.add.at(areas, of_plane[1:], each.areas[1:])
        shared = [
            _of_volumes(
                before, volumes, [each.shared.get(("t", distance), NOTHING_SHARED) for each in counts]
            )
            for distance, before in enumerate(volumes_of, start=1)
        ]
        of_volume = times.add(areas, shared)
        volumes_of.appendleft(volumes)
        tracks |= {(t, z): of_volume[of_plane] for z, of_plane in enumerate(volumes)}
    return tracks, times.kept()


def _of_volumes(before: Sequence[Ints], now: Sequence[Ints], shared: Sequence[Ints]) -> Ints:
    """What volumes share, added up from what their slices share; dropped ones (0) share nothing."""
    rows = [
        np.column_stack([old[each[:, 0]], new[each[:, 1]], each[:, 2]])
        for old, new, each in zip(before, now, shared, strict=True)
    ]
    joined = np.concatenate(rows)
    return summed(joined[(joined[:, :2] > 0).all(axis=1)])


def link_labels(labels: Any, out: Any, options: LinkOptions | None = None, axes: str = "z") -> int:
    """Link the objects of a stack of label planes; a few planes are in memory at a time.

    Parameters
    ----------
    labels : array_like of int, shape (z, y, x), (t, y, x) or (t, z, y, x)
        Each plane labelled by itself, with any ids above 0; read twice, plane by plane.
    out : array_like
        Where linked labels go, of the same shape; it may be ``labels`` itself.
    options : LinkOptions, optional
    axes : str
        What the axes before y and x are: "z", "t" or "tz".

    Returns
    -------
    int
        Number of objects; ids are as `number_stack` says.

    Examples
    --------
    >>> planes = np.array([[[0, 7, 7]], [[0, 0, 0]], [[0, 3, 3]]])
    >>> link_labels(planes, planes), planes.tolist()
    (1, [[[0, 1, 1]], [[0, 0, 0]], [[0, 1, 1]]])
    """
    options = options or LinkOptions()
    if len(axes) != len(labels.shape) - 2 or axes not in ("z", "t", "tz"):
        raise InputError(f"Labels of the shape {tuple(labels.shape)} are not stacked along '{axes}'.")
    stacked = dict(zip(axes, labels.shape[:-2], strict=True))
    ids: dict[Place, NDArray[Any]] = {}

    def dense(place: Place) -> tuple[NDArray[Any], Ints]:
        plane = np.asarray(labels[place])
        found, inverse = np.unique(plane, return_inverse=True)
        has_background = len(found) > 0 and found[0] == 0
        return found[int(has_background) :], inverse.reshape(plane.shape) + (not has_background)

    def counts_of(place: Place) -> PlaneCounts:
        ids[place], plane = dense(place)
        shared = {
            (axis, distance): overlaps(dense(before)[1], plane)
            for axis, distance, before in places_before(place, stacked, options)
        }
        return PlaneCounts(np.bincount(plane.ravel(), minlength=len(ids[place]) + 1), shared)

    tables, count = number_stack(stacked, counts_of, options)
    for place, table in tables.items():
        out[place] = table[dense(place)[1]]
    return count
