"""What was found in single tiles, kept until the whole is put together: in memory, or in a folder.

In a folder a tile is one file. It is written under another name and then moved, so that a file that is there
is complete, and a tile without one has to be looked at again: there is no other mark, and none that could
lie.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from napari_samscape.errors import InputError
from napari_samscape.prediction.types import Instances
from napari_samscape.scaling.stitch import Labels, Strip, TileRecord, local_labels, tile_record
from napari_samscape.scaling.tiles import Index, Tile, Tiling


class DiskFullError(InputError):
    """There is no room left for what was to be written."""


@dataclass(frozen=True, eq=False)
class Map:
    """What was drawn of a tile instead of labels.

    Attributes
    ----------
    values : ndarray of float32
        From 0 to 1, of the outer region's shape.
    highest : float
        What is 1 here; tiles with a higher one set the scale for all.
    """

    values: NDArray[np.float32]
    highest: float


@dataclass(frozen=True)
class Notes:
    """What else is remembered of a tile.

    Attributes
    ----------
    highest : float
        `Map.highest`.
    constant : bool
        Whether all its pixels are equal.
    empty : tuple of int
        Which of the objects that were asked for have no pixel; numbers from 1.
    count : int
        How many there are, those without a pixel and those hidden by others among them.
    """

    highest: float = 0.0
    constant: bool = False
    empty: tuple[int, ...] = ()
    count: int = 0


@dataclass(frozen=True, eq=False)
class Piece:
    """What was found in a tile.

    Attributes
    ----------
    values : ndarray
        Of the core: local ids (int32), or a map (float32).
    record : TileRecord
        What the tile's neighbours want to know; for a map, nothing.
    notes : Notes
    scores : ndarray of float32, shape (n, 3)
        Predicted IoU, stability and a detector's score; row i is of the local id i + 1. Empty where unknown.
    """

    values: NDArray[Any] = field(repr=False)
    record: TileRecord
    notes: Notes = Notes()
    scores: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 3), np.float32), repr=False)


class Pieces(Protocol):
    """Where the pieces of one plane are."""

    def __contains__(self, index: Index) -> bool:
        """Whether a tile is done."""
        ...

    def save(self, index: Index, piece: Piece) -> None:
        """Keep a piece; from now on its tile is done."""
        ...

    def values(self, index: Index) -> NDArray[Any]:
        """Give `Piece.values`."""
        ...

    def record(self, index: Index) -> TileRecord:
        """Give `Piece.record`."""
        ...

    def notes(self, index: Index) -> Notes:
        """Give `Piece.notes`."""
        ...

    def scores(self, index: Index) -> NDArray[np.float32]:
        """Give `Piece.scores`."""
        ...


def piece_of(found: Instances | Labels | Map | None, tile: Tile, tiling: Tiling) -> Piece:
    """Keep of what was found in a tile what is needed later.

    Parameters
    ----------
    found : Instances, ndarray of int, Map or None
        None where there is nothing to see, as all pixels are equal.
    tile : Tile
    tiling : Tiling
        The one that the tile is of.

    Returns
    -------
    Piece

    Raises
    ------
    InputError
        If it has not the tile's shape, or is neither labels nor a map.
    """
    if isinstance(found, Map):
        none = np.zeros(0, np.int64)
        if found.values.shape != tile.shape:
            raise InputError(f"The map of a tile must have its shape {tile.shape}, not {found.values.shape}.")
        values = found.values[tile.inner].astype(np.float32)
        return Piece(values, TileRecord(tile.index, none, none, {}), Notes(highest=found.highest))
    notes, scores = Notes(), np.zeros((0, 3), np.float32)
    if isinstance(found, Instances):
        known = [(item.predicted_iou, item.stability, item.score) for item in found]
        scores = np.array(known, np.float32).reshape(-1, 3)
        empty = tuple(place for place, item in enumerate(found, start=1) if item.area == 0)
        notes = Notes(empty=empty, count=len(found))
    elif found is None:
        found, notes = np.zeros(tile.shape, np.int32), Notes(constant=True)
    labels = local_labels(found, tile.shape)
    return Piece(labels[tile.inner], tile_record(labels, tile, tiling), notes, scores)


class PiecesInMemory:
    """Pieces of pictures whose labels are in memory anyway."""

    def __init__(self) -> None:
        self._pieces: dict[Index, Piece] = {}

    def __contains__(self, index: Index) -> bool:
        return index in self._pieces

    def save(self, index: Index, piece: Piece) -> None:
        """Keep a piece."""
        self._pieces[index] = piece

    def values(self, index: Index) -> NDArray[Any]:
        """Give the core's labels or map."""
        return self._pieces[index].values

    def record(self, index: Index) -> TileRecord:
        """Give what the neighbours want to know."""
        return self._pieces[index].record

    def notes(self, index: Index) -> Notes:
        """Give what else is remembered."""
        return self._pieces[index].notes

    def scores(self, index: Index) -> NDArray[np.float32]:
        """Give the scores of its objects."""
        return self._pieces[index].scores


