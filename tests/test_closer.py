"""Everything-mode looks closer where things are small; each object comes from the look that shows it well."""

from types import SimpleNamespace

import numpy as np
import pytest

from napari_samscape.prediction.closer import Crop, is_worth, shows_more, without_seen_twice
from napari_samscape.prediction.instances import instance_from_mask

WHOLE, LEFT = (0, 0, 640, 640), (0, 0, 400, 400)


def square(y, x, side):
    return instance_from_mask(np.ones((side, side), bool), offset=(y, x))


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
