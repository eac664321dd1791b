"""Everything in the picture: many points are asked, and the good, different answers are kept.

Memory stays low. Masks that the model itself thinks poor go before they are enlarged, the rest is enlarged
one at a time and only where it is, and what stays is packed into its bounding box at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_samscape.errors import InputError
from napari_samscape.model.progress import Progress
from napari_samscape.model.sam import masks_above
from napari_samscape.prediction.closer import (
    Crop,
    is_worth,
    shows_more,
    well_shown,
    without_debris,
    without_seen_twice,
)
from napari_samscape.prediction.dense import dense_points, missed_points, outside
from napari_samscape.prediction.enlarge import Enlarger
from napari_samscape.prediction.grid import Box, crop_boxes, point_grids
from napari_samscape.prediction.image import to_rgb
from napari_samscape.prediction.instances import (
    box_nms,
    clean_instance,
    instance_from_mask,
    mask_nms,
    stability_score,
)
from napari_samscape.prediction.options import EverythingOptions, changed, default_options
from napari_samscape.prediction.predict import decode_good_points, decode_points, embed
from napari_samscape.prediction.types import Embedding, Instance, Instances

if TYPE_CHECKING:
    from napari_samscape.model.sam import Sam

__all__ = ["EverythingOptions", "default_options", "everything"]

MASK_THRESHOLD = 0.0  # logits above it are inside
EDGE_TOLERANCE = 20  # pixels; a mask that ends this near to a crop's edge is taken for cut off


@dataclass(frozen=True, eq=False)
class _View:
    """A part of the picture as the model has seen it, and what to do with it."""

    model: Sam
    embedding: Embedding
    box: Box  # in the picture
    layer: int  # of crops; 0 for the whole picture
    shape: tuple[int, int]  # (y, x) of the whole picture
    options: EverythingOptions
    known: tuple[Instance, ...] = ()  # what need not be looked for here, in the view's own coordinates


class _Steps:
    """Counts steps and tells them to the callback, if there is one."""

    def __init__(self, report: Progress | None) -> None:
        self.report = report
        self.done, self.total = 0, 1
        self.advance("Looking at the picture", to=0)

    def advance(self, text: str, to: int | None = None) -> None:
        self.done = self.done + 1 if to is None else to
        self.tell(text)

    def tell(self, text: str) -> None:
        if self.report is not None:
            self.report(self.done, self.total, text)


@torch.inference_mode()
def everything(
    model: Sam,
    pixels: NDArray[Any],
    options: EverythingOptions | Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Instances:
    """Find all objects in a picture.

    Parameters
    ----------
    model : Sam
    pixels : ndarray, shape (y, x) or (y, x, c)
        Any real dtype; a part of a larger picture should come as uint8 RGB, made by ``to_rgb`` with the
        limits of the whole.
    options : EverythingOptions or mapping, optional
        `default_options` for this kind of model where left out; a mapping names those that are changed.
    progress : callable, optional
        Called as ``progress(done, total, text)``; the total is known from the second call on. Raise from it
        to cancel.

    Returns
    -------
    Instances
        The best first; none in a constant picture.

    Raises
    ------
    InputError
        If this is no two-dimensional picture, an option is unknown or out of range, or a dense head is asked
        for that the model lacks.

    Notes
    -----
    SAM paper, section 5 and appendix B on automatic mask generation.
    """
    rgb = to_rgb(pixels)
    shape = (rgb.shape[0], rgb.shape[1])
    if (rgb == rgb[0, 0]).all():
        return Instances((), shape)
    steps = _Steps(progress)
    embedding = embed(model, rgb)
    settled = _settled(options, embedding, model)
    crops = crop_boxes(shape, settled.crop_n_layers, settled.crop_overlap_ratio)
    if settled.crop_where_small:
        crops = [(box, layer) for box, layer in crops if layer == 0 or shows_more(box, model)]
    steps.total = sum(_steps_in_layer(layer, settled) for _, layer in crops)
    seen: list[Crop] = []
    for box, layer in crops:
        if layer and settled.crop_where_small and not is_worth(box, layer, seen):
            steps.advance("Nothing small", to=steps.done + _steps_in_layer(layer, settled))
            continue
        if layer:
            embedding = embed(model, np.ascontiguousarray(rgb[box[0] : box[2], box[1] : box[3]]))
        wider = (crop for crop in seen if crop.layer < layer and settled.crop_where_small)
        here = tuple(_moved(item, (-box[0], -box[1])) for item in well_shown(wider))
        seen.append(_look_at(_View(model, embedding, box, layer, shape, settled, here), steps))
    if settled.crop_where_small:
        seen = without_seen_twice(without_debris(seen, settled.pred_iou_thresh))
    items = _merged(seen, settled)
    if settled.min_mask_region_area > 0:
        items = _without_small_regions(items, shape, settled)
    return Instances(tuple(sorted(items, key=lambda item: -item.predicted_iou)), shape)


def _settled(
    given: EverythingOptions | Mapping[str, Any] | None, embedding: Embedding, model: Sam
) -> EverythingOptions:
    """Options in which nothing is left to choose."""
    has_dense = embedding.dense is not None
    options = changed(default_options(has_dense), given)
    if options.prompt_source == "auto":
        asks_dense = has_dense and options.point_grids is None
        return replace(options, prompt_source="dense" if asks_dense else "grid")
    if options.prompt_source == "dense" and not has_dense:
        raise InputError(
            f"The model '{model.name}' has no dense head to take points from; "
            "set the option prompt_source to 'grid' or 'auto'."
        )
    return options


def _grids(options: EverythingOptions) -> list[NDArray[np.float64]]:
    if options.point_grids is not None:
        return [np.array(grid) for grid in options.point_grids]
    factor = options.crop_n_points_downscale_factor
    return point_grids(options.points_per_side, options.crop_n_layers, factor)


def _steps_in_layer(layer: int, options: EverythingOptions) -> int:
    """One for the embedding, and one for each round or batch of points."""
    if options.prompt_source == "dense":
        return 1 + options.dense_rounds
    return 1 + -(-len(_grids(options)[layer]) // options.points_per_batch)


def _look_at(view: _View, steps: _Steps) -> Crop:
    """Ask the points of one view; what is found has coordinates of the whole picture."""
    end = steps.done + _steps_in_layer(view.layer, view.options)
    steps.advance("Looking at a crop" if view.layer else "Looking at the picture")
    centres = np.zeros((0, 2))
    if view.options.prompt_source == "dense":
        centres = outside(view.embedding, view.known, dense_points(view.embedding, view.options))
        found = _ask_dense(view, centres, steps)
    else:
        found = _ask_grid(view, steps)
    if steps.done < end:
        steps.advance("Nothing left to ask", to=end)
    items = [_moved(item, view.box[:2]) for item in found]
    return Crop(view.box, view.layer, items, centres + view.box[:2])


def _ask_grid(view: _View, steps: _Steps) -> list[Instance]:
    points = _grids(view.options)[view.layer] * view.embedding.image_shape
    found: list[Instance] = []
    for batch in _batches(points, view.options.points_per_batch):
        found += _candidates(view, batch)[0]
        steps.advance("Asking a grid of points")
    return _without_doubles(found, view.options)


def _ask_dense(view: _View, centres: NDArray[np.float64], steps: _Steps) -> list[Instance]:
    """Centres first, then what they missed, until nothing new is found.

    Nothing is asked in what is known from a wider look, nor again in what reaches out of the view: closer, a
    large object is a wide place without any mask that stays.
    """
    most = view.options.dense_max_points
    points = centres[:most]
    asked = points[:0]
    found: list[Instance] = []
    cut_off: list[Instance] = []
    for _ in range(view.options.dense_rounds):
        if len(points) == 0:
            break
        new: list[Instance] = []
        for index, batch in enumerate(_batches(points, view.options.points_per_batch)):
            # A round may be long; between its batches one can at least cancel.
            steps.tell(f"Asking {len(points)} likely places, {index * view.options.points_per_batch} done")
            whole, cut = _candidates(view, batch)
            new += whole
            cut_off += cut
        found = _without_doubles(found + new, view.options)
        asked = np.concatenate([asked, points])
        covered = (*found, *cut_off, *view.known)
        points = missed_points(view.embedding, view.options, covered, asked)[: most - len(asked)]
        steps.advance("Asked the likely places")
    return found


def _batches(points: NDArray[np.float64], size: int) -> Iterator[NDArray[np.float64]]:
    for start in range(0, len(points), size):
        yield points[start : start + size]


def _candidates(view: _View, points: NDArray[np.float64]) -> tuple[list[Instance], list[Instance]]:
    """Masks for points (n, 2) that pass the thresholds, and such that a crop's edge has cut off.

    All in the view's own coordinates.
    """
    least = view.options.pred_iou_thresh or -np.inf
    if view.options.prompt_source == "dense":
        # A point at the middle of an object means that object, so one answer is enough.
        logits, iou = decode_points(view.model, view.embedding, points)
        best = iou.argmax(dim=1, keepdim=True)
        logits, iou = logits.take_along_dim(best[..., None, None], dim=1), iou.take_along_dim(best, dim=1)
        rows, logits, iou = masks_above(logits, iou, least)
        source = points[rows.cpu().numpy()]
    else:
        index, logits, iou = decode_good_points(view.model, view.embedding, points, least)
        source = points[index]
    enlarger = Enlarger(view.model, view.embedding, (logits.shape[1], logits.shape[2]))
    found = [
        _accepted(view, enlarger, mask, value, point)
        for mask, value, point in zip(logits.float().cpu().numpy(), iou.tolist(), source, strict=True)
    ]
    items = [item for item in found if item is not None]
    cut = [_is_cut_off(np.array(item.box), view) for item in items]
    whole = [item for item, is_cut in zip(items, cut, strict=True) if not is_cut]
    return whole, [item for item, is_cut in zip(items, cut, strict=True) if is_cut]


def _accepted(
    view: _View, enlarger: Enlarger, logits: NDArray[np.float32], iou: float, point: NDArray[np.float64]
) -> Instance | None:
    """The mask of logits (h, w), enlarged, if it is stable and not empty."""
    offset, least = view.options.stability_score_offset, view.options.stability_score_thresh
    window = enlarger.reach(logits, MASK_THRESHOLD - offset)  # all that the stability is about
    large = enlarger.window(logits, window)
    mask = large > MASK_THRESHOLD
    if not mask.any():
        return None
    stability = float(stability_score(torch.from_numpy(large), MASK_THRESHOLD, offset))
    if least > 0 and not stability >= least:
        return None
    return instance_from_mask(
        mask,
        offset=window[:2],
        predicted_iou=iou,
        stability=stability,
        point=(float(point[0]), float(point[1])),
    )


def _is_cut_off(box: NDArray[np.int64], view: _View) -> bool:
    """Whether a box ends near an edge of the view that is not near the picture's edge as well."""
    last = box + [*view.box[:2], *view.box[:2]] - [0, 0, 1, 1]
    near_crop = np.abs(last - view.box) <= EDGE_TOLERANCE
    near_picture = np.abs(last - [0, 0, *view.shape]) <= EDGE_TOLERANCE
    return bool((near_crop & ~near_picture).any())


