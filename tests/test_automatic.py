"""Everything-mode: as the reference on `mini`, and its rules one by one on a model that cannot err.

`Seer` takes every colour of a picture for an object: a click answers with all pixels of the colour under it.
A colour is a shade of red; full green says that the pixel is no blend of two, which resizing makes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden import golden_image, golden_model
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from napari_samscape.errors import InputError
from napari_samscape.io.rle import decode_rle
from napari_samscape.model.sam import Encoded, PromptTensors, masks_above
from napari_samscape.prediction.automatic import EverythingOptions, default_options, everything
from napari_samscape.prediction.dense import covered_cells, dense_points, missed_points
from napari_samscape.prediction.enlarge import Enlarger
from napari_samscape.prediction.instances import instance_from_mask, labels_from_instances
from napari_samscape.prediction.predict import embed
from napari_samscape.prediction.types import Embedding, Instances

GRID = EverythingOptions(points_per_side=8, prompt_source="grid")
DENSE = default_options(has_dense=True)


@dataclass
class Seer:
    """A model whose answers are known: colour 0 is background, every other colour one object."""

    image_size: int = 128
    pad_multiple: int = 32
    tile_size: int = 128
    magnifies: float = 1.0
    recall: None = None
    name: str = "seer"
    device: torch.device = torch.device("cpu")
    has_dense: bool = False
    no_centre: tuple[int, ...] = ()  # colours that the centre map misses
    blind: tuple[int, ...] = ()  # colours for which the answer is poor
    soft: tuple[int, ...] = ()  # colours whose masks hang by a thread
    asked: list[int] = field(default_factory=list)  # colours under the points, in order
    looks: int = 0

    def normalise(self, rgb: Tensor) -> Tensor:
        h, w = rgb.shape[2:]
        return F.pad(rgb, (0, -w % self.pad_multiple, 0, -h % self.pad_multiple))

    def encode(self, images: Tensor) -> Encoded:
        self.looks += 1
        colours = torch.where(images[:, 1:2] == 255, images[:, :1], 0.0)
        return Encoded(colours, dense=self._dense(colours) if self.has_dense else None)

    def _dense(self, colours: Tensor) -> Tensor:
        cells = colours[:, :, 2::4, 2::4]
        centre = torch.full_like(cells, -6.0)
        for colour in set(cells.unique().int().tolist()) - {0, *self.no_centre}:
            middle = (cells[0, 0] == colour).nonzero().float().mean(0).round().int()
            centre[0, 0, middle[0], middle[1]] = 6.0
        return torch.cat([torch.where(cells > 0, 6.0, -6.0), centre], dim=1)

    def decode_above(self, encoded: Encoded, prompt: PromptTensors, least: float, which: slice) -> Any:
        return masks_above(*self.decode(encoded, prompt, which), least)

    def decode(self, encoded: Encoded, prompt: PromptTensors, which: slice) -> tuple[Tensor, Tensor]:
        colours = encoded.features[0, 0]
        x, y = prompt.points[:, 0].round().long().unbind(1)
        clicked = colours[y, x]
        self.asked += clicked.int().tolist()
        whole = torch.where(colours == clicked[:, None, None], 8.0, -8.0)
        soft = torch.isin(clicked, torch.tensor(self.soft, dtype=torch.float32))
        whole[soft] /= 16
        # The whole, its left side less sure, and nothing, least sure.
        left = whole.clone()
        left[torch.arange(colours.shape[1]) > x[:, None, None].expand_as(whole)] = -8.0
        poor = torch.isin(clicked, torch.tensor([0, *self.blind], dtype=torch.float32))
        iou = torch.where(poor[:, None], 0.1, torch.tensor([0.95, 0.6, 0.2]))
        return torch.stack([whole, left, torch.full_like(whole, -8.0)], dim=1), iou


def painted(
    *discs: tuple[float, float, float, int], shape: tuple[int, int] = (128, 128)
) -> NDArray[np.uint8]:
    """Paint discs (y, x, radius, colour) on black, the later over the earlier."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    image = np.zeros((*shape, 3), np.uint8)
    for y, x, radius, colour in discs:
        image[(rows - y) ** 2 + (columns - x) ** 2 < radius**2] = (colour, 255, 0)
    return image


