"""Objects in a detector's boxes, with a model that answers a box with the colour at its middle."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from test_automatic import Seer, painted

from napari_samscape.errors import InputError
from napari_samscape.model.sam import Encoded, PromptTensors
from napari_samscape.prediction.boxes import Detections, left_empty, segment_boxes, segment_detected
from napari_samscape.prediction.instances import labels_from_instances

PICTURE = painted((30, 30, 20, 10), (30, 90, 12, 20), (90, 40, 25, 30))
BOXES = [(10, 10, 50, 50), (18, 78, 42, 102), (65, 15, 115, 65)]
COLOURS = [10, 20, 30]


class _AnySize:
    """Stands in for the prompt encoder: mask prompts are as large as the shown picture."""

    def mask_prompt_size(self, grid: tuple[int, int]) -> tuple[int, int]:
        return grid


@dataclass
class BoxSeer(Seer):
    """Answers a box with all pixels of the colour at its middle; asked again, as ``second`` says."""

    second: float = 0.95  # predicted IoU of the second answer, which has no left half
    prompt_encoder: _AnySize = field(default_factory=_AnySize)
    rounds: list[tuple[int, bool]] = field(default_factory=list)

    def decode(self, encoded: Encoded, prompt: PromptTensors, which: slice) -> tuple[torch.Tensor, ...]:
        self.rounds.append((len(prompt.boxes), prompt.masks is not None))
        middle = prompt.boxes.reshape(-1, 2, 2).mean(1, keepdim=True)
        points = PromptTensors(middle, torch.ones(len(middle), 1))
        whole, iou = super().decode(encoded, points, which)
        logits, sure = whole[:, :1], torch.full_like(iou[:, :1], 0.8)
        if prompt.masks is not None:
            sure[:] = self.second
            if self.second < 0.8:
                logits = torch.full_like(logits, 8.0)
        logits[iou[:, 0] < 0.5] = -8.0  # background
        return logits, sure


def masks_of(*colours: int) -> list[np.ndarray]:
    return [PICTURE[..., 0] == colour for colour in colours]


def whole_masks(instances: Any) -> list[np.ndarray]:
    masks = []
    for item in instances:
        mask = np.zeros(instances.shape, bool)
        y0, x0, y1, x1 = item.box
        mask[y0:y1, x0:x1] = item.mask
        masks.append(mask)
    return masks


def test_each_box_gives_its_object_in_the_order_of_the_boxes() -> None:
    found = segment_boxes(BoxSeer(), PICTURE, BOXES[::-1])
    np.testing.assert_array_equal(whole_masks(found), masks_of(*COLOURS[::-1]))
    assert left_empty(found) == []


def test_scores_and_classes_go_with_the_objects() -> None:
    found = segment_boxes(BoxSeer(), PICTURE, BOXES, [0.9, 0.5, 0.1], ["cell", 7, "cell"])
    assert [item.score for item in found] == [0.9, 0.5, 0.1]
    assert [item.category for item in found] == ["cell", 7, "cell"]
    bare = segment_boxes(BoxSeer(), PICTURE, BOXES)
    assert all(np.isnan(item.score) and item.category is None for item in bare)


def test_the_answer_is_given_back_as_a_mask_and_the_surer_one_is_kept() -> None:
    better, worse = BoxSeer(second=0.95), BoxSeer(second=0.3)
    found = [segment_boxes(model, PICTURE, BOXES) for model in (better, worse)]
    assert better.rounds == worse.rounds == [(3, False), (3, True)]
    np.testing.assert_allclose([item.predicted_iou for item in found[0]], 0.95, atol=1e-6)
    np.testing.assert_allclose([item.predicted_iou for item in found[1]], 0.8, atol=1e-6)
    np.testing.assert_array_equal(whole_masks(found[1]), masks_of(*COLOURS))


def test_many_boxes_are_decoded_a_batch_at_a_time_on_one_embedding() -> None:
    model = BoxSeer()
    found = segment_boxes(model, PICTURE, BOXES * 7)
    assert len(found) == 21
    assert model.looks == 1
    assert [count for count, _ in model.rounds] == [16, 16, 5, 5]


def test_boxes_reaching_out_are_clipped_and_those_outside_keep_an_empty_place() -> None:
    boxes = [(-90, -90, -80, -80), (-10, -10, 70, 70), (200, 5, 300, 9), (5, 5, 5, 90), BOXES[1]]
    found = segment_boxes(BoxSeer(), PICTURE, boxes, classes=[1, 2, 3, 4, 5])
    assert left_empty(found) == [0, 2, 3]
    assert [item.category for item in found] == [1, 2, 3, 4, 5]
    labels = labels_from_instances(found)
    assert set(np.unique(labels)) == {0, 2, 5}


def test_a_box_in_which_the_model_sees_nothing_is_left_empty() -> None:
    found = segment_boxes(BoxSeer(), PICTURE, [BOXES[0], (100, 100, 120, 120)])
    assert left_empty(found) == [1]


def test_reversed_corners_are_put_right() -> None:
    y0, x0, y1, x1 = BOXES[0]
    found = segment_boxes(BoxSeer(), PICTURE, [(y1, x0, y0, x1)])
    np.testing.assert_array_equal(whole_masks(found), masks_of(10))


def test_where_objects_overlap_the_smaller_lies_on_top_whatever_the_scores() -> None:
    wide = painted((64, 64, 50, 10), shape=(128, 128))
    found = segment_boxes(BoxSeer(), wide, [(0, 0, 127, 127), (0, 0, 127, 127)], scores=[0.1, 0.9])
    assert set(np.unique(labels_from_instances(found))) == {0, 1}, "of two equally large ones, the earlier"


def test_a_large_picture_is_looked_at_through_windows_for_small_boxes() -> None:
    large = painted((30, 30, 6, 10), (220, 210, 6, 20), shape=(256, 256))
    model = BoxSeer()
    found = segment_boxes(model, large, [(24, 24, 36, 36), (214, 204, 226, 216)])
    assert model.looks == 2
    np.testing.assert_array_equal(whole_masks(found), [large[..., 0] == 10, large[..., 0] == 20])


def test_no_boxes_and_a_constant_picture_cost_no_look() -> None:
    model = BoxSeer()
    assert len(segment_boxes(model, PICTURE, [])) == 0
    assert left_empty(segment_boxes(model, np.full((40, 40), 7, np.uint8), [(1, 1, 9, 9)])) == [0]
    assert model.looks == 0


def test_progress_counts_boxes_and_may_cancel() -> None:
    seen = []
    segment_boxes(BoxSeer(), PICTURE, BOXES * 7, progress=lambda *report: seen.append(report[:2]))
    assert seen == [(0, 21), (16, 21), (21, 21)]

    def cancel(done: int, total: int, text: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        segment_boxes(BoxSeer(), PICTURE, BOXES, progress=cancel)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"boxes": [1, 2, 3, 4]}, r"shape \(n, 4\), each \(y0, x0, y1, x1\); these have \(4,\)"),
        ({"boxes": [[1, 2, 3]]}, r"these have \(1, 3\)"),
        ({"boxes": [[1, 2], [3]]}, "boxes must be numbers in a regular array"),
        ({"boxes": "all"}, "boxes must be numbers"),
        ({"boxes": [[1, 2, 3, 4], [1, np.nan, 3, 4]]}, "box number 2 is not finite"),
        ({"boxes": [[1, 2, 3, 4]], "scores": [1, 2]}, "1 boxes but 2 scores"),
        ({"boxes": [[1, 2, 3, 4]] * 2, "scores": [1, np.inf]}, "score number 2 is not finite"),
        ({"boxes": [[1, 2, 3, 4]], "classes": []}, "1 boxes but 0 classes"),
        ({"boxes": [[1, 2, 3, 4]], "classes": [1.5]}, "whole number or a text; 1.5 is neither"),
        ({"boxes": [[1, 2, 3, 4]], "classes": 5}, "classes must be a list"),
    ],
)
def test_what_is_no_detection_is_refused(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Detections(**given)


# A detector


@pytest.mark.parametrize(
    "answer",
    [
        BOXES,
        np.array(BOXES),
        (BOXES,),
        (BOXES, [0.9, 0.5, 0.1]),
        (BOXES, [0.9, 0.5, 0.1], np.array([1, 2, 3])),
        Detections(BOXES),
    ],
)
def test_a_detector_gives_boxes_alone_or_with_scores_and_classes(answer: Any) -> None:
    def detector(pixels: np.ndarray) -> Any:
        assert pixels is PICTURE
        return answer

    found = segment_detected(BoxSeer(), PICTURE, detector)
    np.testing.assert_array_equal(whole_masks(found), masks_of(*COLOURS))


def test_a_detector_that_finds_nothing_is_no_error() -> None:
    assert len(segment_detected(BoxSeer(), PICTURE, lambda pixels: np.zeros((0, 4)))) == 0


def test_a_detector_that_raises_is_named_with_its_reason() -> None:
    def blob_finder(pixels: np.ndarray) -> None:
        raise ZeroDivisionError("no blobs")

    with pytest.raises(InputError, match="detector blob_finder failed: ZeroDivisionError: no blobs"):
        segment_detected(BoxSeer(), PICTURE, blob_finder)


@pytest.mark.parametrize("nonsense", [None, 5, "boxes", [[1, 2, 3]], [[1, 2, 3, np.nan]], (), (1, 2, 3, 4)])
def test_a_detector_that_gives_nonsense_is_refused(nonsense: Any) -> None:
    with pytest.raises(InputError, match="detector <lambda> gave"):
        segment_detected(BoxSeer(), PICTURE, lambda pixels: nonsense)
