"""One object through a volume: both ways, until it ends, corrected by further prompts."""

from __future__ import annotations

from typing import Any

import bright
import numpy as np
import pytest
from bright import MODEL, spots
from numpy.typing import NDArray

from napari_samscape import Prompts, propagate
from napari_samscape.errors import InputError
from napari_samscape.io import Image
from napari_samscape.prediction.types import Masks
from napari_samscape.scaling.propagate import PropagateOptions, SliceMask

CLICK = Prompts(points=[(10, 20)])


@pytest.fixture(autouse=True)
def bright_model(monkeypatch: pytest.MonkeyPatch) -> None:
    bright.install(monkeypatch)
    monkeypatch.setattr("napari_samscape.prediction.views.embed", bright.embed)


def rod(first: int, last: int, slices: int = 9) -> NDArray[np.uint16]:
    """A square rod from one slice to another, and a spot that is in all slices."""
    volume = np.stack([spots((30, 50))] * slices)
    volume[first : last + 1, 8:13, 18:23] = 100
    return volume


def followed(volume: Any, prompts: dict[int, Prompts], **options: Any) -> list[SliceMask]:
    return list(propagate(volume, prompts, model=MODEL, **options))


def painted(steps: list[SliceMask], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    out = np.zeros(shape, bool)
    for step in steps:
        y0, x0, y1, x1 = step.item.box
        out[step.index, y0:y1, x0:x1] |= step.item.mask
    return out


# Both ways ---------------------------------------------------------------------------------------------


def test_an_object_is_followed_both_ways_nearest_slices_first_until_it_ends() -> None:
    volume = rod(2, 6)
    steps = followed(volume, {4: CLICK})
    assert [step.index for step in steps] == [4, 3, 5, 2, 6, 1, 7]
    assert [step.stopped for step in steps] == [None] * 5 + ["nothing was found"] * 2
    expected = volume > 0
    expected[:, 28:33, 48:53] = False
    np.testing.assert_array_equal(painted(steps, volume.shape), expected)


def test_what_is_known_of_a_slice_comes_with_its_mask() -> None:
    first, second = followed(rod(0, 8), {4: CLICK})[:2]
    assert (first.index, first.start, first.stopped) == (4, 4, None)
    assert np.isnan(first.overlap)
    assert (second.index, second.start, second.overlap) == (3, 4, 1)
    assert second.item.box == (8, 18, 13, 23)
    assert second.item.predicted_iou == pytest.approx(0.9)


def test_the_ends_of_the_volume_are_the_ends() -> None:
    assert [step.index for step in followed(rod(0, 8), {0: CLICK})] == list(range(9))


def test_slices_come_one_by_one_so_that_it_can_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    monkeypatch.setattr(
        "napari_samscape.prediction.views.embed", lambda *given: looked.append(1) or bright.embed(*given)
    )
    steps = propagate(rod(0, 8), {4: CLICK}, model=MODEL)
    assert looked == []
    next(steps)
    next(steps)
    assert len(looked) == 2


def test_the_mask_of_a_slice_and_its_box_are_the_next_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Prompts, bool]] = []

    def predict(model: Any, embedding: Any, prompts: Prompts, *, multimask: bool = True) -> Masks:
        asked.append((prompts, multimask))
        return bright.predict(model, embedding, prompts, multimask=multimask)

    monkeypatch.setattr("napari_samscape.prediction.predict.predict", predict)
    followed(rod(0, 1, slices=2), {0: CLICK})
    (first, several), (second, one), _ = asked
    assert (several, one) == (True, False)
    assert first.points.tolist() == [[10, 20]]
    assert second.box.tolist() == [8, 18, 12, 22]
    assert second.mask.shape == (4, 4), "the low-resolution logits, as the model gave them"
    assert len(second.points) == 0


# Where an object ends ----------------------------------------------------------------------------------


def answering(monkeypatch: pytest.MonkeyPatch, iou: float) -> None:
    """From now on projected masks are answered with this predicted IoU."""

    def predict(model: Any, embedding: Any, prompts: Prompts, *, multimask: bool = True) -> Masks:
        masks = bright.predict(model, embedding, prompts, multimask=multimask)
        return masks if multimask else Masks(masks.masks, np.array([iou], np.float32), masks.logits)

    monkeypatch.setattr("napari_samscape.prediction.predict.predict", predict)


