"""The table of a Labels layer: one row per object, found by its id, which napari calls ``index``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_samscape.widgets.layers import Plane, data_shape

if TYPE_CHECKING:
    from napari.layers import Image, Labels

    from napari_samscape.prediction.types import Instance

Table = dict[str, list[Any]]
INDEX = "index"


def object_table(instances: Sequence[Instance], image: Image, plane: Plane, first: int) -> Table:
    """What is known of objects of a plane, in the image's own pixels.

    Parameters
    ----------
    instances : sequence of Instance
        In the plane's pixels.
    image : napari.layers.Image
        Whose plane it is.
    plane : Plane
        Where they are.
    first : int
        Id of the first; those of the others follow.

    Returns
    -------
    dict of lists
        ``index`` (the id), the position along each axis with a slider under the axis's name,
        ``y0, x0, y1, x1`` (half open), ``area``, ``predicted_iou``.
    """
    table: Table = {INDEX: list(range(first, first + len(instances)))}
    for axis in plane.others:
        table[image.axis_labels[axis]] = [plane.position[axis]] * len(instances)
    boxes = np.array([item.box for item in instances], dtype=float).reshape(-1, 4)
    limits = np.asarray(data_shape(image))[list(plane.axes)]
    for name, axis, column in (("y0", 0, 0), ("x0", 1, 1), ("y1", 0, 2), ("x1", 1, 3)):
        # Half open: the edge between two pixels lies half a pixel before the second one's centre.
        edges = (boxes[:, column] - 0.5) * plane.factor[axis] + plane.offset[axis] + 0.5
        table[name] = np.rint(edges).clip(0, limits[axis]).astype(int).tolist()
    pixel = plane.factor[0] * plane.factor[1]
    table["area"] = [round(item.area * pixel) for item in instances]
    table["predicted_iou"] = [float(item.predicted_iou) for item in instances]
    return table


def chosen_rows(table: Table, rows: Iterable[int]) -> Table:
    """Keep some rows."""
    rows = list(rows)
    return {name: [column[row] for row in rows] for name, column in table.items()}


def joined(tables: Sequence[Table]) -> Table:
    """Put tables one below the other; where one lacks a column there is None."""
    names = dict.fromkeys(name for table in tables for name in table)
    return {
        name: [value for table in tables for value in table.get(name, [None] * _length(table))]
        for name in names
    }


def add_rows(labels: Labels, table: Table) -> None:
    """Add rows to a layer's features; those that are there under the same ids are replaced."""
    put_rows(labels, table[INDEX], table)


def put_rows(labels: Labels, ids: Iterable[int], table: Table) -> None:
    """Let the rows of a table be all that a layer's features have about some ids."""
    old, gone = all_rows(labels), set(ids)
    kept = [row for row, index in enumerate(old.get(INDEX, [])) if index not in gone]
    labels.features = joined([chosen_rows(old, kept), table])


def rows_of(labels: Labels, ids: Iterable[int]) -> Table:
    """The rows about some ids."""
    table, wanted = all_rows(labels), set(ids)
    return chosen_rows(table, [row for row, index in enumerate(table.get(INDEX, [])) if index in wanted])


def all_rows(labels: Labels) -> Table:
    """A layer's features."""
    features = labels.features
    table: Table = {str(name): features[name].tolist() for name in features.columns}
    if table and INDEX not in table:
        table = {
            INDEX: list(range(len(features))),
            **table,
        }  # napari counts rows then
    return table


def _length(table: Table) -> int:
    return len(table.get(INDEX, []))
