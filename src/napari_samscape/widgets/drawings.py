"""What the prompt layers hold at one moment, kept to be put back later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_samscape.widgets.canvas import SYMBOLS
from napari_samscape.widgets.drawn import BACKGROUND, FEATURE, FOREGROUND, foreground

if TYPE_CHECKING:
    from napari.layers import Points, Shapes

LOOKS = ("edge_width", "edge_color", "face_color", "z_index")
"""What each shape has of its own besides its kind and vertices."""


@dataclass(frozen=True, eq=False)
class Drawings:
    """Content of a Points and a Shapes layer.

    Attributes
    ----------
    points : ndarray, shape (n, ndim)
        In data coordinates of their layer.
    kinds : ndarray of int, shape (n,)
        1 for foreground, 0 for background.
    features, symbols, sizes : sequence of length n
        Whatever else napari knows of the points.
    shapes : sequence of ndarray, shape (k, ndim)
        Vertices of each shape.
    shape_types : tuple of str
        Kind of each shape.
    looks : dict
        See `LOOKS`.
    """

    points: NDArray
    kinds: NDArray[np.int64]
    features: Any
    symbols: Any
    sizes: Any
    shapes: tuple[NDArray, ...]
    shape_types: tuple[str, ...]
    looks: dict[str, Any]

    def same_as(self, other: Drawings) -> bool:
        """Whether the same is drawn, however it looks."""
        return (
            self.same_points(other)
            and self.shape_types == other.shape_types
            and all(np.array_equal(a, b) for a, b in zip(self.shapes, other.shapes, strict=True))
        )

    def same_points(self, other: Drawings) -> bool:
        """Whether the points are the same."""
        return np.array_equal(self.points, other.points) and np.array_equal(self.kinds, other.kinds)


def kept(points: Points, shapes: Shapes) -> Drawings:
    """Copy what the layers hold."""
    return Drawings(
        points=np.array(points.data),
        kinds=foreground(points),
        features=points.features.copy(),
        symbols=np.array(points.symbol),
        sizes=np.array(points.size),
        shapes=tuple(np.array(vertices) for vertices in shapes.data),
        shape_types=tuple(shapes.shape_type),
        looks={name: list(getattr(shapes, name)) for name in LOOKS},
    )


def put_back(drawings: Drawings, points: Points, shapes: Shapes) -> None:
    """Let the layers hold what they held then."""
    end_drawing(shapes)
    now = kept(points, shapes)
    if not now.same_points(drawings):
        points.selected_data = set()
        points.data = drawings.points
        points.features = drawings.features
        if len(drawings.points):
            points.symbol = drawings.symbols
            points.size = drawings.sizes
    if not now.same_as(drawings):
        shapes.selected_data = set(range(len(shapes.data)))
        shapes.remove_selected()
        if drawings.shapes:
            shapes.add(list(zip(drawings.shapes, drawings.shape_types, strict=True)), **drawings.looks)
        shapes.selected_data = set()


def end_drawing(shapes: Shapes) -> None:
    """End a shape that is being drawn point by point, as napari does when another tool is taken up."""
    if is_drawing(shapes):
        mode = shapes.mode
        shapes.mode = "pan_zoom"
        shapes.mode = mode


def is_drawing(shapes: Shapes) -> bool:
    """Whether a shape is being drawn, between its first and its last point."""
    return bool(getattr(shapes, "_is_creating", False))  # napari has no public name for it


def add_points(points: Points, places: NDArray, kinds: NDArray[np.int64]) -> None:
    """Add points (n, ndim) to a layer, foreground (1) and background (0) ones, in this order."""
    if len(places) == 0:
        return
    names = [FOREGROUND if kind else BACKGROUND for kind in (*foreground(points), *kinds)]
    symbols = [str(symbol) for symbol in points.symbol]
    symbols += [SYMBOLS[name] for name in names[len(symbols) :]]
    points.selected_data = set()
    points.data = np.concatenate([np.asarray(points.data).reshape(-1, points.ndim), places])
    features = points.features.copy()
    features[FEATURE] = names
    points.features = features
    points.symbol = symbols
