"""From labels of single tiles to labels of the whole: global ids, for objects of any size.

Each tile is labelled by itself, halo included. First pass: of every tile a small `TileRecord` is kept, and
the records of two neighbours are compared in what both have seen (`match`); pieces that are the same object
get one id (`global_ids`). Second pass: each tile's core is renumbered (`relabel`). Both passes go tile by
tile, in any order and any number at a time; only `global_ids` needs all the records, without their strips.

When are two pieces the same object? Pieces are compared only if each lies in the core of its own tile, as
others are never written, and if at least one of the two reaches the seam between the cores. They are joined
if their IoU in the shared region exceeds `MIN_IOU`, as whole pieces or as any two connected parts of them.
Above one half, a part has at most one partner, which makes the choice mutual. The parts are for objects
like a U: one tile sees both arms as one piece, as it sees the bend, its neighbour sees two pieces, and each
of these equals one part. Objects that touch stay apart, even where one tile took two for one, because
no single one of them makes up the part that they form together.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from skimage.measure import label

from napari_samscape.errors import InputError
from napari_samscape.prediction.types import Instances
from napari_samscape.scaling.tiles import Index, Region, Tile, Tiling, shape_of, within

Labels = NDArray[Any]

#: Two pieces are the same object if their intersection over union, in the region seen by both tiles, is more.
MIN_IOU = 0.5


@dataclass(frozen=True, eq=False)
class Strip:
    """The labels that one tile gave to a region it shares with a neighbour, compressed.

    Attributes
    ----------
    shape : tuple of int
    data : bytes
        int32 in C order, through zlib.
    seam : tuple of slice
        Where in the strip the two cores meet.
    """

    shape: Index
    data: bytes = field(repr=False)
    seam: Region

    @property
    def labels(self) -> NDArray[np.int32]:
        """The labels, unpacked."""
        return np.frombuffer(zlib.decompress(self.data), np.int32).reshape(self.shape)


@dataclass(frozen=True, eq=False)
class TileRecord:
    """What has to be remembered of a labelled tile.

    Attributes
    ----------
    index : tuple of int
        The tile's place in the grid.
    ids : ndarray of int64, shape (n,)
        Local ids of the pieces that have pixels in the core, ascending.
    areas : ndarray of int64, shape (n,)
        Their pixels in the core; summed over a global id they give its object's area.
    strips : mapping
        By neighbour's index, what the two have both seen; only pieces of ``ids``.
    """

    index: Index
    ids: NDArray[np.int64]
    areas: NDArray[np.int64]
    strips: Mapping[Index, Strip] = field(repr=False)

    def without_strips(self) -> TileRecord:
        """What is left to remember once all neighbours are matched."""
        return replace(self, strips={})


def local_labels(result: Instances | Labels, shape: Index) -> NDArray[np.int32]:
    """Check what a segmenter gave for a tile and make small, dense labels of it.

    Parameters
    ----------
    result : Instances or ndarray of int or bool
    shape : tuple of int
        Of the tile's outer region.

    Returns
    -------
    ndarray of int32, shape ``shape``

    Raises
    ------
    InputError
        If the result has another shape, or is no label image.
    """
    from napari_samscape.prediction.instances import labels_from_instances

    labels = labels_from_instances(result) if isinstance(result, Instances) else np.asarray(result)
    if labels.shape != shape or labels.dtype.kind not in "bui":
        raise InputError(
            f"The segmenter must give labels of whole numbers and the tile's shape {shape}; "
            f"it gave {labels.dtype} of the shape {labels.shape}."
        )
    if labels.min() < 0:
        raise InputError(f"Labels cannot be negative; the segmenter gave {labels.min()}.")
    if labels.max() > labels.size:  # there are not as many objects, so the ids have gaps
        ids, dense = np.unique(labels, return_inverse=True)
        labels = dense.reshape(shape) + (ids[0] != 0)
    return labels.astype(np.int32, copy=False)


def tile_record(labels: NDArray[np.int32], tile: Tile, tiling: Tiling) -> TileRecord:
    """Note what a labelled tile's neighbours will want to know.

    Parameters
    ----------
    labels : ndarray of int32
        Of the tile's outer region; see `local_labels`.
    tile : Tile
    tiling : Tiling
        The one that the tile is of.

    Returns
    -------
    TileRecord
    """
    areas = np.bincount(labels[tile.inner].ravel(), minlength=int(labels.max()) + 1)
    areas[0] = 0
    written = areas > 0
    strips = {}
    for other in tiling.neighbours(tile.index):
        region = tiling.shared(tile.index, other)
        part = labels[within(region, tile.outer)]
        data = zlib.compress(np.where(written[part], part, 0).astype(np.int32).tobytes(), level=1)
        strips[other] = Strip(shape_of(region), data, within(tiling.seam(tile.index, other), region))
    ids = np.flatnonzero(written)
    return TileRecord(tile.index, ids, areas[ids], strips)


def match(one: TileRecord, other: TileRecord) -> NDArray[np.int64]:
    """Find the pieces of two neighbouring tiles that are the same object; see the head of this module.

    Parameters
    ----------
    one, other : TileRecord
        Of neighbours, with their strips.

    Returns
    -------
    ndarray of int64, shape (n, 2)
        Local ids in ``one`` and in ``other``, ascending, each pair once.

    Raises
    ------
    InputError
        If the array has more than three dimensions.
    """
    if not (len(one.ids) and len(other.ids)):
        return np.zeros((0, 2), np.int64)
    strip = one.strips[other.index]
    a, b = strip.labels, other.strips[one.index].labels
    if a.ndim > 3:
        raise InputError(f"Tiles can be stitched in up to three dimensions; these have {a.ndim}.")
    if not (a.any() and b.any()):
        return np.zeros((0, 2), np.int64)
    pairs = _alike(a, b, strip.seam)
    # By faces: a finer division does no harm, whereas pieces that only meet at a corner may be two in a tile.
    parts_a, parts_b = label(a, connectivity=1), label(b, connectivity=1)
    parts = _alike(parts_a, parts_b, strip.seam)
    owners = _owner(parts_a, a)[parts[:, 0]], _owner(parts_b, b)[parts[:, 1]]
    return np.unique(np.concatenate([pairs, np.stack(owners, axis=1)]), axis=0)


def _alike(a: Labels, b: Labels, seam: Region) -> NDArray[np.int64]:
    """Pairs (n, 2) of labels whose IoU is high enough and of which one at least has pixels in the seam."""
    both = (a > 0) & (b > 0)
    width = int(b.max()) + 1
    keys, common = np.unique(a[both].astype(np.int64) * width + b[both], return_counts=True)
    first, second = np.divmod(keys, width)
    union = np.bincount(a.ravel())[first] + np.bincount(b.ravel())[second] - common
    at_seam = _marked(a, seam)[first] | _marked(b, seam)[second]
    return np.stack([first, second], axis=1)[(common > MIN_IOU * union) & at_seam]


def _marked(labels: Labels, seam: Region) -> NDArray[np.bool_]:
    """Of each label, whether it has pixels in the seam."""
    marked = np.zeros(int(labels.max()) + 1, bool)
    marked[labels[seam]] = True
    return marked


def _owner(parts: Labels, labels: Labels) -> NDArray[np.int64]:
    """The label that each connected part is of."""
    owner = np.zeros(int(parts.max()) + 1, np.int64)
    owner[parts.ravel()] = labels.ravel()
    return owner


def global_ids(
    records: Iterable[TileRecord], pairs: Mapping[tuple[Index, Index], NDArray[np.int64]]
) -> dict[Index, NDArray[np.int64]]:
    """Number the objects of the whole.

    Parameters
    ----------
    records : iterable of TileRecord
        Of all tiles, in any order; strips are not needed.
    pairs : mapping
        By the indices of two tiles, what `match` found.

    Returns
    -------
    dict
        By index, a table for `relabel`: ndarray of int64, of which item i is the global id of the tile's
        local id i. Global ids are 1, 2, ... without gaps, in the order of each object's first tile (in C
        order) and of its lowest local id there, however the tiles came.
    """
    ids = {record.index: record.ids for record in sorted(records, key=lambda record: record.index)}
    ends = np.cumsum([len(local) for local in ids.values()], dtype=np.int64)
    start = dict(zip(ids, ends - [len(local) for local in ids.values()], strict=True))
    count = int(ends[-1]) if len(ends) else 0

    def nodes(index: Index, local: NDArray[np.int64]) -> NDArray[np.int64]:
        return start[index] + np.searchsorted(ids[index], local)

    empty = np.zeros(0, np.int64)
    rows = [nodes(one, found[:, 0]) for (one, _), found in pairs.items()]
    columns = [nodes(other, found[:, 1]) for (_, other), found in pairs.items()]
    edges = np.concatenate([empty, *rows]), np.concatenate([empty, *columns])
    graph = coo_array((np.ones(len(edges[0]), bool), edges), shape=(count, count))
    _, group = connected_components(graph, directed=False)
    # Nodes are in the order wanted, so groups are ranked by their first node.
    _, first, group = np.unique(group, return_index=True, return_inverse=True)
    number = np.empty(len(first), np.int64)
    number[np.argsort(first)] = np.arange(1, len(first) + 1)
    tables = {}
    for index, local in ids.items():
        table = np.zeros(int(local[-1]) + 1 if len(local) else 1, np.int64)
        table[local] = number[group[start[index] : start[index] + len(local)]]
        tables[index] = table
    return tables


def relabel(core_labels: Labels, table: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give a tile's core its global ids: ``core_labels`` holds local ones, ``table`` is of `global_ids`."""
    return table[core_labels]


