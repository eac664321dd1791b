"""Everything-mode looks closer where things are small; each object comes from the look that shows it well."""

from types import SimpleNamespace

import numpy as np
import pytest

from napari_samscape.prediction.closer import (
    SURER,
    Crop,
    is_worth,
    shows_more,
    without_debris,
    without_seen_twice,
)
from napari_samscape.prediction.instances import instance_from_mask

WHOLE, LEFT = (0, 0, 640, 640), (0, 0, 400, 400)


def square(y, x, side, sure=0.9):
    return instance_from_mask(np.ones((side, side), bool), offset=(y, x), predicted_iou=sure)


def boxes(crop):
    return [item.box for item in crop.items]


@pytest.mark.parametrize(
    ("items", "worth"),
    [
        ([square(100, 100, 39)], True),
        ([square(100, 100, 40)], False),  # a sixteenth of the side is not small
        ([square(500, 500, 20)], False),  # elsewhere
        ([square(389, 389, 20)], True),
        ([square(390, 390, 20)], False),  # its middle lies outside
        ([square(100, 100, 20), square(300, 100, 60)], False),  # no more small ones than others
        ([square(100, 100, 20), square(300, 100, 60), square(10, 10, 9)], True),
        ([square(100, 100, 20), square(500, 500, 60)], True),  # what lies elsewhere does not count
        ([], False),
    ],
)
def test_a_crop_is_worth_a_look_if_most_that_has_its_middle_there_is_small(items, worth):
    assert is_worth(LEFT, 1, [Crop(WHOLE, 0, items)]) == worth


@pytest.mark.parametrize(
    ("layer", "items", "centres", "worth"),
    [
        (1, [], [(100.0, 100.0)], True),
        (1, [], [(500.0, 500.0)], False),  # elsewhere
        (1, [square(100, 100, 80)], [(100.0, 100.0)], False),  # that is what was seen
        (1, [square(450, 450, 80)], [(100.0, 100.0)], True),
        (2, [], [(100.0, 100.0)], False),  # a closer look has found nothing either
    ],
)
def test_where_only_middles_of_things_were_seen_a_closer_look_is_worth_it_once(layer, items, centres, worth):
    assert is_worth(LEFT, layer, [Crop(WHOLE, layer - 1, items, np.array(centres))]) == worth


def test_only_the_layer_before_counts():
    small = [square(100, 100, 10)]
    assert not is_worth((0, 0, 250, 250), 2, [Crop(WHOLE, 0, small), Crop(LEFT, 1, [])])
    assert is_worth((0, 0, 250, 250), 2, [Crop(WHOLE, 0, small), Crop(LEFT, 1, small)])


@pytest.mark.parametrize(
    ("magnifies", "side", "more"), [(2.0, 256, True), (2.0, 255, False), (1.0, 511, False)]
)
def test_no_crop_is_enlarged_more_than_the_model_was_trained_for(magnifies, side, more):
    model = SimpleNamespace(image_size=512, magnifies=magnifies)
    assert shows_more((0, 0, 100, side), model) == more


def test_something_small_is_taken_from_the_closer_look():
    wide, close = Crop(WHOLE, 0, [square(100, 100, 20)]), Crop(LEFT, 1, [square(102, 101, 18)])
    kept = without_seen_twice([wide, close])
    assert [boxes(crop) for crop in kept] == [[], boxes(close)]


def test_something_small_that_was_not_found_again_stays():
    wide, close = Crop(WHOLE, 0, [square(100, 100, 20)]), Crop(LEFT, 1, [square(115, 115, 20)])
    assert [boxes(crop) for crop in without_seen_twice([wide, close])] == [boxes(wide), boxes(close)]


def test_something_large_is_taken_from_the_wider_look_and_not_in_parts():
    wide = Crop(WHOLE, 0, [square(100, 100, 100)])
    close = Crop(LEFT, 1, [square(100, 100, 98), square(150, 150, 15), square(300, 300, 15)])
    assert [boxes(crop) for crop in without_seen_twice([wide, close])] == [
        boxes(wide),
        [(300, 300, 315, 315)],
    ]


@pytest.mark.parametrize("wider", [WHOLE, LEFT])
def test_what_only_the_closest_looks_saw_must_be_surer_unless_it_is_tiny(wider):
    seen = [Crop(WHOLE, 0, []), Crop(LEFT, 1, [])]
    seen[[WHOLE, LEFT].index(wider)].items.append(square(100, 100, 20, 0.66))
    sure = 0.65 + SURER
    doubted, tiny = square(50, 50, 7, sure - 0.01), square(70, 70, 6, 0.66)  # a 64th of 400 is 6.25
    closest = [square(101, 101, 18, 0.66), doubted, tiny, square(150, 150, 20, sure + 0.01)]
    kept = without_debris([*seen, Crop((0, 0, 250, 250), 2, closest)], 0.65)
    assert [boxes(crop) for crop in kept[:2]] == [boxes(crop) for crop in seen]
    assert [item for item in closest if item not in kept[2].items] == [doubted]


def test_in_the_first_closer_look_things_appear_that_were_too_small_before():
    seen = [Crop(WHOLE, 0, []), Crop(LEFT, 1, [square(100, 100, 20, 0.66)])]
    assert [boxes(crop) for crop in without_debris(seen, 0.65)] == [[], boxes(seen[1])]
