"""Objects in boxes that something else has found: a detector with SAM behind it segments instances.

Source: SAM paper, section 7.4 and appendix D.4.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from napari_samscape.model.progress import Progress
from napari_samscape.prediction.ask import BATCH, moved
from napari_samscape.prediction.detections import Detections, Detector, detect, detector_name
from napari_samscape.prediction.enlarge import Enlarger
from napari_samscape.prediction.image import to_rgb
from napari_samscape.prediction.predict import decode
from napari_samscape.prediction.types import NOTHING, Instance, Instances, Prompts
from napari_samscape.prediction.views import Box, View, Views

if TYPE_CHECKING:
    from napari_samscape.model.sam import Sam

__all__ = ["Detections", "Detector", "left_empty", "segment_boxes", "segment_detected"]


def segment_boxes(
    model: Sam,
    pixels: NDArray[Any],
    boxes: ArrayLike,
    scores: ArrayLike | None = None,
    classes: Sequence[int | str | None] | None = None,
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
    classes : sequence of int, str or None, length n, optional
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
        See `napari_samscape.prediction.detections.Detector`; for those that have names,
        `napari_samscape.prediction.detectors.load_detector`.
    progress : callable, optional
        Called as ``progress(done, total, text)``. Raise from it to cancel.

    Returns
    -------
    Instances
        See `segment_boxes`.

    Raises
    ------
    InputError
        See `napari_samscape.prediction.detections.detect`.
    """
    if progress is not None:
        progress(0, 0, f"asking the detector {detector_name(detector)}")
    found = detect(detector, pixels)
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
    by_view: dict[Box, list[int]] = defaultdict(list)
    for index in chosen.tolist():
        by_view[views.choose(boxes[index])].append(index)
    found: list[tuple[int, Instance]] = []
    for place, members in by_view.items():
        for start in range(0, len(members), BATCH):
            if progress is not None:
                progress(len(found), len(chosen), "objects")
            part = members[start : start + BATCH]
            answers = _answers(model, views.view(place), boxes[part])
            found += zip(part, answers, strict=True)
    if progress is not None:
        progress(len(chosen), len(chosen), "objects")
    return found


def _answers(model: Sam, view: View, boxes: NDArray[np.float64]) -> list[Instance]:
    prompts = [moved(Prompts(box=box), view.box) for box in boxes]
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
