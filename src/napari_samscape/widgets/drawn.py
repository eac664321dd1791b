"""What is drawn in Points and Shapes layers, as prompts and boxes in plane coordinates."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_samscape.errors import InputError
from napari_samscape.prediction.types import Prompts
from napari_samscape.widgets.layers import Plane, to_layer

if TYPE_CHECKING:
    from napari.layers import Image, Points, Shapes

FEATURE = "prompt"
FOREGROUND, BACKGROUND = "foreground", "background"
OPEN = ("path", "line")
"""napari's shapes that enclose nothing."""


def prompts_on(
    image: Image, plane: Plane, dims: Any, points: Points | None, shapes: Shapes | None
) -> Prompts | None:
    """Collect what the prompt layers hold on this plane, in plane coordinates; None where it is nothing.

    The newest rectangle is the box; all other closed shapes and paths together are the mask prompt.
    """
    clicks, kinds = _clicks(image, plane, dims, points)
    drawn = _drawn(image, plane, dims, shapes)
    box, mask = drawn.box, drawn.mask
    if mask is not None and box is None and len(clicks) == 0:
        # The models know masks only beside other prompts: alone, one finds next to nothing.
        clicks, kinds, box = drawn.along, np.ones(len(drawn.along)), drawn.around
    if len(clicks) == 0 and box is None and mask is None:
        return None
    return Prompts(points=clicks, labels=kinds, box=box, mask=mask)


def places_of(image: Image, dims: Any, points: Points | None, shapes: Shapes | None) -> NDArray:
    """Where the prompt layers hold anything, in the image's data coordinates, shape (n, image.ndim)."""
    found = [np.zeros((0, image.ndim))]
    if points is not None and len(points.data):
        found.append(to_layer(points.data, points, image, dims))
    if shapes is not None:
        found += [to_layer(vertices, shapes, image, dims) for vertices in shapes.data]
    return np.concatenate(found)


def points_on(image: Image, plane: Plane, dims: Any, points: Points) -> NDArray:
    """Plane coordinates, shape (n, 2), of the points of a layer that lie on the plane."""
    if len(points.data) == 0:
        return np.zeros((0, 2))
    data = to_layer(points.data, points, image, dims)
    return plane.from_data(data[plane.holds(data)])


@dataclass(frozen=True, eq=False)
class Rectangles:
    """Boxes drawn on a plane, in plane coordinates, and what is known of them.

    Attributes
    ----------
    boxes : ndarray, shape (n, 4)
        (y0, x0, y1, x1); of a rectangle that lies askew, the box round it.
    indices : tuple of int, length n
        Which shapes of the layer they are.
    others : int
        How many shapes on the plane are no rectangles.
    scores, classes : sequence of length n, optional
        A detector's.
    """

    boxes: NDArray
    indices: tuple[int, ...]
    others: int = 0
    scores: Any = None
    classes: Any = None

    def within(self, shape: tuple[int, int]) -> Rectangles:
        """Those whose middle lies in the picture, which is a window of the plane."""
        middles = (self.boxes[:, :2] + self.boxes[:, 2:]) / 2
        inside = np.flatnonzero(((middles >= 0) & (middles <= np.asarray(shape) - 1)).all(axis=1))
        return replace(self, boxes=self.boxes[inside], indices=tuple(self.indices[i] for i in inside))


def rectangles_on(image: Image, plane: Plane, dims: Any, shapes: Shapes) -> Rectangles:
    """Collect the rectangles on a plane, in the order in which they were drawn."""
    boxes, indices, others = [], [], 0
    for index, (kind, vertices, _) in enumerate(_shapes_of(shapes)):
        data = to_layer(vertices, shapes, image, dims)
        if not plane.holds(data).all():
            continue
        if kind != "rectangle":
            others += 1
            continue
        corners = plane.from_data(data)
        boxes.append(np.concatenate([corners.min(axis=0), corners.max(axis=0)]))
        indices.append(index)
    return Rectangles(np.array(boxes).reshape(-1, 4), tuple(indices), others)


def _clicks(image: Image, plane: Plane, dims: Any, points: Points | None) -> tuple[NDArray, NDArray]:
    if points is None or len(points.data) == 0:
        return np.zeros((0, 2)), np.zeros(0)
    here = plane.holds(to_layer(points.data, points, image, dims))
    return points_on(image, plane, dims, points), foreground(points)[here]


