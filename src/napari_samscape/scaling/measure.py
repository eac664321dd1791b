"""What the labels of a picture are, object by object: box, area and scores, over all its tiles."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import ndimage

from napari_samscape.io import TableRow
from napari_samscape.scaling.engine import Plane, Writer


def measure(plane: Plane, writer: Writer) -> Iterator[TableRow]:
    """Measure the objects of a plane as they are written; those without a pixel are left out.

    Parameters
    ----------
    plane : Plane
        Of two axes, all of whose tiles have been looked at.
    writer : Writer
        Gives the ids, going on from plane to plane.

    Yields
    ------
    TableRow
        By ascending id. The scores of an object in several tiles are those of its largest piece.

    Notes
    -----
    Memory is a few numbers for each object, and the labels of one tile's core.
    """
    tables = writer.tables(plane)
    count = max((int(table.max()) for table in tables.values()), default=0) + 1
    low, high = np.full((count, 2), np.iinfo(np.int64).max), np.zeros((count, 2), np.int64)
    areas, largest = np.zeros(count, np.int64), np.zeros(count, np.int64)
    scores = np.full((count, 3), np.nan)
    for index, table in tables.items():
        if index not in plane.pieces:
            continue
        start = np.array([side.start for side in plane.tiling[index].core])
        record, known = plane.pieces.record(index), plane.pieces.scores(index)
        found = ndimage.find_objects(plane.pieces.values(index))
        for local, area in zip(record.ids, record.areas, strict=True):
            number, sides = table[local], found[local - 1]
            low[number] = np.minimum(low[number], start + [side.start for side in sides])
            high[number] = np.maximum(high[number], start + [side.stop for side in sides])
            areas[number] += area
            if area > largest[number]:
                largest[number] = area
                scores[number] = known[local - 1] if local <= len(known) else np.nan
    for number in np.flatnonzero(areas):
        box = (*low[number].tolist(), *high[number].tolist())
        yield TableRow(int(number), plane.place, box, int(areas[number]), tuple(scores[number].tolist()))
