"""Prompts are answered in the view that shows their object best."""

import numpy as np
import pytest
import torch

from napari_samscape.errors import InputError
from napari_samscape.model.sam import build_nano
from napari_samscape.prediction.ask import ask, go_on
from napari_samscape.prediction.types import Prompts
from napari_samscape.prediction.views import Views, window_sides

PIXELS = np.random.default_rng(0).integers(0, 255, (520, 696), np.uint8)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_nano().eval()


class Looked(Views):
    """Views that write down what is embedded."""

    def __init__(self, *given, **named):
        super().__init__(*given, **named)
        self.looked = []

    def view(self, box):
        if box not in self:
            self.looked.append(box)
        return super().view(box)


@pytest.fixture
def sized(model, monkeypatch):
    """The model answers with squares of a given side, in pixels of the picture, round the first point."""

    def use(side):
        def decode(model, embedding, prompts, *, multimask):
            scale = embedding.input_shape[0] / embedding.image_shape[0] / 2  # masks lie at stride 2
            h, w = (-(-n // 32) * 16 for n in embedding.input_shape)
            logits = torch.full((len(prompts), 3 if multimask else 1, h, w), -9.0)
            for row, prompt in zip(logits, prompts, strict=True):
                (y0, x0), (y1, x1) = ((prompt.points[0] + d) * scale for d in (-side / 2, side / 2))
                row[:, int(y0) : int(y1) + 1, int(x0) : int(x1) + 1] = 9.0
            return logits, torch.full(logits.shape[:2], 0.5)

        monkeypatch.setattr("napari_samscape.prediction.ask.decode", decode)

    return use


def click(*place, **more):
    return Prompts(points=[place], **more)


@pytest.mark.parametrize(
    ("longest", "least", "sides"),
    [
        (256, 256, ()),  # as large as it is of use already
        (384, 256, ()),  # a window of 256 would show hardly less
        (520, 256, (260,)),
        (696, 256, (348,)),
        (1024, 256, (512, 256)),
        (4096, 1024, (2048, 1024)),
    ],
)
def test_windows_are_half_as_wide_from_level_to_level_down_to_what_a_picture_has_to_show(
    longest, least, sides
):
    assert window_sides(longest, least) == sides


@pytest.mark.parametrize("place", [(0, 0), (519, 695), (260, 348), (519, 0), (100, 650)])
def test_a_window_has_a_small_thing_in_its_middle_half_or_lies_at_the_pictures_edge(model, place):
    y0, x0, y1, x1 = Views(model, PIXELS).choose(place, extent=10)
    assert (y1 - y0, x1 - x0) == (348, 348)
    assert min(y0, x0) >= 0 and y1 <= 520 and x1 <= 696
    for at, start, end, length in zip(place, (y0, x0), (y1, x1), (520, 696), strict=True):
        assert start == 0 or at >= start + 86
        assert end == length or at < end - 86


@pytest.mark.parametrize(
    ("box", "closer"),
    [
        ((100, 100, 130, 130), True),  # 30 px of 696 are less than a sixteenth
        ((100, 100, 150, 150), False),
        ((100, 100, 103, 400), False),  # thin, but it does not fit into a window
    ],
)
def test_a_box_tells_how_large_its_object_is(model, box, closer):
    views = Views(model, PIXELS)
    assert (views.choose(box) != views.whole) == closer


def test_what_is_small_in_the_whole_picture_is_asked_again_closer(model, sized):
    sized(30)
    views = Looked(model, PIXELS)
    answer = ask(views, [click(200, 300)])[0]
    assert views.looked == [views.whole, answer.view]
    y0, x0, y1, x1 = answer.view
    assert (y1 - y0, x1 - x0) == (348, 348) and y0 <= 200 < y1 and x0 <= 300 < x1
    assert np.allclose(answer.best.box, (185, 285, 215, 315), atol=4), "in coordinates of the picture"


def test_what_is_large_is_asked_once(model, sized):
    sized(100)
    views = Looked(model, PIXELS)
    assert ask(views, [click(200, 300)])[0].view == views.whole
    assert views.looked == [views.whole]


def test_prompts_of_one_view_share_its_embedding_and_keep_their_order(model, sized):
    sized(30)
    views = Looked(model, PIXELS)
    places = [(400, 600), (100, 100), (410, 600), (110, 100)]
    answers = ask(views, [click(*place) for place in places])
    assert len(views.looked) == 3
    for (y, x), answer in zip(places, answers, strict=True):
        assert np.allclose(np.add(answer.best.box[:2], answer.best.box[2:]) / 2, (y, x), atol=4)


def test_without_leave_to_look_only_what_was_seen_before_is_used(model, sized):
    sized(30)
    views = Looked(model, PIXELS)
    assert ask(views, [click(200, 300)], look=False)[0].view == views.whole
    closer = ask(views, [click(200, 300)])[0].view
    assert ask(views, [click(200, 300)], look=False)[0].view == closer != views.whole


def test_views_without_windows_show_the_whole_picture_only(model, sized):
    sized(30)
    views = Views(model, PIXELS, closer=False)
    assert ask(views, [click(200, 300)])[0].view == views.whole


def test_a_model_that_was_not_trained_to_look_closer_does_not(model, sized, monkeypatch):
    monkeypatch.setattr(model, "magnifies", 1.0)
    sized(30)
    views = Views(model, PIXELS)
    assert ask(views, [click(200, 300)])[0].view == views.whole


def test_further_clicks_go_on_in_the_view_of_the_mask_that_they_correct(model):
    views = Looked(model, PIXELS)
    window = views.choose((200, 300), extent=10)
    logits = np.zeros((1, 256, 256), np.float32)
    further = Prompts(points=[(200, 300), (210, 300)], mask=logits[0], mask_view=window)
    answer = ask(views, [further])[0]
    assert answer.view == window and len(answer.masks) == 1
    assert go_on(further, answer).mask_view == window
    assert views.looked == [window]


def test_a_click_outside_of_that_view_is_asked_without_the_mask_in_the_whole_picture(model, sized):
    sized(100)
    views = Views(model, PIXELS)
    window = views.choose((100, 100), extent=10)
    logits = np.zeros((256, 256), np.float32)
    further = Prompts(points=[(100, 100), (500, 690)], mask=logits, mask_view=window)
    assert ask(views, [further])[0].view == views.whole


def test_a_drawn_mask_is_cut_to_the_view_that_it_is_shown_in(model):
    mask = np.zeros(PIXELS.shape, bool)
    mask[190:210, 290:310] = True
    views = Looked(model, PIXELS)
    answer = ask(views, [Prompts(mask=mask)])[0]
    assert views.looked == [answer.view] and answer.view != views.whole


@pytest.mark.parametrize(
    ("prompt", "number"),
    [
        (click(10, 10), 3),
        (Prompts(points=[(10, 10), (20, 20)]), 1),
        (Prompts(box=(5, 5, 15, 15)), 1),
        (click(10, 10, box=(5, 5, 15, 15)), 1),
    ],
)
def test_only_a_single_click_is_answered_by_three_masks(model, prompt, number):
    views = Views(model, PIXELS[:64, :64])
    assert len(ask(views, [prompt])[0].masks) == number
    assert len(ask(views, [prompt], multimask=True)[0].masks) == 3


def test_prompts_that_are_not_alike_are_answered_together(model):
    views = Views(model, PIXELS[:64, :64])
    prompts = [click(10, 10), Prompts(points=[(1, 1), (9, 9)]), Prompts(box=(5, 5, 15, 15)), click(60, 60)]
    assert [len(answer.masks) for answer in ask(views, prompts)] == [3, 1, 1, 3]
    alone = ask(views, [prompts[3]])[0]
    np.testing.assert_allclose(ask(views, prompts)[3].logits, alone.logits, atol=1e-3)


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        (click(600, 10), "lies outside the picture of 520 x 696"),
        (Prompts(mask=np.ones((5, 5), bool)), r"shape \(5, 5\), but the picture \(520, 696\)"),
    ],
)
def test_a_prompt_that_does_not_fit_the_picture_is_refused(model, prompt, said):
    with pytest.raises(InputError, match=said):
        ask(Views(model, PIXELS), [prompt])
