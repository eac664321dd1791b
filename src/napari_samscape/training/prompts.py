"""Batches: crops, the objects asked for in them, and the prompts that ask (appendix A, "Interactive").

Coordinates are (x, y) in pixels of the crop, as `model` takes them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from napari_samscape.io.labelled import IGNORE
from napari_samscape.model.nano import DENSE_STRIDE, OFFSET_UNIT
from napari_samscape.model.prompt_encoder import BACKGROUND, BOX_END, BOX_START, FOREGROUND, PADDING
from napari_samscape.model.sam import PromptTensors
from napari_samscape.training.data import Crop, object_boxes
from napari_samscape.training.loss import Targets, pixel_weights

if TYPE_CHECKING:
    from napari_samscape.training.text import Describe

MASK_STRIDE = 2  # of nano's masks
ANYWHERE = (
    0.5  # weight of far pixels where a prompt does not tell the place: they may hold what else it means
)
SMALLEST = 16  # pixels of the crop; what is smaller is not asked for


@dataclass(frozen=True, eq=False)
class Asked:
    """Everything about one crop that training needs; made in the loader's thread."""

    pixels: Tensor  # (3, s, s)
    masks: Tensor  # (n, s/2, s/2) coverage 0..1
    valid: Tensor  # (s/2, s/2)
    is_object: Tensor  # (n,)
    points: Tensor  # (n, 3, 2) x, y
    labels: Tensor  # (n, 3)
    dense: Tensor  # (6, s/4, s/4): see `dense_loss`
    texts: Tensor | None = None  # (n, d) to ask by instead of points


def ask(crop: Crop, objects: int, rng: np.random.Generator, describe: Describe | None = None) -> Asked | None:
    """Choose objects of a crop and a first prompt for each; None where there is nothing to ask.

    With ``describe`` they are asked for by what it says of them.
    """
    depth = interior_depth(crop.labels)
    ids, areas = np.unique(crop.labels[(crop.labels > 0) & (crop.labels != IGNORE)], return_counts=True)
    ids = ids[areas >= (SMALLEST if describe is None else max(SMALLEST, describe.smallest))]
    chosen = rng.choice(ids, objects, replace=len(ids) < objects) if len(ids) else np.zeros(0, int)
    ground = (crop.labels == 0) & ~crop.pixels[0].isnan().numpy()
    clicks_ground = (
        describe is None and crop.complete and ground.any() and (len(ids) == 0 or rng.random() < 0.5)
    )
    if len(ids) == 0 and not clicks_ground:
        return None
    masks, points, labels = [], [], []
    for index, identity in enumerate(chosen):
        mask = crop.labels == identity
        if index == objects - 1 and clicks_ground:
            break
        masks.append(mask)
        where, kinds = first_prompt(mask, depth * mask, rng)
        points.append(where)
        labels.append(kinds)
    is_object = [True] * len(masks)
    if clicks_ground:
        y, x = _random_pixel(ground, rng)
        masks.append(np.zeros_like(ground))
        points.append([(x, y), (0, 0), (0, 0)])
        labels.append([FOREGROUND, PADDING, PADDING])
        is_object.append(False)
    known = torch.from_numpy((crop.labels != IGNORE).astype(np.float32)) * ~crop.pixels[0].isnan()
    return Asked(
        crop.pixels,
        F.avg_pool2d(torch.from_numpy(np.stack(masks)).float()[None], MASK_STRIDE)[0],
        F.avg_pool2d(known[None, None], MASK_STRIDE)[0, 0],
        torch.tensor(is_object),
        torch.tensor(np.array(points, np.float32)),
        torch.tensor(np.array(labels)),
        _dense_target(crop, depth, known),
        None if describe is None else describe(crop, chosen.tolist(), rng),
    )


