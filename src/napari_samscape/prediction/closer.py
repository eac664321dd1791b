"""Where everything-mode looks closer, and which of the objects seen twice stays.

What is small is taken from the closer look, what is not from the wider one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_samscape.prediction.grid import Box
from napari_samscape.prediction.instances import overlap
from napari_samscape.prediction.types import Instance
from napari_samscape.prediction.views import is_small

if TYPE_CHECKING:
    from napari_samscape.model.sam import Sam

SURER = 0.1  # predicted IoU that an object seen in the closest looks alone needs beyond the usual
VISIBLE = 1 / 64  # of the model's size; what was shown larger than that could have been found
SAME = 0.5  # of the smaller one's pixels; two masks that share more are the same object, or a part of it


@dataclass(frozen=True, eq=False)
class Crop:
    """A part of a picture, and what was found in it.

    Attributes
    ----------
    box : tuple of int
        (y0, x0, y1, x1), half open.
    layer : int
        0 for the whole picture.
    items : list of Instance
        In coordinates of the picture.
    centres : ndarray, shape (n, 2)
        (y, x) in the picture, where the dense head saw the middle of something.
    """

    box: Box
    layer: int
    items: list[Instance]
    centres: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 2)))

    @property
    def side(self) -> int:
        """The longest, in pixels."""
        return max(self.box[2] - self.box[0], self.box[3] - self.box[1])

    @cached_property
    def small(self) -> NDArray[np.bool_]:
        """Which of the items are shown small."""
        return np.array([is_small(_extent(item), self.side) for item in self.items], bool)


def shows_more(box: Box, model: Sam) -> bool:
    """Whether a crop (y0, x0, y1, x1) is not enlarged more than the model was trained for."""
    return max(box[2] - box[0], box[3] - box[1]) * model.magnifies >= model.image_size


def is_worth(box: Box, layer: int, seen: Sequence[Crop]) -> bool:
    """Whether most of what the layer before found, with its middle in a crop, is small.

    A picture of large things has small ones among them, debris or parts; closer, one would see more of those.
    Where the whole picture shows middles of things but not one thing, all of them may be too small.

    Parameters
    ----------
    box : tuple of int
        (y0, x0, y1, x1) of the crop, half open.
    layer : int
        Of the crop.
    seen : sequence of Crop
        What has been looked at.
    """
    small: list[bool] = []
    centres = 0
    for crop in seen:
        if crop.layer == layer - 1:
            boxes = np.array([item.box for item in crop.items], np.int64).reshape(-1, 4)
            small += crop.small[_within(box, (boxes[:, :2] + boxes[:, 2:]) / 2)].tolist()
            centres += int(_within(box, crop.centres).sum())
    return sum(small) * 2 > len(small) or (layer == 1 and not small and centres > 0)


def _within(box: Box, points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of the points (n, 2) lie in a box."""
    inside = (points >= box[:2]) & (points < box[2:])
    return inside[:, 0] & inside[:, 1]


def well_shown(crops: Iterable[Crop]) -> list[Instance]:
    """Objects that are not small where they were found, so that a closer look is not about them."""
    return [item for crop in crops for item, tiny in zip(crop.items, crop.small, strict=True) if not tiny]


def without_debris(crops: Sequence[Crop], least: float) -> list[Crop]:
    """Leave out what only the closest looks have seen, unless the model is sure of it, or it is tiny.

    The first closer look shows what was too small in the whole picture. What appears in the next one, though
    two wider looks have shown the place, is more often a speck or a gap between objects than an object.

    Parameters
    ----------
    crops : sequence of Crop
    least : float
        Predicted IoU that is enough elsewhere.
    """
    kept = []
    for crop in crops:
        items = crop.items
        before = [other for other in crops if other.layer == crop.layer - 1]
        if crop.layer > 1 and before:
            visible = VISIBLE * max(other.side for other in before)
            wider = [item for other in crops if other.layer < crop.layer for item in other.items]
            seen = _is_among(items, wider)
            items = [
                item
                for item, known in zip(items, seen, strict=True)
                if known or _extent(item) < visible or item.predicted_iou > least + SURER
            ]
        kept.append(replace(crop, items=items))
    return kept


def without_seen_twice(crops: Sequence[Crop]) -> list[Crop]:
    """Of objects found in a crop and in a closer one, keep those of the look that they need.

    Parameters
    ----------
    crops : sequence of Crop

    Returns
    -------
    list of Crop
        The same, without the small ones that were found closer, and without what a closer look found in
        objects that are not small.
    """
    kept = []
    for crop in crops:
        closer = [item for other in crops if other.layer == crop.layer + 1 for item in other.items]
        wider = well_shown(other for other in crops if other.layer < crop.layer)
        lost = _is_among(crop.items, wider) | (crop.small & _is_among(crop.items, closer))
        items = [item for item, gone in zip(crop.items, lost, strict=True) if not gone]
        kept.append(replace(crop, items=items))
    return kept


def _extent(item: Instance) -> float:
    return float(np.sqrt(np.prod(item.shape)))


def _is_among(items: Sequence[Instance], others: Sequence[Instance]) -> NDArray[np.bool_]:
    """Which items share most of their pixels, or of the other's, with one of the others."""
    boxes = np.array([other.box for other in others], np.int64).reshape(-1, 4)
    areas = np.array([other.area for other in others], np.int64)
    found = np.zeros(len(items), bool)
    for index, item in enumerate(items):
        y0, x0, y1, x1 = item.box
        sides = np.minimum(boxes[:, 2:], (y1, x1)) - np.maximum(boxes[:, :2], (y0, x0))
        least = SAME * np.minimum(areas, item.area)
        rivals = np.flatnonzero(sides.clip(min=0).prod(axis=1) > least)
        found[index] = any(overlap(item, others[rival]) > least[rival] for rival in rivals.tolist())
    return found
