"""OME-Zarr label images and maps, written chunk by chunk; no more than a few chunks are in memory.

Level 0 is filled by whoever makes the pixels; each further level is then made of the one before it. Whole
numbers are labels: of each 2 x 2 pixels the first stays, so that ids stay ids. Others are maps, of which the
highest stays, so that thin lines do not vanish.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import DTypeLike, NDArray
from ome_zarr_models.v05.axes import Axis
from ome_zarr_models.v05.image import ImageAttrs
from ome_zarr_models.v05.image_label import ImageLabelAttrs
from ome_zarr_models.v05.image_label_types import Label, Source
from ome_zarr_models.v05.multiscales import Dataset, Multiscale

from napari_samscape.io.image import Image

ATTRIBUTE = "samscape"
CHUNK = 1024
# The pyramid ends where a level fits into this side.
COARSEST = 512


class Pyramid:
    """An OME-Zarr 0.5 image in the making, on disk.

    Parameters
    ----------
    path : Path
        Of the group.

    Attributes
    ----------
    levels : list of zarr.Array
        Full resolution first, each of half the sides of the one before it.
    """

    def __init__(self, path: Path) -> None:
        self.group = zarr.open_group(path, mode="r+")
        self.levels = [array for _, array in sorted(self.group.arrays(), key=lambda item: int(item[0]))]

    @classmethod
    def create(
        cls, path: Path, like: Image, dtype: DTypeLike, chunks: tuple[int, ...] = (CHUNK, CHUNK)
    ) -> Pyramid:
        """Make an empty one, with all its metadata, for a picture.

        Parameters
        ----------
        path : Path
            Where nothing is yet. As a file of ours is made in a folder beside its place and then moved, the
            way to the picture is noted as from the folder above.
        like : Image
            Axes, pixel sizes and units are taken from it.
        dtype : type
            Of whole numbers for labels, of real ones for a map.
        chunks : tuple of int
            Along the last axes, of all levels: (y, x) or (z, y, x); others have chunks of one.
        """
        dtype = np.dtype(dtype)
        shape, steps = like.label_shape, [1]
        while max(shape[-2:]) / steps[-1] > COARSEST:
            steps.append(2 * steps[-1])
        ome = _metadata(path, like, steps, dtype.kind != "f")
        group = zarr.open_group(path, mode="w-", zarr_format=3, attributes={"ome": ome})
        for level, step in enumerate(steps):
            size = (*shape[:-2], *(-(-side // step) for side in shape[-2:]))
            group.create_array(
                str(level),
                shape=size,
                dtype=dtype,
                chunks=(1,) * (len(size) - len(chunks)) + tuple(map(min, chunks, size[-len(chunks) :])),
                dimension_names=tuple(like.label_axes),
            )
        return cls(path)

    def tell(self, about: Mapping[str, Any]) -> None:
        """Note how it was made, of plain JSON values."""
        self.group.attrs[ATTRIBUTE] = dict(about)

    def steps(self) -> Iterator[Callable[[], None]]:
        """Give what is to be done, chunk by chunk and in this order, once level 0 is full."""
        for finer, coarser in zip(self.levels, self.levels[1:], strict=False):
            for region in _chunks(coarser):
                yield partial(_shrink, finer, coarser, region)

    @property
    def step_count(self) -> int:
        """How many `steps` there are."""
        return sum(int(np.prod(_grid(level))) for level in self.levels[1:])


def _grid(array: Any) -> list[int]:
    return [-(-size // chunk) for size, chunk in zip(array.shape, array.chunks, strict=True)]


def _chunks(array: Any) -> Iterator[tuple[slice, ...]]:
    for place in product(*map(range, _grid(array))):
        axes = zip(place, array.chunks, array.shape, strict=True)
        yield tuple(slice(i * chunk, min((i + 1) * chunk, size)) for i, chunk, size in axes)


def _shrink(finer: Any, coarser: Any, region: tuple[slice, ...]) -> None:
    wanted = (*region[:-2], *(slice(2 * side.start, 2 * side.stop) for side in region[-2:]))
    pixels = np.asarray(finer[wanted])
    coarser[region] = _highest(pixels) if pixels.dtype.kind == "f" else pixels[..., ::2, ::2]


def _highest(pixels: NDArray[Any]) -> NDArray[Any]:
    """The highest of each 2 x 2 pixels; at an odd end, of fewer."""
    rows = np.maximum.reduceat(pixels, np.arange(0, pixels.shape[-2], 2), axis=-2)
    columns: NDArray[Any] = np.maximum.reduceat(rows, np.arange(0, pixels.shape[-1], 2), axis=-1)
    return columns


def _metadata(path: Path, like: Image, steps: list[int], are_labels: bool) -> dict[str, Any]:
    """OME's part of the attributes; only labels keep their pixel 0 in place from level to level."""
    axes, datasets = like.label_axes, []
    for level, step in enumerate(steps):
        shrunk = [step if axis in "yx" else 1 for axis in axes]
        scale = [size * by for size, by in zip(like.label_scale, shrunk, strict=True)]
        # The middle of the pixels that one stands for; of labels, one of them.
        shift = [
            size * (by - 1) / 2 * (not are_labels) for size, by in zip(like.label_scale, shrunk, strict=True)
        ]
        moved = [start + by for start, by in zip(like.label_translation, shift, strict=True)]
        datasets.append(
            Dataset.build(path=str(level), scale=scale, translation=moved if any(moved) else None)
        )
    multiscale = Multiscale(
        axes=[
            Axis(name=axis, type="time" if axis == "t" else "space", unit=unit)
            for axis, unit in zip(axes, like.label_units, strict=True)
        ],
        datasets=tuple(datasets),
        name=like.name,
        type="nearest" if are_labels else "max",
    )
    attributes: ImageAttrs | ImageLabelAttrs = ImageAttrs(version="0.5", multiscales=[multiscale])
    if are_labels:
        source = None
        if like.path is not None and like.path.is_dir():
            source = Source(image=os.path.relpath(like.path, path.parent.parent / path.name))
        label = {"image-label": Label(version="0.5", source=source)}
        attributes = ImageLabelAttrs(version="0.5", **label, multiscales=[multiscale])
    ome: dict[str, Any] = attributes.model_dump(mode="json", by_alias=True, exclude_none=True)
    return ome
