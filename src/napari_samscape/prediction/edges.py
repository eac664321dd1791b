"""Edges without having learnt any: where masks end, and how surely.

A coarse grid of clicks is asked; where many masks agree on an outline, or one draws it sharply, there is an
edge. Source: SAM paper, section 7.2 and appendix D.2.

Memory stays low. A mask is kept at low resolution and only around itself, and enlarged only there and only to
the size that the model was shown: finer detail it cannot know.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import expit
from torch.nn import functional as F

from napari_samscape.errors import InputError
from napari_samscape.model.progress import Progress
from napari_samscape.prediction.enlarge import Enlarger
from napari_samscape.prediction.grid import point_grid
from napari_samscape.prediction.image import to_rgb
from napari_samscape.prediction.instances import box_nms, boxes_from_masks
from napari_samscape.prediction.options import EdgeOptions
from napari_samscape.prediction.predict import decode_good_points, embed
from napari_samscape.prediction.types import FloatArray

if TYPE_CHECKING:
    from torch import Tensor

    from napari_samscape.model.sam import Sam
    from napari_samscape.prediction.types import Embedding

__all__ = ["EdgeOptions", "drawn_edges", "edges", "thinned"]

BATCH = 16  # points decoded at once; larger batches are no faster on a CPU
MARGIN = 2  # pixels around a mask: one for its outer boundary, one more for the Sobel filter there
SMOOTHING = 1.5  # pixels; over which an edge's direction is estimated
TIE = 1e-5  # strengths nearer than this are equal


class _Patch(NamedTuple):
    """A mask at low resolution, around itself."""

    window: tuple[int, int, int, int]  # in the drawing, half open
    logits: FloatArray  # the cells that the window takes
    cells: tuple[int, int, int, int]  # the mask's bounding box in the picture, at low resolution
    iou: float


def edges(
    model: Sam,
    pixels: NDArray[Any],
    options: EdgeOptions | None = None,
    progress: Progress | None = None,
) -> FloatArray:
    """Draw the edges of a picture.

    Parameters
    ----------
    model : Sam
    pixels : ndarray, shape (y, x) or (y, x, c)
        Any real dtype.
    options : EdgeOptions, optional
        The paper's where left out.
    progress : callable, optional
        Called as ``progress(done, total, text)``. Raise from it to cancel.

    Returns
    -------
    ndarray of float32, shape (y, x)
        Strength from 0 to 1, where 1 is the strongest edge of this picture; all zeros for a constant picture,
        or if no mask has an outline inside the picture.

    Raises
    ------
    InputError
        If this is no two-dimensional picture.

    Notes
    -----
    SAM paper, section 7.2 and appendix D.2: 16 x 16 points with three masks each; of masks with much the
    same box the best stays; a Sobel filter on each mask's probabilities, which are not thresholded, counts
    only on the mask's outer boundary; the maximum over the masks, stretched to 0..1, is thinned.
    """
    return drawn_edges(model, pixels, options, progress)[0]


@torch.inference_mode()
def drawn_edges(
    model: Sam,
    pixels: NDArray[Any],
    options: EdgeOptions | None = None,
    progress: Progress | None = None,
) -> tuple[FloatArray, float]:
    """Draw edges as `edges` does, and say how strong the strongest is, so that parts can be compared.

    Returns
    -------
    values : ndarray of float32, shape (y, x)
        See `edges`.
    highest : float
        The response of the Sobel filter that became 1; 0 where there are no edges.
    """
    options = options or EdgeOptions()
    rgb = to_rgb(pixels)
    shape = (rgb.shape[0], rgb.shape[1])
    if (rgb == rgb[0, 0]).all():
        return np.zeros(shape, np.float32), 0.0
    points = point_grid(options.points_per_side) * shape
    total = -(-len(points) // BATCH) + 2

    def tell(done: int, text: str) -> None:
        if progress is not None:
            progress(done, total, text)

    tell(0, "Looking at the picture")
    embedding = embed(model, rgb)
    enlarger: Enlarger | None = None
    patches: list[_Patch] = []
    for index, start in enumerate(range(0, len(points), BATCH)):
        tell(1 + index, "Asking a grid of points")
        least = options.pred_iou_thresh or -np.inf
        _, logits, iou = decode_good_points(model, embedding, points[start : start + BATCH], least)
        enlarger = enlarger or _enlarger(model, embedding, logits)
        patches += _patches(enlarger, logits, iou)
    assert enlarger is not None  # for mypy: there is at least one point
    kept = box_nms([p.cells for p in patches], [p.iou for p in patches], options.box_nms_thresh)
    drawing = np.zeros(_drawn_shape(embedding), np.float32)
    for number in kept:
        tell(total - 1, "Drawing edges")  # one can at least cancel
        _draw(drawing, patches[number], enlarger)
    strength = _to_size(drawing, shape)
    highest = float(strength.max())
    if highest > 0:  # there is always a pixel without an edge unless there are none at all
        strength = strength / highest
    tell(total, "Drew the edges")
    return (thinned(strength) if options.thin else strength), highest


def thinned(strength: NDArray[Any]) -> FloatArray:
    """Edge non-maximum suppression: keep the crest of each band of edges, with its strength.

    Parameters
    ----------
    strength : ndarray, shape (y, x)
        Not negative; 0 where there is no edge.

    Returns
    -------
    ndarray of float32, shape (y, x)
        0 except where a pixel is no weaker than its two neighbours across the edge; of two equal ones side by
        side, one stays. Lines are one pixel wide.

    Raises
    ------
    InputError
        If the map is not two-dimensional.

    Notes
    -----
    As J. Canny, "A computational approach to edge detection", 1986. The direction across an edge is that in
    which the smoothed map bends most, so only the map is needed, not what it was made from.
    """
    strength = np.asarray(strength, np.float32)
    if strength.ndim != 2:
        raise InputError(f"A map of edges must have the axes (y, x); this has the shape {strength.shape}.")
    result = np.zeros_like(strength)
    here = np.nonzero(strength > 0)
    if len(here[0]) == 0:
        return result
    across = _across(strength, here)
    own = strength[here]
    ahead, behind = (
        ndimage.map_coordinates(strength, np.stack(here) + sign * across, order=1, mode="constant")
        for sign in (1, -1)
    )
    # Not symmetric, so that of two equal neighbours one goes and one stays.
    crest = (own >= ahead - TIE) & (own > behind + TIE)
    result[here] = np.where(crest, own, 0)
    return result


def _across(strength: FloatArray, here: tuple[NDArray[Any], ...]) -> NDArray[np.float64]:
    """Unit vectors (2, n), (y, x), across the edge at the pixels ``here``."""
    yy, yx, xx = (
        ndimage.gaussian_filter(strength, SMOOTHING, order=order, mode="nearest")[here].astype(np.float64)
        for order in ((2, 0), (1, 1), (0, 2))
    )
    # The axis of the largest second derivative; of the smallest, where that bends more: on a crest.
    angle = np.arctan2(2 * yx, xx - yy) / 2 + np.where(xx + yy > 0, 0, np.pi / 2)
    vectors = np.stack([np.sin(angle), np.cos(angle)])
    # To one side, so that neighbours mean the same by 'ahead'. What is all but 0 has a sign by chance only.
    vectors[np.abs(vectors) < TIE] = 0
    backward = (vectors[0] < 0) | ((vectors[0] == 0) & (vectors[1] < 0))
    return np.where(backward, -vectors, vectors)


def _drawn_shape(embedding: Embedding) -> tuple[int, int]:
    """The smaller of the picture and what the model was shown of it."""
    return min(embedding.image_shape, embedding.input_shape, key=max)


def _enlarger(model: Sam, embedding: Embedding, logits: Tensor) -> Enlarger:
    low = (logits.shape[-2], logits.shape[-1])
    return Enlarger(model, replace(embedding, image_shape=_drawn_shape(embedding)), low)


def _patches(enlarger: Enlarger, logits: Tensor, iou: Tensor) -> list[_Patch]:
    """Cut masks ``(n, h, w)`` out that are not empty."""
    # What lies in the padding has no say in which masks are alike.
    inside = [
        int(np.flatnonzero(axis.matrix.any(axis=0))[-1]) + 1 for axis in (enlarger.rows, enlarger.columns)
    ]
    boxes = boxes_from_masks(logits[:, : inside[0], : inside[1]] > 0)
    found = []
    for mask, box, sure in zip(logits, boxes, iou.tolist(), strict=True):
        if box[0] == box[2]:
            continue
        spans, cells = [], []
        for axis, first, last in ((enlarger.rows, box[0], box[2]), (enlarger.columns, box[1], box[3])):
            start, stop = _around(np.flatnonzero(axis.matrix[:, first:last].any(axis=1)), len(axis.matrix))
            spans.append((start, stop))
            cells.append(axis.part(start, stop)[1])
        window = (spans[0][0], spans[1][0], spans[0][1], spans[1][1])
        # A copy, or every small patch would keep its whole batch in memory.
        patch = mask[cells[0], cells[1]].float().cpu().numpy().copy()
        found.append(_Patch(window, patch, tuple(box.tolist()), sure))
    return found


def _around(touched: NDArray[np.int64], length: int) -> tuple[int, int]:
    """First and one past last pixel of those that a mask touches, with a margin inside the drawing."""
    if len(touched) == 0:  # the mask lies in the padding
        return 0, 0
    return max(0, int(touched[0]) - MARGIN), min(int(touched[-1]) + 1 + MARGIN, length)


def _draw(drawing: FloatArray, patch: _Patch, enlarger: Enlarger) -> None:
    """Put the outline of one mask into the drawing, where it is stronger than what is there."""
    y0, x0, y1, x1 = patch.window
    logits = enlarger.rows.part(y0, y1)[0] @ patch.logits @ enlarger.columns.part(x0, x1)[0].T
    mask = logits > 0
    outside = ndimage.binary_dilation(mask) & ~mask
    if not outside.any():  # also where the mask has no pixel in the picture
        return
    probability = expit(logits)
    slopes = [ndimage.sobel(probability, axis=axis, mode="nearest") for axis in (0, 1)]
    part = drawing[y0:y1, x0:x1]
    np.maximum(part, np.where(outside, np.hypot(*slopes), 0), out=part)


def _to_size(drawing: FloatArray, shape: tuple[int, int]) -> FloatArray:
    """Enlarge the drawing where the model was shown less than the picture."""
    if drawing.shape == shape:
        return drawing
    large = F.interpolate(torch.from_numpy(drawing)[None, None], shape, mode="bilinear", align_corners=False)
    result: FloatArray = large[0, 0].numpy()
    return result
