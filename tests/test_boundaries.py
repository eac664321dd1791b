"""BSDS500's measure of edges, on drawings whose answer is known, and on what the humans drew themselves.

In a picture of 300 x 400 pixels, the largest distance is 0.0075 x 500 = 3.75 pixels.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from napari_samscape.errors import InputError
from napari_samscape.evaluation.boundaries import (
    Counts,
    boundary_figures,
    count_boundary_pixels,
    f_measure,
    ods_interval,
    thresholds,
)
from napari_samscape.evaluation.datasets import open_dataset

SHAPE = (300, 400)


def dots(*places: tuple[int, int]) -> np.ndarray:
    picture = np.zeros(SHAPE, dtype=bool)
    picture[tuple(np.array(places).T)] = True
    return picture


def line(row: int, start: int = 50, stop: int = 350) -> np.ndarray:
    picture = np.zeros(SHAPE, dtype=bool)
    picture[row, start:stop] = True
    return picture


def at_half(drawn: np.ndarray, *humans: np.ndarray) -> tuple[int, int, int, int]:
    """The four counts of a map of zeros and ones."""
    counts = count_boundary_pixels(drawn.astype(np.float32), np.stack(humans), [0.5])
    return tuple(int(part[0]) for part in counts)


def counts(*rows: tuple[int, int, int, int]) -> Counts:
    """One picture, a row for each threshold."""
    return Counts(*np.array(rows).T[:, None])


# Which pixels belong together


def test_a_drawing_against_itself_is_perfect() -> None:
    assert at_half(line(150), line(150)) == (300, 300, 300, 300)


@pytest.mark.parametrize(("rows", "found"), [(1, 300), (3, 300), (4, 0)])
def test_a_line_is_found_up_to_3_pixels_away_and_not_at_4(rows: int, found: int) -> None:
    assert at_half(line(150 + rows), line(150)) == (found, 300, found, 300)


@pytest.mark.parametrize("shift", [(3, 2), (0, 4)])
def test_the_distance_is_not_that_of_a_square(shift: tuple[int, int]) -> None:
    near = np.hypot(*shift) < 3.75
    assert at_half(dots((100 + shift[0], 100 + shift[1])), dots((100, 100))) == (near, 1, near, 1)


def test_one_pixel_is_not_matched_to_two_of_a_human_nor_two_to_one() -> None:
    assert at_half(dots((100, 101)), dots((100, 100), (100, 102))) == (1, 2, 1, 1)
    assert at_half(dots((100, 98), (100, 102)), dots((100, 100))) == (1, 1, 1, 2)


def test_the_most_pairs_are_made_even_where_the_nearest_would_be_fewer() -> None:
    # 103 is nearest to 102, but then 100 has no partner.
    assert at_half(dots((50, 103), (50, 106)), dots((50, 100), (50, 102))) == (1, 2, 1, 2)
    assert at_half(dots((50, 103), (50, 105)), dots((50, 100), (50, 102))) == (2, 2, 2, 2)


def test_of_equally_many_pairs_the_nearest_are_made() -> None:
    # Both humans have the pixel at 100; were it matched to 103 by one of them, 2 pixels would be precise.
    human = dots((50, 100))
    assert at_half(dots((50, 101), (50, 103)), human, human) == (2, 2, 1, 2)


def test_a_pixel_is_precise_if_any_human_drew_it_and_recall_sums_over_humans() -> None:
    assert at_half(line(50), line(50), line(250)) == (300, 600, 300, 300)
    both = line(50) | line(250)
    assert at_half(both, line(50), line(250)) == (600, 600, 600, 600)


def test_a_band_is_thinned_before_it_is_compared() -> None:
    recalled, _, precise, drawn = at_half(line(149) | line(150) | line(151), line(150))
    assert precise == drawn == recalled
    assert 290 <= drawn <= 300


def test_an_empty_map_and_an_empty_drawing_count_nothing() -> None:
    assert at_half(np.zeros(SHAPE), line(150)) == (0, 300, 0, 0)
    assert at_half(line(150), np.zeros(SHAPE, dtype=bool)) == (0, 0, 0, 300)


def test_lines_at_the_border_do_not_wrap_around() -> None:
    first, last = np.zeros(SHAPE, dtype=bool), np.zeros(SHAPE, dtype=bool)
    first[:, 0], last[:, -1] = True, True
    assert at_half(first, last) == (0, 300, 0, 300)


# Thresholds


def test_there_are_99_thresholds_or_as_many_as_one_likes() -> None:
    np.testing.assert_allclose(thresholds(), np.arange(1, 100) / 100)
    np.testing.assert_allclose(thresholds(3), [0.25, 0.5, 0.75])
    with pytest.raises(InputError, match="at least; 0 are none"):
        thresholds(0)


def test_a_pixel_counts_up_to_its_own_strength() -> None:
    for hundredths in (1, 29, 57, 99):  # 0.29 is one of those that rounding makes smaller
        strength = line(150) * np.float32(hundredths / 100)
        drawn = count_boundary_pixels(strength, line(150)[None]).drawn
        np.testing.assert_array_equal(drawn, np.where(np.arange(1, 100) <= hundredths, 300, 0))


def test_a_graded_map_has_recall_that_only_falls() -> None:
    strength = np.zeros(SHAPE, np.float32)
    for row in range(20, 280, 20):
        strength[row, 50:350] = np.linspace(0, 1, 300)
    human = sum(line(row) for row in range(20, 280, 40)).astype(bool)
    found = count_boundary_pixels(strength, human[None])
    assert all(later <= sooner for sooner, later in pairwise(found.recall.tolist()))
    assert found.recall[0] > 0.95 and found.recall[-1] < 0.05
    np.testing.assert_allclose(found.precision, 7 / 13, atol=1e-6)


def test_shapes_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"\(300, 400\) cannot be compared with boundaries of .* \(1, 3, 3\)"
    ):
        count_boundary_pixels(np.zeros(SHAPE), np.zeros((1, 3, 3), dtype=bool))


# Figures


def test_ods_is_the_best_f_with_what_lies_between_thresholds() -> None:
    # (recall, precision): (1, 0.2), (0.2, 1); half way both are 0.6.
    figures = boundary_figures(counts((10, 10, 2, 10), (2, 10, 10, 10)), [0.25, 0.75])
    assert figures["ods"] == pytest.approx(0.6, abs=1e-4)
    assert figures["ods_threshold"] == pytest.approx(0.5, abs=0.01)
    assert figures["ois"] == pytest.approx(1 / 3)  # OIS has nothing between


def test_ois_lets_each_picture_have_its_own_threshold() -> None:
    # Perfect at the first threshold, and nothing at the second; the other picture the other way round.
    one, other = [(10, 10, 10, 10), (0, 10, 0, 0)], [(0, 10, 0, 90), (10, 10, 10, 10)]
    both = Counts(*np.array([one, other]).transpose(2, 0, 1))
    figures = boundary_figures(both, [1 / 3, 2 / 3])
    assert figures["ois"] == 1
    assert figures["ods"] == pytest.approx(2 * 0.5 / 1.5)


def test_ap_is_the_area_as_far_as_the_curve_reaches() -> None:
    # Precision 0.5 at recall 1, and 1 at recall 0.5: 51 places from 0.5 to 1, on average 0.75.
    assert boundary_figures(counts((10, 10, 5, 10), (5, 10, 5, 5)), [0.3, 0.6])["ap"] == pytest.approx(
        0.51 * 0.75
    )
    assert boundary_figures(counts((10, 10, 5, 10)), [0.5])["ap"] == 0


def test_r50_is_recall_where_half_of_the_map_is_true() -> None:
    curve = counts((10, 10, 2, 10), (4, 10, 8, 10), (0, 10, 0, 0))
    assert boundary_figures(curve, [0.2, 0.4, 0.6])["r50"] == pytest.approx(0.7)
    assert boundary_figures(counts((9, 10, 9, 10), (3, 10, 10, 10)), [0.3, 0.6])["r50"] == 0.9
    assert boundary_figures(counts((9, 10, 4, 10), (0, 10, 0, 0)), [0.3, 0.6])["r50"] is None


def test_a_map_without_an_edge_scores_0() -> None:
    figures = boundary_figures(counts((0, 10, 0, 0), (0, 10, 0, 0)), [0.3, 0.6])
    assert (figures["ods"], figures["ois"], figures["ap"], figures["r50"]) == (0, 0, 0, None)


def test_the_interval_holds_ods_and_needs_two_pictures() -> None:
    one = np.array([[(10, 10, 10, 10)]] * 5 + [[(2, 10, 2, 10)]] * 5).transpose(2, 0, 1)
    low, high = ods_interval(Counts(*one), [0.5])
    assert 0.2 <= low < 0.6 < high <= 1
    assert ods_interval(counts((1, 1, 1, 1)), [0.5]) is None


# The humans of BSDS500


@pytest.fixture(scope="module")
def drawn(shared: Path) -> list[np.ndarray]:
    path = shared / "data" / "bsds500" / "test_100.zip"
    if not path.exists():
        pytest.skip("BSDS500's test pictures are not there")
    return [read().boundaries for read in open_dataset(path).readers[:8]]


def test_a_human_agrees_with_himself(drawn: list[np.ndarray]) -> None:
    for human in drawn[0]:
        n = np.count_nonzero(human)
        assert at_half(human, human) == (n, n, n, n)


@pytest.mark.slow
def test_humans_agree_with_each_other_about_as_published(drawn: list[np.ndarray]) -> None:
    """F of 0.80 on BSDS500 (Arbelaez et al. 2011, table 1); these are 8 pictures of 200."""
    found = [
        count_boundary_pixels(humans[k].astype(np.float32), np.delete(humans, k, axis=0), [0.5])
        for humans in drawn
        for k in range(len(humans))
    ]
    total = Counts(*(np.stack(part) for part in zip(*found, strict=True))).total
    assert 0.7 < float(f_measure(total.recall, total.precision)[0]) < 0.9