def assert_is_every_colour(found: Instances, image: NDArray[np.uint8]) -> None:
    """Each colour is one instance, and there is nothing else."""
    labels = labels_from_instances(found)
    pairs = set(zip(labels.ravel().tolist(), image[..., 0].ravel().tolist(), strict=True))
    colours = np.unique(image[..., 0])
    assert len(pairs) == len(colours) == len({label for label, _ in pairs}) == len(found) + 1
    assert (0, 0) in pairs


FOUR = painted((30, 30, 20, 10), (30, 90, 12, 20), (90, 40, 25, 30), (95, 100, 15, 40))
TOUCHING = painted((64, 40, 25, 10), (64, 80, 20, 20), (30, 60, 16, 30))


# As the reference


@pytest.fixture(scope="module")
def mini(shared: Path) -> Any:
    return golden_model(shared / "golden", "mini")


@pytest.mark.parametrize("case", ["plain", "clean", "crops", "nms"])
def test_records_are_the_references(mini: Any, shared: Path, case: str) -> None:
    golden = json.loads((shared / "golden" / f"amg_{case}.json").read_text())
    del golden["options"]["output_mode"]
    found = everything(
        mini, golden_image(180, 260, golden["seed"] + 1), EverythingOptions(**golden["options"])
    )
    assert len(found) == len(golden["records"])
    for item, record in zip(found, golden["records"], strict=True):
        x, y, width, height = record["bbox"]
        assert item.box == (y, x, y + height + 1, x + width + 1)
        assert item.point == tuple(record["point_coords"][0][::-1])
        assert item.predicted_iou == pytest.approx(record["predicted_iou"], abs=1e-3)
        assert item.stability == pytest.approx(record["stability_score"], abs=1e-3)
        mask = labels_from_instances(Instances((item,), found.shape)) > 0
        assert (mask == decode_rle(record["segmentation"])).mean() > 0.999


def test_crops_in_which_nothing_survives_give_nothing(mini: Any) -> None:
    options = EverythingOptions(points_per_side=2, crop_n_layers=1, stability_score_thresh=1.0)
    assert len(everything(mini, golden_image(60, 90, 1), options)) == 0


# From a grid of points


def test_every_object_under_the_grid_is_found_once() -> None:
    found = everything(Seer(), FOUR, GRID)
    assert_is_every_colour(found, FOUR)
    assert found.shape == (128, 128)


@pytest.mark.parametrize("shape", [(64, 64), (200, 300), (301, 77)])
def test_masks_have_the_pictures_size_whatever_size_the_model_sees(shape: tuple[int, int]) -> None:
    image = painted((shape[0] / 2, shape[1] / 2, 30, 50), shape=shape)
    (found,) = everything(Seer(), image, GRID)
    truth = image[..., 0] > 0
    mask = labels_from_instances(Instances((found,), shape)) > 0
    assert (mask & truth).sum() / (mask | truth).sum() > 0.8  # the model sees blurred edges


def test_poor_masks_go_before_they_are_enlarged(monkeypatch: pytest.MonkeyPatch) -> None:
    enlarged = []

    def window(self: Enlarger, logits: NDArray[np.float32], box: tuple[int, int, int, int]) -> Any:
        enlarged.append((box[2] - box[0]) * (box[3] - box[1]))
        return real(self, logits, box)

    real = Enlarger.window
    monkeypatch.setattr(Enlarger, "window", window)
    seer = Seer()
    assert_is_every_colour(everything(seer, FOUR, GRID), FOUR)
    assert len(enlarged) == sum(colour > 0 for colour in seer.asked)  # of three masks each, the best
    assert max(enlarged) < 128 * 128 / 4  # and only where it is: a quarter holds each of the four


def test_each_threshold_drops_what_it_says() -> None:
    seer = Seer(blind=(20,), soft=(30,))

    def colours(**options: Any) -> set[int]:
        found = everything(seer, FOUR, replace(GRID, **options))
        return set(FOUR[labels_from_instances(found) > 0][:, 0].tolist())

    assert colours() == {10, 40}
    assert colours(stability_score_offset=0.25) == {10, 30, 40}
    assert colours(stability_score_thresh=0.0) == {10, 30, 40}
    assert colours(pred_iou_thresh=0.05) == colours(pred_iou_thresh=0.0) == {0, 10, 20, 40}


