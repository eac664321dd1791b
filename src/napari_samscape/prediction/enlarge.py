"""Masks at low resolution to masks in the picture, only where they are.

`predict.upscale` enlarges a mask to the whole picture, however small the object. Both of its steps are linear
and treat rows and columns alike and apart, so one matrix for each axis says the same, and a part of the
picture needs a part of the matrices only.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from napari_samscape.prediction.instances import instance_from_mask
from napari_samscape.prediction.types import NOTHING, BoolArray, FloatArray, Instance

if TYPE_CHECKING:
    from napari_samscape.model.sam import Sam
    from napari_samscape.prediction.types import Embedding


class Enlarger:
    """Enlarges the masks of one embedding.

    Parameters
    ----------
    model : Sam
    embedding : Embedding
    low : tuple of int
        (h, w) of the logits at low resolution.
    """

    def __init__(self, model: Sam, embedding: Embedding, low: tuple[int, int]) -> None:
        pad = model.pad_multiple
        shown, full = embedding.input_shape, embedding.image_shape
        self.rows = _axis(low[0], shown[0], pad, full[0])
        self.columns = _axis(low[1], shown[1], pad, full[1])

    def instance(
        self, logits: FloatArray, *, origin: tuple[int, int] = (0, 0), predicted_iou: float = float("nan")
    ) -> Instance:
        """Cut logits (h, w) at 0 and enlarge them, as `predict` does up to rounding.

        Parameters
        ----------
        logits : ndarray of float32, shape (h, w)
        origin : tuple of int
            (y, x) in a larger picture of the first pixel of the one that was embedded.
        predicted_iou : float
            Kept with the instance.

        Returns
        -------
        Instance
            `NOTHING` if no pixel is left.
        """
        box = self.reach(logits, 0.0)
        mask = self.window(logits, box) > 0
        if not mask.any():  # the picture may end before the cell's middle
            return NOTHING
        offset = (box[0] + origin[0], box[1] + origin[1])
        return instance_from_mask(mask, offset=offset, predicted_iou=predicted_iou)

    def reach(self, logits: FloatArray, threshold: float) -> tuple[int, int, int, int]:
        """Box (y0, x0, y1, x1), half open, outside of which enlarged logits (h, w) are at most ``threshold``.

        A value above it between cells needs a cell above it next to it. Empty where there is no such cell.
        """
        above = logits > threshold
        if not above.any():
            return 0, 0, 0, 0
        y0, y1 = self.rows.reach(above, axis=1)
        x0, x1 = self.columns.reach(above, axis=0)
        return y0, x0, y1, x1

    def window(self, logits: FloatArray, box: tuple[int, int, int, int]) -> FloatArray:
        """Logits (h, w) enlarged inside a half-open box (y0, x0, y1, x1) of the picture."""
        y0, x0, y1, x1 = box
        down, rows = self.rows.part(y0, y1)
        across, columns = self.columns.part(x0, x1)
        result = down @ logits[rows, columns] @ across.T
        return result.astype(np.float32, copy=False)


@lru_cache(maxsize=8)
def _axis(low: int, shown: int, pad: int, full: int) -> _Axis:
    """One of few that are in use: most prompts are about the same picture."""
    return _Axis(low, shown, pad, full)


class _Axis:
    """One axis: ``matrix`` (picture, low) takes low resolution to the picture."""

    def __init__(self, low: int, shown: int, pad: int, full: int) -> None:
        steps = torch.eye(low)[None]
        steps = F.interpolate(steps, shown + -shown % pad, mode="linear", align_corners=False)[..., :shown]
        steps = F.interpolate(steps, full, mode="linear", align_corners=False)
        self.matrix: NDArray[np.float32] = np.ascontiguousarray(steps[0].T.numpy())

    def reach(self, inside: BoolArray, axis: int) -> tuple[int, int]:
        """First and one past last pixel that a cell inside (h, w), any along ``axis``, has a say in."""
        first, last = np.flatnonzero(inside.any(axis=axis))[[0, -1]]
        touched = np.flatnonzero(self.matrix[:, first : last + 1].any(axis=1))
        return (int(touched[0]), int(touched[-1]) + 1) if len(touched) else (0, 0)

    def part(self, start: int, stop: int) -> tuple[NDArray[np.float32], slice]:
        """The matrix of pixels ``start`` to ``stop``, and which cells it takes."""
        cells = np.flatnonzero(self.matrix[start:stop].any(axis=0))
        used = slice(int(cells[0]), int(cells[-1]) + 1) if len(cells) else slice(0, 0)
        return self.matrix[start:stop, used], used
