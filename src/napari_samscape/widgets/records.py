"""How objects came to be: the prompts of each, in its Labels layer's metadata, as plain data for JSON.

A record says on which image and plane the object was asked for, with which points and shapes (in the
image's data coordinates), and in which turns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_samscape.widgets.drawings import add_points
from napari_samscape.widgets.drawn import foreground
from napari_samscape.widgets.layers import Plane, level_shapes, to_layer
from napari_samscape.widgets.turns import Turn

if TYPE_CHECKING:
    from napari.layers import Image, Labels, Points, Shapes

Record = dict[str, Any]
Holds = Callable[[NDArray], NDArray[np.bool_]]
"""Which of data coordinates (n, ndim) of an image count; (n,)."""
PROMPTS = "napari-samscape prompts"
"""Key in a Labels layer's metadata, of a dictionary from ids to records."""
WINDOW = ("shape", "level", "step", "factor", "offset", "window")
"""What a record keeps of a plane of which a part was looked at."""


def record_of(
    image: Image,
    plane: Plane,
    dims: Any,
    drawn_on: tuple[Points, Shapes],
    turns: Iterable[Turn],
    holds: Holds | None = None,
) -> Record:
    """Record the prompts on a plane, or those whose places ``holds`` is true of.

    The turns are those of the plane.
    """
    holds = holds or plane.holds
    points, shapes = drawn_on
    places = to_layer(points.data, points, image, dims)
    here = holds(places)
    drawn = []
    for kind, vertices, width in zip(shapes.shape_type, shapes.data, shapes.edge_width, strict=True):
        corners = to_layer(vertices, shapes, image, dims)
        if holds(corners).all():
            drawn.append({"type": str(kind), "vertices": corners.tolist(), "width": float(width)})
    return {
        "image": image.name,
        "axes": list(plane.axes),
        "position": list(plane.position),
        "points": places[here].tolist(),
        "labels": foreground(points)[here].tolist(),
        "shapes": drawn,
        "turns": [list(turn) for turn in turns],
    } | ({} if plane.window is None else {"window": {name: getattr(plane, name) for name in WINDOW}})


def draw(record: Record, image: Image, dims: Any, points: Points, shapes: Shapes) -> None:
    """Put the prompts of a record on the prompt layers."""
    if record["points"]:
        places = to_layer(np.asarray(record["points"]), image, points, dims)
        add_points(points, places, np.asarray(record["labels"], dtype=np.int64))
    for shape in record["shapes"]:
        vertices = to_layer(np.asarray(shape["vertices"]), image, shapes, dims)
        shapes.add((vertices, shape["type"]), edge_width=shape["width"])
    shapes.selected_data = set()


def window_of(record: Record, image: Image) -> Plane | None:
    """The window of a large image that was looked at; None where it was all of the plane."""
    window = record.get("window")
    if window is None or window["level"] >= len(level_shapes(image)):
        return None
    values: Any = {name: tuple(value) if isinstance(value, list) else value for name, value in window.items()}
    return Plane(axes=tuple(record["axes"]), position=tuple(record["position"]), **values)


def turns_of(record: Record) -> tuple[Turn, ...]:
    """The turns that led to the object."""
    return tuple(Turn(*turn) for turn in record["turns"])


def prompt_count(record: Record) -> int:
    """Number of points and shapes."""
    return len(record["points"]) + len(record["shapes"])


def records(labels: Labels) -> dict[int, Record]:
    """The records of a layer's objects, by id."""
    found: dict[int, Record] = labels.metadata.get(PROMPTS, {})
    return found


def put_records(labels: Labels, ids: Iterable[int], changed: dict[int, Record]) -> None:
    """Let some records be all that a layer has about some ids."""
    gone = set(ids)
    kept = {i: record for i, record in records(labels).items() if i not in gone}
    labels.metadata[PROMPTS] = dict(sorted({**kept, **changed}.items()))
