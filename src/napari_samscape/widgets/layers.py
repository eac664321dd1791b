"""Between napari layers and the engine: the only code that knows world, data and plane coordinates.

Three coordinate systems meet here. *World* is napari's; a layer of fewer dimensions than the viewer owns
the last ones. *Data* coordinates are a layer's own array indices. *Plane* coordinates (y, x) are the pixels
of the two-dimensional picture that the model is shown: two axes of the image layer's data, at one position
of its other axes, possibly at a coarser level. A pixel's centre lies at its integer index in all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_samscape.errors import InputError

if TYPE_CHECKING:
    from napari.layers import Image, Labels, Layer

LARGE_SIDE = 4096
"""Longest side, in pixels, up to which a plane is shown to the model at full resolution."""
ENOUGH_SIDE = 1024
"""A coarser level has to keep at least this many pixels along its longest side (SAM's input size)."""

TIMES = ("t", "time")
"""Labels of axes that are no length, whatever their units are."""


@dataclass(frozen=True)
class Plane:
    """The picture that a layer shows in a two-dimensional view.

    Attributes
    ----------
    axes : tuple of int
        The two data axes shown, ascending; they are the picture's y and x.
    position : tuple of int
        One index per data axis; those at ``axes`` are 0 and mean nothing.
    shape : tuple of int
        (y, x) of the picture, in its own pixels.
    level, step : int
        Pyramid level read, and the stride with which it is read.
    factor, offset : tuple of float
        Data coordinate = plane coordinate * factor + offset, for y and x.
    window : tuple of int, or None
        First pixel (y, x) of the level that belongs to the picture, where that is a part of the level only.
    """

    axes: tuple[int, int]
    position: tuple[int, ...]
    shape: tuple[int, int]
    level: int = 0
    step: int = 1
    factor: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)
    window: tuple[int, int] | None = None

    def lies_on(self, other: Plane) -> bool:
        """Whether both are pictures of the same plane of the data, however much of it they show."""
        return self.axes == other.axes and self.position == other.position

    @property
    def others(self) -> list[int]:
        """The data axes that are not shown: those with a slider."""
        return [axis for axis in range(len(self.position)) if axis not in self.axes]

    def from_data(self, points: NDArray) -> NDArray:
        """Plane coordinates, shape (n, 2), of data coordinates, shape (n, ndim)."""
        return (points[:, list(self.axes)] - self.offset) / np.asarray(self.factor)

    def to_data(self, points: NDArray) -> NDArray:
        """Data coordinates, shape (n, ndim), of plane coordinates, shape (n, 2)."""
        data = np.tile(np.asarray(self.position, dtype=float), (len(points), 1))
        data[:, list(self.axes)] = points * np.asarray(self.factor) + self.offset
        return data

    def holds(self, points: NDArray, along: int | None = None) -> NDArray[np.bool_]:
        """Whether each of the data coordinates, shape (n, ndim), lies on this plane; shape (n,).

        With an axis ``along`` it may also lie on any of the planes that follow one another along that axis.
        """
        others = [axis for axis in self.others if axis != along]
        here = np.asarray(self.position)[others]
        return (np.rint(points[:, others]) == here).all(axis=1)

    def cut(self, box: tuple[int, int, int, int]) -> Plane:
        """The part of this picture in a box (y0, x0, y1, x1), half open, as a picture of its own.

        It says where that lies; it is not there to be read.
        """
        y0, x0, y1, x1 = box
        offset = [at * by + start for at, by, start in zip((y0, x0), self.factor, self.offset, strict=True)]
        return replace(self, shape=(y1 - y0, x1 - x0), offset=(offset[0], offset[1]))


@dataclass(frozen=True)
class Sight:
    """What a viewer showed at one moment: those parts of napari's ``Dims`` that are read here."""

    ndim: int
    ndisplay: int
    displayed: tuple[int, ...]
    point: tuple[float, ...]
    units: Any

    @classmethod
    def of(cls, dims: Any) -> Sight:
        """Keep what ``dims`` say now; the sliders may move on."""
        return cls(dims.ndim, dims.ndisplay, tuple(dims.displayed), tuple(dims.point), dims.units)