def test_touching_objects_are_told_apart_by_their_masks() -> None:
    diagonal = np.triu(np.full((128, 128), 20, np.uint8), 1) + np.tril(np.full((128, 128), 30, np.uint8), -1)
    image = np.stack([diagonal, np.full_like(diagonal, 255), diagonal], axis=2)
    assert len(everything(Seer(), image, GRID)) == 1
    by_masks = replace(GRID, box_nms_thresh=1.0, mask_nms_thresh=0.5)
    assert_is_every_colour(everything(Seer(), image, by_masks), image)


def test_small_holes_and_islands_go_where_asked() -> None:
    image = painted((60, 60, 40, 10), (60, 60, 2, 0), (5, 120, 2, 10))
    (rough,) = everything(Seer(), image, GRID)
    (clean,) = everything(Seer(), image, replace(GRID, min_mask_region_area=30))
    assert rough.area == (image[..., 0] > 0).sum()
    assert clean.area == (painted((60, 60, 40, 10))[..., 0] > 0).sum()


def test_of_masks_that_clean_up_makes_alike_the_one_that_needed_none_stays() -> None:
    image = painted((60, 40, 30, 10), (60, 120, 3, 10))
    # Clicked near its right end, the disc's left side is the disc, without the island that the whole has.
    options = replace(GRID, point_grids=[[(60 / 128, 68 / 128)]], pred_iou_thresh=0.5)
    both = everything(Seer(), image, options)
    assert [round(item.predicted_iou, 2) for item in both] == [0.95, 0.6]
    (found,) = everything(Seer(), image, replace(options, min_mask_region_area=50))
    assert round(found.predicted_iou, 2) == 0.6


def test_boxes_overlap_between_their_first_and_last_pixels_as_in_the_reference() -> None:
    image = painted()
    image[50:60, 50:60] = (10, 255, 0)
    # The square of 10 pixels and its left 8 columns: 7 / 9 is below 0.79, 8 / 10 is not.
    options = replace(GRID, point_grids=[[(55 / 128, 57 / 128)]], pred_iou_thresh=0.5, box_nms_thresh=0.79)
    assert [item.box for item in everything(Seer(), image, options)] == [(50, 50, 60, 60), (50, 50, 60, 58)]
    assert len(everything(Seer(), image, replace(options, box_nms_thresh=0.77))) == 1


def test_points_of_ones_own_are_fractions_of_height_and_width() -> None:
    seer = Seer()
    own = replace(GRID, point_grids=[np.array([[30, 90], [95, 100]]) / 128])
    found = everything(seer, FOUR, own)
    assert seer.asked == [20, 40]
    assert [item.point for item in found] == [(30, 90), (95, 100)]
    assert own == replace(GRID, point_grids=[[(30 / 128, 90 / 128), (95 / 128, 100 / 128)]])


# In crops

SMALL_AND_LARGE = painted((64, 64, 50, 10), (12, 16, 7, 20), (116, 112, 6, 30))
SPARSE = replace(GRID, points_per_side=3)


def colours_clicked(found: Instances, image: NDArray[np.uint8]) -> list[int]:
    return [int(image[round(item.point[0]), round(item.point[1]), 0]) for item in found if item.point]


def test_crops_find_what_falls_through_the_grid_but_no_pieces_of_what_they_cut() -> None:
    without = everything(Seer(), SMALL_AND_LARGE, SPARSE)
    assert colours_clicked(without, SMALL_AND_LARGE) == [10]
    found = everything(Seer(), SMALL_AND_LARGE, replace(SPARSE, crop_n_layers=1))
    assert sorted(colours_clicked(found, SMALL_AND_LARGE)) == [10, 20, 30]
    for item in found:
        truth = SMALL_AND_LARGE[..., 0] == colours_clicked(Instances((item,), found.shape), SMALL_AND_LARGE)
        mask = labels_from_instances(Instances((item,), found.shape)) > 0
        assert (mask & truth).sum() / (mask | truth).sum() > 0.7


def test_of_the_same_object_in_two_crops_the_smaller_crops_stays() -> None:
    image = painted((30, 30, 20, 10))
    whole_only = everything(Seer(), image, SPARSE)
    (found,) = everything(Seer(), image, replace(SPARSE, crop_n_layers=1))
    assert whole_only[0].point == pytest.approx((128 / 6, 128 / 6))
    assert found.point == pytest.approx((86 / 2, 86 / 2))  # the middle of the first crop, of 86 pixels
    assert len(everything(Seer(), image, replace(SPARSE, crop_n_layers=1, crop_nms_thresh=1.0))) == 2


