"""What can be done with masks without knowing where they came from.

Boxes and suppression of doubles, SAM's stability score, clean-up of small regions, and the ways between
masks, `Instances` and label images. An instance keeps its mask inside its own bounding box; only the label
image is as large as the picture. Boxes are (y0, x0, y1, x1), integer and half open, unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from skimage.measure import label

from napari_samscape.errors import InputError
from napari_samscape.prediction.types import BoolArray, Instance, Instances

if TYPE_CHECKING:
    from torch import Tensor

Box = tuple[int, int, int, int]


def stability_score(logits: Tensor, threshold: float = 0.0, offset: float = 1.0) -> Tensor:
    """How little a mask changes when its threshold moves by ``offset`` either way.

    Parameters
    ----------
    logits : torch.Tensor, shape (..., y, x)
    threshold : float
        Where the mask is cut.
    offset : float
        How far the cut is moved, in logits.

    Returns
    -------
    torch.Tensor of float32, shape (...)
        The area above the higher cut over the area above the lower one, which is the IoU of the two masks;
        NaN where not even the lower cut leaves a pixel.

    Notes
    -----
    From the appendix of the SAM paper on automatic mask generation.
    """
    inner = (logits > threshold + offset).sum((-2, -1))
    outer = (logits > threshold - offset).sum((-2, -1))
    return inner / outer


def boxes_from_masks(masks: Tensor | BoolArray) -> NDArray[np.int64]:
    """Bounding boxes of masks, half open.

    Parameters
    ----------
    masks : torch.Tensor or ndarray of bool, shape (n, y, x)

    Returns
    -------
    ndarray of int64, shape (n, 4)
        (y0, x0, y1, x1); all zeros for an empty mask.
    """
    # Only the outlines leave the device; the masks themselves may be many and large.
    rows, columns = np.asarray(masks.any(-1).tolist()), np.asarray(masks.any(-2).tolist())
    boxes = np.zeros((len(masks), 4), dtype=np.int64)
    if len(masks) == 0:
        return boxes
    for axis, line in enumerate((rows, columns)):
        boxes[:, axis] = line.argmax(axis=1)
        boxes[:, axis + 2] = line.shape[1] - line[:, ::-1].argmax(axis=1)
    boxes[~rows.any(axis=1)] = 0
    return boxes


def box_iou(box: ArrayLike, others: ArrayLike) -> NDArray[np.float64]:
    """Intersection over union of one box with ``others``, shape (n, 4); 0 where neither has area."""
    one, many = np.asarray(box, dtype=np.float64), np.asarray(others, dtype=np.float64).reshape(-1, 4)
    sides = np.minimum(one[2:], many[:, 2:]) - np.maximum(one[:2], many[:, :2])
    common = sides.clip(min=0).prod(axis=1)
    union = (one[2:] - one[:2]).prod() + (many[:, 2:] - many[:, :2]).prod(axis=1) - common
    return np.divide(common, union, out=np.zeros(len(many)), where=union > 0)


def box_nms(
    boxes: ArrayLike, scores: ArrayLike, threshold: float, groups: ArrayLike | None = None
) -> NDArray[np.int64]:
    """Non-maximum suppression: of boxes that overlap too much, keep the one with the highest score.

    Parameters
    ----------
    boxes : array_like, shape (n, 4)
        (y0, x0, y1, x1).
    scores : array_like, shape (n,)
        Of equal scores the earlier box goes first.
    threshold : float
        A box goes when its IoU with a better one is above this.
    groups : array_like, shape (n,), optional
        Boxes of different groups leave each other alone.

    Returns
    -------
    ndarray of int64, shape (k,)
        Indices of the boxes that stay, highest score first.
    """
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    kinds = np.zeros(len(boxes)) if groups is None else np.asarray(groups)
    waiting = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
    kept = []
    while len(waiting):
        first, waiting = waiting[0], waiting[1:]
        kept.append(first)
        doubles = (box_iou(boxes[first], boxes[waiting]) > threshold) & (kinds[waiting] == kinds[first])
        waiting = waiting[~doubles]
    return np.array(kept, dtype=np.int64)


def overlap(one: Instance, other: Instance) -> int:
    """Number of pixels that two instances share."""
    y0, x0 = max(one.box[0], other.box[0]), max(one.box[1], other.box[1])
    y1, x1 = min(one.box[2], other.box[2]), min(one.box[3], other.box[3])
    if y0 >= y1 or x0 >= x1:
        return 0
    parts = [
        item.mask[y0 - item.box[0] : y1 - item.box[0], x0 - item.box[1] : x1 - item.box[1]]
        for item in (one, other)
    ]
    return int(np.count_nonzero(parts[0] & parts[1]))


def mask_iou(one: Instance, other: Instance) -> float:
    """Intersection over union of two instances, pixel by pixel."""
    common = overlap(one, other)
    return common / (one.area + other.area - common)


def mask_nms(items: Sequence[Instance], scores: ArrayLike, threshold: float) -> list[int]:
    """Non-maximum suppression on masks, for objects that touch, whose boxes overlap though they do not.

    Parameters
    ----------
    items : sequence of Instance, length n
    scores : array_like, shape (n,)
        Of equal scores the earlier instance goes first.
    threshold : float
        An instance goes when its mask's IoU with a better one is above this.

    Returns
    -------
    list of int
        Indices of the instances that stay, highest score first.
    """
    boxes = np.array([item.box for item in items], dtype=np.int64).reshape(-1, 4)
    areas = np.array([item.area for item in items], dtype=np.int64)
    kept: list[int] = []
    for index in np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable"):
        rivals = np.array(kept, dtype=np.int64)
        # The masks share at most what their boxes share and at most the smaller's area; few pairs can
        # reach the threshold at all, and only those are unpacked.
        sides = np.minimum(boxes[index, 2:], boxes[rivals, 2:]) - np.maximum(
            boxes[index, :2], boxes[rivals, :2]
        )
        most = np.minimum(sides.clip(min=0).prod(axis=1), np.minimum(areas[index], areas[rivals]))
        rivals = rivals[most > threshold * (areas[index] + areas[rivals] - most)]
        joint = areas[index] + areas[rivals]
        common = np.array([overlap(items[index], items[rival]) for rival in rivals], dtype=np.int64)
        if not (common / (joint - common) > threshold).any():
            kept.append(int(index))
    return kept


def fill_small_holes(mask: BoolArray, min_area: int) -> tuple[BoolArray, bool]:
    """Fill the background regions smaller than ``min_area`` pixels, also those at the array's edge.

    Returns the mask, shape (y, x), and whether anything changed. Pixels that touch by a corner belong to the
    same region, here and in `drop_small_islands`.
    """
    regions = label(~mask, connectivity=2)
    small = np.bincount(regions.ravel(), minlength=1) < min_area
    small[0] = False  # the mask itself
    return mask | small[regions], bool(small.any())


def drop_small_islands(mask: BoolArray, min_area: int) -> tuple[BoolArray, bool]:
    """Drop the parts of a mask smaller than ``min_area`` pixels; where all are, the largest stays.

    Returns the mask, shape (y, x), and whether any part was smaller.
    """
    regions = label(mask, connectivity=2)
    areas = np.bincount(regions.ravel(), minlength=1)[1:]
    keep = areas >= min_area
    if keep.all():
        return mask, False
    keep[areas.argmax()] |= not keep.any()
    return np.concatenate(([False], keep))[regions], True


def clean_instance(instance: Instance, min_area: int, shape: tuple[int, int]) -> tuple[Instance, bool]:
    """Fill small holes, then drop small islands, as if done on the whole picture of ``shape`` (y, x).

    Returns the instance and whether anything was too small.
    """
    y0, x0, y1, x1 = instance.box
    # With a margin of ``min_area`` pixels, background that reaches out of the box is never taken for a hole,
    # unless the picture's edge cuts it off.
    top, left = min(min_area, y0), min(min_area, x0)
    bottom, right = min(min_area, shape[0] - y1), min(min_area, shape[1] - x1)
    mask, filled = fill_small_holes(np.pad(instance.mask, ((top, bottom), (left, right))), min_area)
    mask, dropped = drop_small_islands(mask, min_area)
    if not (filled or dropped):
        return instance, False
    local = instance_from_mask(mask, offset=(y0 - top, x0 - left))
    return replace(instance, box=local.box, bits=local.bits), True


def instance_from_mask(
    mask: BoolArray,
    *,
    offset: tuple[int, int] = (0, 0),
    predicted_iou: float = float("nan"),
    stability: float = float("nan"),
    point: tuple[float, float] | None = None,
) -> Instance:
    """Cut a mask down to its bounding box and pack it.

    Parameters
    ----------
    mask : ndarray of bool, shape (y, x)
        As large as the picture, or any part of it.
    offset : tuple of int
        (y, x) in the picture of the mask's first pixel.
    predicted_iou, stability, point
        Kept with the instance.

    Returns
    -------
    Instance

    Raises
    ------
    InputError
        If the mask is empty or not two-dimensional.
    """
    mask = np.asarray(mask, dtype=bool)
    if mask.ndim != 2:
        raise InputError(f"An instance needs a two-dimensional mask; this has the shape {mask.shape}.")
    y0, x0, y1, x1 = (int(edge) for edge in boxes_from_masks(mask[None])[0])
    if y0 == y1:
        raise InputError("An instance needs a mask with at least one pixel; this is empty.")
    return Instance(
        box=(y0 + offset[0], x0 + offset[1], y1 + offset[0], x1 + offset[1]),
        bits=np.packbits(mask[y0:y1, x0:x1]),
        predicted_iou=predicted_iou,
        stability=stability,
        point=point,
    )


def deepest(mask: BoolArray) -> tuple[int, int]:
    """(y, x) of the pixel farthest from all that is not in the mask, its edge included."""
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return int(y) - 1, int(x) - 1


def interior_point(item: Instance) -> tuple[float, float]:
    """(y, x) of the pixel farthest from everything outside the object, the picture's edge included."""
    y, x = deepest(item.mask)
    return float(y + item.box[0]), float(x + item.box[1])


