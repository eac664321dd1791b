"""Labels on disk at several resolutions, which a Labels layer shows and we write: only chunks that change.

napari shows a pyramid of any size, but writes into none. So the layer's data are wrapped: setting pixels sets
them at every level, and napari's own undo and redo, which set pixels, work on a pyramid too. Level 0 is full
resolution; of each 2 x 2 pixels of a level the first is the next level's pixel, as `io.pyramid` has it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels
from napari.layers._multiscale_data import MultiScaleData
from numpy.typing import NDArray

from napari_samscape.errors import InputError
from napari_samscape.widgets.autosave import data_folder
from napari_samscape.widgets.layers import data_shape, placed_like

if TYPE_CHECKING:
    from napari.layers import Image

LARGEST = 2**26
"""Labels of more pixels are kept on disk."""
CHUNK = 256
"""Sides of the chunks, in pixels: small ones, as an object is written into a few of them while one waits."""

Where = tuple[slice, ...]


class Writable(MultiScaleData):
    """The levels of a pyramid, finest first, which can be written to."""

    def __setitem__(self, indices: tuple[Any, ...], values: Any) -> None:
        """Set pixels of full resolution, given by one array of indices for each axis, at every level."""
        indices = tuple(np.atleast_1d(np.asarray(index)) for index in indices)
        if len(indices[0]) == 0:
            return
        where = tuple(slice(int(index.min()), int(index.max()) + 1) for index in indices)
        block = np.asarray(self._data[0][where])
        block[tuple(index - part.start for index, part in zip(indices, where, strict=True))] = values
        self.put(where, block)

    def set_noted(self, labels: Labels, indices: tuple[NDArray, ...], values: Any) -> None:
        """Set pixels of the layer that shows this, with an atom of its history, and draw it anew."""
        new = np.broadcast_to(np.asarray(values, self.dtype), indices[0].shape)
        where = tuple(slice(int(index.min()), int(index.max()) + 1) for index in indices)
        block = np.asarray(self._data[0][where])
        local = tuple(index - part.start for index, part in zip(indices, where, strict=True))
        changed = block[local] != new
        if not changed.any():
            return
        labels._save_history(
            (tuple(index[changed] for index in indices), block[local][changed], new[changed])
        )
        block[local] = new
        self.put(where, block)
        labels.refresh(extent=False, thumbnail=False, highlight=False)

    def put(self, where: Where, block: NDArray[Any]) -> None:
        """Set a block of full resolution, at every level."""
        for level, array in enumerate(self._data):
            if level > 0:
                # The first pixel that counts is the first one at an even place.
                *others, rows, columns = where
                block = block[..., rows.start % 2 :: 2, columns.start % 2 :: 2]
                where = (*others, _halved(rows), _halved(columns))
            if block.size == 0:
                return
            array[where] = block


def _halved(part: slice) -> slice:
    return slice((part.start + 1) // 2, (part.stop + 1) // 2)


def is_writable(layer: Labels) -> bool:
    """Whether objects can go to a pyramid of labels: it takes them, and its levels are halves."""
    arrays = list(layer.data)
    shapes = [array.shape for array in arrays]
    halves = all(
        coarse == (*fine[:-2], *((side + 1) // 2 for side in fine[-2:]))
        for fine, coarse in zip(shapes, shapes[1:], strict=False)
    )
    return halves and all(_takes(array) for array in arrays)


def _takes(array: Any) -> bool:
    if isinstance(array, np.ndarray):
        return bool(array.flags.writeable)
    return (
        hasattr(array, "__setitem__") and not getattr(array, "read_only", False) and hasattr(array, "chunks")
    )


def writable(labels: Labels) -> Writable | None:
    """The levels of a layer that is a pyramid, ready to be written to; None where it is no pyramid."""
    if not labels.multiscale:
        return None
    if not isinstance(labels.data, Writable):
        labels._data = Writable(list(labels.data))  # what `data` gives; napari's own knows no writing
    found: Writable = labels.data
    return found


def labels_on_disk(image: Image) -> Labels:
    """Make an empty Labels layer for an image, on disk, in the image's place.

    Raises
    ------
    InputError
        If it has more axes than t, z, y and x, or there is no room on the disk.
    """
    from napari_samscape.io import Image as Picture
    from napari_samscape.io import Pyramid

    if image.ndim > 4:
        raise InputError(f"'{image.name}' has {image.ndim} axes; labels of this size can have t, z, y and x.")
    shape = data_shape(image)
    folder = data_folder() / "labels"
    name = "".join(c if c.isalnum() or c in "-_" else "_" for c in image.name)[:60]
    path = folder / f"{name}-{datetime.now():%Y%m%d-%H%M%S-%f}.ome.zarr"
    like = Picture(
        (np.broadcast_to(np.int32(0), shape),), "tzyx"[-len(shape) :], tuple(map(abs, image.scale))
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        Pyramid.create(path, like, np.int32, (CHUNK, CHUNK))
    except OSError as error:
        raise InputError(f"The labels cannot be kept in {folder}: {error.strerror or error}.") from error
    return Labels(opened(path), multiscale=True, name=f"{image.name} objects", **placed_like(image))


def disk_path(labels: Labels) -> Path | None:
    """The folder of the OME-Zarr that a layer lies on; None where it lies on none of this computer's."""
    array = list(labels.data)[0] if labels.multiscale else labels.data
    root = getattr(getattr(array, "store", None), "root", None)
    return None if root is None else Path(root)


