"""One lazy picture of two to five named axes, whatever file or array it comes from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_samscape.errors import InputError
from napari_samscape.io.remote import VanishedError

AXES = "tczyx"
#: How a volume may be cut into slices: the axis along which they lie, then their rows and columns.
PLANES = {"xy": "zyx", "xz": "yzx", "yz": "xzy"}


class DamagedError(InputError):
    """A part of a picture that cannot be read, though the picture could be opened."""


@dataclass(frozen=True, eq=False)
class Image:
    """A picture that is read only where it is asked for.

    Attributes
    ----------
    levels : tuple of array_like
        The picture at falling resolutions, level 0 (full) first; each has ``shape``, ``dtype`` and
        ``__getitem__`` and may lie on disk (Zarr, TIFF) or be computed when read (dask).
    axes : str
        One letter of "tczyx" per axis of the arrays, e.g. "yx", "yxc", "czyx".
    scale : tuple of float
        Size of a pixel of level 0 along each axis, in ``units``; ones where unknown.
    units : tuple of str or None
        Unit of each axis as UDUNITS names it ("micrometer", "second"), None where unknown.
    name : str
        What to call it in messages and layers.
    path : Path or None
        Where it lies on disk.
    url : str or None
        Where it lies elsewhere.
    translation : tuple of float
        Where pixel 0 of level 0 lies along each axis, in ``units``; zeros where unknown.
    placed : tuple of pairs
        Scale and translation of each level, where the file states them.
    channels : tuple of int
        Which channels are read, in this order; all of them where empty.

    Raises
    ------
    InputError
        If the axes do not fit the arrays, an axis is empty, levels grow, the pixels are not numbers, or their
        sizes are not positive ones.
    """

    levels: tuple[Any, ...]
    axes: str
    scale: tuple[float, ...] = ()
    units: tuple[str | None, ...] = ()
    name: str = "image"
    path: Path | None = None
    url: str | None = None
    translation: tuple[float, ...] = ()
    placed: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...] = ()
    channels: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _check_axes(self)
        object.__setattr__(self, "scale", self.scale or (1.0,) * len(self.axes))
        object.__setattr__(self, "translation", self.translation or (0.0,) * len(self.axes))
        object.__setattr__(self, "units", self.units or (None,) * len(self.axes))
        _check_scale(self)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{axis}={size}" for axis, size in self.sizes.items())
        return f"Image({str(self)!r}, {sizes}, {self.dtype}, {len(self.levels)} level(s))"

    def __str__(self) -> str:
        return str(self.path) if self.path else self.url or self.name

    @property
    def where(self) -> str:
        """What tells it from other pictures: its whole path, or URL, or else its name."""
        return str(self.path.resolve()) if self.path else self.url or self.name

    @property
    def data(self) -> Any:
        """The lazy array of full resolution."""
        return self.levels[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of full resolution, in the order of ``axes``."""
        return tuple(int(size) for size in self.data.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels as stored."""
        return np.dtype(self.data.dtype)

    @property
    def sizes(self) -> dict[str, int]:
        """Size by axis, in the order of ``axes``."""
        return dict(zip(self.axes, self.shape, strict=True))

    @property
    def label_axes(self) -> str:
        """Axes that a label image of this picture has: t and z where there are any, then y and x."""
        return "".join(axis for axis in "tzyx" if axis in self.axes)

    @property
    def label_shape(self) -> tuple[int, ...]:
        """Shape of a label image of this picture, in the order of ``label_axes``."""
        return tuple(self.sizes[axis] for axis in self.label_axes)

    @property
    def stacked(self) -> dict[str, int]:
        """Number of planes along t and along z, as far as there are such axes, t first."""
        return {axis: self.sizes[axis] for axis in self.label_axes[:-2]}

    @property
    def label_scale(self) -> tuple[float, ...]:
        """Pixel size along ``label_axes``."""
        return tuple(self.scale[self.axes.index(axis)] for axis in self.label_axes)

    @property
    def label_units(self) -> tuple[str | None, ...]:
        """Units along ``label_axes``."""
        return tuple(self.units[self.axes.index(axis)] for axis in self.label_axes)

    @property
    def label_translation(self) -> tuple[float, ...]:
        """Where pixel 0 lies along ``label_axes``."""
        return tuple(self.translation[self.axes.index(axis)] for axis in self.label_axes)

    @property
    def channel_count(self) -> int:
        """How many channels are read; 1 without that axis."""
        return len(self.channels) or self.sizes.get("c", 1)

    def of_channels(self, channels: Sequence[int]) -> Image:
        """See only some channels, in the order given, which is red, green, blue for up to three.

        Raises
        ------
        InputError
            If there is no such channel, or it is named twice.
        """
        count = self.sizes.get("c", 1)
        for channel in channels:
            if not 0 <= channel < count:
                there = f"they go from 0 to {count - 1}" if count > 1 else "its only one is 0"
                raise InputError(f"{self} has no channel {channel}; {there}.")
        if len(set(channels)) < len(channels):
            raise InputError(f"The channels {tuple(channels)} name one twice.")
        return replace(self, channels=tuple(channels)) if "c" in self.axes else self

    def at_level(self, level: int) -> Image:
        """See the picture from a coarser level on, with that level's pixel sizes.

        Raises
        ------
        InputError
            If there is no such level.
        """
        if not 0 <= level < len(self.levels):
            there = (
                f"they go from 0 to {len(self.levels) - 1}" if len(self.levels) > 1 else "its only one is 0"
            )
            raise InputError(f"{self} has no level {level}; {there}.")
        if level == 0:
            return self
        placed = self.placed[level:]
        scale, translation = placed[0] if placed else self._shrunk(self.levels[level].shape)
        return replace(self, levels=self.levels[level:], scale=scale, translation=translation, placed=placed)

    def _shrunk(self, shape: tuple[int, ...]) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Scale and translation of a level of this shape, if each of its pixels stands for a block."""
        steps = []
        for size, coarse in zip(self.shape, shape, strict=True):
            whole = round(size / coarse)
            steps.append(whole if coarse in (size // whole, -(-size // whole)) else size / coarse)
        scale = tuple(one * step for one, step in zip(self.scale, steps, strict=True))
        moved = zip(self.translation, self.scale, steps, strict=True)
        return scale, tuple(start + one * (step - 1) / 2 for start, one, step in moved)

    def sliced(self, plane: str = "xy") -> Image:
        """See a volume as slices of another plane, which the view calls z, y and x; nothing is read.

        Parameters
        ----------
        plane : {"xy", "xz", "yz"}
            See `PLANES`.

        Returns
        -------
        Image
            Of the same arrays, pixel sizes and units.

        Raises
        ------
        InputError
            If there is no such plane, or no axis z.

        Examples
        --------
        >>> Image((np.zeros((5, 6, 7)),), "zyx").sliced("xz").label_shape
        (6, 5, 7)
        """
        if plane not in PLANES:
            raise InputError(f"There is no plane '{plane}'; there are {', '.join(PLANES)}.")
        if plane == "xy":
            return self
        if "z" not in self.axes:
            raise InputError(f"{self} has no axis z, so its only plane is xy, not {plane}.")
        return replace(self, axes=self.axes.translate(str.maketrans(PLANES[plane], "zyx")))

    def plane(  # noqa: PLR0913  (where to look along each axis)
        self,
        t: int = 0,
        z: int = 0,
        c: int | None = None,
        *,
        level: int = 0,
        region: tuple[slice, slice] = (slice(None), slice(None)),
    ) -> NDArray[Any]:
        """Read one plane into memory, or a part of it.

        Parameters
        ----------
        t, z : int
            Which time point and slice; 0 for pictures without that axis.
        c : int, optional
            Which channel; all that the picture has, or is seen with, where left out.
        level : int
            0 is full resolution. ``z`` and ``t`` count that level's own planes.
        region : tuple of slice
            Rows and columns, in pixels of that level; nothing else is read, as far as the format allows that.

        Returns
        -------
        ndarray, shape (y, x) or (y, x, c)
            In the machine's byte order, otherwise of the stored type.

        Raises
        ------
        InputError
            If there is no such plane; `DamagedError`, if the file turns out to be truncated or damaged there.
        """
        if c is None and self.channels:
            each = (self.plane(t, z, one, level=level, region=region) for one in self.channels)
            return np.stack(list(each), axis=-1)
        array = self.levels[level]
        wanted = {"t": t, "z": z} | ({} if c is None else {"c": c})
        for axis, position in wanted.items():
            size = array.shape[self.axes.index(axis)] if axis in self.axes else 1
            if not 0 <= position < size:
                raise InputError(
                    f"{self} has no plane {axis}={position}; its {axis} goes from 0 to {size - 1}."
                )
        parts = {"y": region[0], "x": region[1], "c": slice(None)}
        index = tuple(wanted.get(axis, parts.get(axis)) for axis in self.axes)
        left = [axis for axis in self.axes if axis not in wanted]
        try:
            pixels = np.asarray(array[index])
        except VanishedError:
            raise
        except Exception as error:  # every codec has its own way of failing
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise DamagedError(
                f"{self} cannot be read, it may be truncated or damaged: {reason.rstrip('.')}."
            ) from error
        pixels = pixels.transpose([left.index(axis) for axis in "yxc" if axis in left])
        return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)

    def plane_indices(self) -> Iterator[dict[str, int]]:
        """Say plane after plane where it lies along t and z, as far as there are such axes.

        The values of each are also where the plane belongs in a label image, ``labels[*index.values()]``.
        """
        stacked = self.label_axes[:-2]
        for index in product(*(range(self.sizes[axis]) for axis in stacked)):
            yield dict(zip(stacked, index, strict=True))


def _check_axes(image: Image) -> None:
    for array in image.levels:
        shape, kind = tuple(array.shape), np.dtype(array.dtype).kind
        if len(shape) != len(image.axes):
            raise InputError(
                f"{image} has {len(shape)} dimensions {shape}, which do not fit the axes '{image.axes}'."
            )
        if 0 in shape:
            raise InputError(f"{image} is empty: its shape is {shape}.")
        if kind not in "biuf":
            raise InputError(f"{image} holds {np.dtype(array.dtype)} values, which are no intensities.")
    sizes = [array.shape for array in image.levels]
    if any(
        b > a
        for finer, coarser in zip(sizes, sizes[1:], strict=False)
        for a, b in zip(finer, coarser, strict=True)
    ):
        raise InputError(f"{image} is no pyramid: its levels have the shapes {', '.join(map(str, sizes))}.")
    unique = len(set(image.axes)) == len(image.axes)
    if not unique or not set("yx") <= set(image.axes) <= set(AXES):
        raise InputError(
            f"{image} has the axes '{image.axes}'; they must be y and x, and at most one each of t, c and z."
        )


def _check_scale(image: Image) -> None:
    for name, values in (("pixel sizes", image.scale), ("translations", image.translation)):
        if len(values) != len(image.axes) or not np.isfinite(values).all():
            raise InputError(
                f"{image} has the {name} {values}; they must be a number for each of '{image.axes}'."
            )
    if min(image.scale) <= 0:
        raise InputError(f"{image} has the pixel sizes {image.scale}; they must be above 0.")
