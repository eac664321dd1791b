"""What of a large picture the model is shown: the part that the viewer shows, as coarse as it shows it.

A window has about the model's size in pixels. Zooming picks the level, and with it the size of objects;
panning picks the place, on a grid, so that windows come again and are found again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_samscape.widgets.layers import (
    ENOUGH_SIDE,
    LARGE_SIDE,
    Plane,
    data_shape,
    from_world,
    level_shapes,
    plane_of,
)

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

SIDE = ENOUGH_SIDE
"""Longest side of a window, in pixels of the level that is read."""
GRID = SIDE // 4
"""Windows begin at multiples of this."""
ROOM = SIDE - GRID
"""A view of up to so many pixels fits into a window wherever it lies."""
FEW = SIDE // 4
"""A view of fewer pixels of a window than this is looked at anew, finer."""


def shown_plane(
    image: Image, viewer: ViewerModel, current: Plane | None = None, prompts: NDArray | None = None
) -> Plane:
    """Return what the model is to look at: all of a plane, or of a large one a window.

    Parameters
    ----------
    image : napari.layers.Image
        The image.
    viewer : napari.components.ViewerModel
        It shows a plane of the image, and some part of that.
    current : Plane, optional
        The window that is looked at; it stays if it will do.
    prompts : ndarray, shape (n, ndim), optional
        Places, in the image's data coordinates, that belong to the object asked for. While a window holds all
        of them it stays, whatever is in view.

    Returns
    -------
    Plane

    Raises
    ------
    InputError
        As `plane_of`.
    """
    whole = plane_of(image, viewer.dims, full_resolution=True)
    if max(whole.shape) <= LARGE_SIDE:
        return whole
    seen = _in_view(image, viewer, whole)
    kept = current if current is not None and current.lies_on(whole) else None
    places = np.zeros((0, 2)) if prompts is None else _on(whole, prompts)
    if len(places):
        if kept is not None and _holds(kept, places):
            return kept
        seen = np.concatenate([seen, places])
    low, high = seen.min(axis=0), seen.max(axis=0)
    if kept is not None and _holds(kept, np.stack([low, high])):
        few = (high - low).max() < FEW * kept.factor[0] and kept.factor[0] > 1
        if not few:
            return kept
    return _window(image, whole, low, high)


def about(plane: Plane) -> str:
    """Say in a few words what of a large picture is looked at."""
    if plane.window is None:
        return ""
    return f"(Looked at: this view, at 1 : {max(plane.factor):g}.)"


def neighbours(image: Image, plane: Plane) -> list[Plane]:
    """The windows beside one, half of which it shows; those that the picture ends before are left out."""
    if plane.window is None:
        return []
    limits = _size(image, plane)
    around = []
    for axis, way in ((0, 1), (0, -1), (1, 1), (1, -1)):
        start = list(plane.window)
        start[axis] += way * SIDE // 2 * plane.step
        moved = _at(plane, limits, (start[0], start[1]))
        if moved != plane:
            around.append(moved)
    return list(dict.fromkeys(around))


def _on(whole: Plane, points: NDArray) -> NDArray:
    return whole.from_data(points[whole.holds(points)])


def _in_view(image: Image, viewer: ViewerModel, whole: Plane) -> NDArray:
    """Corners (4, 2) of the part in view, in pixels of full resolution, as far as they lie in the picture."""
    dims = viewer.dims
    camera = getattr(viewer, "scene", viewer).camera  # napari 0.9 has moved it
    canvas = getattr(viewer, "canvas", None)
    size = canvas.size if canvas is not None else viewer._canvas_size
    half = np.asarray(size, dtype=float) / camera.zoom / 2
    world = np.tile(np.asarray(dims.point, dtype=float), (4, 1))
    signs = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]])
    world[:, list(dims.displayed)] = np.asarray(camera.center)[-2:] + signs * half
    corners = whole.from_data(from_world(world, image, dims))
    inside: NDArray = corners.clip(-0.5, np.asarray(whole.shape) - 0.5)
    return inside


def _holds(plane: Plane, places: NDArray) -> bool:
    """Whether a window holds places (n, 2) in pixels of full resolution, but for a pixel of its own."""
    own = (places - plane.offset) / np.asarray(plane.factor)
    return bool((own >= -1).all() and (own <= np.asarray(plane.shape)).all())


def _window(image: Image, whole: Plane, low: NDArray, high: NDArray) -> Plane:
    """The finest window with room for a part (low, high) in pixels of full resolution, on the grid."""
    extent = float((high - low).max())
    shapes = level_shapes(image)
    sizes = [np.asarray(shape)[list(whole.axes)] for shape in shapes]
    factors = [float((sizes[0] / size).max()) for size in sizes]
    level = next((i for i, factor in enumerate(factors) if extent <= ROOM * factor), len(factors) - 1)
    step = 1
    while extent > ROOM * factors[level] * step and SIDE * step < sizes[level].max():
        step *= 2
    coarse = replace(whole, level=level, step=step, window=(0, 0))
    factor = sizes[0] / sizes[level]
    middle = (low + high) / 2 / factor  # in pixels of the level
    grid = GRID * step
    start = np.round((middle - SIDE * step / 2) / grid) * grid
    return _at(coarse, _size(image, coarse), (int(start[0]), int(start[1])))


def _size(image: Image, plane: Plane) -> tuple[tuple[int, int], NDArray]:
    """(y, x) of the plane's level, and how many pixels of full resolution one of its pixels covers."""
    shapes = level_shapes(image)
    axes = list(plane.axes)
    size = np.asarray(shapes[plane.level])[axes]
    return (int(size[0]), int(size[1])), np.asarray(data_shape(image))[axes] / size


def _at(plane: Plane, limits: tuple[tuple[int, int], NDArray], start: tuple[int, int]) -> Plane:
    """The window of a plane's level and step that begins at a pixel of the level, or as near as it can."""
    (height, width), factor = limits
    side = SIDE * plane.step
    # Where the picture ends, so does the window: it keeps its size as far as there is room.
    first = [max(0, min(at, length - side)) for at, length in zip(start, (height, width), strict=True)]
    shape = [
        -(-min(side, length - at) // plane.step) for at, length in zip(first, (height, width), strict=True)
    ]
    offset = [at * by + (by - 1) / 2 for at, by in zip(first, factor, strict=True)]
    return replace(
        plane,
        window=(first[0], first[1]),
        shape=(shape[0], shape[1]),
        factor=(float(factor[0] * plane.step), float(factor[1] * plane.step)),
        offset=(float(offset[0]), float(offset[1])),
    )
