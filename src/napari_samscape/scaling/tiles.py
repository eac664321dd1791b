"""Geometry of tiles: how an array of any size and number of dimensions is cut up; no pixels here.

A tile has a *core*, the part it answers for, and an *outer* region, the core grown by a *halo* or more, which
is what is looked at. Cores lie side by side and cover the array exactly; outer regions overlap, and in what
they share two tiles can be compared. All numbers are pixels; axes are in the array's own order, (z, y, x) or
(y, x).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from napari_samscape.errors import InputError

Index = tuple[int, ...]
Region = tuple[slice, ...]

#: Parts of a tile that are a halo where the size of objects is not known; the second only if it saves tiles.
USUAL_HALOS = 1 / 8, 3 / 32
#: No halo is wider than this part, as each tile then answers for a ninth of what it looks at.
LARGEST_HALO = 3
#: Cores are multiples of at most so many pixels.
COARSEST_STEP = 256


@dataclass(frozen=True)
class Tile:
    """One tile.

    Attributes
    ----------
    index : tuple of int
        Its place in the grid of tiles.
    core : tuple of slice
        What it answers for, in the array; no two cores share a pixel.
    outer : tuple of slice
        What is looked at, in the array: the core and its halo, as far as the array goes, and more where the
        tiling wants larger ones.
    """

    index: Index
    core: Region
    outer: Region

    @property
    def origin(self) -> Index:
        """First pixel of the outer region, in the array."""
        return tuple(side.start for side in self.outer)

    @property
    def shape(self) -> Index:
        """Shape of the outer region."""
        return shape_of(self.outer)

    @property
    def inner(self) -> Region:
        """The core, in an array that holds just the outer region."""
        return within(self.core, self.outer)


@dataclass(frozen=True)
class Tiling:
    """An array cut into tiles; iterating gives them in C order, the last axis fastest.

    Parameters
    ----------
    shape : sequence of int
        Of the array.
    core : sequence of int
        Shape of the cores; those at the far ends are smaller where it does not divide the array.
    halo : sequence of int
        By how much a core is grown on each side, along each axis.
    least : sequence of int, optional
        Outer regions are as large as this at least, where the array is. Those at the array's ends, whose halo
        is cut off, then reach further in, so that a model sees all tiles at the same scale.

    Raises
    ------
    InputError
        If the three differ in length, or hold anything but whole numbers that are large enough.
    """

    shape: Index
    core: Index
    halo: Index
    least: Index = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "least", self.least or (1,) * len(self.shape))
        for name, least in (("shape", 1), ("core", 1), ("halo", 0), ("least", 1)):
            object.__setattr__(self, name, _whole_numbers(getattr(self, name), name, least))
        if not len(self.shape) == len(self.core) == len(self.halo) == len(self.least) > 0:
            raise InputError(
                f"Tiles need one number for each axis of the array {self.shape}; the core has "
                f"{len(self.core)} and the halo {len(self.halo)}."
            )

    @property
    def grid(self) -> Index:
        """Number of tiles along each axis."""
        return tuple(-(-size // core) for size, core in zip(self.shape, self.core, strict=True))

    def __len__(self) -> int:
        return math.prod(self.grid)

    def __iter__(self) -> Iterator[Tile]:
        return (self[index] for index in product(*map(range, self.grid)))

    def __getitem__(self, index: Index) -> Tile:
        if len(index) != len(self.grid) or not all(0 <= i < n for i, n in zip(index, self.grid, strict=True)):
            raise IndexError(f"there is no tile {index} in a grid of {self.grid}")
        core, outer = [], []
        axes = zip(index, self.shape, self.core, self.halo, self.least, strict=True)
        for i, size, side, halo, least in axes:
            start, stop = i * side, min((i + 1) * side, size)
            core.append(slice(start, stop))
            outer.append(_grown(max(start - halo, 0), min(stop + halo, size), size, least))
        return Tile(tuple(index), tuple(core), tuple(outer))

    def neighbours(self, index: Index) -> Iterator[Index]:
        """Tiles whose cores touch that of ``index`` by a face, an edge or a corner, in C order."""
        sides = [range(max(i - 1, 0), min(i + 2, n)) for i, n in zip(index, self.grid, strict=True)]
        return (other for other in product(*sides) if other != tuple(index))

    def pairs(self) -> Iterator[tuple[Index, Index]]:
        """Each two neighbours once, the one that comes first in C order first."""
        for tile in self:
            for other in self.neighbours(tile.index):
                if tile.index < other:
                    yield tile.index, other

    def shared(self, one: Index, other: Index) -> Region:
        """What two tiles both look at, in the array; without a pixel where their halos do not meet."""
        return intersection(self[one].outer, self[other].outer)

    def seam(self, one: Index, other: Index) -> Region:
        """The pixels of two neighbours' cores that lie next to the other core, as far as both see them."""
        grown = (Tiling(self.shape, self.core, (1,) * len(self.shape))[index].outer for index in (one, other))
        return intersection(intersection(*grown), self.shared(one, other))