def test_an_object_ends_where_the_model_is_unsure(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, 0.4)
    stopped = followed(rod(0, 8), {4: CLICK})[1:]
    assert [(step.index, step.stopped, step.item.area) for step in stopped] == [
        (3, "predicted IoU 0.40 is below 0.5", 0),
        (5, "predicted IoU 0.40 is below 0.5", 0),
    ]
    assert len(followed(rod(0, 8), {4: CLICK}, options=PropagateOptions(min_iou=0.4))) == 9


def test_an_object_ends_where_it_is_another_shape() -> None:
    volume = rod(0, 8)
    volume[6:, 8:13, 5:35] = 100  # 5 x 30 pixels, of which 25 were the rod's
    last = followed(volume, {4: CLICK})[4]
    assert (last.index, last.stopped) == (6, "overlap 0.17 with slice 5 is below 0.5")
    assert len(followed(volume, {4: CLICK}, options=PropagateOptions(min_overlap=0.1))) == 9


def test_an_object_ends_where_a_click_in_its_middle_finds_something_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def predict(model: Any, embedding: Any, prompts: Prompts, *, multimask: bool = True) -> Masks:
        if not multimask:  # whatever is projected is found again, be it there or not
            embedding = bright.embed(model, rod(0, 0, slices=1)[0].astype(np.uint8)[..., None] * 2)
        return bright.predict(model, embedding, prompts, multimask=multimask)

    monkeypatch.setattr("napari_samscape.prediction.predict.predict", predict)
    volume = rod(2, 6)
    volume[7:, 9:13, 18:23] = 100  # smaller by a row
    volume[8:, 11:13, 18:23] = 0
    steps = {step.index: step for step in followed(volume, {4: CLICK})}
    assert sorted(index for index, step in steps.items() if step.stopped is None) == [2, 3, 4, 5, 6, 7]
    assert steps[1].stopped == "a click finds something else (IoU 0.01, below 0.7)"
    assert steps[7].found is not None and steps[7].found.agreement == pytest.approx(0.8)
    assert steps[8].stopped == "a click finds something else (IoU 0.40, below 0.7)"
    options = PropagateOptions(min_agreement=0)
    assert len(followed(volume, {4: CLICK}, options=options)) == 9


@pytest.mark.parametrize(("thickness", "least"), [(0.2, 0.5), (1, 0.5), (2, 0.25), (3, 0.125), (10, 0.1)])
def test_the_thicker_slices_are_the_less_overlap_is_enough(thickness: float, least: float) -> None:
    assert PropagateOptions().least_overlap(thickness) == least
    assert PropagateOptions(min_overlap=0.05).least_overlap(thickness) == 0.05


@pytest.mark.parametrize(
    ("scale", "units", "reaches"),
    [
        ((1.0, 1.0, 1.0), ("micrometer",) * 3, False),
        ((3.0, 1.0, 1.0), ("micrometer",) * 3, True),
        ((3.0, 1.0, 1.0), ("millimeter", "micrometer", "micrometer"), False),
    ],
)
def test_the_thickness_is_read_off_the_volume(
    scale: tuple[float, ...], units: tuple[str, ...], reaches: bool
) -> None:
    volume = rod(0, 8)
    volume[6:, 8:13, 5:35] = 100
    image = Image((volume,), "zyx", scale=scale, units=units)
    steps = followed(image, {4: CLICK})
    assert any(step.index == 8 for step in steps) == reaches


def test_a_slice_without_contrast_ends_an_object() -> None:
    volume = rod(0, 8)
    volume[6] = 0
    assert followed(volume, {4: CLICK})[4].stopped == "all pixels are equal"


# Further prompts ---------------------------------------------------------------------------------------


def test_slices_between_two_starts_go_to_the_nearer_one() -> None:
    steps = followed(rod(0, 8), {1: CLICK, 7: CLICK})
    assert sorted((step.index, step.start) for step in steps) == [
        *((index, 1) for index in range(5)),
        *((index, 7) for index in range(5, 9)),
    ]


def test_prompts_after_a_gap_find_the_object_again() -> None:
    volume = rod(0, 8)
    volume[4, 8:13, 18:23] = 0
    steps = followed(volume, {2: CLICK, 6: CLICK})
    assert sorted({step.index for step in steps if step.stopped is None}) == [0, 1, 2, 3, 5, 6, 7, 8]


