"""Pictures of any size made of nuclei copied from real ones, and what was found in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from napari_samscape.evaluation.datasets import open_dataset
from napari_samscape.evaluation.metrics import precision

BLOCK = 1024  # pixels, of a chunk of the picture
CELL = 60  # pixels; a square in which there is at most one nucleus. No power of two: tiles end inside of some
OCCUPIED = 0.8  # of the cells
BACKGROUND, NOISE, BRIGHTEST = 12, 2, 200  # grey values

Nucleus = tuple[NDArray[np.float64], NDArray[np.bool_]]


# The picture -------------------------------------------------------------------------------------------


def read_nuclei(path: Path) -> list[Nucleus]:
    """Grey values above the background, and masks, of all nuclei that fit into a cell."""
    nuclei = []
    for read in open_dataset(path).readers:
        sample = read()
        grey = sample.pixels.reshape(*sample.shape, -1).mean(axis=-1)
        dark, bright = np.percentile(grey, (10, 99.9))
        grey = (grey - dark) / max(bright - dark, 1) * (BRIGHTEST - BACKGROUND)
        for item in sample.objects:
            y0, x0, y1, x1 = item.box
            if max(item.shape) <= CELL - 2 and item.area >= 50:
                nuclei.append((grey[y0:y1, x0:x1], item.mask))
    return nuclei


def block(
    nuclei: list[Nucleus], place: tuple[int, int], cells: int
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """One block of the picture and its labels, always the same; the whole has ``cells`` a side."""
    random = np.random.default_rng(place)
    pixels = random.normal(BACKGROUND, NOISE, (BLOCK, BLOCK))
    labels = np.zeros((BLOCK, BLOCK), np.int32)
    per_side = BLOCK // CELL
    for row, column in np.ndindex(per_side, per_side):
        if random.random() > OCCUPIED:
            continue
        grey, mask = nuclei[random.integers(len(nuclei))]
        turn = random.integers(4)
        grey, mask = np.rot90(grey, turn), np.rot90(mask, turn)
        y, x = (
            cell * CELL + random.integers(CELL - side)
            for cell, side in zip((row, column), mask.shape, strict=True)
        )
        part = slice(y, y + mask.shape[0]), slice(x, x + mask.shape[1])
        pixels[part][mask] += grey[mask]
        labels[part][mask] = (place[0] * per_side + row) * cells + place[1] * per_side + column + 1
    return pixels.clip(0, 255).astype(np.uint8), labels


def make_picture(folder: Path, side: int, nuclei: list[Nucleus]) -> None:
    """Write picture and labels, one block in memory."""
    kinds = (("picture.zarr", "u1"), ("truth.zarr", "i4"))
    picture, truth = (
        zarr.create_array(folder / name, shape=(side, side), dtype=dtype, chunks=(BLOCK, BLOCK))
        for name, dtype in kinds
    )
    for place in np.ndindex(side // BLOCK, side // BLOCK):
        region = tuple(slice(i * BLOCK, (i + 1) * BLOCK) for i in place)
        picture[region], truth[region] = block(nuclei, place, side // CELL)


# The comparison ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Objects:
    """Objects of a label image: pixels of each id, and whether a line between tiles runs through it.

    So that objects of one size can be compared (lines meet the large ones more often), lines through the
    middles of the tiles count as well, at which nothing is cut.
    """

    areas: NDArray[np.int64]
    on_seam: NDArray[np.bool_]
    on_middle: NDArray[np.bool_]

    def at(self, place: str) -> NDArray[np.bool_]:
        """Which objects lie ``"inside"`` tiles, on ``"seams"``, or inside and on ``"middles"``."""
        inside = ~self.on_seam
        return {"inside": inside, "seams": self.on_seam, "middles": inside & self.on_middle}[place]


def compare(truth: Any, found: Any) -> tuple[Objects, Objects, NDArray[np.int64]]:
    """Count, quarter by quarter of ``found``'s chunks; pairs are rows of true id, found id, common pixels."""
    pairs, pieces = [], ([], [])
    for region, numbers in _quarters(found):
        labels = np.asarray(truth[region]).astype(np.int64), np.asarray(found[region]).astype(np.int64)
        for kind, each in zip(pieces, labels, strict=True):
            rows = np.stack(np.unique(each, return_counts=True), axis=1)
            kind.append(np.column_stack([rows, np.tile(numbers, (len(rows), 1))]))
        both = (labels[0] > 0) & (labels[1] > 0)
        rows, counts = np.unique(np.stack([each[both] for each in labels]), axis=1, return_counts=True)
        pairs.append(np.concatenate([rows, counts[None]]).T)
    true, other = (_objects(np.concatenate(kind)) for kind in pieces)
    ids, which = np.unique(np.concatenate(pairs)[:, :2], axis=0, return_inverse=True)
    common = np.bincount(which.ravel(), np.concatenate(pairs)[:, 2], len(ids)).astype(np.int64)
    return true, other, np.column_stack([ids, common])


def _objects(rows: NDArray[np.int64]) -> Objects:
    """From rows of id, pixels, and the numbers of a tile and of a block between tiles' middles."""
    rows = rows[rows[:, 0] > 0]
    areas = np.bincount(rows[:, 0], rows[:, 1]).astype(np.int64)
    blocks = [np.unique(rows[:, (0, column)], axis=0)[:, 0] for column in (2, 3)]
    on_seam, on_middle = (np.bincount(ids, minlength=len(areas)) > 1 for ids in blocks)
    return Objects(areas, on_seam, on_middle)


def _quarters(array: Any) -> Iterator[tuple[tuple[slice, ...], tuple[int, int]]]:
    """Parts of an array of two axes, each in one chunk (of even sides) and one block between middles."""
    halves = [chunk // 2 for chunk in array.chunks]
    counts = [-(-size // half) for size, half in zip(array.shape, halves, strict=True)]
    for place in np.ndindex(*counts):
        region = tuple(slice(i * half, (i + 1) * half) for i, half in zip(place, halves, strict=True))
        row, column = place
        yield region, (row // 2 * counts[1] + column // 2, (row + 1) // 2 * counts[1] + (column + 1) // 2)


def ap50(true: Objects, found: Objects, pairs: NDArray[np.int64], place: str) -> float:
    """TP / (TP + FP + FN) at an IoU of 0.5, of the objects in one place, see `Objects.at`.

    A found object belongs to the true one of which it has most, as halves that a seam has cut lie on none.
    """
    union = true.areas[pairs[:, 0]] + found.areas[pairs[:, 1]] - pairs[:, 2]
    hits = pairs[2 * pairs[:, 2] > union]
    there = (true.areas > 0) & true.at(place)
    where = found.at(place).copy()
    fullest_last = pairs[np.argsort(pairs[:, 2])]
    where[fullest_last[:, 1]] = true.at(place)[fullest_last[:, 0]]
    answered = (found.areas > 0) & where
    answered[hits[:, 1]] = False
    matched = int(there[hits[:, 0]].sum())
    return float(precision(matched, int(there.sum()), matched + int(answered.sum())))
