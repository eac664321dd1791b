"""What the model does by itself: the confident masks it fills in, and how unsure it is of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_samscape.errors import InputError
from napari_samscape.model.progress import Progress
from napari_samscape.model.sam import Sam
from napari_samscape.prediction.automatic import everything
from napari_samscape.prediction.instances import overlap
from napari_samscape.prediction.types import Instance

SHARED = 0.3  # of the smaller one's pixels, at most, that two objects have in common


@dataclass(frozen=True)
class Confidence:
    """From when on a mask needs no person to make it.

    Attributes
    ----------
    predicted_iou, stability : float
        At least.
    """

    predicted_iou: float = 0.8
    stability: float = 0.85

    def __post_init__(self) -> None:
        for name in ("predicted_iou", "stability"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"The confidence {name} must be from 0 to 1; it is {getattr(self, name):g}.")


@dataclass(frozen=True, eq=False)
class Proposal:
    """What a model makes of a picture.

    Attributes
    ----------
    filled : tuple of Instance
        Those it is confident of, the best first; no two share more than a little, nor one with what is there.
    uncertainty : float
        Mean of one minus the predicted IoU of all that was found; 1 where nothing was.
    """

    filled: tuple[Instance, ...]
    uncertainty: float


def propose(
    model: Sam,
    pixels: NDArray[Any],
    there: Sequence[Instance] = (),
    confidence: Confidence | None = None,
    progress: Progress | None = None,
) -> Proposal:
    """Find everything in a picture and keep what is sure.

    Parameters
    ----------
    model : Sam
    pixels : ndarray, shape (y, x) or (y, x, c)
    there : sequence of Instance
        Objects that are accepted already.
    confidence : Confidence, optional
    progress : callable, optional
        As for `everything`.

    Returns
    -------
    Proposal
    """
    confidence = confidence or Confidence()
    found = everything(model, pixels, progress=progress).items
    filled: list[Instance] = []
    for item in found:  # the best first
        sure = item.predicted_iou >= confidence.predicted_iou and item.stability >= confidence.stability
        if sure and not any(_same(item, other) for other in (*there, *filled)):
            filled.append(item)
    unsure = float(np.mean([1 - item.predicted_iou for item in found])) if found else 1.0
    return Proposal(tuple(filled), unsure)


def _same(one: Instance, other: Instance) -> bool:
    return overlap(one, other) > SHARED * min(one.area, other.area)
