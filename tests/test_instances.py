"""Mask algebra: what each operation promises, first on pictures one can check by eye, then on any."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from pycocotools import mask as coco

from napari_samscape.errors import InputError
from napari_samscape.io.rle import decode_rle, encode_rle, pack_counts, unpack_counts
from napari_samscape.prediction.instances import (
    box_iou,
    box_nms,
    boxes_from_masks,
    clean_instance,
    drop_small_islands,
    fill_small_holes,
    instance_from_mask,
    instances_from_labels,
    labels_from_instances,
    mask_iou,
    mask_nms,
    overlap,
    stability_score,
)
from napari_samscape.prediction.types import Instance, Instances

any_mask = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12))
any_labels = hnp.arrays(
    np.int64,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=10),
    elements=st.sampled_from([0, 1, 2, 5, 900]),
)
any_box = st.tuples(*[st.integers(0, 20)] * 4).map(
    lambda b: (min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]) + 1, max(b[1], b[3]) + 1)
)
any_score = st.sampled_from([0.0, 0.2, 0.5, 0.5, 0.9])


def picture(*rows: str) -> NDArray[np.bool_]:
    """Draw a mask: # is foreground."""
    return np.array([[pixel == "#" for pixel in row] for row in rows])


def disc(y: float, x: float, radius: float, shape: tuple[int, int] = (40, 60)) -> NDArray[np.bool_]:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return (rows - y) ** 2 + (columns - x) ** 2 < radius**2


# Instances from masks


def test_an_instance_is_cut_to_its_box_and_moved_by_the_offset() -> None:
    mask = picture("....", ".##.", "..#.")
    found = instance_from_mask(mask, offset=(10, 20), predicted_iou=0.9, stability=0.8, point=(11, 21))
    assert found.box == (11, 21, 13, 23)
    assert np.array_equal(found.mask, picture("##", ".#"))
    assert found.area == 3
    assert (found.predicted_iou, found.stability, found.point) == (0.9, 0.8, (11, 21))


@pytest.mark.parametrize(
    ("mask", "sentence"),
    [
        (np.zeros((3, 4), bool), "An instance needs a mask with at least one pixel; this is empty."),
        (np.ones((1, 3, 4), bool), "An instance needs a two-dimensional mask; this has the shape (1, 3, 4)."),
    ],
)
def test_a_mask_that_is_no_object_is_refused(mask: NDArray, sentence: str) -> None:
    with pytest.raises(InputError) as refusal:
        instance_from_mask(mask)
    assert str(refusal.value) == sentence


def test_boxes_are_half_open_and_zero_for_empty_masks() -> None:
    masks = np.stack([picture("....", ".##.", "..#."), np.zeros((3, 4), bool), np.ones((3, 4), bool)])
    expected = [[1, 1, 3, 3], [0, 0, 0, 0], [0, 0, 3, 4]]
    assert boxes_from_masks(masks).tolist() == expected
    assert boxes_from_masks(torch.from_numpy(masks)).tolist() == expected
    assert boxes_from_masks(masks[:0]).shape == (0, 4)


def test_stability_is_the_area_between_the_two_cuts() -> None:
    logits = torch.tensor([[[3.0, 0.5, -0.5, -3.0]], [[-3.0, -3.0, -3.0, -3.0]]])
    scores = stability_score(logits, threshold=0.0, offset=1.0)
    assert scores[0] == pytest.approx(1 / 3)
    assert scores[1].isnan()
    assert stability_score(logits, offset=0.1)[0] == 1


# Suppression of doubles


def test_box_iou_counts_common_area_over_joint_area() -> None:
    ious = box_iou((0, 0, 4, 4), [(0, 0, 4, 4), (2, 0, 6, 4), (4, 0, 8, 4), (1, 1, 2, 2)])
    np.testing.assert_allclose(ious, [1, 8 / 24, 0, 1 / 16])
    assert box_iou((1, 1, 1, 5), [(1, 1, 1, 5)]) == 0  # a line has no area to share


def test_of_boxes_that_overlap_the_better_stays() -> None:
    boxes = [(0, 0, 10, 10), (1, 0, 11, 10), (30, 30, 40, 40)]
    assert box_nms(boxes, [0.5, 0.9, 0.1], 0.7).tolist() == [1, 2]
    assert box_nms(boxes, [0.5, 0.9, 0.1], 0.95).tolist() == [1, 0, 2]
    assert box_nms(boxes, [0.5, 0.9, 0.1], 0.7, groups=[0, 1, 0]).tolist() == [1, 0, 2]
    assert box_nms([], [], 0.7).tolist() == []


def test_a_suppressed_box_suppresses_nothing() -> None:
    chain = [(0, 0, 10, 10), (0, 4, 10, 14), (0, 8, 10, 18)]
    assert box_nms(chain, [0.9, 0.8, 0.7], 0.3).tolist() == [0, 2]