def test_where_one_start_lost_the_object_another_may_bring_it(monkeypatch: pytest.MonkeyPatch) -> None:
    volume = rod(0, 8)
    volume[1:, 8:13, 18:33] = 100
    steps = followed(volume, {0: CLICK, 8: CLICK})
    assert [(step.index, step.start, step.stopped is None) for step in steps if step.index == 1] == [
        (1, 0, False),
        (1, 8, True),
    ]


def test_a_slice_with_prompts_starts_from_them() -> None:
    other = Prompts(points=[(30, 50)])
    steps = followed(rod(0, 8), {4: CLICK, 5: other})
    assert {step.index: step.item.box for step in steps}[5] == (28, 48, 33, 53)
    assert {step.index: step.start for step in steps}[6] == 5


def test_a_background_point_alone_corrects_what_is_projected() -> None:
    volume = rod(0, 8)
    volume[:, 8:13, 18:26] = 100
    volume[5:, 8:13, 23] = 0  # from here on there are two, both within reach of the projected box
    plain = {step.index: step.item.box for step in followed(volume, {4: CLICK})}
    away = Prompts(points=[(10, 25)], labels=[0])
    corrected = {step.index: step for step in followed(volume, {4: CLICK, 5: away})}
    assert plain[5] == (8, 18, 13, 26)
    assert corrected[5].item.box == corrected[8].item.box == (8, 18, 13, 23)
    assert corrected[5].start == 4
    assert corrected[3].item.box == (8, 18, 13, 26)


def test_nothing_under_the_prompts_is_said_and_nothing_follows() -> None:
    (step,) = followed(rod(0, 8), {4: Prompts(box=(20, 20, 25, 25))})
    assert (step.stopped, step.item.area) == ("nothing was found at the prompts", 0)


def test_what_was_seen_is_not_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    looked, seen = [], {}
    monkeypatch.setattr(
        "napari_samscape.prediction.views.embed", lambda *given: looked.append(1) or bright.embed(*given)
    )
    first = followed(rod(0, 8), {4: CLICK}, seen=seen)
    assert (len(looked), sorted(seen)) == (9, list(range(9)))
    again = followed(rod(0, 8), {4: CLICK, 7: CLICK}, seen=seen)
    assert len(looked) == 9
    np.testing.assert_array_equal(painted(again, (9, 40, 60)), painted(first, (9, 40, 60)))


# Other volumes -----------------------------------------------------------------------------------------


def test_a_time_series_is_followed_through_time_and_of_both_axes_one_is_chosen() -> None:
    series = np.stack([rod(0, 8), rod(0, 8)])
    image = Image((series,), "tzyx")
    assert [step.index for step in followed(image, {0: CLICK}, axis="t", at=3)] == [0, 1]
    assert len(followed(image, {0: CLICK}, at=1)) == 9
    assert len(followed(Image((rod(0, 8),), "tyx"), {0: CLICK})) == 9


# What is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompts", "options", "sentence"),
    [
        ({}, {}, "No prompt says what the object is"),
        ({4: Prompts(points=[(1, 1)], labels=[0])}, {}, "No prompt says what the object is"),
        ({9: CLICK}, {}, "has no slice z=9; they go from 0 to 8"),
        ({4: Prompts(points=[(50, 1)])}, {}, "lies outside the picture of 40 x 60"),
        ({4: Prompts(mask=np.ones((40, 61), bool))}, {}, r"must be bool and of a slice's shape \(40, 60\)"),
        ({4: CLICK}, {"axis": "t"}, "has no axis t to follow an object along; its axes are 'zyx'"),
        ({4: CLICK}, {"at": 1}, r"has 1 plane\(s\) beside the axis z; there is no plane 1"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(
    prompts: dict[int, Prompts], options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        propagate(rod(0, 8), prompts, model=MODEL, **options)


def test_thresholds_are_between_0_and_1() -> None:
    with pytest.raises(InputError, match="The least overlap must be between 0 and 1, not 2"):
        PropagateOptions(min_overlap=2)


def test_one_way_only_and_no_other() -> None:
    up = followed(rod(2, 6), {4: CLICK}, options=PropagateOptions(ways=(1,)))
    assert [step.index for step in up] == [4, 5, 6, 7]
    with pytest.raises(InputError, match="up \\(1\\), down \\(-1\\) or both ways, not \\(2,\\)"):
        PropagateOptions(ways=(2,))