def plane_of(layer: Image | Labels, dims: Any, *, full_resolution: bool = False) -> Plane:
    """Return the plane of an Image or Labels layer that a viewer with these ``dims`` shows.

    Raises
    ------
    InputError
        In a 3D view, if the view shows an axis that the layer does not have, or if a slider stands
        outside the layer.
    """
    if dims.ndisplay != 2:
        raise InputError("Samscape works on the plane that is shown: switch the viewer to 2D.")
    missing = dims.ndim - layer.ndim
    axes = tuple(sorted(int(axis) - missing for axis in dims.displayed))
    if len(axes) != 2 or axes[0] < 0:
        raise InputError(f"The view shows an axis that the layer '{layer.name}' does not have.")
    shape = data_shape(layer)
    point = np.asarray(dims.point) * _units(dims.units, layer.units, dims.ndim)
    position = np.rint(layer.world_to_data(point)).astype(int)
    position[list(axes)] = 0
    if ((position < 0) | (position >= shape)).any():
        raise InputError(f"The sliders stand outside the layer '{layer.name}'.")
    level, step = (0, 1) if full_resolution else _resolution(layer, axes)
    sizes = np.asarray(level_shapes(layer)[level])[list(axes)]
    factor = np.asarray(shape)[list(axes)] / sizes
    # A coarser level's pixel covers `factor` pixels, so the centres are shifted; a stride picks pixels.
    offset = (factor - 1) / 2
    return Plane(
        axes=(axes[0], axes[1]),
        position=tuple(int(i) for i in position),
        shape=(int(-(-sizes[0] // step)), int(-(-sizes[1] // step))),
        level=level,
        step=step,
        factor=(float(factor[0] * step), float(factor[1] * step)),
        offset=(float(offset[0]), float(offset[1])),
    )


def place_on(layer: Image, plane: Plane, dims: Any, position: Sequence[float]) -> NDArray | None:
    """Plane coordinates (y, x) of a place in the world, (dims.ndim,); None where it is not on the picture."""
    data = from_world(np.asarray(position)[None], layer, dims)
    place: NDArray = plane.from_data(data)[0]
    inside = (place >= -0.5).all() and (place < np.asarray(plane.shape) - 0.5).all()
    return place if inside and plane.holds(data).all() else None


def from_world(positions: NDArray, layer: Layer, dims: Any) -> NDArray:
    """Data coordinates of a layer, shape (n, layer.ndim), of places in the world, (n, dims.ndim)."""
    world = positions * _units(dims.units, layer.units, dims.ndim)
    return np.asarray([layer.world_to_data(place) for place in world])[:, -layer.ndim :]


def planes_like(layer: Image | Labels, plane: Plane) -> list[Plane]:
    """All planes of a layer that lie like this one, in the order of their positions."""
    sizes = data_shape(layer)
    ranges = [range(1 if axis in plane.axes else size) for axis, size in enumerate(sizes)]
    return [replace(plane, position=position) for position in product(*ranges)]


def same_plane(layer: Image | Labels, image: Image, plane: Plane, dims: Any) -> Plane:
    """Return the plane of another layer, at full resolution, in which a plane of an image lies.

    Raises
    ------
    InputError
        If the other layer does not reach there.
    """
    shown = plane_of(layer, dims, full_resolution=True)
    centre = plane.to_data((np.asarray([plane.shape]) - 1) / 2)
    position = np.rint(to_layer(centre, image, layer, dims)[0]).astype(int)
    position[list(shown.axes)] = 0
    if ((position < 0) | (position >= data_shape(layer))).any():
        raise InputError(f"The layer '{layer.name}' does not reach as far as the image '{image.name}'.")
    return replace(shown, position=tuple(int(i) for i in position))


def data_shape(layer: Image | Labels) -> tuple[int, ...]:
    """Shape of the layer's (finest) array without the axis of an RGB image's colours."""
    return level_shapes(layer)[0]


def level_shapes(layer: Image | Labels) -> list[tuple[int, ...]]:
    """Shapes of the layer's `levels`, without the axis of an RGB image's colours."""
    return [tuple(int(size) for size in array.shape[: layer.ndim]) for array in levels(layer)]


def _resolution(layer: Image | Labels, axes: Sequence[int]) -> tuple[int, int]:
    """Level and stride: full resolution where small enough, else the coarsest that is still enough."""
    longest = [max(shape[axis] for axis in axes) for shape in level_shapes(layer)]
    if longest[0] <= LARGE_SIDE:
        return 0, 1
    level = max(i for i, size in enumerate(longest) if size >= ENOUGH_SIDE)
    return level, -(-longest[level] // LARGE_SIDE)


def levels(layer: Image | Labels) -> list[Any]:
    """The layer's arrays, finest first; one where it is not multiscale."""
    return list(layer.data) if layer.multiscale else [layer.data]


def read_plane(arrays: Sequence[Any], plane: Plane) -> NDArray:
    """Read the plane's pixels, (y, x) or (y, x, c), from a layer's `levels`.

    This is where lazy data (dask, zarr) are read from disk; call it off the GUI thread.
    """
    finest, array = arrays[0], arrays[plane.level]
    index: list[Any] = [
        # A pyramid may shrink its other axes too.
        i * int(array.shape[axis]) // int(finest.shape[axis])
        for axis, i in enumerate(plane.position)
    ]
    for axis, start, size in zip(plane.axes, plane.window or (0, 0), plane.shape, strict=True):
        index[axis] = slice(start, start + size * plane.step, plane.step)
    return np.asarray(array[tuple(index)])


def to_layer(points: NDArray, source: Layer, target: Layer, dims: Any) -> NDArray:
    """Carry data coordinates of one layer, shape (n, source.ndim), to those of another, (n, target.ndim).

    Where the source has fewer dimensions than the target, its points lie wherever the sliders of ``dims``
    stand. Layers may measure the world in different units (micrometres and nanometres, say).
    """
    world = to_world(points, source, dims)
    missing = target.ndim - source.ndim
    if missing > 0:
        leading = np.asarray(dims.point, dtype=float)[-target.ndim :][:missing]
        world = np.hstack([np.tile(leading, (len(world), 1)), world])
    world = world[:, -target.ndim :] * _units(dims.units, target.units, target.ndim)
    return _apply(np.linalg.inv(world_matrix(target)), world)


def to_world(points: NDArray, layer: Layer, dims: Any) -> NDArray:
    """World coordinates, shape (n, layer.ndim), as the viewer counts them, of a layer's data coordinates."""
    points = np.asarray(points, dtype=float).reshape(-1, layer.ndim)
    return _apply(world_matrix(layer), points) * _units(layer.units, dims.units, layer.ndim)


def _units(before: Sequence[Any] | None, after: Sequence[Any] | None, ndim: int) -> NDArray:
    """Factors, shape (ndim,), from one set of units to another; 1 where they do not compare, as in napari."""
    factors = np.ones(ndim)
    for i in range(1, ndim + 1):
        if before is None or after is None or i > min(len(before), len(after)) or before[-i] == after[-i]:
            continue
        if before[-i].is_compatible_with(after[-i]):
            factors[-i] = (1 * before[-i]).to(after[-i]).magnitude
    return factors


def world_matrix(layer: Layer) -> NDArray:
    """The layer's scale, rotate, shear, translate and affine as one (ndim + 1, ndim + 1) matrix."""
    ndim = layer.ndim
    origin = np.asarray(layer.data_to_world(np.zeros(ndim)))
    matrix = np.eye(ndim + 1)
    for axis, unit in enumerate(np.eye(ndim)):
        matrix[:ndim, axis] = np.asarray(layer.data_to_world(unit)) - origin
    matrix[:ndim, ndim] = origin
    return matrix


def _apply(matrix: NDArray, points: NDArray) -> NDArray:
    return points @ matrix[:-1, :-1].T + matrix[:-1, -1]


def placed_like(layer: Layer) -> dict[str, Any]:
    """Return the keyword arguments that put a new layer of the same dimensions in the same place."""
    return {
        "scale": layer.scale,
        "translate": layer.translate,
        "rotate": layer.rotate,
        "shear": layer.shear,
        "affine": layer.affine,
        "units": layer.units,
        "axis_labels": layer.axis_labels,
    }


def same_place(one: Layer, other: Layer) -> bool:
    """Whether two layers have the same dimensions and transforms, so that their data coordinates agree."""
    if one.ndim != other.ndim or tuple(one.units) != tuple(other.units):
        return False
    return np.allclose(world_matrix(one), world_matrix(other))


def cut_matrix(layer: Layer, plane: Plane, corner: tuple[int, int] = (0, 0), step: int = 1) -> NDArray:
    """Affine that puts a cut of the plane, with one pixel along the other axes, in its place in the world.

    Parameters
    ----------
    layer : Layer
        The layer that the plane belongs to.
    plane : Plane
        The plane.
    corner : tuple of int
        Plane coordinates (y, x) of the cut's first pixel.
    step : int
        The cut has every step-th pixel only.

    Returns
    -------
    ndarray, shape (ndim + 1, ndim + 1)
    """
    local = np.eye(layer.ndim + 1)
    local[:-1, -1] = plane.to_data(np.array([corner], dtype=float))[0]
    for axis, factor in zip(plane.axes, plane.factor, strict=True):
        local[axis, axis] = factor * step
    matrix: NDArray = world_matrix(layer) @ local
    return matrix


def placed_like_planes(layer: Image, planes: Sequence[Plane]) -> dict[str, Any]:
    """Return the keyword arguments that put one plane of a layer, or all alike, in its place in the world.

    The array has the layer's axes, with one pixel along the other axes where there is but one plane. As the
    layer's own transforms are kept, only scale and translation change, and those only where they must.
    """
    plane, placed = planes[0], placed_like(layer)
    scale, start = np.ones(layer.ndim), plane.to_data(np.zeros((1, 2)))[0]
    scale[list(plane.axes)] = plane.factor
    # napari scales first, then shears and rotates, then translates; the affine comes last.
    own = np.linalg.inv(layer.affine.affine_matrix) @ world_matrix(layer)
    return {**placed, "scale": layer.scale * scale, "translate": layer.translate + own[:-1, :-1] @ start}


def unsqueezed(cut: NDArray, plane: Plane, along: int | None = None) -> NDArray:
    """Give a cut of the plane, shape (y, x), the other axes of its layer, with one pixel along each.

    With an axis ``along`` it is a cut of several planes, shape (n, y, x), which follow one another there.
    """
    cut = cut if along is None else np.moveaxis(cut, 0, sum(axis < along for axis in plane.axes))
    return np.expand_dims(cut, tuple(axis for axis in plane.others if axis != along))


def thickness(layer: Image, plane: Plane, along: int) -> float:
    """How thick planes are that follow one another along an axis, in sides of the plane's pixels.

    1 where that axis is no length in a unit like that of the plane's own axes: of time, for instance.
    """
    unit, side_unit = layer.units[along], layer.units[plane.axes[0]]
    if layer.axis_labels[along].lower() in TIMES or not unit.is_compatible_with(side_unit):
        return 1.0
    lengths = np.linalg.norm(world_matrix(layer)[:-1, :-1], axis=0)
    side = lengths[plane.axes[0]] * plane.factor[0]
    return float(lengths[along] / side * (1 * unit).to(side_unit).magnitude)
