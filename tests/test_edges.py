"""Edges: where masks end. On discs the answer is known; on maps of lines, what thinning leaves is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from test_automatic import Seer, painted

from napari_samscape.errors import InputError
from napari_samscape.model.sam import Encoded, PromptTensors
from napari_samscape.prediction.edges import EdgeOptions, edges, thinned

DISC = painted((64, 64, 30, 10))
SOFT = EdgeOptions(thin=False)


def outline(mask: np.ndarray) -> np.ndarray:
    """Pixels beside a mask that share a side with it."""
    return ndimage.binary_dilation(mask) & ~mask


def blocks(lines: np.ndarray) -> int:
    """How many blocks of 2 x 2 pixels are all line."""
    return int((lines[1:, 1:] & lines[1:, :-1] & lines[:-1, 1:] & lines[:-1, :-1]).sum())


class WholeOnly(Seer):
    """Answers with the whole three times, so that all outlines are known."""

    def decode(self, encoded: Encoded, prompt: PromptTensors, which: slice) -> tuple[torch.Tensor, ...]:
        logits, iou = super().decode(encoded, prompt, which)
        return logits[:, :1].repeat(1, 3, 1, 1), iou[:, :1].repeat(1, 3)


@pytest.mark.parametrize("thin", [False, True])
def test_a_disc_has_a_ring_of_one_pixel_and_nothing_else(thin: bool) -> None:
    # Black is a mask of its own here; its outer boundary would lie inside the disc.
    model = WholeOnly(blind=(0,))
    found = edges(model, DISC, EdgeOptions(thin=thin, pred_iou_thresh=0.5))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found > 0, outline(DISC[..., 0] == 10))
    assert found.max() == 1


def test_strength_is_zero_off_the_masks_own_outer_boundaries() -> None:
    found = edges(WholeOnly(), DISC, SOFT)
    disc = DISC[..., 0] == 10
    np.testing.assert_array_equal(found > 0, outline(disc) | outline(~disc))


def test_a_mask_that_is_less_sure_gives_a_weaker_edge() -> None:
    picture = painted((40, 40, 20, 10), (90, 90, 20, 20))
    found = edges(WholeOnly(soft=(20,)), picture, EdgeOptions(thin=False, pred_iou_thresh=0.5))
    sure, soft = (found[outline(picture[..., 0] == colour)] for colour in (10, 20))
    assert sure.min() > soft.max() > 0


def test_poor_masks_count_unless_a_threshold_is_set() -> None:
    model = WholeOnly(blind=(10,))
    assert edges(model, DISC, SOFT).any()
    assert not edges(model, DISC, EdgeOptions(pred_iou_thresh=0.5)).any()


def test_the_pixel_wise_maximum_of_objects_does_not_depend_on_their_number() -> None:
    discs = [(30, 30, 20, 10), (30, 90, 12, 20), (90, 60, 25, 30)]
    options = EdgeOptions(thin=False, pred_iou_thresh=0.5)
    together = edges(WholeOnly(), painted(*discs), options)
    alone = [edges(WholeOnly(), painted(disc), options) for disc in discs]
    np.testing.assert_allclose(together, np.maximum.reduce(alone), atol=1e-6)


def test_what_a_mask_does_in_the_padding_does_not_make_its_box_another() -> None:
    # 66 rows are padded to 96 in black. The frame and what is black have the same box in the picture, but not
    # with the padding; so the frame alone stays, which is surer.
    picture = np.zeros((66, 128, 3), np.uint8)
    picture[:] = (10, 255, 0)
    picture[12:-12, 12:-12] = 0
    picture[:2, 12:-12] = picture[-2:, 12:-12] = picture[12:-12, :2] = picture[12:-12, -2:] = 0
    found = edges(WholeOnly(), picture, SOFT)
    frame = picture[..., 0] == 10
    np.testing.assert_array_equal(found > 0, outline(frame))


def test_256_points_are_asked_in_batches_and_progress_is_told() -> None:
    model, seen = WholeOnly(), []
    edges(model, DISC, progress=lambda done, total, text: seen.append((done, total)))
    assert len(model.asked) == 256
    assert model.looks == 1
    assert seen[0] == (0, 18)
    assert seen[-1] == (18, 18)
    assert seen == sorted(seen)


def test_raising_from_progress_cancels() -> None:
    def cancel(done: int, total: int, text: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        edges(WholeOnly(), DISC, progress=cancel)


@pytest.mark.parametrize("colour", [0, 200])
def test_a_constant_picture_has_no_edges(colour: int) -> None:
    model = WholeOnly()
    found = edges(model, np.full((20, 30), colour, np.uint8))
    np.testing.assert_array_equal(found, np.zeros((20, 30), np.float32))
    assert model.looks == 0


@pytest.mark.parametrize("shape", [(5, 7), (1, 9), (9, 1), (64, 40), (300, 200)])
def test_a_picture_of_any_size_has_a_map_of_its_size(shape: tuple[int, int]) -> None:
    picture = np.zeros((*shape, 3), np.uint8)
    picture[: -(-shape[0] // 2), : -(-shape[1] // 2)] = (10, 255, 0)
    found = edges(WholeOnly(), picture)
    assert found.shape == shape
    assert 0 <= found.min() <= found.max() <= 1
    assert found.any()


def test_a_line_of_one_pixel_stays_as_it_is() -> None:
    lines = np.zeros((40, 40), np.float32)
    lines[20, :] = 0.7
    np.testing.assert_array_equal(thinned(lines), lines)
    np.testing.assert_array_equal(thinned(np.eye(40)), np.eye(40, dtype=np.float32))


@pytest.mark.parametrize("width", [2, 4])
def test_of_a_band_with_two_equal_crests_one_stays(width: int) -> None:
    band = np.zeros((40, 40))
    band[:, 20 : 20 + width] = 0.5
    band[:, 19 + width // 2 : 21 + width // 2] = 1
    lines = thinned(band)
    assert (np.count_nonzero(lines, axis=1) == 1).all()
    assert set(np.unique(lines)) == {0, 1}


def test_a_soft_ring_is_thinned_to_its_crest() -> None:
    rows, columns = np.mgrid[:100, :100]
    away = np.hypot(rows - 50, columns - 50) - 30
    lines = thinned(np.exp(-(away**2) / 8)) > 0
    assert np.abs(away[lines]).max() < 1
    assert blocks(lines) == 0
    assert ndimage.label(lines, np.ones((3, 3)))[1] == 1, "the ring is broken"


def test_thinning_an_empty_map_leaves_it_empty() -> None:
    np.testing.assert_array_equal(thinned(np.zeros((4, 5))), np.zeros((4, 5)))
    with pytest.raises(InputError, match=r"axes \(y, x\); this has the shape \(4, 5, 3\)"):
        thinned(np.zeros((4, 5, 3)))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"points_per_side": 0}, "points_per_side must be a whole number from 1 to 1024; it is 0"),
        ({"box_nms_thresh": 1.5}, "box_nms_thresh must be a number from 0 to 1"),
        ({"pred_iou_thresh": float("nan")}, "pred_iou_thresh must be a number of at most 1"),
        ({"thin": "no"}, "thin must be True or False; it is 'no'"),
    ],
)
def test_options_out_of_range_are_refused(options: dict, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        EdgeOptions(**options)