def test_touching_objects_survive_mask_nms_though_their_boxes_overlap() -> None:
    # Two halves of a square, cut along the diagonal: the same box, hardly a common pixel.
    upper = np.triu(np.ones((20, 20), bool))
    pieces = [instance_from_mask(upper), instance_from_mask(~upper), instance_from_mask(np.triu(upper, 1))]
    assert mask_nms(pieces, [0.9, 0.8, 0.7], 0.5) == [0, 1]
    assert len(box_nms([piece.box for piece in pieces], [0.9, 0.8, 0.7], 0.5)) == 1


def test_overlap_is_counted_where_the_boxes_meet() -> None:
    one = instance_from_mask(picture("##", "##"), offset=(0, 0))
    other = instance_from_mask(picture(".#", "##"), offset=(1, 0))
    apart = instance_from_mask(picture("##"), offset=(5, 5))
    assert overlap(one, other) == 1
    assert mask_iou(one, other) == 1 / 6
    assert mask_iou(one, apart) == 0


# Clean-up


def test_small_holes_are_filled_and_large_ones_stay() -> None:
    mask = picture("#########", "#.####..#", "######..#", "#########")
    filled, changed = fill_small_holes(mask, 2)
    assert changed
    assert np.array_equal(filled, picture("#########", "######..#", "######..#", "#########"))
    untouched, changed = fill_small_holes(mask, 1)
    assert not changed and np.array_equal(untouched, mask)


def test_small_islands_are_dropped_but_never_the_last() -> None:
    mask = picture("##...#", "##....", "....##")
    dropped, changed = drop_small_islands(mask, 3)
    assert changed and np.array_equal(dropped, picture("##....", "##....", "......"))
    last, changed = drop_small_islands(mask, 100)
    assert changed and np.array_equal(last, dropped)
    untouched, changed = drop_small_islands(mask, 1)
    assert not changed and np.array_equal(untouched, mask)


def test_pixels_that_touch_by_a_corner_are_one_region() -> None:
    assert not drop_small_islands(picture("#.", ".#"), 2)[1]
    assert not fill_small_holes(picture("####", "#.##", "##.#", "####"), 2)[1]


def test_a_cleaned_instance_keeps_what_was_known_of_it() -> None:
    mask = disc(20, 20, 8) | disc(20, 50, 2)
    mask[20, 20] = False
    found = instance_from_mask(mask, predicted_iou=0.7, stability=0.6, point=(20, 18))
    cleaned, changed = clean_instance(found, 30, mask.shape)
    assert changed
    assert (
        labels_from_instances(Instances((cleaned,), mask.shape)).astype(bool).tolist()
        == disc(20, 20, 8).tolist()
    )
    assert (cleaned.predicted_iou, cleaned.stability, cleaned.point) == (0.7, 0.6, (20, 18))
    assert clean_instance(cleaned, 30, mask.shape) == (cleaned, False)


def test_background_that_the_box_cuts_off_counts_in_full() -> None:
    bar = instance_from_mask(np.ones((3, 20), bool), offset=(0, 10))  # from top to bottom of the picture
    assert not clean_instance(bar, 30, (3, 40))[1]  # 30 pixels on either side
    filled, changed = clean_instance(bar, 31, (3, 41))  # 30 on the left, 33 on the right
    assert changed and filled.box == (0, 0, 3, 30)


# Label images


def test_smaller_instances_lie_on_top_whatever_their_order() -> None:
    whole = instance_from_mask(np.ones((3, 5), bool))
    part = instance_from_mask(picture("##"), offset=(1, 1))
    labels = labels_from_instances(Instances((part, whole), (3, 5)))
    assert labels.dtype == np.int32
    assert labels.tolist() == [[2, 2, 2, 2, 2], [2, 1, 1, 2, 2], [2, 2, 2, 2, 2]]
    assert labels_from_instances(Instances((whole, part), (3, 5))).tolist()[1] == [1, 2, 2, 1, 1]


def test_of_equally_large_instances_the_earlier_lies_on_top() -> None:
    pair = (instance_from_mask(picture("##")), instance_from_mask(picture("##"), offset=(0, 1)))
    assert labels_from_instances(Instances(pair, (1, 3))).tolist() == [[1, 1, 2]]


def test_what_lies_outside_the_picture_is_cut_off() -> None:
    over_the_edge = instance_from_mask(picture("#.#", "###"), offset=(-1, -1))
    beyond = instance_from_mask(picture("#"), offset=(7, 7))
    labels = labels_from_instances(Instances((over_the_edge, beyond), (2, 3)))
    assert labels.tolist() == [[1, 1, 0], [0, 0, 0]]


def test_labels_without_objects() -> None:
    assert labels_from_instances(Instances((), (2, 3))).tolist() == [[0, 0, 0], [0, 0, 0]]
    assert len(instances_from_labels(np.zeros((2, 3), np.uint16))) == 0


def test_gaps_between_ids_close() -> None:
    labels = np.array([[0, 70_000, 70_000], [4, 4, 0]])
    assert labels_from_instances(instances_from_labels(labels)).tolist() == [[0, 2, 2], [1, 1, 0]]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.zeros((2, 3)), "float64"),
        (np.zeros((2, 3, 4), int), r"\(2, 3, 4\)"),
        (np.array([[0, -2]]), "this holds -2"),
    ],
)
def test_what_is_no_label_image_is_refused(labels: NDArray, words: str) -> None:
    with pytest.raises(InputError, match=words):
        instances_from_labels(labels)


