"""Slices of any plane, written to where they belong in the picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_samscape.io import PLANES, Image


class Turned:
    """An output with the picture's axes, which is written as if its planes (y, x) were slices.

    Parameters
    ----------
    out : array_like
        NumPy or Zarr, of the picture's ``label_axes``.
    image : Image
        The picture.
    plane : str
        Of `napari_samscape.io.PLANES`.
    """

    def __init__(self, out: Any, image: Image, plane: str) -> None:
        self._out = out
        written = image.label_axes.replace("zyx", PLANES[plane])
        self._order = [written.index(axis) for axis in image.label_axes]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the output."""
        return np.dtype(self._out.dtype)

    def __setitem__(self, region: tuple[Any, ...], values: NDArray[Any]) -> None:
        """Write a part of one slice: numbers say which slice, two more parts which rows and columns.

        Rows come before columns in the picture too, whatever the plane, so the values need no turning.
        """
        self._out[tuple(region[place] for place in self._order)] = values