# From the dense head


def test_the_dense_head_is_asked_one_point_for_each_object() -> None:
    seer = Seer(has_dense=True)
    found = everything(seer, FOUR)
    assert_is_every_colour(found, FOUR)
    assert sorted(seer.asked) == [10, 20, 30, 40]
    assert seer.looks == 1


def test_of_three_answers_to_a_dense_point_only_the_best_counts() -> None:
    options = replace(DENSE, pred_iou_thresh=0.0, stability_score_thresh=0.0, mask_nms_thresh=None)
    assert_is_every_colour(everything(Seer(has_dense=True), FOUR, options), FOUR)


def test_objects_that_touch_are_found_each() -> None:
    assert_is_every_colour(everything(Seer(has_dense=True), TOUCHING), TOUCHING)


def test_what_has_no_centre_is_found_in_the_second_round() -> None:
    seer = Seer(has_dense=True, no_centre=(20, 30))
    one_round = everything(seer, TOUCHING, replace(DENSE, dense_rounds=1))
    assert colours_clicked(one_round, TOUCHING) == [10]
    assert_is_every_colour(everything(seer, TOUCHING, replace(DENSE, dense_rounds=2)), TOUCHING)


def test_rounds_end_when_nothing_is_left_to_ask() -> None:
    seer = Seer(has_dense=True)
    everything(seer, FOUR, replace(DENSE, dense_rounds=100))
    assert len(seer.asked) == 4


@pytest.mark.parametrize("most", [1, 3, 4])
def test_no_more_dense_points_are_asked_than_allowed(most: int) -> None:
    seer = Seer(has_dense=True, no_centre=(40,))
    found = everything(seer, FOUR, replace(DENSE, dense_max_points=most))
    assert len(seer.asked) == len(found) == most


def test_what_is_refused_is_not_asked_at_the_same_place_again() -> None:
    seer = Seer(has_dense=True, blind=(10,))
    image = painted((64, 64, 7, 10))
    assert len(everything(seer, image, replace(DENSE, dense_rounds=100))) == 0
    assert seer.asked == [10]


def test_an_object_with_two_centres_is_found_once() -> None:
    seer = Seer(has_dense=True)
    image = painted((64, 64, 30, 10))
    embedding = embed(seer, image)
    assert embedding.dense is not None
    seer._dense = lambda colours: doubled  # type: ignore[method-assign]
    doubled = embedding.dense.clone()
    doubled[0, 1, 13, 13] = 6.0
    (found,) = everything(seer, image)
    assert found.area == (image[..., 0] > 0).sum()
    assert seer.asked == [10, 10]


def test_the_dense_head_is_asked_in_crops_too() -> None:
    found = everything(Seer(has_dense=True), FOUR, replace(DENSE, crop_n_layers=1))
    assert sorted(colours_clicked(found, FOUR)) == [10, 20, 30, 40]


def test_closer_nothing_is_asked_in_what_was_well_seen_before() -> None:
    image = painted((70, 70, 30, 10), (20, 20, 6, 20), (20, 100, 6, 30), (100, 20, 6, 40), shape=(256, 256))
    seer = Seer(has_dense=True, magnifies=2.0)
    assert len(everything(seer, image, replace(DENSE, crop_n_layers=1))) == 4
    assert seer.looks > 1
    assert seer.asked.count(10) == 1
    assert min(seer.asked.count(small) for small in (20, 30, 40)) > 1


def test_what_a_crop_cuts_off_is_asked_once_there_and_not_filled_with_points() -> None:
    image = painted((128, 128, 60, 10), shape=(256, 256))
    seer = Seer(has_dense=True)
    options = replace(DENSE, crop_n_layers=1, crop_where_small=False)
    assert len(everything(seer, image, options)) == 1
    assert (seer.looks, seer.asked) == (5, [10] * 5)


@pytest.mark.parametrize("shape", [(128, 128), (100, 128), (333, 250), (40, 70)])
def test_dense_points_lie_at_the_centres_in_pixels_of_the_picture(shape: tuple[int, int]) -> None:
    middle = np.array([0.6 * shape[0], 0.4 * shape[1]])
    image = painted((*middle, 0.3 * min(shape), 10), shape=shape)
    (point,) = dense_points(embed(Seer(has_dense=True), image), DENSE)
    cell = 4 * max(shape) / 128
    assert np.abs(point - middle).max() <= cell