def foreground(points: Points) -> NDArray[np.int64]:
    """1 for each foreground point of a Points layer, 0 for each background one; shape (n,)."""
    if FEATURE not in points.features:
        return np.ones(len(points.data), dtype=np.int64)
    return (points.features[FEATURE].to_numpy() != BACKGROUND).astype(np.int64)


@dataclass
class _Drawn:
    """What the shapes on a plane say, in plane coordinates."""

    box: NDArray | None = None  # (4,), the newest rectangle
    mask: NDArray[np.bool_] | None = None  # (y, x), all else
    around: NDArray | None = None  # (4,), box round the newest closed shape
    along: NDArray = field(default_factory=lambda: np.zeros((0, 2)))  # (n, 2), points on the newest path


def _drawn(image: Image, plane: Plane, dims: Any, shapes: Shapes | None) -> _Drawn:
    """Read the shapes on the plane; what has no area (yet) does not count."""
    found = _Drawn()
    for kind, vertices, width in _shapes_of(shapes):
        data = to_layer(vertices, shapes, image, dims)
        if not plane.holds(data).all():
            continue
        corners = plane.from_data(data)
        low, high = corners.min(axis=0), corners.max(axis=0)
        if kind == "rectangle":
            found.box = np.concatenate([low, high]) if (high > low).all() else found.box
            continue
        if (high < 0).any() or (low > np.asarray(plane.shape) - 1).any():
            raise InputError("The shape drawn lies outside the picture.")
        mask = _drawn_mask(kind, corners, width, plane.shape)
        if not mask.any():
            continue
        found.mask = mask if found.mask is None else mask | found.mask
        if kind in OPEN:
            found.along = _points_along(corners, plane.shape)
        else:
            found.around = np.concatenate([low, high])
    return found


def _points_along(corners: NDArray, shape: tuple[int, int], count: int = 3) -> NDArray:
    """Points at even distances on a path, (count, 2), not quite at its ends; those outside are left out."""
    lengths = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(corners, axis=0), axis=1))])
    where = (np.arange(count) + 0.5) / count * lengths[-1]
    points = np.stack([np.interp(where, lengths, corners[:, axis]) for axis in (0, 1)], axis=1)
    return points[((points >= 0) & (points <= np.asarray(shape) - 1)).all(axis=1)]


def _shapes_of(shapes: Shapes | None) -> list[tuple[str, NDArray, float]]:
    if shapes is None:
        return []
    return list(zip(shapes.shape_type, shapes.data, shapes.edge_width, strict=True))


def _drawn_mask(kind: str, corners: NDArray, width: float, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Rasterise one shape, given by its corners (n, 2) in plane coordinates."""
    from skimage.draw import line, polygon2mask
    from skimage.morphology import disk

    if kind == "ellipse":
        corners = _ellipse(corners)
    if kind not in OPEN:
        return polygon2mask(shape, corners) if _area(corners) > 0 else np.zeros(shape, dtype=bool)
    mask = np.zeros(shape, dtype=bool)
    brush = np.argwhere(disk(max(1, round(width / 2)))) - max(1, round(width / 2))
    ends = np.rint(corners).astype(int)
    for start, stop in zip(ends[:-1], ends[1:], strict=True):
        stroke = np.stack(line(*start, *stop), axis=1)
        pixels = (stroke[:, None] + brush[None]).reshape(-1, 2)
        inside = ((pixels >= 0) & (pixels < shape)).all(axis=1)
        mask[tuple(pixels[inside].T)] = True
    return mask


def _area(corners: NDArray) -> float:
    """Area of a polygon, by the shoelace formula."""
    (y, x), (next_y, next_x) = corners.T, np.roll(corners, -1, axis=0).T
    return abs(float((y * next_x - next_y * x).sum())) / 2


def _ellipse(corners: NDArray) -> NDArray:
    """Outline (64, 2) of the ellipse inside four corners, as napari stores it."""
    centre = corners.mean(axis=0)
    one, other = (corners[1] - corners[0]) / 2, (corners[3] - corners[0]) / 2
    angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)[:, None]
    return centre + np.cos(angles) * one + np.sin(angles) * other