def prompt_box(item: Instance) -> NDArray[np.float64]:
    """The box (y0, x0, y1, x1) that a user would draw: through the middles of the outermost pixels."""
    box = np.array(item.box, dtype=np.float64) - (0, 0, 1, 1)
    thin = box[:2] == box[2:]
    return box + 0.5 * np.concatenate([-1.0 * thin, 1.0 * thin])  # a line or a dot has no area otherwise


def labels_from_instances(instances: Instances) -> NDArray[np.int32]:
    """Paint instances into a label image.

    Parameters
    ----------
    instances : Instances
        The first gets the id 1, and so on; parts outside the picture are cut off.

    Returns
    -------
    ndarray of int32, shape (y, x)
        0 is background. Where instances overlap, the smaller lies on top, so that a part stays visible on its
        whole; of two equally large ones, the earlier.
    """
    labels = np.zeros(instances.shape, dtype=np.int32)
    height, width = instances.shape
    areas = [item.area for item in instances]
    for index in sorted(range(len(areas)), key=lambda i: (-areas[i], -i)):
        y0, x0, y1, x1 = instances[index].box
        top, left, bottom, right = max(y0, 0), max(x0, 0), min(y1, height), min(x1, width)
        if top < bottom and left < right:
            mask = instances[index].mask[top - y0 : bottom - y0, left - x0 : right - x0]
            labels[top:bottom, left:right][mask] = index + 1
    return labels