def flat_embedding(inside: NDArray, centre: NDArray, input_shape: tuple[int, int]) -> Embedding:
    dense = torch.from_numpy(np.stack([inside, centre]).astype(np.float32))[None]
    return Embedding(torch.zeros(1, 1, 1, 1), input_shape, input_shape, dense=dense)


def test_centres_count_only_inside_above_the_threshold_apart_and_within_the_picture() -> None:
    inside, centre = np.full((8, 16), 5.0), np.full((8, 16), -5.0)
    centre[1, 2] = 4.0
    centre[1, 4] = 3.0  # too near to the first
    centre[4, 8] = 2.0
    inside[4, 8] = -1.0  # outside
    centre[4, 13] = -1.0  # a probability of 0.27
    centre[7, 1] = 5.0  # in the padding
    embedding = flat_embedding(inside, centre, (24, 64))
    assert dense_points(embedding, DENSE).tolist() == [[5.5, 9.5]]
    assert len(dense_points(embedding, replace(DENSE, dense_centre_thresh=0.2))) == 2
    assert len(dense_points(embedding, replace(DENSE, dense_inside_thresh=0.2))) == 2
    assert len(dense_points(embedding, replace(DENSE, dense_min_distance=1))) == 2
    assert len(dense_points(embedding, replace(DENSE, dense_inside_thresh=1.0))) == 0


def test_missed_points_lie_deep_inside_what_is_neither_covered_nor_asked() -> None:
    inside = np.full((16, 16), -5.0)
    inside[0:5, 0:5] = inside[0:5, 8:13] = inside[8:13, 0:5] = 5.0
    inside[9:11, 9:15] = 5.0  # a rim two cells wide has no depth
    embedding = flat_embedding(inside, np.full((16, 16), -5.0), (64, 64))
    found = instance_from_mask(np.ones((20, 20), bool))  # the first square
    asked = np.array([[9.5, 41.5]])  # the middle of the second
    assert missed_points(embedding, DENSE, [found], asked).tolist() == [[41.5, 9.5]]
    everywhere = missed_points(embedding, DENSE, [], asked[:0])
    assert sorted(everywhere.tolist()) == [[9.5, 9.5], [9.5, 41.5], [41.5, 9.5]]


def test_a_cell_is_covered_when_its_centre_is() -> None:
    embedding = replace(flat_embedding(np.zeros((4, 4)), np.zeros((4, 4)), (16, 16)), image_shape=(32, 32))
    mask = np.zeros((32, 32), bool)
    mask[4:13, 20:29] = True  # centres lie at 4, 12, 20, 28
    expected = np.zeros((4, 4), bool)
    expected[0:2, 2:4] = True
    assert np.array_equal(covered_cells(embedding, [instance_from_mask(mask)]), expected)


# Around it


def test_a_constant_picture_holds_nothing_and_is_not_looked_at() -> None:
    seer = Seer()
    for pixels in (np.full((20, 30), 7, np.uint16), np.full((20, 30, 3), 200, np.uint8)):
        found = everything(seer, pixels)
        assert (len(found), found.shape) == (0, (20, 30))
    assert seer.looks == 0


@pytest.mark.parametrize(
    ("seer", "options"),
    [
        (Seer(), replace(GRID, points_per_batch=10)),
        (Seer(), replace(GRID, points_per_batch=10, crop_n_layers=1)),
        (Seer(has_dense=True), None),
        (Seer(has_dense=True), replace(DENSE, crop_n_layers=1)),
    ],
)
def test_progress_rises_to_the_total(seer: Seer, options: EverythingOptions | None) -> None:
    calls: list[tuple[int, int]] = []
    everything(seer, FOUR, options, lambda done, total, text: calls.append((done, total)))
    done, totals = zip(*calls, strict=True)
    assert list(done) == sorted(done) and done[0] == 0
    assert len(set(totals[1:])) == 1
    assert done[-1] == totals[-1]


def test_what_progress_raises_ends_the_work() -> None:
    class Cancelled(Exception):
        pass

    def cancel(done: int, total: int, text: str) -> None:
        if done == 2:
            raise Cancelled

    seer = Seer()
    with pytest.raises(Cancelled):
        everything(seer, FOUR, replace(GRID, points_per_batch=8), cancel)
    assert len(seer.asked) == 8


