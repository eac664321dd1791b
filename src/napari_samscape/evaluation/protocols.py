"""How a method is asked about one picture whose objects are known, and what is written down.

Section 7.1 and the appendix on experiments of the SAM paper.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_samscape.errors import InputError
from napari_samscape.evaluation.boundaries import count_boundary_pixels
from napari_samscape.evaluation.datasets import Sample
from napari_samscape.evaluation.methods import EdgeMethod, Look, Method
from napari_samscape.evaluation.metrics import (
    FloatArray,
    aggregated_jaccard,
    count_matches,
    iou_matrix,
    mostly_inside,
)
from napari_samscape.prediction.ask import Answer
from napari_samscape.prediction.instances import (
    deepest,
    instances_from_labels,
    interior_point,
    labels_from_instances,
    mask_iou,
    prompt_box,
)
from napari_samscape.prediction.types import BoolArray, Instance, Prompts

CLICKS = (1, 2, 3, 5, 9)  # after how many the mask is judged
JITTER = 0.1  # of the box's side, at most, by which each edge of a jittered box moves


@dataclass(frozen=True, eq=False)
class Record:
    """What one picture gave.

    Attributes
    ----------
    seconds : float
        To look at the picture and answer one prompt for each object, or to find everything.
    values : dict of str to ndarray
        One row for each true object (point, box), or figures of the picture (everything).
    extra : Any
        What only the whole data set can be judged by.
    """

    seconds: float
    values: dict[str, NDArray[Any]] = field(default_factory=dict)
    extra: Any = None


def ask_points(method: Method, sample: Sample, clicks: Sequence[int] = CLICKS) -> Record:
    """Click on each object, then correct, up to the last of ``clicks``.

    Returns
    -------
    Record
        ``iou`` (n, len(clicks)) of the mask with the highest predicted IoU, ``oracle`` (n,) of the best
        mask after the first click, ``predicted`` (n,) by the method, for the first click.
    """
    objects = sample.objects
    points = [[interior_point(item)] for item in objects]
    labels = [[1] for _ in objects]
    start = time.perf_counter()
    look = method.look(sample.pixels)
    answers = look.ask(_clicked(points, labels)) if objects else []
    seconds = time.perf_counter() - start
    values = {
        "oracle": _array(max(mask_iou(t, m) for m in a.masks) for t, a in zip(objects, answers, strict=True)),
        "predicted": _array(answer.iou.max() for answer in answers),
    }
    after = {1: _true_iou(objects, answers)}
    for count in range(2, max(clicks) + 1):
        answers = _corrected(look, objects, answers, points, labels)
        after[count] = _true_iou(objects, answers)
    values["iou"] = np.stack([after[count] for count in clicks], axis=1)
    return Record(seconds, values)


def ask_boxes(method: Method, sample: Sample, seed: int = 0) -> Record:
    """Give each object's box, and the same box jittered.

    Returns
    -------
    Record
        ``iou`` and ``jittered`` (n,), and ``predicted`` (n,), for the exact box.
    """
    objects = sample.objects
    rng = np.random.default_rng(seed)
    boxes = [prompt_box(item) for item in objects]
    jittered = [jittered_box(box, sample.shape, rng) for box in boxes]
    start = time.perf_counter()
    look = method.look(sample.pixels)
    answers = look.ask([Prompts(box=box) for box in boxes]) if objects else []
    seconds = time.perf_counter() - start
    others = look.ask([Prompts(box=box) for box in jittered]) if objects else []
    return Record(
        seconds,
        {
            "iou": _true_iou(objects, answers),
            "jittered": _true_iou(objects, others),
            "predicted": _array(answer.iou.max() for answer in answers),
        },
    )


def find_everything(method: Method, sample: Sample) -> Record:
    """Let the method find all objects by itself.

    Returns
    -------
    Record
        ``matches`` (10,) at each IoU of `metrics.THRESHOLDS`, ``true``, ``found`` and ``aji`` (1,), of the
        label image that users get, in which objects do not overlap. ``extra`` is for `coco.coco_ap`, of the
        objects as found. What lies mostly where nothing is known is left out of all but ``extra``.
    """
    start = time.perf_counter()
    found = method.look(sample.pixels).everything()
    seconds = time.perf_counter() - start
    visible = instances_from_labels(labels_from_instances(found)).items
    outside = ~mostly_inside(visible, sample.ignore)
    kept = [item for item, known in zip(visible, outside, strict=True) if known]
    values = {
        "matches": count_matches(iou_matrix(sample.objects, kept)),
        "true": np.array([len(sample.objects)]),
        "found": np.array([len(kept)]),
        "aji": np.array([aggregated_jaccard(sample.objects, kept)]),
    }
    return Record(seconds, values, (sample.objects, sample.ignore, found.items, sample.shape))


def draw_edges(method: EdgeMethod, sample: Sample, levels: Sequence[float] | FloatArray) -> Record:
    """Let the method draw the edges, and compare them with the humans'.

    Returns
    -------
    Record
        ``counts`` (4, t), the parts of `boundaries.Counts`; ``humans`` (1,), how many there are. The seconds
        are those of drawing alone.

    Raises
    ------
    InputError
        If no human drew boundaries on the sample.
    """
    if sample.boundaries is None:
        raise InputError(
            f"The protocol 'edges' needs boundaries drawn by humans, as BSDS500 has them; "
            f"the picture '{sample.name}' has none."
        )
    start = time.perf_counter()
    strength = method.edges(sample.pixels)
    seconds = time.perf_counter() - start
    counts = np.stack(count_boundary_pixels(strength, sample.boundaries, levels))
    return Record(seconds, {"counts": counts, "humans": np.array([len(sample.boundaries)])})


def next_click(true: Instance, found: Instance) -> tuple[tuple[float, float], int] | None:
    """Where a user would click next: in the middle of the largest error.

    Parameters
    ----------
    true, found : Instance
        The object, and the mask that is to become it; ``found`` may have no area.

    Returns
    -------
    (y, x), label
        The most interior pixel of the largest connected region that is missed (label 1) or covered by mistake
        (label 0); None where the mask is right.
    """
    boxes = np.array([item.box for item in (true, found) if item.area])
    (y0, x0), (y1, x1) = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    wanted, given = (_in_window(item, (y0, x0, y1, x1)) for item in (true, found))
    best: tuple[int, BoolArray, int] | None = None
    for wrong, label in ((wanted & ~given, 1), (given & ~wanted, 0)):
        regions, count = ndimage.label(wrong)
        if count == 0:
            continue
        areas = np.bincount(regions.ravel())[1:]
        if best is None or areas.max() > best[0]:
            best = int(areas.max()), regions == areas.argmax() + 1, label
    if best is None:
        return None
    y, x = deepest(best[1])
    return (float(y + y0), float(x + x0)), best[2]


def jittered_box(box: FloatArray, shape: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    """Move each edge by up to 10 % of the box's side, evenly drawn, but not out of the picture (y, x)."""
    sides = np.tile(box[2:] - box[:2], 2)
    moved = box + rng.uniform(-JITTER, JITTER, 4) * sides
    return np.clip(moved, -0.5, np.tile(shape, 2) - 0.5)


