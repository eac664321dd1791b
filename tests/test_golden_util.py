"""The small tools of everything-mode, held to the reference's outputs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from napari_samscape.io.rle import decode_rle, encode_rle
from napari_samscape.prediction.grid import crop_boxes, point_grids
from napari_samscape.prediction.instances import (
    boxes_from_masks,
    clean_instance,
    drop_small_islands,
    fill_small_holes,
    instance_from_mask,
    stability_score,
)

Util = dict[str, NDArray]


@pytest.fixture(scope="module")
def util(shared: Path) -> Util:
    with np.load(shared / "golden" / "util.npz") as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def masks(util: Util) -> NDArray[np.bool_]:
    return util["logits"] > 0


def unpacked(bits: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    return np.unpackbits(bits, count=int(np.prod(shape))).reshape(shape).astype(bool)


def test_stability_scores_are_the_references(util: Util) -> None:
    scores = stability_score(torch.from_numpy(util["logits"]), threshold=0.0, offset=1.0)
    np.testing.assert_allclose(scores.numpy(), util["stability"], rtol=1e-6)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_boxes_are_the_references_with_the_last_pixel_included(util: Util, masks: NDArray, kind) -> None:
    boxes = boxes_from_masks(kind(masks))
    inclusive = boxes[:, [1, 0, 3, 2]] - [0, 0, 1, 1]
    assert np.array_equal(inclusive[:-1], util["boxes"][:-1])
    assert not masks[-1].any() and boxes[-1].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(("clean", "name"), [(fill_small_holes, "holes"), (drop_small_islands, "islands")])
def test_clean_up_is_the_references(util: Util, masks: NDArray, clean, name: str) -> None:
    cleaned = [clean(mask, 40) for mask in masks]
    assert np.array_equal(np.stack([mask for mask, _ in cleaned]), unpacked(util[name], masks.shape))
    assert [changed for _, changed in cleaned] == util[f"{name}_changed"].tolist()


def test_an_instance_is_cleaned_as_its_mask_is_on_the_whole_picture(masks: NDArray) -> None:
    for mask in masks[:-1]:
        # Cut small so that the picture's edge, the box's edge and background between them all occur.
        for part in (mask, mask[:40, :30], mask[20:60, 50:90], mask[::3, ::3]):
            whole, filled = fill_small_holes(part, 25)
            whole, dropped = drop_small_islands(whole, 25)
            cleaned, changed = clean_instance(instance_from_mask(part), 25, part.shape)
            assert changed == (filled or dropped)
            assert cleaned.box == instance_from_mask(whole).box
            assert np.array_equal(cleaned.mask, instance_from_mask(whole).mask)


def test_crops_are_the_references(util: Util) -> None:
    crops = crop_boxes((333, 517), layers=2, overlap_ratio=512 / 1500)
    assert [[x0, y0, x1, y1] for (y0, x0, y1, x1), _ in crops] == util["crop_boxes"].tolist()
    assert [layer for _, layer in crops] == util["crop_layers"].tolist()


def test_point_grids_are_the_references(util: Util) -> None:
    for layer, grid in enumerate(point_grids(8, layers=2, downscale=2)):
        np.testing.assert_allclose(grid[:, ::-1], util[f"grid{layer}"], rtol=1e-12)


def test_run_lengths_are_the_references(shared: Path, masks: NDArray) -> None:
    stored = json.loads((shared / "golden" / "util_rle.json").read_text())
    assert [encode_rle(mask, compressed=True) for mask in masks] == stored
    assert np.array_equal(np.stack([decode_rle(rle) for rle in stored]), masks)
