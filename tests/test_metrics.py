"""Figures of how alike masks are, on masks so small that each can be checked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from napari_samscape.evaluation.metrics import (
    THRESHOLDS,
    aggregated_jaccard,
    bootstrap_interval,
    calibration,
    count_matches,
    intersections,
    iou_matrix,
    mostly_inside,
    precision,
    rank_correlation,
)
from napari_samscape.prediction.instances import instance_from_mask
from napari_samscape.prediction.types import Instance


def rectangle(y0: int, x0: int, y1: int, x1: int) -> Instance:
    return instance_from_mask(np.ones((y1 - y0, x1 - x0), bool), offset=(y0, x0))


ONE, HALF, APART = rectangle(0, 0, 2, 4), rectangle(0, 2, 2, 6), rectangle(5, 5, 6, 6)


class TestOverlap:
    def test_shared_pixels_are_counted_for_every_pair(self) -> None:
        assert intersections([ONE, APART], [HALF, ONE]).tolist() == [[4, 8], [0, 0]]

    def test_iou_is_shared_over_joined(self) -> None:
        assert iou_matrix([ONE], [ONE, HALF, APART]).tolist() == [[1, 4 / 12, 0]]

    def test_nothing_against_something_is_an_empty_matrix(self) -> None:
        assert iou_matrix([], [ONE]).shape == (0, 1)

    def test_a_mask_is_inside_where_more_than_half_of_it_is(self) -> None:
        region = np.zeros((6, 6), bool)
        region[:, 2:] = True
        assert mostly_inside([ONE, HALF, APART], region).tolist() == [False, True, True]
        assert mostly_inside([ONE], None).tolist() == [False]


class TestMatching:
    def test_each_object_is_in_one_pair_at_most(self) -> None:
        assert count_matches(np.array([[0.9, 0.8], [0.0, 0.0]]), [0.5]).tolist() == [1]

    def test_the_most_pairs_are_made_even_if_the_best_one_is_lost(self) -> None:
        assert count_matches(np.array([[0.9, 0.6], [0.6, 0.0]]), [0.5]).tolist() == [2]

    def test_pairs_need_the_thresholds_iou(self) -> None:
        assert count_matches(np.array([[0.75]]), THRESHOLDS).tolist() == [1] * 6 + [0] * 4

    def test_precision_is_that_of_dsb(self) -> None:
        assert precision([3, 0], [4, 0], [5, 0]).tolist() == [3 / 6, 1]


class TestAggregatedJaccard:
    def test_a_perfect_answer_is_one(self) -> None:
        assert aggregated_jaccard([ONE, APART], [APART, ONE]) == 1

    def test_what_nothing_took_counts_against_it(self) -> None:
        # ONE takes HALF: 4 of 12; APART finds none: 0 of 1.
        assert aggregated_jaccard([ONE, APART], [HALF]) == pytest.approx(4 / 13)
        assert aggregated_jaccard([ONE], [ONE, APART]) == pytest.approx(8 / 9)

    def test_nothing_found_where_nothing_is_is_right(self) -> None:
        assert aggregated_jaccard([], []) == 1
        assert aggregated_jaccard([], [ONE]) == aggregated_jaccard([ONE], []) == 0


class TestStatistics:
    def test_the_interval_of_equal_pictures_is_a_point(self) -> None:
        assert bootstrap_interval([1, 1, 1], [2, 2, 2]) == (0.5, 0.5)

    def test_the_interval_is_the_same_every_time_and_holds_the_ratio(self) -> None:
        low, high = bootstrap_interval(range(30), [30] * 30) or (1, 0)
        assert (low, high) == bootstrap_interval(range(30), [30] * 30)
        assert low < np.mean(range(30)) / 30 < high

    def test_one_picture_says_nothing_of_others(self) -> None:
        assert bootstrap_interval([1], [2]) is None

    def test_ranks_are_compared_not_values(self) -> None:
        assert rank_correlation([0.1, 0.2, 0.9], [1, 10, 11]) == pytest.approx(1)
        assert rank_correlation([3, 2, 1], [1, 2, 3]) == pytest.approx(-1)
        assert rank_correlation([1, 1], [1, 2]) is None

    def test_calibration_bins_by_what_was_predicted(self) -> None:
        assert calibration([0.05, 0.95, 1.2, 0.95], [0.0, 1.0, 1.0, 0.4]) == [
            {"n": 1, "predicted": pytest.approx(0.05), "true": 0},
            {"n": 3, "predicted": pytest.approx((0.95 + 1.2 + 0.95) / 3), "true": pytest.approx(0.8)},
        ]
