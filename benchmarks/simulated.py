"""What tiles and pictures cost besides looking at their pixels: scheduler, files, numbering, plans."""

from __future__ import annotations

import operator
import resource
import tempfile
import time
import tracemalloc
from dataclasses import replace
from math import isqrt
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import tifffile

from napari_samscape.scaling.batch import run
from napari_samscape.scaling.cluster import connected
from napari_samscape.scaling.job import Job
from napari_samscape.scaling.many import Outcome
from napari_samscape.scaling.pictures import Picture
from napari_samscape.scaling.pieces import Piece, PiecesInFolder
from napari_samscape.scaling.stitch import TileRecord, number_objects, tile_record
from napari_samscape.scaling.tiles import Index, Tiling

CORE, HALO = 64, 8
OBJECTS = 100  # of a tile, as in a slide; of them a few on its seams
FILES = 500  # that many are written and read
PICTURES = 100
PLANNED = 2000
WORKERS = 2


def measure(tiles: int, scratch: Path | None) -> dict[str, Any]:
    """Cost of so many tiles without pixels; files of fewer, as they fill disks."""
    side = isqrt(tiles - 1) + 1
    before = peak()
    start = time.perf_counter()
    objects = number(side)
    numbered = time.perf_counter() - start
    after = peak()
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        saved, read, size = files(Path(folder))
        picture, inodes = pictures(Path(folder))
    return {
        "picture": picture,
        "picture_files": inodes,
        "plan_bytes": plan_bytes(),
        "tiles": tiles,
        "dask": schedule(tiles) / tiles,
        "numbered": side * side,
        "number": numbered / side**2,
        "number_bytes": (after - before) / side**2,
        "objects": objects,
        "save": saved,
        "read": read,
        "piece_bytes": size,
    }


def table(row: dict[str, Any]) -> list[str]:
    """Markdown of what a tile costs."""
    return [
        "| for each tile, without its pixels | ms | of |",
        "|---|---:|---:|",
        f"| with dask's scheduler and {WORKERS} workers | {1e3 * row['dask']:.3f} | {row['tiles']} |",
        f"| matching neighbours and numbering, {OBJECTS} objects a tile | {1e3 * row['number']:.3f} "
        f"| {row['numbered']} |",
        f"| writing what was found, {row['piece_bytes']:.0f} bytes, to the disk | {1e3 * row['save']:.3f} "
        f"| {FILES} |",
        f"| reading it | {1e3 * row['read']:.3f} | {FILES} |",
        f"| for each picture of a batch: opening, sampling, writing {row['picture_files']:.0f} files "
        f"| {1e3 * row['picture']:.3f} | {PICTURES} |",
        "",
        f"Numbering {row['objects']} objects took {row['number_bytes']:.0f} bytes of memory a tile; the",
        f"plan of a batch takes {row['plan_bytes']:.0f} bytes a picture.",
    ]


def schedule(tiles: int) -> float:
    """Seconds for so many calls of nothing, as `Cluster.look` makes them."""
    with connected(WORKERS, None) as cluster:
        assert cluster is not None
        for _ in cluster.each(operator.index, ((number, (number,)) for number in range(100))):
            pass
        start = time.perf_counter()
        for _ in cluster.each(operator.index, ((number, (number,)) for number in range(tiles))):
            pass
        return time.perf_counter() - start


def labels() -> np.ndarray:
    """A tile of squares, three pixels apart; some reach into the halo, and are the neighbours' as well."""
    outer, step = CORE + 2 * HALO, (CORE + 2 * HALO) // isqrt(OBJECTS)
    places = np.arange(outer)
    inside = places % step < step - 3
    grid = (places // step)[:, None] * (outer // step) + places // step + 1
    return np.where(inside[:, None] & inside, grid, 0).astype(np.int32)


def number(side: int) -> int:
    """Number the objects of ``side`` x ``side`` tiles that all hold the same; gives how many there are."""
    whole = Tiling((side * CORE,) * 2, (CORE,) * 2, (HALO,) * 2)
    middle = Tiling((3 * CORE,) * 2, (CORE,) * 2, (HALO,) * 2)
    made = tile_record(labels(), middle[1, 1], middle)
    strips = {(y - 1, x - 1): strip for (y, x), strip in made.strips.items()}

    def record(index: Index) -> TileRecord:
        # At the ends of the picture there are fewer neighbours; what is not asked for does no harm.
        near = {(index[0] + y, index[1] + x): strip for (y, x), strip in strips.items()}
        return TileRecord(index, made.ids, made.areas, near)

    tables = number_objects(whole, record)
    return max(int(each.max()) for each in tables.values())


def files(folder: Path) -> tuple[float, float, float]:
    """Seconds to write and to read what was found in a tile of 768 pixels, and its bytes."""
    tiling = Tiling((3 * 768,) * 2, (768,) * 2, (128,) * 2)
    found = np.kron(labels(), np.ones((13, 13), np.int32))[:1024, :1024]
    tile = tiling[1, 1]
    piece = Piece(found[tile.inner], tile_record(found, tile, tiling))
    pieces = PiecesInFolder(folder)
    start = time.perf_counter()
    for index in range(FILES):
        pieces.save((0, index), piece)
    saved = time.perf_counter()
    for index in range(FILES):
        pieces.record((0, index))
        pieces.values((0, index))
    done = time.perf_counter()
    size = sum(path.stat().st_size for path in folder.rglob("*.npz")) / FILES
    return (saved - start) / FILES, (done - saved) / FILES, size


def pictures(folder: Path) -> tuple[float, float]:
    """Seconds that a picture of a batch takes if there is nothing to see in it, and files of its output."""
    model: Any = SimpleNamespace(
        name="none", device="cpu", digest="0" * 64, image_size=512, tile_size=1024, magnifies=2.0
    )
    tifffile.imwrite(folder / "flat.tif", np.zeros((512, 512), np.uint8))
    start = time.perf_counter()
    for index in range(PICTURES):
        run(Job(str(folder / "flat.tif"), str(folder / f"{index}.ome.zarr")), model=model)
    seconds = (time.perf_counter() - start) / PICTURES
    return seconds, sum(path.is_file() for path in folder.glob("*.ome.zarr/**/*")) / PICTURES


def plan_bytes() -> float:
    """Bytes of memory for what is to be done with a picture, and for what came of it."""
    tracemalloc.start()
    plan = Job("", "")
    pictures = [Picture(f"folder/{name}.tif", f"/data/folder/{name}.tif") for name in range(PLANNED)]
    jobs = [replace(plan, image=picture.path, output=f"/out/{picture.name}.zarr") for picture in pictures]
    outcomes = [Outcome(picture.name, job.output) for picture, job in zip(pictures, jobs, strict=True)]
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return size / len(outcomes)


def peak() -> int:
    """Bytes of memory that this process has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
