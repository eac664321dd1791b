"""Objects in boxes that something else has found: a detector with SAM behind it segments instances.

Source: SAM paper, section 7.4 and appendix D.4.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from napari_samscape.errors import InputError
from napari_samscape.prediction.automatic import Progress
from napari_samscape.prediction.enlarge import NOTHING, Enlarger
from napari_samscape.prediction.image import to_rgb
from napari_samscape.prediction.predict import decode
from napari_samscape.prediction.types import Instance, Instances, Prompts
from napari_samscape.prediction.views import View, Views

if TYPE_CHECKING:
    from napari_samscape.model.sam import Sam

__all__ = ["Detections", "Detector", "left_empty", "segment_boxes", "segment_detected"]

BATCH = 16  # boxes decoded at once; larger batches are no faster on a CPU


@dataclass(frozen=True, eq=False)
class Detections:
    """What a detector has found in one picture.

    Parameters
    ----------
    boxes : array_like, shape (n, 4)
        (y0, x0, y1, x1) in pixels; reversed corners are put right.
    scores : array_like, shape (n,), optional
        How sure the detector is; NaN where left out.
    classes : sequence of int or str, length n, optional
        What it is; None where left out.

    Raises
    ------
    InputError
        If a shape is wrong, a number is not finite, or a class is neither a whole number nor a text.
    """

    boxes: Any
    scores: Any = None
    classes: Any = None

    def __post_init__(self) -> None:
        boxes = _checked_boxes(self.boxes)
        object.__setattr__(self, "boxes", boxes)
        object.__setattr__(self, "scores", _checked_scores(self.scores, len(boxes)))
        object.__setattr__(self, "classes", _checked_classes(self.classes, len(boxes)))

    def __len__(self) -> int:
        return len(self.boxes)


#: Takes the pixels; gives boxes (n, 4), or a tuple of boxes, scores and, if it likes, classes; or Detections.
Detector = Callable[[NDArray[Any]], Any]


def segment_boxes(
    model: Sam,
    pixels: NDArray[Any],
    boxes: ArrayLike,
    scores: ArrayLike | None = None,
    classes: Sequence[int | str] | None = None,
    progress: Progress | None = None,
) -> Instances:
    """Find the object in each box.

    Parameters
    ----------
    model : Sam
    pixels : ndarray, shape (y, x) or (y, x, c)
        Any real dtype.
    boxes : array_like, shape (n, 4)
        (y0, x0, y1, x1) in pixels; what reaches out of the picture is cut off.
    scores : array_like, shape (n,), optional
    classes : sequence of int or str, length n, optional
        Both are kept with the instances, as ``score`` and ``category``.
    progress : callable, optional
        Called as ``progress(done, total, text)``. Raise from it to cancel.

    Returns
    -------
    Instances
        One for each box, in their order, so that the first box's object gets the id 1. A box outside the
        picture or without area, and one in which the model sees nothing, keeps its place with an instance
        without area; `left_empty` tells which. Objects may overlap; where they are painted into labels, the
        smaller lies on top, whatever the scores.

    Raises
    ------
    InputError
        If this is no two-dimensional picture, or the boxes, scores or classes are not as above.

    Notes
    -----
    As in the paper's appendix D.4, the first answer to a box is given back to the model together with the
    box; of the two answers that of higher predicted IoU is kept.
    """
    given = Detections(boxes, scores, classes)
    rgb = to_rgb(pixels)
    shape = (rgb.shape[0], rgb.shape[1])
    # A pixel reaches half a step to either side of its centre.
    low, high = np.full(4, -0.5), np.array([*shape, *shape]) - 0.5
    clipped = given.boxes.clip(low, high)
    inside = np.flatnonzero((clipped[:, 2:] > clipped[:, :2]).all(axis=1))
    items = [NOTHING] * len(given)
    for index, item in _found(model, rgb, clipped, inside, progress):
        items[index] = item
    about = zip(items, given.scores.tolist(), given.classes, strict=True)
    return Instances(tuple(replace(item, score=s, category=c) for item, s, c in about), shape)


def segment_detected(
    model: Sam, pixels: NDArray[Any], detector: Detector, progress: Progress | None = None
) -> Instances:
    """Find the object in each box that a detector gives.

    Parameters
    ----------
    model : Sam
    pixels : ndarray, shape (y, x) or (y, x, c)
        Any real dtype; the detector gets them as they are.
    detector : callable
        See `Detector`.
    progress : callable, optional
        Called as ``progress(done, total, text)``. Raise from it to cancel.

    Returns
    -------
    Instances
        See `segment_boxes`.

    Raises
    ------
    InputError
        If the detector raises, or what it gives is not as `Detector` says.
    """
    name = getattr(detector, "__name__", type(detector).__name__)
    if progress is not None:
        progress(0, 0, f"asking the detector {name}")
    try:
        answer = detector(pixels)
    except InputError:
        raise
    except Exception as error:  # a stranger's code may fail in any way
        raise InputError(f"The detector {name} failed: {type(error).__name__}: {error}.") from error
    if isinstance(answer, Detections):
        found = answer
    else:
        parts = answer if isinstance(answer, tuple) else (answer,)
        if not 1 <= len(parts) <= 3:
            raise InputError(
                f"The detector {name} gave a tuple of {len(parts)}; boxes, scores and classes are 3."
            )
        try:
            found = Detections(*parts)
        except InputError as error:
            raise InputError(f"The detector {name} gave what is no detection: {error}") from error
    return segment_boxes(model, pixels, found.boxes, found.scores, found.classes, progress)


def left_empty(instances: Instances) -> list[int]:
    """Indices of the boxes in which nothing was found, or that lie outside the picture; from 0."""
    return [index for index, item in enumerate(instances) if item.area == 0]


@torch.inference_mode()
def _found(
    model: Sam,
    rgb: NDArray[np.uint8],
    boxes: NDArray[np.float64],
    chosen: NDArray[np.int64],
    progress: Progress | None,
) -> list[tuple[int, Instance]]:
    """Segment the chosen boxes, view by view; each with its index."""
    if len(chosen) == 0 or (rgb == rgb[0, 0]).all():
        return []
    views = Views(model, rgb, keep=1)
    by_view: dict[int, list[int]] = defaultdict(list)
    for index in chosen.tolist():
        by_view[views.choose(boxes[index])].append(index)
    found: list[tuple[int, Instance]] = []
    for number, members in by_view.items():
        for start in range(0, len(members), BATCH):
            if progress is not None:
                progress(len(found), len(chosen), "objects")
            part = members[start : start + BATCH]
            answers = _answers(model, views.view(number), boxes[part])
            found += zip(part, answers, strict=True)
    if progress is not None:
        progress(len(chosen), len(chosen), "objects")
    return found


def _answers(model: Sam, view: View, boxes: NDArray[np.float64]) -> list[Instance]:
    prompts = [Prompts(box=box - np.tile(view.origin, 2)) for box in boxes]
    first, first_iou = _decoded(model, view, prompts)
    again = [replace(prompt, mask=mask) for prompt, mask in zip(prompts, first, strict=True)]
    second, second_iou = _decoded(model, view, again)
    better = second_iou >= first_iou
    logits = np.where(better[:, None, None], second, first)
    iou = np.where(better, second_iou, first_iou)
    enlarger = Enlarger(model, view.embedding, (logits.shape[1], logits.shape[2]))
    return [
        enlarger.instance(mask, origin=view.origin, predicted_iou=float(value))
        for mask, value in zip(logits, iou, strict=True)
    ]


def _decoded(
    model: Sam, view: View, prompts: Sequence[Prompts]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """One mask (n, h, w) for each prompt, and its predicted IoU (n,)."""
    logits, iou = decode(model, view.embedding, prompts, multimask=False)
    return logits[:, 0].float().cpu().numpy(), iou[:, 0].float().cpu().numpy()


def _checked_boxes(boxes: Any) -> NDArray[np.float64]:
    array = _numbers(boxes, "boxes")
    if array.size == 0:
        array = array.reshape(0, 4)
    if array.ndim != 2 or array.shape[1] != 4:
        raise InputError(
            f"Boxes must have the shape (n, 4), each (y0, x0, y1, x1); these have {array.shape}."
        )
    _check_finite(array, "box")
    corners = array.reshape(-1, 2, 2)
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)


def _checked_scores(scores: Any, count: int) -> NDArray[np.float64]:
    if scores is None:
        return np.full(count, np.nan)
    array = _numbers(scores, "scores").reshape(-1)
    if len(array) != count:
        raise InputError(f"There are {count} boxes but {len(array)} scores; give one score per box.")
    if not np.isnan(array).all():  # of no box is anything known: as if they were left out
        _check_finite(array, "score")
    return array


def _checked_classes(classes: Any, count: int) -> tuple[int | str | None, ...]:
    if classes is None:
        return (None,) * count
    try:
        values = list(classes.tolist() if hasattr(classes, "tolist") else classes)
    except TypeError:
        raise InputError(f"The classes must be a list, one per box; {classes!r} is none.") from None
    if len(values) != count:
        raise InputError(f"There are {count} boxes but {len(values)} classes; give one class per box.")
    for value in values:
        if value is not None and not isinstance(value, (Integral, str)):
            raise InputError(f"A class must be a whole number or a text; {value!r} is neither.")
    return tuple(values)


def _check_finite(array: NDArray[np.float64], what: str) -> None:
    wrong = np.argwhere(~np.isfinite(array))
    if len(wrong):
        values = np.array2string(array[wrong[0, 0]], separator=", ")
        raise InputError(f"The {what} number {wrong[0, 0] + 1} is not finite: {values}.")


def _numbers(values: Any, what: str) -> NDArray[np.float64]:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"The {what} must be numbers in a regular array; these are not.") from None
