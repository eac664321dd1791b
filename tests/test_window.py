"""Small objects are decoded in a window of the embedding; what comes out is as if nobody had cut anything."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_samscape import Prompts, embed, predict
from napari_samscape.model.prompt_encoder import FOREGROUND
from napari_samscape.model.sam import MULTI, Encoded, PromptTensors, Sam
from napari_samscape.model.window import OUTSIDE, decode_in_windows, is_worth_it, place_windows
from napari_samscape.prediction.predict import decode, decode_points

GRID = (24, 32)  # cells of 16 x 16 pixels


def encoded_picture(*boxes: tuple[int, int, int, int], grid: tuple[int, int] = GRID) -> Encoded:
    """A picture of numbered objects, boxes (y0, x0, y1, x1) in pixels, in a skip at stride 2."""
    h, w = grid
    picture = torch.zeros(1, 1, 8 * h, 8 * w)
    for number, (y0, x0, y1, x1) in enumerate(boxes, start=1):
        picture[..., y0 // 2 : y1 // 2, x0 // 2 : x1 // 2] = number
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    return Encoded(torch.stack([x, y])[None], (picture,), torch.zeros(1, 4, 4 * h, 4 * w))


def clicks(*places: tuple[int, int]) -> PromptTensors:
    """A click (y, x) for each object."""
    points = torch.tensor([[(x, y)] for y, x in places], dtype=torch.float32)
    return PromptTensors(points, torch.full((len(places), 1), FOREGROUND))


@dataclass
class Decoder:
    """Answers with the object under the prompt's middle, and with its number as predicted IoU."""

    asked: list[tuple[int, int]] = field(default_factory=list)  # grids, one for each prompt
    masks: list[Tensor] = field(default_factory=list)

    def __call__(
        self, encoded: Encoded, prompt: PromptTensors, which: slice, origin: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        b, (h, w) = len(prompt.points), encoded.features.shape[2:]
        self.asked += [(h, w)] * b
        corner = encoded.features[:, :, 0, 0].expand(b, 2)
        assert torch.equal(corner, torch.zeros(b, 2) if origin is None else origin)  # features fit the origin
        corners = prompt.points if prompt.boxes is None else prompt.boxes.unflatten(1, (2, 2))
        x, y = (corners.mean(1) / 2).floor().long().unbind(1)
        picture = encoded.skips[0][:, 0].expand(b, -1, -1)
        number = picture[torch.arange(b), y, x]
        if prompt.masks is not None:
            self.masks.append(prompt.masks)
        logits = torch.where(picture == number[:, None, None], 8.0, -8.0)[:, None]
        return logits, number[:, None]


def inside(encoded: Encoded, number: int) -> Tensor:
    return encoded.skips[0][0, 0] == number


def test_a_small_object_is_answered_in_a_window_and_lies_where_it_is_in_the_picture() -> None:
    encoded, decoder = encoded_picture((100, 300, 140, 360)), Decoder()
    logits, iou = decode_in_windows(decoder, encoded, clicks((120, 330)), MULTI)
    assert decoder.asked == [(16, 16)]
    assert logits.shape == (1, 1, 192, 256) and iou.tolist() == [[1.0]]
    assert torch.equal(logits[0, 0] > 0, inside(encoded, 1))
    # The window's middle is the cell corner nearest to the click: rows 0 to 16, columns 13 to 29.
    assert (logits[0, 0, :128, 104:232].abs() == 8).all()
    assert logits[0, 0, 128:].eq(OUTSIDE).all() and logits[0, 0, :, :104].eq(OUTSIDE).all()


def test_an_object_that_reaches_over_the_window_is_answered_as_on_the_whole_grid() -> None:
    encoded, decoder = encoded_picture((180, 60, 200, 400)), Decoder()
    prompt = clicks((190, 200))
    logits, iou = decode_in_windows(decoder, encoded, prompt, MULTI)
    assert decoder.asked == [(16, 16), GRID]
    whole = decoder(encoded, prompt, MULTI, None)
    assert torch.equal(logits, whole[0]) and torch.equal(iou, whole[1])


@pytest.mark.parametrize(("end", "times"), [(304, 1), (308, 2)])
def test_an_object_may_end_a_cell_before_the_windows_edge_at_the_nearest(end: int, times: int) -> None:
    # Clicked at column 192, the window goes from column 64 to 320.
    decoder = Decoder()
    decode_in_windows(decoder, encoded_picture((180, 100, 200, end)), clicks((190, 192)), MULTI)
    assert len(decoder.asked) == times


def test_answers_come_in_the_prompts_order() -> None:
    large, *small = (180, 60, 200, 400), (20, 20, 40, 60), (300, 400, 330, 500), (100, 250, 120, 260)
    encoded = encoded_picture(small[0], large, *small[1:])
    places = [(110, 255), (190, 200), (30, 30), (320, 480), (190, 220), (25, 50), (310, 410)]
    logits, iou = decode_in_windows(Decoder(), encoded, clicks(*places), MULTI)
    assert iou[:, 0].tolist() == [4, 2, 1, 3, 2, 1, 3]
    for mask, number in zip(logits[:, 0] > 0, iou[:, 0], strict=True):
        assert torch.equal(mask, inside(encoded, int(number)))


def test_prompts_for_the_whole_grid_keep_their_order_as_well() -> None:
    # The first is found to be cut off, the second does not fit into a window from the start.
    encoded = encoded_picture((180, 60, 200, 400), (40, 40, 160, 440))
    boxes = torch.tensor([[180.0, 185, 220, 195], [40, 40, 440, 160]])
    prompt = PromptTensors(torch.zeros(2, 0, 2), torch.zeros(2, 0, dtype=torch.long), boxes)
    decoder = Decoder()
    _, iou = decode_in_windows(decoder, encoded, prompt, MULTI)
    assert decoder.asked == [(16, 16), GRID, GRID]
    assert iou[:, 0].tolist() == [1, 2]


@pytest.mark.parametrize("place", [(0, 0), (0, 511), (383, 0), (383, 511)])
def test_at_the_pictures_corner_an_object_is_not_cut_off(place: tuple[int, int]) -> None:
    y, x = (0 if at == 0 else at - 59 for at in place)
    encoded, decoder = encoded_picture((y, x, y + 60, x + 60)), Decoder()
    logits, _ = decode_in_windows(decoder, encoded, clicks(place), MULTI)
    assert decoder.asked == [(16, 16)]
    assert torch.equal(logits[0, 0] > 0, inside(encoded, 1))


def test_a_picture_lower_than_a_window_is_seen_from_top_to_bottom() -> None:
    encoded, decoder = encoded_picture((0, 300, 128, 360), grid=(8, 32)), Decoder()
    logits, _ = decode_in_windows(decoder, encoded, clicks((64, 330)), MULTI)
    assert decoder.asked == [(8, 16)]
    assert torch.equal(logits[0, 0] > 0, inside(encoded, 1))


@pytest.mark.parametrize(("side", "grid"), [(150, (16, 16)), (160, GRID)])
def test_a_box_must_be_clearly_smaller_than_a_window(side: int, grid: tuple[int, int]) -> None:
    encoded, decoder = encoded_picture((100, 200, 100 + side, 200 + side)), Decoder()
    box = torch.tensor([[200.0, 100, 200 + side, 100 + side]])
    prompt = PromptTensors(torch.zeros(1, 0, 2), torch.zeros(1, 0, dtype=torch.long), box)
    logits, _ = decode_in_windows(decoder, encoded, prompt, MULTI)
    assert decoder.asked == [grid]
    assert torch.equal(logits[0, 0] > 0, inside(encoded, 1))


def test_points_that_lie_far_apart_need_the_whole_grid() -> None:
    prompt = PromptTensors(torch.tensor([[[100.0, 100], [300, 100]]]), torch.tensor([[1, 0]]))
    _, fits = place_windows(prompt, GRID)
    assert fits == [False]


def test_a_mask_prompt_is_cut_as_the_picture_is() -> None:
    encoded, decoder = encoded_picture((100, 300, 140, 360)), Decoder()
    mask = torch.arange(192.0 * 256).reshape(1, 1, 192, 256) - 1e6  # all negative, all different
    mask[inside(encoded, 1)[None, None]] *= -1
    prompt = PromptTensors(torch.zeros(1, 0, 2), torch.zeros(1, 0, dtype=torch.long), None, mask)
    corners, fits = place_windows(prompt, GRID)
    assert (corners, fits) == ([(13, 0)], [True])
    point = clicks((120, 330))
    decode_in_windows(decoder, encoded, PromptTensors(point.points, point.labels, None, mask), MULTI)
    assert torch.equal(decoder.masks[0], mask[:, :, :128, 104:232])


def test_a_mask_prompt_that_is_too_large_or_empty_needs_the_whole_grid() -> None:
    none = torch.zeros(2, 0, 2), torch.zeros(2, 0, dtype=torch.long)
    masks = torch.full((2, 1, 192, 256), -8.0)
    masks[0, :, 20:100, 20:40] = 8
    assert place_windows(PromptTensors(*none, None, masks), GRID)[1] == [False, False]


def test_only_a_picture_with_dense_maps_larger_than_a_window_is_cut() -> None:
    assert is_worth_it(encoded_picture())
    assert not is_worth_it(encoded_picture(grid=(16, 20)))
    assert not is_worth_it(Encoded(torch.zeros(1, 256, 64, 64)))  # SAM
    assert not is_worth_it(Encoded(torch.zeros(2, 128, 32, 32), (), torch.zeros(2, 4, 128, 128)))


def discs() -> np.ndarray:
    """Six bright discs on a dim ground, 512 x 512."""
    y, x = np.mgrid[:512, :512]
    pixels = np.full((512, 512), 20, np.uint8)
    for cy, cx in DISCS:
        pixels[(y - cy) ** 2 + (x - cx) ** 2 < 18**2] = 200
    return pixels


DISCS = [(10, 10), (60, 300), (200, 200), (256, 400), (400, 100), (490, 505)]


def test_a_window_that_is_the_whole_picture_changes_nothing(nano: Sam) -> None:
    with torch.inference_mode():
        encoded = nano.encode(nano.normalise(torch.from_numpy(discs()[:256, :256]).expand(1, 3, -1, -1)))
        prompt = clicks((60, 130), (200, 200), (12, 12))
        expected = nano.decode_whole(encoded, prompt)
        assert all(map(torch.equal, nano.decode(encoded, prompt), expected))
        for found, whole in zip(
            decode_in_windows(nano.decode_whole, encoded, prompt, MULTI), expected, strict=True
        ):
            assert torch.allclose(found, whole, atol=1e-3)


def test_the_bundled_model_finds_discs_through_windows_as_it_does_without(nano: Sam) -> None:
    embedding = embed(nano, discs())
    encoded = Encoded(embedding.features, embedding.skips, embedding.dense)
    logits, iou = decode_points(nano, embedding, np.array(DISCS))
    assert (logits == OUTSIDE).flatten(1).any(1).all()
    with torch.inference_mode():
        whole, whole_iou = nano.decode_whole(encoded, clicks(*DISCS))
    rows = torch.arange(len(DISCS))
    found, expected = logits[rows, iou.argmax(1)] > 0, whole[rows, whole_iou.argmax(1)] > 0
    overlap = (found & expected).sum((1, 2)) / (found | expected).sum((1, 2))
    assert (overlap > 0.9).all()
    assert (iou.amax(1) - whole_iou.amax(1)).abs().max() < 0.1


def test_an_answer_does_not_depend_on_what_else_is_asked_and_is_the_same_each_time(nano: Sam) -> None:
    embedding = embed(nano, discs())
    prompts = [Prompts(points=[place], box=(*np.subtract(place, 20), *np.add(place, 20))) for place in DISCS]
    logits, iou = decode(nano, embedding, prompts, multimask=False)
    again, _ = decode(nano, embedding, prompts, multimask=False)
    assert torch.equal(logits, again)
    for prompt, mask, said in zip(prompts, logits, iou, strict=True):
        alone = predict(nano, embedding, prompt, multimask=False)
        np.testing.assert_allclose(alone.logits, mask.numpy(), atol=1e-2)
        assert alone.iou[0] == pytest.approx(float(said), abs=1e-3)


def test_nothing_asked_is_nothing_answered(nano: Sam) -> None:
    logits, iou = decode_points(nano, embed(nano, discs()), np.zeros((0, 2)))
    assert logits.shape == (0, 3, 256, 256) and iou.shape == (0, 3)