def interior_depth(labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Distance in pixels of every pixel of an object to the nearest pixel that is not of it."""
    edge = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        differs = np.diff(labels, axis=axis) != 0
        first = [slice(None)] * 2
        first[axis] = slice(None, -1)
        second = [slice(None)] * 2
        second[axis] = slice(1, None)
        edge[tuple(first)] |= differs
        edge[tuple(second)] |= differs
    inner = (labels > 0) & ~edge
    return np.where(labels > 0, ndimage.distance_transform_edt(inner) + 1, 0.0)


def first_prompt(
    mask: NDArray[np.bool_], depth: NDArray[np.float64], rng: np.random.Generator
) -> tuple[list[tuple[float, float]], list[int]]:
    """A click in the middle, a click anywhere inside, a jittered box, or box and click; three (x, y)."""
    y, x = np.unravel_index(int(depth.argmax()), depth.shape) if rng.random() < 0.7 else (-1, -1)
    if y < 0:
        y, x = _random_pixel(mask, rng)
    click = (float(x), float(y))
    kind = rng.random()
    if kind < 0.6:
        return [click, (0, 0), (0, 0)], [FOREGROUND, PADDING, PADDING]
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    y0, y1, x0, x1 = rows[0], rows[-1], columns[0], columns[-1]
    extent = np.tile([x1 - x0 + 1, y1 - y0 + 1], 2)
    jitter = rng.normal(0, 0.08, 4) * extent if rng.random() < 0.6 else np.zeros(4)
    corners = np.array([x0, y0, x1, y1]) + np.clip(jitter, -20, 20)
    start, end = (float(corners[0]), float(corners[1])), (float(corners[2]), float(corners[3]))
    extra = (click, FOREGROUND) if kind > 0.92 else ((0.0, 0.0), PADDING)
    return [extra[0], start, end], [extra[1], BOX_START, BOX_END]


def correction(
    logits: Tensor, targets: Targets, rng: np.random.Generator, stride: int = MASK_STRIDE
) -> tuple[Tensor, Tensor]:
    """A click in the error of each mask ``(n, h, w)``: points ``(n, 1, 2)`` and labels ``(n, 1)``.

    The place is drawn from all wrong pixels, of which each is ``stride`` wide; a mask without error gets
    padding.
    """
    wanted = targets.masks > 0.5
    wrong = ((logits > 0) != wanted) & (targets.weights > 0)
    n, _, w = wrong.shape
    flat = wrong.flatten(1).float()
    any_wrong = flat.sum(1) > 0
    noise = torch.from_numpy(rng.random(flat.shape, np.float32)).to(flat.device)
    index = (flat * (noise + 0.01)).argmax(1)
    y, x = index // w, index % w
    points = torch.stack([x, y], dim=1).float() * stride + (stride - 1) / 2
    missed = wanted.flatten(1)[torch.arange(n), index]
    labels = torch.where(missed, FOREGROUND, BACKGROUND)
    labels = torch.where(any_wrong & targets.is_object, labels, PADDING)
    return points[:, None], labels[:, None]


@dataclass(frozen=True, eq=False)
class Batch:
    """Crops side by side, and the prompts of all of them, each with the index of its crop."""

    pixels: Tensor  # (b, 3, s, s)
    index: Tensor  # (n,)
    points: Tensor  # (n, 3, 2)
    labels: Tensor  # (n, 3)
    targets: Targets
    dense: Tensor  # (b, 6, s/4, s/4)
    texts: Tensor | None = None  # (n, d)

    @property
    def prompt(self) -> PromptTensors:
        """What is asked first: points and boxes, or texts instead."""
        if self.texts is None:
            return PromptTensors(self.points, self.labels)
        return PromptTensors(self.points[:, :0], self.labels[:, :0], texts=self.texts)

    def to(self, device: torch.device) -> Batch:
        """Move everything."""
        if device.type == "cpu":
            return self
        t = self.targets
        moved = Targets(t.masks.to(device), t.weights.to(device), t.is_object.to(device))
        texts = None if self.texts is None else self.texts.to(device)
        return replace(
            self,
            pixels=self.pixels.to(device),
            index=self.index.to(device),
            points=self.points.to(device),
            labels=self.labels.to(device),
            targets=moved,
            dense=self.dense.to(device),
            texts=texts,
        )


def collate(asked: list[Asked]) -> Batch:
    """Put crops together, all or none of which ask by texts."""
    counts = torch.tensor([len(a.masks) for a in asked])
    masks = torch.cat([a.masks for a in asked])
    valid = torch.stack([a.valid for a in asked]).repeat_interleave(counts, 0)
    told_where = asked[0].texts is None
    weights = pixel_weights(masks, valid) if told_where else pixel_weights(masks, valid, ANYWHERE)
    return Batch(
        torch.stack([a.pixels for a in asked]),
        torch.arange(len(asked)).repeat_interleave(counts),
        torch.cat([a.points for a in asked]),
        torch.cat([a.labels for a in asked]),
        Targets(masks, weights, torch.cat([a.is_object for a in asked])),
        torch.stack([a.dense for a in asked]),
        None if asked[0].texts is None else torch.cat([a.texts for a in asked if a.texts is not None]),
    )


def _dense_target(crop: Crop, depth: NDArray[np.float64], known: Tensor) -> Tensor:
    """Maps at stride 4, as `dense_loss` takes them; the centre is the depth relative to the deepest pixel."""
    inside = (crop.labels > 0) & (crop.labels != IGNORE)
    deepest = np.zeros(int(crop.labels.max()) + 1)
    np.maximum.at(deepest, crop.labels.ravel(), depth.ravel())
    centre = np.where(inside, depth / np.maximum(deepest[crop.labels], 1), 0)
    weight = known.numpy() * (1.0 if crop.complete else inside)  # unlabelled things are not background
    maps = torch.from_numpy(np.stack([inside, centre**2, weight]).astype(np.float32))
    return torch.cat([F.avg_pool2d(maps[None], DENSE_STRIDE)[0], _offsets(crop.labels)])


def _offsets(labels: NDArray[np.int64]) -> Tensor:
    """From each cell at stride 4 to the middle of its object's box (y, x), and one over the object's size."""
    cells = labels[DENSE_STRIDE // 2 :: DENSE_STRIDE, DENSE_STRIDE // 2 :: DENSE_STRIDE]
    offsets = np.zeros((3, *cells.shape), np.float32)
    middle = (DENSE_STRIDE - 1) / 2
    for identity, y0, x0, y1, x1 in object_boxes(labels):
        rows, columns = np.nonzero(cells == identity)
        offsets[0, rows, columns] = ((y0 + y1 - 1) / 2 - (rows * DENSE_STRIDE + middle)) / OFFSET_UNIT
        offsets[1, rows, columns] = ((x0 + x1 - 1) / 2 - (columns * DENSE_STRIDE + middle)) / OFFSET_UNIT
        offsets[2, rows, columns] = OFFSET_UNIT / max(8.0, float(np.sqrt((y1 - y0) * (x1 - x0))))
    return torch.from_numpy(offsets)


def _random_pixel(mask: NDArray[np.bool_], rng: np.random.Generator) -> tuple[int, int]:
    flat = np.flatnonzero(mask)
    y, x = np.unravel_index(int(flat[rng.integers(len(flat))]), mask.shape)
    return int(y), int(x)