# Run lengths


def test_run_lengths_go_down_the_columns_and_begin_with_background() -> None:
    assert encode_rle(picture("#.", "##")) == {"size": [2, 2], "counts": [0, 2, 1, 1]}
    assert encode_rle(picture("..#")) == {"size": [1, 3], "counts": [2, 1]}
    assert np.array_equal(decode_rle({"size": (2, 3), "counts": [1, 2, 3]}), picture(".#.", "#.."))


@pytest.mark.parametrize(
    ("rle", "words"),
    [
        ({"size": [2, 2], "counts": [1, 2]}, "cover 3 pixels, but their size is 2 x 2"),
        ({"size": [2, 2], "counts": [5, -1]}, "negative"),
        ({"size": [2, 2]}, "not both"),
        ({"size": [4], "counts": [4]}, "not both"),
        ({"size": [2, 2], "counts": ["much"]}, "not both"),
        ({"size": [2, 2], "counts": "4 "}, "a character that does not belong"),
        ({"size": [2, 2], "counts": "4ä"}, "a character that does not belong"),
        ({"size": [2, 2], "counts": "T"}, "in the middle of a number"),
    ],
)
def test_broken_run_lengths_are_refused(rle: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        decode_rle(rle)


@given(any_mask)
def test_run_lengths_are_pycocotools_and_give_the_mask_back(mask: NDArray) -> None:
    oracle = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    assert encode_rle(mask, compressed=True) == {
        "size": oracle["size"],
        "counts": oracle["counts"].decode(),
    }
    assert np.array_equal(decode_rle(oracle), mask)
    assert np.array_equal(decode_rle(encode_rle(mask)), mask)


@given(st.lists(st.integers(0, 2**31)))
def test_any_counts_survive_the_string(counts: list[int]) -> None:
    assert unpack_counts(pack_counts(counts)) == counts


# Promises for any masks, boxes and labels


@given(any_mask.filter(np.any), st.tuples(st.integers(-5, 5), st.integers(-5, 5)))
def test_any_mask_survives_as_an_instance(mask: NDArray, offset: tuple[int, int]) -> None:
    found = instance_from_mask(mask, offset=offset)
    y0, x0, y1, x1 = np.array(found.box) - [*offset, *offset]
    assert np.array_equal(mask[y0:y1, x0:x1], found.mask)
    assert mask.sum() == found.mask.sum() == found.area


@given(any_labels)
def test_any_labels_survive_as_instances_up_to_gaps(labels: NDArray) -> None:
    ids = np.unique(labels[labels > 0])
    instances = instances_from_labels(labels)
    assert len(instances) == len(ids)
    assert np.array_equal(
        labels_from_instances(instances), np.searchsorted(ids, labels, "right") * (labels > 0)
    )


@given(any_mask.filter(np.any), st.integers(0, 20))
def test_cleaning_an_instance_is_cleaning_the_whole_picture(mask: NDArray, min_area: int) -> None:
    whole, filled = fill_small_holes(mask, min_area)
    whole, dropped = drop_small_islands(whole, min_area)
    cleaned, changed = clean_instance(instance_from_mask(mask), min_area, mask.shape)
    assert changed == (filled or dropped)
    assert np.array_equal(labels_from_instances(Instances((cleaned,), mask.shape)) > 0, whole)


@given(st.lists(st.tuples(any_box, any_score), max_size=12), st.sampled_from([0.0, 0.3, 0.7, 1.0]))
def test_box_nms_keeps_only_the_best_and_drops_only_doubles(items: list, threshold: float) -> None:
    boxes = np.array([box for box, _ in items]).reshape(-1, 4)
    scores = np.array([score for _, score in items])
    kept = box_nms(boxes, scores, threshold)
    assert (np.diff(scores[kept]) <= 0).all()
    for position, index in enumerate(kept):
        assert (box_iou(boxes[index], boxes[kept[:position]]) <= threshold).all()
    for index in set(range(len(items))) - set(kept.tolist()):
        better = kept[scores[kept] >= scores[index]]
        assert (box_iou(boxes[index], boxes[better]) > threshold).any()


@given(
    st.lists(st.tuples(hnp.arrays(bool, (6, 7)).filter(np.any), any_score), max_size=7),
    st.sampled_from([0.0, 0.2, 0.5, 1.0]),
)
@settings(max_examples=50)
def test_mask_nms_is_the_plain_rule_on_whole_masks(items: list, threshold: float) -> None:
    masks, scores = [mask for mask, _ in items], [score for _, score in items]
    expected: list[int] = []
    for index in sorted(range(len(items)), key=lambda i: -scores[i]):
        ious = [(masks[index] & masks[i]).sum() / (masks[index] | masks[i]).sum() for i in expected]
        if all(iou <= threshold for iou in ious):
            expected.append(index)
    instances: list[Instance] = [instance_from_mask(mask) for mask in masks]
    assert mask_nms(instances, scores, threshold) == expected