def number_objects(
    tiling: Tiling, record_of: Callable[[Index], TileRecord | None]
) -> dict[Index, NDArray[np.int64]]:
    """Match all neighbours and number the objects of the whole.

    Parameters
    ----------
    tiling : Tiling
    record_of : callable
        Called once for each tile, in C order; None for a tile that could not be looked at.

    Returns
    -------
    dict
        As `global_ids`.

    Notes
    -----
    Memory is a few numbers for each piece, and the strips of the last row of tiles (in 3D, layer).
    """
    matching = _Matching(tiling)
    for tile in tiling:
        none = np.zeros(0, np.int64)
        matching.add(record_of(tile.index) or TileRecord(tile.index, none, none, {}))
    return global_ids(matching.done.values(), matching.pairs)


class _Matching:
    """Matches records as they come, and forgets their strips as soon as nobody needs them."""

    def __init__(self, tiling: Tiling) -> None:
        self.tiling = tiling
        self.done: dict[Index, TileRecord] = {}
        self.pairs: dict[tuple[Index, Index], NDArray[np.int64]] = {}
        self._missing: dict[Index, int] = {}  # neighbours that are still to come

    def add(self, record: TileRecord) -> None:
        index = record.index
        self.done[index] = record
        neighbours = list(self.tiling.neighbours(index))
        present = [other for other in neighbours if other in self.done]
        for other in present:
            found = match(record, self.done[other])
            if len(found):
                self.pairs[index, other] = found
            self._missing[other] -= 1
        self._missing[index] = len(neighbours) - len(present)
        for tile in [index, *present]:
            if self._missing[tile] == 0:
                self.done[tile] = self.done[tile].without_strips()
                del self._missing[tile]