def _grown(start: int, stop: int, size: int, least: int) -> slice:
    """A span of at least ``least`` pixels around the one given, as far as an axis of ``size`` has them."""
    length = max(stop - start, min(least, size))
    start = max(0, min(start - (length - (stop - start)) // 2, size - length))
    return slice(start, start + length)


def intersection(one: Region, other: Region) -> Region:
    """What two regions have in common; sides without length where that is nothing."""
    sides = []
    for a, b in zip(one, other, strict=True):
        start = max(a.start, b.start)
        sides.append(slice(start, max(start, min(a.stop, b.stop))))
    return tuple(sides)


def within(region: Region, outer: Region) -> Region:
    """Where a region lies in an array that holds just ``outer``."""
    return tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(region, outer, strict=True))


def shape_of(region: Region) -> Index:
    """Shape of a region."""
    return tuple(side.stop - side.start for side in region)


@dataclass(frozen=True)
class TileOptions:
    """What may be wished of tiles; all of it is chosen where left out.

    Attributes
    ----------
    tile : int, optional
        Longest side of a tile with its halo, in pixels of the picture. The model's own input size where left
        out, so that it sees the picture's own pixels: a larger tile is shrunk, a smaller one enlarged.
    halo : int, optional
        How far tiles look beyond the part they answer for.
    object_size : int, optional
        Longest side of usual objects, from which the halo follows.

    Raises
    ------
    InputError
        If one is no positive whole number (a halo may be 0), or they contradict each other.
    """

    tile: int | None = None
    halo: int | None = None
    object_size: int | None = None

    def __post_init__(self) -> None:
        for value, name, least in (
            (self.tile, "tile", 1),
            (self.halo, "halo", 0),
            (self.object_size, "object size", 1),
        ):
            if value is not None:
                _whole_numbers((value,), name, least)
        _check_consistent(self.object_size, self.tile, self.halo)
        if self.tile is not None and self.halo is not None:
            _check_core_left(self.tile, self.halo)


def tile_plane(shape: tuple[int, int], model_size: int, large: float, options: TileOptions) -> Tiling:
    """Choose tiles for a plane, or decide that it is shown to the model as a whole.

    Parameters
    ----------
    shape : tuple of int
        (y, x).
    model_size : int
        The longest side that the model is shown.
    large : float
        A plane with a longest side above ``large * model_size`` is tiled. What is smaller is shown as a
        whole, unless a size of tiles is wished that it does not fit in.
    options : TileOptions

    Returns
    -------
    Tiling
        Its cores are multiples of a fair power of two, so that they can be written as whole chunks.

    Raises
    ------
    InputError
        If a wish leaves no room for a core.
    """
    if options.tile is None and max(shape) <= large * model_size:
        return Tiling(shape, shape, (0, 0))
    size = model_size if options.tile is None else options.tile
    halo = size // LARGEST_HALO if options.halo is None else options.halo
    # Coarse enough for chunks, fine enough to waste little of a tile.
    most = max(1, min(size // 24, size - 2 * halo, COARSEST_STEP))
    step = 1 << (most.bit_length() - 1)
    return choose_tiling(shape, size, (step, step), options.object_size, options.tile, options.halo)


def chunks_for(tiling: Tiling, most: int) -> Index:
    """Choose chunks for the output of tiles: each core is made of whole chunks.

    Parameters
    ----------
    tiling : Tiling
    most : int
        Longest side of a chunk, unless twice that makes a core one chunk.
    """
    if len(tiling) == 1:
        return tuple(min(most, side) for side in tiling.shape)
    return tuple(_chunk(core, most) for core in tiling.core)


def _chunk(core: int, most: int) -> int:
    """The core itself, or its largest divisor of at most ``most``."""
    if core <= 2 * most:
        return core
    return next(core // parts for parts in range(2, core + 1) if core % parts == 0 and core // parts <= most)


def choose_tiling(  # noqa: PLR0913  (three of them are there to override)
    shape: Sequence[int],
    model_size: int,
    chunks: Sequence[int] | None = None,
    object_size: int | None = None,
    tile: int | None = None,
    halo: int | None = None,
) -> Tiling:
    """Choose tiles for a model that looks at planes.

    Parameters
    ----------
    shape : sequence of int
        Of the array, (..., y, x). Axes before the last two are cut into single chunks, without a halo.
    model_size : int
        The longest side that the model is shown (`Sam.image_size`), in pixels of the level used; no tile is
        larger, so that nothing is shrunk, unless ``tile`` says so.
    chunks : sequence of int, optional
        Shape of the output's chunks. Cores are made of whole chunks, so that each has one writer. Where
        left out, the output's chunks are still to be chosen: the core's shape, or one that divides it.
    object_size : int, optional
        Longest side of usual objects. The halo is at least as wide where a tile has room for that, so that
        each such object is seen whole by the tile that answers for it; larger ones are put together from
        pieces.
    tile : int, optional
        Longest side of a tile with its halo, instead of ``model_size``.
    halo : int, optional
        Width of the halo, instead of the object size, or an eighth of the tile (less, if that saves tiles).

    Returns
    -------
    Tiling
        As few tiles as possible, with cores about equally large. An array that fits into one tile is one; of
        others, each tile is as large as the model is shown.

    Raises
    ------
    InputError
        If ``tile``, ``halo``, ``object_size`` and ``chunks`` contradict each other, or one is no positive
        whole number.
    """
    size = _positive(model_size, "model's image size") if tile is None else _positive(tile, "tile")
    shape = _whole_numbers(shape, "shape", 1)
    if len(shape) < 2:
        raise InputError(f"Tiles of planes need an array (..., y, x); this has the shape {shape}.")
    chunks = (1,) * len(shape) if chunks is None else _whole_numbers(chunks, "chunks", 1)
    if len(chunks) != len(shape):
        raise InputError(f"The chunks {chunks} do not fit an array of the shape {shape}.")
    _check_consistent(object_size, tile, halo)
    halos = _halos(size, max(chunks[-2:]), object_size) if halo is None else [_not_negative(halo)]
    before = len(shape) - 2

    def tiling(margin: int) -> Tiling:
        axes = zip(shape[-2:], chunks[-2:], strict=True)
        sides = [_choose_core(length, chunk, size, margin) for length, chunk in axes]
        least = (*(1,) * before, size, size)
        return Tiling(shape, (*chunks[:before], *sides), (*(0,) * before, margin, margin), least)

    return min(map(tiling, halos), key=len)  # the first of those with as few tiles


def _halos(size: int, chunk: int, object_size: int | None) -> list[int]:
    """As wide as an object, or as is usual, as far as a core of a third of the tile and one chunk is left."""
    room = min(size // LARGEST_HALO, (size - chunk) // 2)
    wanted = [int(size * part) for part in USUAL_HALOS]
    if object_size is not None:
        wanted = [_positive(object_size, "object size")]
    # Without any halo nothing could be stitched; that there is no room for one is said by _choose_core.
    return [max(1, min(halo, room)) for halo in wanted]


def _choose_core(length: int, chunk: int, size: int, halo: int) -> int:
    """Side of the cores along one axis: whole chunks, about equal, no more than ``size`` with their halo."""
    _check_core_left(size, halo)
    if length <= size:
        return chunk * math.ceil(length / chunk)  # one tile, which needs no halo
    most = (size - 2 * halo) // chunk * chunk
    if most == 0:
        raise InputError(
            f"The output's chunks of {chunk} pixels do not fit into a tile of {size} with a halo of {halo}; "
            f"use chunks of at most {size - 2 * halo}."
        )
    # Of two tiles each has a neighbour on one side only, and needs a halo only there.
    tiles = 2 if length <= 2 * ((size - halo) // chunk * chunk) else math.ceil(length / most)
    return chunk * math.ceil(length / (tiles * chunk))


def _check_core_left(size: int, halo: int) -> None:
    if size <= 2 * halo:
        raise InputError(f"A tile of {size} pixels has no core left inside a halo of {halo} on both sides.")


def _check_consistent(object_size: int | None, tile: int | None, halo: int | None) -> None:
    """Compare what was asked for explicitly; what is chosen automatically gives way instead."""
    if halo is not None and object_size is not None and halo < object_size:
        raise InputError(
            f"The halo of {halo} pixels is narrower than the object size of {object_size}; "
            "give the one or the other."
        )
    if tile is not None and object_size is not None and tile <= 2 * object_size:
        raise InputError(
            f"A tile of {tile} pixels has no core left inside a halo as wide as the object size of "
            f"{object_size}; use tiles of more than {2 * object_size}."
        )


def _positive(value: int, name: str) -> int:
    return _whole_numbers((value,), name, 1)[0]


def _not_negative(halo: int) -> int:
    return _whole_numbers((halo,), "halo", 0)[0]


def _whole_numbers(values: Sequence[int], name: str, least: int) -> Index:
    numbers = tuple(values)
    if not all(int(value) == value >= least for value in numbers):
        given = numbers[0] if len(numbers) == 1 else numbers
        raise InputError(f"The {name} must be whole numbers of pixels, at least {least}; this is {given}.")
    return tuple(int(value) for value in numbers)
