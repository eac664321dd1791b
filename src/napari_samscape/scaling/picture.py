"""A picture of any size, as the engine reads it: plane by plane, tile by tile, and never all of it.

What concerns the whole picture, its intensity limits and its signature, comes from samples.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import NDArray

from napari_samscape.errors import InputError
from napari_samscape.io import DamagedError, Image

if TYPE_CHECKING:
    from napari_samscape.prediction.image import Limits

# Of a stack, so many planes are sampled.
SAMPLED_PLANES = 16
# A plane of at most so many pixels is read whole; of a stack, of fewer, as there are more planes.
WHOLE_PIXELS = 4_000_000
WHOLE_PIXELS_OF_STACK = 1_000_000
# Of a larger one, so many blocks along each axis, of so many pixels a side.
BLOCKS = 8
BLOCK_SIDE = 128
# A plane that is read whole is read in blocks of this side, so that a damaged one does not spoil the others.
READ_SIDE = 512


@dataclass(frozen=True, eq=False)
class PlaneOf:
    """One plane of a picture, as something that is cut by slices (y, x).

    Attributes
    ----------
    image : Image
    index : dict
        Where it lies along t and z.
    """

    image: Image
    index: dict[str, int]

    @property
    def shape(self) -> tuple[int, int]:
        """(y, x)."""
        return self.image.sizes["y"], self.image.sizes["x"]

    def __getitem__(self, region: tuple[slice, slice]) -> NDArray[Any]:
        """Read a part, (y, x) or (y, x, c), of finite numbers.

        Raises
        ------
        DamagedError
            If it cannot be read.
        InputError
            If it holds NaN or infinite values.
        """
        pixels = self.image.plane(**self.index, region=region)
        bad = _not_finite(pixels)
        if bad:
            where = (
                "" if pixels.shape[:2] == self.shape else f", from {region[0].start}, {region[1].start} on"
            )
            _refuse_not_finite(self.image, bad, pixels.shape[:2], tuple(self.index.values()), where)
        return pixels


@dataclass(frozen=True, eq=False)
class Overview:
    """What is known of a whole picture from samples.

    Attributes
    ----------
    limits : pair or None
        Intensities that become black and white, the same everywhere; None for 8-bit RGB, which stays so.
    signature : str
        Of axes, shape, type and samples, to tell another picture under the same name.
    """

    limits: Limits | None
    signature: str


def look_over(image: Image) -> Overview:
    """Sample a picture at its coarsest level.

    Parameters
    ----------
    image : Image

    Returns
    -------
    Overview

    Raises
    ------
    InputError
        If a sample holds NaN or infinite values, or none of them can be read.
    """
    from napari_samscape.prediction.image import image_limits

    samples: list[NDArray[Any]] = []
    damages: list[DamagedError] = []
    for sample in _samples(image):
        if isinstance(sample, DamagedError):
            damages.append(sample)
        else:
            samples.append(sample.reshape(-1, 1, image.channel_count))
    if not samples:
        raise damages[0]
    digest = hashlib.sha256(f"{image.axes} {image.shape} {image.dtype}".encode())
    for sample in samples:
        digest.update(sample.tobytes())
    is_rgb = image.dtype == np.uint8 and image.channel_count in (3, 4)
    return Overview(None if is_rgb else image_limits(np.concatenate(samples)), digest.hexdigest())


def missing_chunks(image: Image) -> str | None:
    """Say how many chunks of a Zarr on disk do not exist, which means that they are all fill value."""
    array = image.data
    if not isinstance(array, zarr.Array) or not isinstance(array.store, zarr.storage.LocalStore):
        return None
    missing = array.nchunks - array.nchunks_initialized
    if missing <= 0:  # less than none, where the last shard reaches out of the array
        return None
    return (
        f"{missing} of the picture's {array.nchunks} chunks are missing and were read as {array.fill_value}."
    )


def is_constant(pixels: NDArray[Any]) -> bool:
    """Whether all pixels are equal."""
    return bool((pixels == pixels[:1, :1]).all())


def _samples(image: Image) -> Iterator[NDArray[Any] | DamagedError]:
    """Blocks of evenly spread planes of the coarsest level; of a block that cannot be read, the error."""
    level = len(image.levels) - 1
    sizes = dict(zip(image.axes, image.levels[level].shape, strict=True))
    indices = list(np.ndindex(sizes.get("t", 1), sizes.get("z", 1)))
    chosen = np.unique(np.linspace(0, len(indices) - 1, SAMPLED_PLANES).round().astype(int))
    whole = WHOLE_PIXELS if len(indices) == 1 else WHOLE_PIXELS_OF_STACK
    for t, z in (indices[number] for number in chosen):
        bad = seen = 0
        for region in _blocks((sizes["y"], sizes["x"]), whole):
            try:
                pixels = image.plane(t, z, level=level, region=region)
            except DamagedError as error:
                yield error
                continue
            bad, seen = bad + _not_finite(pixels), seen + pixels.shape[0] * pixels.shape[1]
            yield pixels
        if bad:
            _refuse_not_finite(image, bad, (seen, 1), (t, z))


def _blocks(shape: tuple[int, int], whole: int) -> Iterator[tuple[slice, slice]]:
    """Cover a plane of at most ``whole`` pixels; of a larger one, a grid of blocks."""
    if shape[0] * shape[1] <= whole:
        starts, side = [list(range(0, size, READ_SIDE)) for size in shape], READ_SIDE
    else:
        ends = [max(size - BLOCK_SIDE, 0) for size in shape]
        starts = [sorted({int(start) for start in np.linspace(0, end, BLOCKS).round()}) for end in ends]
        side = BLOCK_SIDE
    for y, x in product(*starts):
        yield slice(y, min(y + side, shape[0])), slice(x, min(x + side, shape[1]))


def _not_finite(pixels: NDArray[Any]) -> int:
    if pixels.dtype.kind != "f" or np.isfinite(pixels).all():
        return 0
    return int((~np.isfinite(pixels.reshape(*pixels.shape[:2], -1)).all(axis=-1)).sum())


def _refuse_not_finite(
    image: Image, bad: int, shape: tuple[int, ...], index: tuple[int, ...], where: str = ""
) -> None:
    plane = f" in plane {index}" if any(index) else ""
    raise InputError(
        f"{image} holds NaN or infinite values in {bad} of {shape[0] * shape[1]} pixels{plane}{where}; "
        "fill them before segmenting."
    )