def test_a_round_of_dense_points_can_be_cancelled_between_its_batches() -> None:
    class Cancelled(Exception):
        pass

    def cancel(done: int, total: int, text: str) -> None:
        if text == "Asking 4 likely places, 3 done":
            raise Cancelled

    seer = Seer(has_dense=True)
    with pytest.raises(Cancelled):
        everything(seer, FOUR, replace(DENSE, points_per_batch=3), cancel)
    assert len(seer.asked) == 3


def test_defaults_are_the_references_for_sam_and_others_for_a_dense_head() -> None:
    sam = default_options(has_dense=False)
    assert sam == EverythingOptions()
    assert (sam.points_per_side, sam.points_per_batch) == (32, 64)
    assert (sam.pred_iou_thresh, sam.stability_score_thresh, sam.box_nms_thresh) == (0.88, 0.95, 0.7)
    assert (sam.crop_n_layers, sam.crop_overlap_ratio, sam.min_mask_region_area) == (0, 512 / 1500, 0)
    assert default_options(has_dense=True).mask_nms_thresh is not None


def test_points_come_from_the_dense_head_only_where_there_is_one() -> None:
    seer = Seer()
    with pytest.raises(InputError, match="The model 'seer' has no dense head"):
        everything(seer, FOUR, DENSE_ONLY)
    everything(seer, FOUR, replace(GRID, prompt_source="auto"))
    assert len(seer.asked) == 64
    with_head = Seer(has_dense=True)
    everything(with_head, FOUR, GRID)
    assert len(with_head.asked) == 64


def test_points_of_ones_own_are_asked_instead_of_the_dense_head() -> None:
    seer = Seer(has_dense=True)
    everything(seer, FOUR, {"point_grids": [[(0.5, 0.5), (0.1, 0.1)]]})
    assert len(seer.asked) == 2


@pytest.mark.parametrize("has_dense", [False, True])
def test_options_given_by_name_change_the_models_own(has_dense: bool) -> None:
    seers = Seer(has_dense=has_dense), Seer(has_dense=has_dense)
    by_name = everything(seers[0], FOUR, {"prompt_source": "grid", "points_per_side": 4})
    options = replace(default_options(has_dense), prompt_source="grid", points_per_side=4)
    assert [item.box for item in by_name] == [item.box for item in everything(seers[1], FOUR, options)]
    assert len(seers[0].asked) == 16


DENSE_ONLY = EverythingOptions(prompt_source="dense")


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"points_per_side": 0}, "points_per_side must be a whole number from 1 to 1024; it is 0."),
        ({"points_per_side": 2.5}, "points_per_side must be a whole number from 1 to 1024; it is 2.5."),
        ({"points_per_batch": True}, "points_per_batch must be a whole number of at least 1; it is True."),
        ({"pred_iou_thresh": 1.5}, "pred_iou_thresh must be a number of at most 1; it is 1.5."),
        ({"box_nms_thresh": float("nan")}, "box_nms_thresh must be a number from 0 to 1; it is nan."),
        ({"mask_nms_thresh": -1}, "mask_nms_thresh must be a number from 0 to 1; it is -1."),
        ({"crop_overlap_ratio": 1}, "crop_overlap_ratio must be a number from 0 to 0.9; it is 1."),
        (
            {"min_mask_region_area": "few"},
            "min_mask_region_area must be a whole number of at least 0; it is 'few'.",
        ),
        ({"prompt_source": "sky"}, "prompt_source must be one of 'auto', 'grid', 'dense'; it is 'sky'."),
    ],
)
def test_an_option_out_of_range_is_refused(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as refusal:
        EverythingOptions(**wrong)
    assert str(refusal.value) == f"The option {sentence}"


@pytest.mark.parametrize(
    ("grids", "words"),
    [
        ([[(0.5, 0.5)], [(0.5, 0.5)]], "must hold 1 grids"),
        ([[0.5, 0.5]], r"must have the shape \(n, 2\)"),
        ([np.zeros((0, 2))], r"must have the shape \(n, 2\)"),
        ([[("a", "b")]], r"must have the shape \(n, 2\)"),
        ([[(0.5, 64.0)]], "fractions of height and width"),
    ],
)
def test_point_grids_that_fit_nothing_are_refused(grids: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        EverythingOptions(point_grids=grids)