def _in_window(item: Instance, window: tuple[int, int, int, int]) -> BoolArray:
    """The mask inside a window (y0, x0, y1, x1) that holds it."""
    top, left = window[:2]
    mask = np.zeros((window[2] - top, window[3] - left), dtype=bool)
    if item.area:
        y0, x0, y1, x1 = item.box
        mask[y0 - top : y1 - top, x0 - left : x1 - left] = item.mask
    return mask


def _corrected(
    look: Look,
    objects: Sequence[Instance],
    answers: list[Answer],
    points: list[list[tuple[float, float]]],
    labels: list[list[int]],
) -> list[Answer]:
    """One more click for each mask that has an error; ``points`` and ``labels`` grow."""
    wrong = []
    for index, (item, answer) in enumerate(zip(objects, answers, strict=True)):
        click = next_click(item, answer.best)
        if click is not None:
            points[index].append(click[0])
            labels[index].append(click[1])
            wrong.append(index)
    if not wrong:
        return answers
    prompts = _clicked([points[i] for i in wrong], [labels[i] for i in wrong])
    better = look.ask(prompts, [answers[i] for i in wrong])
    changed = dict(zip(wrong, better, strict=True))
    return [changed.get(index, answer) for index, answer in enumerate(answers)]


def _clicked(points: Sequence[Any], labels: Sequence[Any]) -> list[Prompts]:
    return [Prompts(points=p, labels=k) for p, k in zip(points, labels, strict=True)]


def _true_iou(objects: Sequence[Instance], answers: Sequence[Answer]) -> FloatArray:
    return _array(mask_iou(item, answer.best) for item, answer in zip(objects, answers, strict=True))


def _array(values: Any) -> FloatArray:
    return np.array(list(values), dtype=np.float64)
