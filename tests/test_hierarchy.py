"""Masks within masks: who contains whom, and what is kept."""

from __future__ import annotations

import numpy as np
import pytest

from napari_samscape.errors import InputError
from napari_samscape.prediction.hierarchy import choose_nested, containers, parents
from napari_samscape.prediction.instances import instance_from_mask
from napari_samscape.prediction.types import NOTHING, Instance, Instances

SHAPE = (20, 20)


def block(y0: int, x0: int, y1: int, x1: int) -> Instance:
    mask = np.zeros(SHAPE, bool)
    mask[y0:y1, x0:x1] = True
    return instance_from_mask(mask)


WHOLE, PART, DETAIL, OTHER = block(0, 0, 10, 10), block(2, 2, 8, 8), block(3, 3, 5, 5), block(12, 12, 15, 15)
ITEMS = Instances((DETAIL, WHOLE, OTHER, PART), SHAPE)


def kept(nested: str, items: Instances = ITEMS) -> list[Instance]:
    return list(choose_nested(items, nested))


def test_the_parent_is_the_smallest_mask_around() -> None:
    assert parents(ITEMS) == [3, None, None, 1]
    assert containers(ITEMS) == [[3, 1], [], [], [1]]


def test_a_part_may_stick_out_by_a_tenth() -> None:
    nine_tenths, less = block(5, 1, 15, 2), block(6, 1, 16, 2)
    assert parents([block(0, 0, 14, 10), nine_tenths, less]) == [None, 0, None]
    assert parents([block(0, 0, 14, 10), less], min_share=0.8) == [None, 0]


def test_a_box_around_is_no_mask_around() -> None:
    frame = np.ones((10, 10), bool)
    frame[1:9, 1:9] = False
    assert parents([instance_from_mask(frame), block(3, 3, 6, 6)]) == [None, None]


def test_of_equal_masks_neither_contains_the_other() -> None:
    assert parents([PART, PART]) == [None, None]


def test_a_mask_without_a_pixel_is_in_no_other() -> None:
    assert parents([NOTHING, WHOLE]) == [None, None]


def test_parts_contain_no_other_and_wholes_lie_in_no_other() -> None:
    assert kept("all") == [DETAIL, WHOLE, OTHER, PART]
    assert kept("parts") == [DETAIL, OTHER]
    assert kept("wholes") == [WHOLE, OTHER]


def test_a_mask_around_a_part_is_no_part_even_if_a_smaller_one_lies_between() -> None:
    """The detail's parent is the one between, which the large mask does not contain."""
    large, between, detail = block(0, 0, 10, 10), block(5, 0, 14, 10), block(6, 2, 8, 4)
    items = Instances((large, between, detail), SHAPE)
    assert parents(items) == [None, None, 1]
    assert kept("parts", items) == [detail]


def test_nothing_found_stays_nothing() -> None:
    assert kept("parts", Instances((), SHAPE)) == []


def test_an_unknown_choice_is_refused() -> None:
    with pytest.raises(InputError, match="'all', 'parts' or 'wholes', not 'half'"):
        choose_nested(ITEMS, "half")
