"""Run lengths of masks, as COCO files hold them.

A mask is read column by column and written as the lengths of its runs, background first; so a mask whose
first pixel is set begins with a run of length zero. COCO knows two spellings of ``counts``: the plain list of
lengths, and a string that holds the same list more tightly. Both are read here and both can be written.
``size`` is (height, width).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_samscape.errors import InputError

_FIRST = 48  # the string's digits start at the character '0'
_BITS = 5  # of each digit that carry the value; the sixth says that another digit follows
_MORE = 1 << _BITS
_SIGN = 1 << (_BITS - 1)


def encode_rle(mask: NDArray[np.bool_], *, compressed: bool = False) -> dict[str, Any]:
    """Write a mask as COCO run lengths.

    Parameters
    ----------
    mask : ndarray of bool, shape (y, x)
    compressed : bool
        Spell ``counts`` as COCO's string instead of a list of numbers.

    Returns
    -------
    dict
        ``size`` as [height, width] and ``counts``.

    Examples
    --------
    >>> encode_rle(np.array([[True, False], [True, True]]))
    {'size': [2, 2], 'counts': [0, 2, 1, 1]}
    """
    mask = np.asarray(mask)
    if mask.ndim != 2:
        raise InputError(f"Run lengths need a two-dimensional mask; this has the shape {mask.shape}.")
    return encode_crop(mask, (0, 0), (mask.shape[0], mask.shape[1]), compressed=compressed)


def encode_crop(
    mask: NDArray[np.bool_], offset: tuple[int, int], shape: tuple[int, int], *, compressed: bool = False
) -> dict[str, Any]:
    """Write a mask that is known inside a box only; nothing of the picture's size is made.

    Parameters
    ----------
    mask : ndarray of bool, shape (y, x)
    offset : tuple of int
        (y, x) in the picture of the mask's first pixel.
    shape : tuple of int
        (y, x) of the picture, in which the mask lies.
    compressed : bool
        As in `encode_rle`.

    Returns
    -------
    dict
        What `encode_rle` gives for the whole picture.
    """
    height, width = shape
    above = np.pad(np.asarray(mask).astype(bool), ((1, 1), (0, 0)))
    columns, rows = np.nonzero(np.diff(above, axis=0).T)
    edges = (columns + offset[1]) * height + rows + offset[0]
    # Where a run goes on from one column's foot to the next one's head, it ends and begins: no edge at all.
    edges, times = np.unique(edges, return_counts=True)
    edges = edges[times == 1]
    counts = np.diff(edges, prepend=0, append=height * width)
    if len(edges) and edges[-1] == height * width:
        counts = counts[:-1]
    runs = counts.tolist()
    return {"size": [height, width], "counts": pack_counts(runs) if compressed else runs}


def decode_rle(rle: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Read a mask from COCO run lengths, whichever way ``counts`` is spelt.

    Parameters
    ----------
    rle : mapping
        ``size`` (height, width), and ``counts`` as numbers, as a string or as bytes.

    Returns
    -------
    ndarray of bool, shape (y, x)

    Raises
    ------
    InputError
        If a part is missing, a run is negative, or the runs do not add up to the size.
    """
    runs, height, width = _checked_runs(rle)
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(width, height).T


def decode_crop(rle: Mapping[str, Any]) -> tuple[NDArray[np.bool_], tuple[int, int]]:
    """Read a mask from COCO run lengths, only inside its bounding box.

    Parameters
    ----------
    rle : mapping
        As in `decode_rle`.

    Returns
    -------
    mask : ndarray of bool, shape (y, x)
        Without a pixel if no run is foreground.
    offset : tuple of int
        (y, x) in the picture of its first pixel.
    """
    runs, height, _ = _checked_runs(rle)
    edges = np.concatenate(([0], np.cumsum(runs)))
    inside = np.flatnonzero((np.arange(len(runs)) % 2 == 1) & (np.diff(edges) > 0))
    if len(inside) == 0:
        return np.zeros((0, 0), bool), (0, 0)
    x0, x1 = int(edges[inside[0]]) // height, (int(edges[inside[-1] + 1]) - 1) // height + 1
    lengths = np.diff(edges.clip(x0 * height, x1 * height))
    columns = np.repeat(np.arange(len(runs)) % 2 == 1, lengths).reshape(x1 - x0, height).T
    rows = np.flatnonzero(columns.any(axis=1))
    y0, y1 = int(rows[0]), int(rows[-1]) + 1
    return np.ascontiguousarray(columns[y0:y1]), (y0, x0)


def _checked_runs(rle: Mapping[str, Any]) -> tuple[list[int], int, int]:
    """Run lengths, height and width."""
    try:
        height, width = (int(length) for length in rle["size"])
        counts = rle["counts"]
        runs = unpack_counts(counts) if isinstance(counts, str | bytes) else [int(run) for run in counts]
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError("Run lengths need 'size' (height, width) and 'counts'; this has not both.") from None
    if min(height, width, *runs) < 0:
        raise InputError("The run lengths hold a negative number.")
    if sum(runs) != height * width:
        raise InputError(
            f"The run lengths cover {sum(runs)} pixels, but their size is {height} x {width} pixels."
        )
    return runs, height, width


def pack_counts(counts: Iterable[int]) -> str:
    """Spell run lengths as COCO's string: each as the difference to the last but one, in 5-bit digits.

    >>> pack_counts([6, 1, 40, 4, 5, 4])
    '61X13mN0'
    """
    runs = list(counts)
    digits = bytearray()
    for index, run in enumerate(runs):
        # Neighbouring columns have similar runs, so differences are short. COCO starts them at the fourth.
        value = run - runs[index - 2] if index > 2 else run
        more = True
        while more:
            digit, value = value & (_MORE - 1), value >> _BITS
            more = value != (-1 if digit & _SIGN else 0)
            digits.append(_FIRST + digit + (_MORE if more else 0))
    return digits.decode("ascii")


def unpack_counts(text: str | bytes) -> list[int]:
    """Read run lengths from COCO's string; the inverse of `pack_counts`."""
    try:
        digits: Sequence[int] = text.encode("ascii") if isinstance(text, str) else text
    except UnicodeEncodeError:
        digits = b"\0"
    counts: list[int] = []
    value = shift = 0
    for digit in digits:
        digit -= _FIRST
        if not 0 <= digit < 2 * _MORE:
            raise InputError("The compressed run lengths hold a character that does not belong there.")
        value |= (digit & (_MORE - 1)) << shift
        shift += _BITS
        if digit & _MORE:
            continue
        if digit & _SIGN:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    if shift:
        raise InputError("The compressed run lengths end in the middle of a number.")
    return counts
