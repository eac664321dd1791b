"""An array of any size to labels, or to a map, in two passes over its tiles.

First, each tile is looked at by itself and what was found is kept (`look_at_tiles`). Then objects are
numbered over all tiles and each tile's core is written (`Writer`). A tile that was kept is not looked at
again, so the first pass may end at any moment and start again; the second gives the same however often it is
done.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_samscape.errors import InputError
from napari_samscape.io import DamagedError
from napari_samscape.model.progress import Progress
from napari_samscape.prediction.types import Instances
from napari_samscape.scaling.pieces import Map, Pieces, PiecesInMemory, piece_of
from napari_samscape.scaling.stitch import Labels, number_objects, relabel
from napari_samscape.scaling.tiles import Index, Tile, Tiling, shape_of, within

#: What looks at a tile: pixels of its outer region and the place of the first one in the array give
#: instances, labels (0 is background) or a map of the outer region's shape; None if there is nothing to see.
Segment = Callable[[NDArray[Any], Index], Instances | Labels | Map | None]


@dataclass(frozen=True, eq=False)
class Plane:
    """An array and how it is cut up; in a stack, one of its planes.

    Attributes
    ----------
    array : array_like
        Anything that is cut by slices. Its first axes are those of the tiling; more may follow, as channels.
    tiling : Tiling
    pieces : Pieces
        Where what is found is kept.
    place : tuple of int
        Where it goes in the output: ``out[place]`` has the tiling's shape.
    """

    array: Any
    tiling: Tiling
    pieces: Pieces = field(default_factory=PiecesInMemory)
    place: Index = ()


def look_at_tiles(
    plane: Plane, segment: Segment, start: Callable[[Tile], None] = lambda tile: None
) -> dict[Index, DamagedError]:
    """Look at all tiles that are not done yet, one after another.

    Parameters
    ----------
    plane : Plane
    segment : callable
        See `Segment`.
    start : callable, optional
        Called with each tile before it is looked at, and with those that are done; raising from it cancels.

    Returns
    -------
    dict
        By index, why a tile could not be read. All others are done.
    """
    damaged = {}
    for tile in plane.tiling:
        start(tile)
        if tile.index in plane.pieces:
            continue
        error = look_at_tile(plane, tile, segment)
        if error is not None:
            damaged[tile.index] = error
    return damaged


def look_at_tile(plane: Plane, tile: Tile, segment: Segment) -> DamagedError | None:
    """Look at one tile and keep what was found; gives the error if it cannot be read."""
    try:
        pixels = read_tile(plane.array, tile)
    except DamagedError as error:
        return error
    plane.pieces.save(tile.index, piece_of(segment(pixels, tile.origin), tile, plane.tiling))
    return None


def read_tile(array: Any, tile: Tile) -> NDArray[Any]:
    """The pixels of a tile; where only its halo cannot be read, nothing (0) is seen there."""
    try:
        return np.asarray(array[tile.outer])
    except DamagedError:
        core = np.asarray(array[tile.core])
    pixels = np.zeros(tile.shape + core.shape[len(tile.core) :], core.dtype)
    sides = [
        (slice(outer.start, inner.start), inner, slice(inner.stop, outer.stop))
        for outer, inner in zip(tile.outer, tile.core, strict=True)
    ]
    for region in product(*sides):
        if 0 not in shape_of(region):
            with contextlib.suppress(DamagedError):
                pixels[within(region, tile.outer)] = array[region]
    return pixels


class Links(Protocol):
    """Ids that objects have in more than one plane."""

    @property
    def objects(self) -> int:
        """How many there are in all planes."""
        ...

    def tables(self, place: Index) -> Mapping[Index, NDArray[np.int64]]:
        """Give the ids for the plane at a place: by tile, a table of its local ids."""
        ...


class Writer:
    """Puts the pieces of one plane after another together.

    Parameters
    ----------
    out : array_like
        Where they go: NumPy, Zarr, ...
    keeps_ids : bool
        Whether ids are the local ones of the only tile, which mean something to who asked for them; otherwise
        they are 1, 2, ... without gaps, in a stable order (see `stitch.global_ids`). Either way they go on
        from plane to plane.
    links : Links, optional
        Numbers the objects of all planes instead.

    Attributes
    ----------
    objects : int
        How many there are in the planes so far.
    """

    def __init__(self, out: Any, keeps_ids: bool = False, links: Links | None = None) -> None:
        self.out = out
        self.keeps_ids = keeps_ids
        self.links = links
        self._given = 0  # ids, where they are kept
        self.objects = 0

    def steps(self, plane: Plane) -> Iterator[Callable[[], None]]:
        """Give what is to be done for a plane: one step for each tile, in C order.

        Objects are numbered when the first step is asked for. Steps may be left out that were done before.
        """
        make = self._scaled(plane) if np.dtype(self.out.dtype).kind == "f" else self._numbered(plane)
        for tile in plane.tiling:
            yield partial(self._write, plane, tile, make)

    def _write(self, plane: Plane, tile: Tile, make: Callable[[Index], NDArray[Any]]) -> None:
        empty = np.zeros(shape_of(tile.core), self.out.dtype)
        self.out[(*plane.place, *tile.core)] = make(tile.index) if tile.index in plane.pieces else empty

    def _numbered(self, plane: Plane) -> Callable[[Index], NDArray[Any]]:
        tables = self.tables(plane)
        return lambda index: _fitting(relabel(plane.pieces.values(index), tables[index]), self.out)

    def tables(self, plane: Plane) -> Mapping[Index, NDArray[np.int64]]:
        """Number the objects of a plane, after those of the planes before it.

        Returns
        -------
        dict
            By tile, a table for `stitch.relabel`; item i is what the local id i is called in the output.
        """
        pieces = plane.pieces
        if self.links is not None:
            self.objects = self.links.objects
            return self.links.tables(plane.place)
        done = [tile.index for tile in plane.tiling if tile.index in pieces]
        if self.keeps_ids:
            self.objects += sum(len(pieces.record(index).ids) for index in done)
            first, counts = self._given, {index: pieces.notes(index).count for index in done}
            self._given += sum(counts.values())
            return {index: _from(first, np.arange(count + 1)) for index, count in counts.items()}
        tables = number_objects(plane.tiling, lambda index: pieces.record(index) if index in pieces else None)
        before = self.objects
        self.objects += max(int(table.max()) for table in tables.values())
        return {index: _from(before, table) for index, table in tables.items()}

    def _scaled(self, plane: Plane) -> Callable[[Index], NDArray[Any]]:
        pieces = plane.pieces
        highest = {
            tile.index: pieces.notes(tile.index).highest for tile in plane.tiling if tile.index in pieces
        }
        most = max(highest.values(), default=0)
        return lambda index: pieces.values(index) * np.float32(highest[index] / most if most else 0)


def segment_tiled(
    array: Any, tiling: Tiling, segment: Segment, out: Any, progress: Progress | None = None
) -> int:
    """Segment an array of any number of dimensions; what is found in tiles is kept in memory.

    Parameters
    ----------
    array : array_like
        See `Plane`.
    tiling : Tiling
    segment : callable
        See `Segment`.
    out : array_like
        Where the labels go, of the tiling's shape.
    progress : callable, optional
        Called as ``progress(done, total, text)``; raising from it cancels.

    Returns
    -------
    int
        Number of objects.

    Raises
    ------
    InputError
        If the shapes do not go together, the ids do not fit the type of ``out``, or a tile cannot be read.
    """
    _check_shapes(array, out, tiling)
    tell, total = progress or (lambda done, total, text: None), 2 * len(tiling)
    numbers = {tile.index: number for number, tile in enumerate(tiling)}
    plane, writer = Plane(array, tiling), Writer(out)

    def start(tile: Tile) -> None:
        tell(numbers[tile.index], total, f"tile {numbers[tile.index] + 1} of {len(tiling)}")

    for error in look_at_tiles(plane, segment, start).values():
        raise error
    for number, step in enumerate(writer.steps(plane), start=len(tiling)):
        tell(number, total, "numbering the objects")
        step()
    tell(total, total, "done")
    return writer.objects


def _check_shapes(array: Any, out: Any, tiling: Tiling) -> None:
    if tuple(array.shape[: len(tiling.shape)]) != tiling.shape or tuple(out.shape) != tiling.shape:
        raise InputError(
            f"The tiles are of an array {tiling.shape}, but the input has the shape {tuple(array.shape)} "
            f"and the output {tuple(out.shape)}."
        )
    if np.dtype(out.dtype).kind not in "ui":
        raise InputError(f"Labels need an output of whole numbers; this is of {out.dtype}.")


def _from(first: int, ids: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.where(ids > 0, ids + first, 0)


def _fitting(labels: Labels, out: Any) -> Labels:
    """The labels in the type of ``out``, if it can hold them."""
    most = np.iinfo(out.dtype).max
    if labels.max() > most:
        raise InputError(f"The output's type {out.dtype} holds ids up to {most}; this needs {labels.max()}.")
    return labels.astype(out.dtype)