def _corners(items: list[Instance]) -> NDArray[Any]:
    """Boxes (n, 4) from first to last pixel, between which the reference measures overlap."""
    return np.array([item.box for item in items], dtype=np.int64).reshape(-1, 4) - [0, 0, 1, 1]


def _without_doubles(items: list[Instance], options: EverythingOptions) -> list[Instance]:
    keep = box_nms(_corners(items), [item.predicted_iou for item in items], options.box_nms_thresh)
    return _without_mask_doubles([items[index] for index in keep], options)


def _without_mask_doubles(items: list[Instance], options: EverythingOptions) -> list[Instance]:
    if options.mask_nms_thresh is None:
        return items
    keep = mask_nms(items, [item.predicted_iou for item in items], options.mask_nms_thresh)
    return [items[index] for index in keep]


def _merged(crops: list[Crop], options: EverythingOptions) -> list[Instance]:
    """What was found in each crop, without what was found in a smaller crop as well."""
    items = [item for crop in crops for item in crop.items]
    if len(crops) == 1:
        return items
    areas = [(crop.box[2] - crop.box[0]) * (crop.box[3] - crop.box[1]) for crop in crops]
    scores = [1 / area for area, crop in zip(areas, crops, strict=True) for _ in crop.items]
    keep = box_nms(_corners(items), scores, options.crop_nms_thresh)
    return _without_mask_doubles([items[index] for index in keep], options)


def _without_small_regions(
    items: list[Instance], shape: tuple[int, int], options: EverythingOptions
) -> list[Instance]:
    """Clean every mask; of those that became alike, one that needed no cleaning stays."""
    cleaned = [clean_instance(item, options.min_mask_region_area, shape) for item in items]
    threshold = max(options.box_nms_thresh, options.crop_nms_thresh)
    instances = [item for item, _ in cleaned]
    keep = box_nms(_corners(instances), [not changed for _, changed in cleaned], threshold)
    return [instances[index] for index in keep]


def _moved(item: Instance, by: tuple[int, int]) -> Instance:
    y0, x0, y1, x1 = item.box
    point = None if item.point is None else (item.point[0] + by[0], item.point[1] + by[1])
    return replace(item, box=(y0 + by[0], x0 + by[1], y1 + by[0], x1 + by[1]), point=point)