def opened(path: Path) -> list[Any]:
    """The levels of an OME-Zarr of labels, to be read and written.

    Raises
    ------
    OSError
        If there is none.
    """
    from napari_samscape.io import Pyramid

    levels = Pyramid(path).levels
    if not levels:
        raise OSError(f"there are no labels in {path}")
    return levels


def copied(levels: list[Any], path: Path, like: Any, about: dict[str, Any]) -> None:
    """Copy labels into a new OME-Zarr, only what is there; it appears when it is whole."""
    from napari_samscape.io import Pyramid, check_output
    from napari_samscape.io.write import replacing

    check_output(path, endings=(".zarr",), overwrite=True)
    with replacing(path, True) as temporary:
        pyramid = Pyramid.create(temporary, like, levels[0].dtype, (CHUNK, CHUNK))
        for part in stored(levels[0]):
            full = (*part, *(slice(0, size) for size in levels[0].shape[len(part) :]))
            whole = tuple(slice(p.start, min(p.stop, n)) for p, n in zip(full, levels[0].shape, strict=True))
            Writable(pyramid.levels).put(whole, np.asarray(levels[0][whole]))
        pyramid.tell(about)


def tell_state(path: Path, state: dict[str, Any]) -> None:
    """Note what `saved.state_of` says of labels in their OME-Zarr."""
    from napari_samscape.io import Pyramid

    Pyramid(path).tell({"layer": state})


def stored(array: Any) -> Iterator[Where]:
    """The parts of an array where there may be anything but 0: of a Zarr on disk the chunks that exist."""
    root = getattr(getattr(array, "store", None), "root", None)
    chunks = getattr(array, "shards", None) or getattr(array, "chunks", None)
    if root is None or chunks is None:
        rows = max(1, 2**22 * array.shape[0] // max(1, int(np.prod(array.shape))))
        yield from ((slice(i, i + rows),) for i in range(0, array.shape[0], rows))
        return
    folder = Path(root) / array.path
    grid = [range(-(-size // chunk)) for size, chunk in zip(array.shape, chunks, strict=True)]
    if not (folder / "c").is_dir() and not _has_other_keys(folder):
        return  # nothing has been written yet
    for place in product(*grid) if _has_other_keys(folder) else _places(folder / "c", len(grid)):
        yield tuple(slice(i * chunk, (i + 1) * chunk) for i, chunk in zip(place, chunks, strict=True))


def _has_other_keys(folder: Path) -> bool:
    """Whether chunks may be named otherwise than ``c/row/column``."""
    return (folder / ".zarray").is_file()


def _places(folder: Path, depth: int) -> Iterator[tuple[int, ...]]:
    if depth == 0:
        yield ()
        return
    for child in sorted(folder.iterdir(), key=lambda child: int(child.name) if child.name.isdigit() else -1):
        if child.name.isdigit():
            rest = _places(child, depth - 1) if depth > 1 else iter([()])
            yield from ((int(child.name), *places) for places in rest)
