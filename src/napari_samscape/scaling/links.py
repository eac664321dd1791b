"""Objects through a stack, in the engine's terms: planes are counted one by one, then numbered at once.

Between looking at tiles and writing them comes one step for each plane: its tiles are stitched, and what its
objects share with those of the planes before it is counted, tile by tile. The counts are kept as pieces are,
so that a job that was killed does not count again. What is done with them is in `stack` and `link`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from napari_samscape.errors import InputError
from napari_samscape.scaling.engine import Plane
from napari_samscape.scaling.link import Ints, LinkOptions, overlaps, summed
from napari_samscape.scaling.modes import MODES
from napari_samscape.scaling.pieces import read_arrays, written_whole
from napari_samscape.scaling.stack import Place, PlaneCounts, number_stack, places_before
from napari_samscape.scaling.stitch import TileRecord, number_objects
from napari_samscape.scaling.tiles import Index


@dataclass(frozen=True, eq=False)
class PlaneLinks:
    """What is kept of a plane.

    Attributes
    ----------
    ids : mapping
        By tile, ndarray of int64, of which item i is the id in the plane of the tile's local id i.
    counts : PlaneCounts
        Of the ids in the plane.
    """

    ids: Mapping[Index, Ints]
    counts: PlaneCounts


class Store(Protocol):
    """Where this is kept, by the plane's place in the stack."""

    def __contains__(self, place: Place) -> bool:
        """Whether it is there."""
        ...

    def save(self, place: Place, links: PlaneLinks) -> None:
        """Keep it."""
        ...

    def load(self, place: Place) -> PlaneLinks:
        """Give it back."""
        ...


class StoreInMemory:
    """For stacks whose labels are in memory anyway."""

    def __init__(self) -> None:
        self._links: dict[Place, PlaneLinks] = {}

    def __contains__(self, place: Place) -> bool:
        return place in self._links

    def save(self, place: Place, links: PlaneLinks) -> None:
        """Keep it."""
        self._links[place] = links

    def load(self, place: Place) -> PlaneLinks:
        """Give it back."""
        return self._links[place]


class StoreInFolder:
    """On disk, one file for each plane.

    Parameters
    ----------
    folder : Path
        Made when the first is saved.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __contains__(self, place: Place) -> bool:
        return self._path(place).exists()

    def save(self, place: Place, links: PlaneLinks) -> None:
        """Write it and then give the file its name.

        Raises
        ------
        InputError
            If the disk is full, or cannot be written.
        """
        none = np.zeros(0, np.int64)
        shared: dict[str, Any] = {f"{axis}{by}": rows for (axis, by), rows in links.counts.shared.items()}
        with written_whole(self._path(place)) as file:
            np.savez_compressed(
                file,
                tiles=np.array(list(links.ids), np.int64),
                lengths=np.array([len(table) for table in links.ids.values()], np.int64),
                ids=np.concatenate([none, *links.ids.values()]),
                areas=links.counts.areas,
                **shared,
            )

    def load(self, place: Place) -> PlaneLinks:
        """Read it."""
        arrays = read_arrays(self._path(place))
        tables = np.split(arrays["ids"], np.cumsum(arrays["lengths"])[:-1])
        ids = {tuple(map(int, tile)): table for tile, table in zip(arrays["tiles"], tables, strict=True)}
        keys = [name for name in arrays if re.fullmatch(r"[tz]\d+", name)]
        return PlaneLinks(
            ids, PlaneCounts(arrays["areas"], {(name[0], int(name[1:])): arrays[name] for name in keys})
        )

    def _path(self, place: Place) -> Path:
        return self.folder.joinpath(*map(str, place[:-1]), f"{place[-1]}.npz")


@dataclass(frozen=True, eq=False)
class Linking:
    """That objects are linked: how, and where the counts are kept."""

    options: LinkOptions
    store: Store


def check_link(mode: str, stacked: Mapping[str, int], options: LinkOptions | None) -> None:
    """Raise InputError if there is nothing to link in what a mode finds, or along the axes asked for."""
    check_linkable(mode, options)
    if options is not None:
        options.chosen(stacked)


def check_linkable(mode: str, options: LinkOptions | None) -> None:
    """Raise InputError if there is nothing to link in what a mode finds, whatever the picture."""
    if options is not None and MODES[mode].gives_map:
        raise InputError(f"The mode '{mode}' finds no objects, so none can be linked.")


class Stack:
    """The planes of one stack, whose objects are linked.

    Parameters
    ----------
    stacked : mapping
        Number of planes along each axis before y and x.
    plane_at : callable
        Gives the plane at a place. All have the same tiling.
    linking : Linking
    """

    def __init__(
        self, stacked: Mapping[str, int], plane_at: Callable[[Place], Plane], linking: Linking
    ) -> None:
        self.stacked = stacked
        self._plane_at = plane_at
        self._options, self._store = linking.options, linking.store

    def __len__(self) -> int:
        return int(np.prod(list(self.stacked.values())))

    def steps(self) -> Iterator[Callable[[], None]]:
        """Give what is to be done, plane by plane in C order; those done before may be left out."""
        return (partial(self._count, place) for place in np.ndindex(*self.stacked.values()))

    @property
    def objects(self) -> int:
        """How many there are in the whole stack, once all steps are done."""
        return self._numbers[1]

    def tables(self, place: Place) -> dict[Index, Ints]:
        """Give a plane's ids in the stack, once all steps are done: by tile, a table of its local ids."""
        table = self._numbers[0][place]
        return {index: table[ids] for index, ids in self._load(place).ids.items()}

    @cached_property
    def _numbers(self) -> tuple[dict[Place, Ints], int]:
        return number_stack(self.stacked, lambda place: self._load(place).counts, self._options)

    def _load(self, place: Place) -> PlaneLinks:
        if place not in self._store:  # somebody has deleted a damaged file
            self._count(place)
        return self._store.load(place)

    def _count(self, place: Place) -> None:
        plane, found = self._plane_at(place), {}

        def record(index: Index) -> TileRecord | None:
            if index not in plane.pieces:
                return None
            record = plane.pieces.record(index)
            found[index] = record.ids, record.areas
            return record

        ids = number_objects(plane.tiling, record)
        areas = np.zeros(1 + max(int(table.max()) for table in ids.values()), np.int64)
        for index, (local, pixels) in found.items():
            np.add.at(areas, ids[index][local], pixels)
        self._store.save(place, PlaneLinks(ids, PlaneCounts(areas, self._shared(place, plane, ids))))

    def _shared(self, place: Place, plane: Plane, ids: Mapping[Index, Ints]) -> dict[tuple[str, int], Ints]:
        """What a plane's objects share with those of planes before it; one tile is in memory at a time."""
        before = [
            ((axis, distance), self._plane_at(other), self._load(other).ids)
            for axis, distance, other in places_before(place, self.stacked, self._options)
        ]
        rows: dict[tuple[str, int], list[Ints]] = defaultdict(list)
        for tile in plane.tiling:
            if tile.index not in plane.pieces:
                continue
            labels = ids[tile.index][plane.pieces.values(tile.index)]
            for key, other, others in before:
                if tile.index in other.pieces:
                    rows[key].append(overlaps(others[tile.index][other.pieces.values(tile.index)], labels))
        return {key: summed(np.concatenate(each)) for key, each in rows.items()}