def instances_from_labels(labels: NDArray) -> Instances:
    """One instance for each id of a label image, in the order of the ids.

    Parameters
    ----------
    labels : ndarray of int or bool, shape (y, x)
        0 is background; ids may have gaps, which close.

    Returns
    -------
    Instances

    Raises
    ------
    InputError
        If the array is not two-dimensional, holds no whole numbers, or holds a negative one.
    """
    labels = np.asarray(labels)
    if labels.ndim != 2 or labels.dtype.kind not in "bui":
        raise InputError(
            f"A label image must be two-dimensional and of whole numbers; this has the shape {labels.shape} "
            f"and the type {labels.dtype}."
        )
    ids, dense = np.unique(labels, return_inverse=True)
    if len(ids) and ids[0] < 0:
        raise InputError(f"A label image cannot hold negative ids; this holds {ids[0]}.")
    # Ids without gaps, so that the list of boxes is as long as there are objects.
    dense = dense.reshape(labels.shape) + (0 if len(ids) and ids[0] == 0 else 1)
    items = []
    for index, where in enumerate(ndimage.find_objects(dense), start=1):
        offset = (where[0].start, where[1].start)
        items.append(instance_from_mask(dense[where] == index, offset=offset))
    return Instances(tuple(items), shape=labels.shape)
