"""Pixels that lie in a file as they would in memory, such as an uncompressed TIFF's."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

# Of a remote file; what is longer is a plane rather than a row of pixels.
LONGEST_ROW = 2**22


@dataclass(frozen=True, eq=False)
class Contiguous:
    """An array that is cut by slices; only what is asked for is read, whatever strips a file is made of.

    Attributes
    ----------
    path : Path
        None where ``read`` is given.
    offset : int
        Of the first pixel, in bytes.
    shape : tuple of int
    dtype : dtype
        As stored, with its byte order.
    read : callable or None
        Of a file elsewhere: gives its bytes from one place to before another.
    """

    path: Path | None
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[int, int], bytes] | None = None

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        if self.read is not None:
            index = index if isinstance(index, tuple) else (index,)
            index = tuple(part for part in index if part is not Ellipsis)
            return self._part((), (*index, *[slice(None)] * (self.ndim - len(index))))
        assert self.path is not None
        # Mapped anew each time, so that what was read does not stay in memory.
        mapped = np.memmap(self.path, self.dtype, "r", self.offset, self.shape)
        return np.array(mapped[index])

    def _part(self, before: tuple[int, ...], index: tuple[Any, ...]) -> NDArray[Any]:
        """Read what ``index`` says, at one place along the first axes; whole rows travel, and no more."""
        assert self.read is not None
        (first, *rest), axis = index, len(before)
        if not isinstance(first, slice):
            found = self._part(before, (slice(int(first), int(first) + 1), *rest))
            return found[0]
        start, stop, step = first.indices(self.shape[axis])
        inside = self.shape[axis + 1 :]
        row = math.prod(inside) * self.dtype.itemsize
        if axis < self.ndim - 1 and row > LONGEST_ROW:  # planes and channels, one by one
            return np.stack([self._part((*before, i), tuple(rest)) for i in range(start, stop, step)])
        place = sum(i * math.prod(self.shape[k + 1 :]) for k, i in enumerate(before)) * self.dtype.itemsize
        place += self.offset
        data = np.frombuffer(self.read(place + start * row, place + stop * row), self.dtype)
        return np.array(data.reshape(stop - start, *inside)[(slice(None, None, step), *rest)])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self[...].astype(dtype or self.dtype, copy=False)


def contiguous_tiff(
    path: Path | str, series: tifffile.TiffPageSeries, remote: Any = None
) -> Contiguous | None:
    """Look whether a TIFF's series lies in its file like that; None if it does not.

    Raises
    ------
    ValueError
        If the file is shorter than it says.
    """
    if len(series.levels) > 1 or series.is_multifile or series.dataoffset is None:
        return None
    order: Any = series.keyframe.parent.byteorder
    dtype = np.dtype(series.dtype).newbyteorder(order)
    end = series.dataoffset + math.prod(series.shape) * dtype.itemsize
    if end > (Path(path).stat().st_size if remote is None else remote.size):
        raise ValueError("it ends before its pixels do")
    if remote is not None:
        return Contiguous(None, int(series.dataoffset), tuple(series.shape), dtype, remote.part)
    return Contiguous(Path(path), int(series.dataoffset), tuple(series.shape), dtype)
