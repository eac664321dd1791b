"""Pixels that lie in a file as they would in memory, such as an uncompressed TIFF's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Contiguous:
    """An array that is cut by slices; only what is asked for is read, whatever strips a file is made of.

    Attributes
    ----------
    path : Path
    offset : int
        Of the first pixel, in bytes.
    shape : tuple of int
    dtype : dtype
        As stored, with its byte order.
    """

    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        # Mapped anew each time, so that what was read does not stay in memory.
        mapped = np.memmap(self.path, self.dtype, "r", self.offset, self.shape)
        return np.array(mapped[index])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self[...].astype(dtype or self.dtype, copy=False)


def contiguous_tiff(path: Path, series: tifffile.TiffPageSeries) -> Contiguous | None:
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
    if end > path.stat().st_size:
        raise ValueError("it ends before its pixels do")
    return Contiguous(path, int(series.dataoffset), tuple(series.shape), dtype)