class PiecesInFolder:
    """Pieces on disk, one file each.

    Parameters
    ----------
    folder : Path
        Made when the first piece is saved.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __contains__(self, index: Index) -> bool:
        return self._path(index).exists()

    def save(self, index: Index, piece: Piece) -> None:
        """Write a piece and then give it its name.

        Raises
        ------
        InputError
            If the disk is full, or cannot be written.
        """
        record, path = piece.record, self._path(index)
        facts = {
            "notes": asdict(piece.notes),
            "strips": [
                {
                    "of": other,
                    "shape": strip.shape,
                    "seam": [(side.start, side.stop) for side in strip.seam],
                    "bytes": len(strip.data),
                }
                for other, strip in record.strips.items()
            ],
        }
        strips = b"".join(strip.data for strip in record.strips.values())
        with written_whole(path) as file:
            np.savez_compressed(
                file,
                values=piece.values,
                ids=record.ids,
                areas=record.areas,
                scores=piece.scores,
                facts=np.frombuffer(json.dumps(facts).encode(), np.uint8),
                strips=np.frombuffer(strips, np.uint8),
            )

    def values(self, index: Index) -> NDArray[Any]:
        """Read the core's labels or map."""
        values: NDArray[Any] = self._read(index, "values")[0]
        return values

    def record(self, index: Index) -> TileRecord:
        """Read what the neighbours want to know."""
        ids, areas, facts, joined = self._read(index, "ids", "areas", "facts", "strips")
        data, start, strips = joined.tobytes(), 0, {}
        for strip in json.loads(facts.tobytes())["strips"]:
            seam = tuple(slice(*side) for side in strip["seam"])
            end = start + strip["bytes"]
            strips[tuple(strip["of"])] = Strip(tuple(strip["shape"]), data[start:end], seam)
            start = end
        return TileRecord(index, ids, areas, strips)

    def notes(self, index: Index) -> Notes:
        """Read what else is remembered."""
        notes = json.loads(self._read(index, "facts")[0].tobytes())["notes"]
        return Notes(notes["highest"], notes["constant"], tuple(notes["empty"]), notes["count"])

    def scores(self, index: Index) -> NDArray[np.float32]:
        """Read the scores of its objects."""
        scores: NDArray[np.float32] = self._read(index, "scores")[0]
        return scores

    def _path(self, index: Index) -> Path:
        *folders, name = map(str, index)  # a folder for each row: none has a million files
        return self.folder.joinpath(*folders, f"{name}.npz")

    def _read(self, index: Index, *names: str) -> list[NDArray[Any]]:
        arrays = read_arrays(self._path(index), names)
        return [arrays[name] for name in names]


def read_arrays(path: Path, names: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
    """Read arrays of a file that NumPy has saved, by name; all where ``names`` is left out.

    Raises
    ------
    InputError
        If it is damaged.
    """
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            return {name: arrays[name] for name in (arrays.files if names is None else names)}
    except (OSError, ValueError, KeyError, BadZipFile, zlib.error) as error:
        raise InputError(f"{path} is damaged; delete it and start again to go on.") from error


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Any]:
    """Open a file that gets its name when all of it is on the disk; whoever reads it never sees a part.

    Raises
    ------
    InputError
        If the disk is full, or cannot be written.
    """
    temporary = path.with_name(f"{path.name}.part")
    with disk_trouble(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise


@contextlib.contextmanager
def disk_trouble(path: Path) -> Iterator[None]:
    """Turn what a disk complains of into one sentence for the user."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DiskFullError(
                f"The disk is full, so {path} could not be written. What is done is kept: make room and "
                "start again to go on."
            ) from error
        raise InputError(f"{path} cannot be written: {error.strerror or error}.") from error
