"""Objects of single planes become objects of the stack: one to one, over gaps, with dense and stable ids."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from skimage.measure import label

from napari_samscape.errors import InputError
from napari_samscape.scaling.link import LinkOptions, assign, overlaps, summed
from napari_samscape.scaling.stack import link_labels

Labels = NDArray[np.int64]


def rows(*planes: str) -> Labels:
    """Draw a stack of planes of one row: a letter is an object, a dot is background."""
    return np.array([[[0 if pixel == "." else ord(pixel) for pixel in plane]] for plane in planes])


def linked(labels: Labels, stacked: str = "z", **options: Any) -> Labels:
    out = np.full(labels.shape, -1)
    count = link_labels(labels, out, LinkOptions(**{"min_extent": 1} | options), stacked)
    assert sorted(set(np.unique(out)) - {0}) == list(range(1, count + 1))
    return out


def drawn(labels: Labels) -> list[str]:
    return ["".join("." if pixel == 0 else str(pixel) for pixel in plane[0]) for plane in labels]


# Counting ----------------------------------------------------------------------------------------------


def test_overlaps_are_rows_of_both_ids_and_their_common_pixels() -> None:
    one, other = np.array([[1, 1, 0, 2], [1, 1, 0, 2]]), np.array([[5, 5, 5, 5], [0, 4, 0, 0]])
    assert overlaps(one, other).tolist() == [[1, 4, 1], [1, 5, 2], [2, 5, 1]]


def test_overlaps_of_parts_add_up_to_those_of_the_whole() -> None:
    one, other = np.random.default_rng(0).integers(0, 4, (2, 6, 9))
    parts = [overlaps(one[:, columns], other[:, columns]) for columns in (slice(4), slice(4, 9))]
    np.testing.assert_array_equal(summed(np.concatenate(parts)), overlaps(one, other))


def test_nothing_shares_nothing() -> None:
    assert overlaps(np.zeros((2, 2), int), np.ones((2, 2), int)).shape == (0, 3)


# Pairing -----------------------------------------------------------------------------------------------


def test_the_sum_of_iou_counts_and_not_the_best_single_pair() -> None:
    # 1-1 is the best pair (IoU 0.5), but with 1-2 and 2-1 (IoU 0.3 each) two go on instead of one.
    table = np.array([[1, 1, 50], [1, 2, 35], [2, 1, 35]])
    areas = np.array([0, 75, 75]), np.array([0, 75, 75])
    assert assign(table, areas, 0.25).tolist() == [[1, 2], [2, 1]]
    assert assign(table, areas, 0.4).tolist() == [[1, 1]]


def test_exactly_the_least_iou_is_enough() -> None:
    areas = np.array([0, 5]), np.array([0, 5])
    assert assign(np.array([[1, 1, 2]]), areas, 0.25).tolist() == [[1, 1]]
    assert assign(np.array([[1, 1, 2]]), areas, 0.26).tolist() == []


@given(seed=st.integers(0, 2**32 - 1), kinds=st.integers(1, 12), least=st.sampled_from([0.05, 0.2, 0.5]))
@settings(max_examples=60, deadline=None)
def test_groups_solved_by_themselves_are_as_good_as_all_at_once(seed: int, kinds: int, least: float) -> None:
    one, other = np.random.default_rng(seed).integers(0, kinds + 1, (2, 6, 8))
    table = overlaps(one, other)
    areas = tuple(np.bincount(each.ravel(), minlength=kinds + 1) for each in (one, other))
    iou = np.zeros((kinds + 1, kinds + 1))
    union = areas[0][table[:, 0]] + areas[1][table[:, 1]] - table[:, 2]
    iou[table[:, 0], table[:, 1]] = table[:, 2] / union
    iou[iou < least] = 0
    pairs = assign(table, areas, least)
    assert len(set(pairs[:, 0])) == len(set(pairs[:, 1])) == len(pairs)
    assert (iou[pairs[:, 0], pairs[:, 1]] > 0).all()
    best = iou[linear_sum_assignment(iou, maximize=True)].sum()
    assert iou[pairs[:, 0], pairs[:, 1]].sum() == pytest.approx(best)


# Along one axis ----------------------------------------------------------------------------------------


def test_an_object_keeps_its_id_from_slice_to_slice_as_it_moves_and_changes() -> None:
    found = linked(rows("AAA..BB", ".CCC.DD", "..EE.FF"))
    assert drawn(found) == ["111..22", ".111.22", "..11.22"]


def test_an_object_goes_on_with_one_other_at_most() -> None:
    assert drawn(linked(rows("AAAAAA", "BBBB.C", "DDDDDD"))) == ["111111", "1111.2", "111111"]


def test_what_overlaps_too_little_is_another_object() -> None:
    assert drawn(linked(rows("AAAA....", "..BBBB.."), min_iou=0.3)) == ["1111....", "..1111.."]
    assert drawn(linked(rows("AAAA....", "..BBBB.."), min_iou=0.4)) == ["1111....", "..2222.."]


@pytest.mark.parametrize(("gap", "last"), [(0, "33.22"), (1, "11.22"), (2, "11.22")])
def test_a_slice_that_misses_an_object_is_bridged(gap: int, last: str) -> None:
    assert drawn(linked(rows("AA.BB", "...BB", "AA.BB"), max_gap=gap)) == ["11.22", "...22", last]


def test_a_gap_longer_than_allowed_ends_an_object() -> None:
    stack = rows("AA", "..", "..", "AA")
    assert drawn(linked(stack, max_gap=1)) == ["11", "..", "..", "22"]
    assert drawn(linked(stack, max_gap=2)) == ["11", "..", "..", "11"]


def test_over_a_gap_objects_must_be_more_alike() -> None:
    assert drawn(linked(rows("AAA..", ".BBB."))) == ["111..", ".111."]
    assert drawn(linked(rows("AAA..", ".....", ".BBB."))) == ["111..", ".....", ".111."]
    assert drawn(linked(rows("AAA..", ".....", "..BBB"))) == ["111..", ".....", "..222"]
    assert drawn(linked(rows("AAA..", "..BBB"), min_iou=0.2)) == ["111..", "..111"]


def test_the_slice_before_goes_first_and_what_went_on_is_not_taken_up_again() -> None:
    # B is more like A than like A's continuation, but A has gone on already.
    assert drawn(linked(rows("AAAA..", "..AAAA", "BBBB..", "BBBB.."))) == [
        "1111..",
        "..1111",
        "1111..",
        "1111..",
    ]
    assert drawn(linked(rows("AAAA...", "..AAAA.", "BB..AAA"))) == ["1111...", "..1111.", "22..111"]


def test_objects_in_too_few_slices_are_dropped_and_ids_stay_dense() -> None:
    stack = rows("A.BB.", "..BB.", "..BB.", ".....", "C...D", "....D")
    assert drawn(linked(stack, min_extent=2)) == ["..11.", "..11.", "..11.", ".....", "....2", "....2"]
    assert linked(stack, min_extent=4).max() == 0


def test_what_is_in_one_slice_only_is_dropped_unless_told_otherwise() -> None:
    stack = rows("A.B", "..B")
    out = np.zeros_like(stack)
    assert link_labels(stack, out) == 1
    assert drawn(out) == ["..1", "..1"]


def test_slices_in_a_gap_do_not_count_for_the_extent() -> None:
    assert linked(rows("AA", "..", "AA"), min_extent=3).max() == 0


def test_ids_are_in_the_order_of_first_slices_then_of_ids_there() -> None:
    assert drawn(linked(rows("..Z.A", "Q.Z.A"))) == ["..2.1", "3.2.1"]


def test_a_frame_of_a_time_series_is_linked_the_same_way() -> None:
    assert drawn(linked(rows("AAA..", ".BBB."), "t")) == ["111..", ".111."]


# Along two axes ----------------------------------------------------------------------------------------

# Two time points of two slices each; X has gone in the second time point's first slice.
SERIES = np.stack([rows("AA.XX", "AA.XX"), rows("BB...", "BB.XX")])


@pytest.mark.parametrize(
    ("axes", "expected"),
    [
        (None, [["11.22", "11.22"], ["11...", "11.22"]]),
        ("z", [["11.22", "11.22"], ["33...", "33.44"]]),
        ("t", [["11.22", "33.44"], ["11...", "33.44"]]),
    ],
)
def test_slices_become_volumes_and_volumes_go_on_in_time_unless_one_axis_is_chosen(
    axes: str | None, expected: list[list[str]]
) -> None:
    found = linked(SERIES, "tz", axes=axes)
    assert [drawn(volume) for volume in found] == expected


def test_volumes_are_compared_as_volumes() -> None:
    # In its upper slice the object has nothing in common with itself before; as a volume it has.
    series = np.stack([rows("AA....", "AAAA.."), rows("..AA..", "AAAA..")])
    assert [drawn(volume) for volume in linked(series, "tz")] == [["11....", "1111.."], ["..11..", "1111.."]]


def test_of_volumes_in_time_the_extent_is_that_in_z() -> None:
    series = np.stack([rows("AA.X", "AA.."), rows("AA..", "AA..")])
    assert [drawn(volume) for volume in linked(series, "tz", min_extent=2)] == [["11..", "11.."]] * 2


def test_a_time_point_that_misses_an_object_is_bridged() -> None:
    series = np.stack([rows("AA", "AA"), rows("..", ".."), rows("AA", "AA")])
    assert linked(series, "tz").max() == 1
    assert linked(series, "tz", max_gap=0).max() == 2


# Any stack ---------------------------------------------------------------------------------------------


def test_balls_that_were_cut_into_slices_come_back() -> None:
    z, y, x = np.ogrid[:20, :40, :60]
    truth = np.zeros((20, 40, 60), int)
    for number, centre in enumerate([(6, 10, 10), (9, 28, 20), (12, 12, 40), (8, 30, 48)], start=1):
        away = sum((at - middle) ** 2 for at, middle in zip((z, y, x), centre, strict=True))
        truth[away <= 30] = number
    found = linked(np.stack([label(plane) for plane in truth]))
    pairs = set(zip(found.ravel().tolist(), truth.ravel().tolist(), strict=True))
    assert len(pairs) == 5
    np.testing.assert_array_equal(found == 0, truth == 0)


@given(seed=st.integers(0, 2**32 - 1), gap=st.integers(0, 2), axes=st.sampled_from(["z", "t", "tz"]))
@settings(max_examples=40, deadline=None)
def test_no_two_objects_of_a_plane_become_one_and_none_is_torn_apart(seed: int, gap: int, axes: str) -> None:
    shape = (3, 3, 5, 6) if axes == "tz" else (5, 5, 6)
    planes = np.random.default_rng(seed).integers(0, 5, shape)
    found = linked(planes, axes, max_gap=gap)
    for place in np.ndindex(*shape[:-2]):
        pairs = set(zip(planes[place].ravel().tolist(), found[place].ravel().tolist(), strict=True))
        assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def test_a_few_planes_are_read_at_a_time() -> None:
    class Stack:
        shape, pixels = (50, 4, 4), np.ones((50, 4, 4), int)
        asked: list[Any] = []

        def __getitem__(self, place: Any) -> Any:
            self.asked.append(place)
            return self.pixels[place]

        def __setitem__(self, place: Any, values: Any) -> None:
            self.pixels[place] = values

    assert link_labels(Stack(), Stack(), LinkOptions()) == 1
    assert {np.asarray(place).size for place in Stack.asked} == {1}


# What is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"min_iou": 0}, "least IoU of linked objects must be above 0 and at most 1, not 0"),
        ({"min_iou": 1.5}, "at most 1, not 1.5"),
        ({"max_gap": -1}, "gap of linked objects must be a whole number from 0 on, not -1"),
        ({"min_extent": 0}, "least extent of linked objects must be a whole number from 1 on, not 0"),
        ({"axes": "y"}, "along 'z', 't' or 'zt', not along 'y'"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        LinkOptions(**options)


@pytest.mark.parametrize(
    ("axes", "stacked", "sentence"),
    [
        (None, {}, "cannot be linked; it is a single plane"),
        ("t", {"z": 4}, "cannot be linked along t; it is stacked along z"),
        ("zt", {"t": 4}, "cannot be linked along z; it is stacked along t"),
    ],
)
def test_an_axis_that_is_not_there_is_named(axes: str | None, stacked: dict[str, int], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        LinkOptions(axes=axes).chosen(stacked)


def test_axes_that_do_not_fit_the_labels_are_refused() -> None:
    with pytest.raises(InputError, match=r"\(4, 5, 6\) are not stacked along 'tz'"):
        link_labels(np.zeros((4, 5, 6), int), np.zeros((4, 5, 6), int), axes="tz")
