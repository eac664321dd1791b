"""Tiles: cores cover an array exactly, outer regions overlap, and a sensible tiling is chosen."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_samscape.errors import InputError
from napari_samscape.scaling.tiles import Tiling, choose_tiling, intersection, shape_of, within

few = settings(max_examples=60, deadline=None)


@st.composite
def tilings(draw: st.DrawFn) -> Tiling:
    axes = draw(st.integers(1, 4))
    shape = draw(st.lists(st.integers(1, 9), min_size=axes, max_size=axes))
    core = draw(st.lists(st.integers(1, 10), min_size=axes, max_size=axes))
    halo = draw(st.lists(st.integers(0, 12), min_size=axes, max_size=axes))
    least = draw(st.lists(st.integers(1, 10), min_size=axes, max_size=axes))
    return Tiling(tuple(shape), tuple(core), tuple(halo), tuple(least))


# Geometry


def test_a_core_is_grown_by_the_halo_as_far_as_the_array_goes() -> None:
    tiling = Tiling((10, 7), core=(4, 4), halo=(2, 1))
    assert tiling.grid == (3, 2)
    first, last = tiling[0, 0], tiling[2, 1]
    assert first.core == (slice(0, 4), slice(0, 4))
    assert first.outer == (slice(0, 6), slice(0, 5))
    assert last.core == (slice(8, 10), slice(4, 7))
    assert last.outer == (slice(6, 10), slice(3, 7))
    assert last.origin == (6, 3)
    assert last.shape == (4, 4)
    assert last.inner == (slice(2, 4), slice(1, 4))


def test_tiles_may_be_wanted_larger_than_core_and_halo() -> None:
    tiling = Tiling((10,), core=(4,), halo=(1,), least=(6,))
    assert [tile.outer for tile in tiling] == [(slice(0, 6),), (slice(3, 9),), (slice(4, 10),)]


def test_tiles_come_in_c_order() -> None:
    tiling = Tiling((4, 6), (2, 2), (1, 1))
    assert [tile.index for tile in tiling] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert len(tiling) == 6


def test_there_is_no_tile_outside_the_grid() -> None:
    tiling = Tiling((4, 6), (2, 2), (1, 1))
    for index in [(2, 0), (0, -1), (0,), (0, 0, 0)]:
        with pytest.raises(IndexError, match="no tile"):
            tiling[index]


@few
@given(tilings())
def test_cores_cover_the_array_exactly(tiling: Tiling) -> None:
    covered = np.zeros(tiling.shape, int)
    for tile in tiling:
        covered[tile.core] += 1
    assert (covered == 1).all()


@few
@given(tilings())
def test_outer_regions_hold_all_within_reach_of_the_core_and_no_more_than_is_wanted(tiling: Tiling) -> None:
    for tile in tiling:
        axes = zip(tile.core, tile.outer, tiling.halo, tiling.shape, tiling.least, strict=True)
        for core, outer, halo, size, least in axes:
            near = {i for i in range(size) if core.start - halo <= i < core.stop + halo}
            seen = range(size)[outer]
            assert near <= set(seen)
            assert len(seen) == max(len(near), min(least, size))
        pixels = np.arange(np.prod(tiling.shape)).reshape(tiling.shape)
        np.testing.assert_array_equal(pixels[tile.outer][tile.inner], pixels[tile.core])


@few
@given(tilings())
def test_neighbours_are_the_tiles_whose_cores_touch(tiling: Tiling) -> None:
    def touch(one: tuple[slice, ...], other: tuple[slice, ...]) -> bool:
        return all(a.start <= b.stop and b.start <= a.stop for a, b in zip(one, other, strict=True))

    tiles = list(tiling)[:30]
    by_search = {(a.index, b.index) for a, b in combinations(tiles, 2) if touch(a.core, b.core)}
    indices = {tile.index for tile in tiles}
    assert {pair for pair in tiling.pairs() if indices.issuperset(pair)} == by_search
    for tile in tiles:
        assert all(tile.index in tiling.neighbours(other) for other in tiling.neighbours(tile.index))


def test_neighbours_of_a_tile_in_the_middle_of_a_volume() -> None:
    assert len(list(Tiling((6, 6, 6), (2, 2, 2), (1, 1, 1)).neighbours((1, 1, 1)))) == 26


@few
@given(tilings())
def test_each_two_neighbours_are_paired_once(tiling: Tiling) -> None:
    pairs = list(tiling.pairs())
    assert len({frozenset(pair) for pair in pairs}) == len(pairs)


def test_two_neighbours_share_what_both_look_at() -> None:
    tiling = Tiling((12, 12), (4, 4), (2, 2))
    assert tiling.shared((0, 1), (1, 1)) == (slice(2, 6), slice(2, 10))
    assert tiling.shared((0, 0), (1, 1)) == (slice(2, 6), slice(2, 6))
    assert tiling.seam((0, 1), (1, 1)) == (slice(3, 5), slice(3, 9))
    assert tiling.seam((0, 0), (1, 1)) == (slice(3, 5), slice(3, 5))


def test_without_a_halo_neighbours_share_no_pixel() -> None:
    tiling = Tiling((8, 8), (4, 4), (0, 0))
    assert 0 in shape_of(tiling.shared((0, 0), (0, 1)))
    assert 0 in shape_of(tiling.seam((0, 0), (0, 1)))


def test_regions_that_do_not_meet_have_nothing_in_common() -> None:
    assert shape_of(intersection((slice(0, 3),), (slice(5, 9),))) == (0,)
    assert within((slice(5, 9),), (slice(4, 20),)) == (slice(1, 5),)


@pytest.mark.parametrize(
    ("shape", "core", "halo", "sentence"),
    [
        ((0, 5), (1, 1), (0, 0), "shape must be whole numbers of pixels, at least 1"),
        ((5, 5), (0, 1), (0, 0), "core must be whole numbers of pixels, at least 1"),
        ((5, 5), (1, 1), (0, -1), "halo must be whole numbers of pixels, at least 0"),
        ((5, 5), (1.5, 1), (0, 0), "core must be whole numbers"),
        ((5, 5), (1,), (0, 0), "one number for each axis"),
        ((), (), (), "one number for each axis"),
    ],
)
def test_a_tiling_that_makes_no_sense_is_refused(shape, core, halo, sentence) -> None:
    with pytest.raises(InputError, match=sentence):
        Tiling(shape, core, halo)


# The choice


def test_a_picture_of_the_models_size_is_one_tile() -> None:
    assert choose_tiling((1024, 700), 1024).grid == (1, 1)
    assert choose_tiling((1024, 1025), 1024).grid == (1, 2)


def test_the_usual_halo_is_an_eighth_of_the_model() -> None:
    tiling = choose_tiling((3000, 3000), 1024)
    assert tiling.halo == (128, 128)


def test_the_halo_is_a_quarter_narrower_where_that_saves_tiles() -> None:
    tiling = choose_tiling((4096, 4096), 1024)
    assert tiling.halo == (96, 96) and tiling.grid == (5, 5)
    assert choose_tiling((4096, 4096), 1024, halo=128).grid == (6, 6)
    # A tile more along one axis alone is saved as well.
    assert choose_tiling((3000, 4096), 1024).grid == (4, 5)


def test_two_tiles_need_a_halo_on_one_side_only() -> None:
    tiling = choose_tiling((1800, 1800), 1024, halo=100)
    assert tiling.grid == (2, 2) and tiling.core == (900, 900)
    assert [tile.outer[1] for tile in tiling][:2] == [slice(0, 1024), slice(776, 1800)]
    assert choose_tiling((1850, 1850), 1024, halo=100).grid == (3, 3)


def test_large_pictures_take_as_many_tiles_as_they_are_larger() -> None:
    small, large = (len(choose_tiling((side, side), 1024, chunks=(32, 32))) for side in (4096, 16384))
    assert large == 16 * small


def test_tiles_are_about_equally_large() -> None:
    # 768 would fit, and would leave 32 pixels for the second tile.
    assert choose_tiling((800, 1100), 1024, chunks=(32, 32)).core == (800, 576)


def test_cores_are_whole_chunks() -> None:
    tiling = choose_tiling((5000, 5000), 1024, chunks=(256, 128))
    assert tiling.core == (768, 768)
    assert tiling.grid == (7, 7)


def test_the_halo_is_as_wide_as_the_objects() -> None:
    assert choose_tiling((5000, 5000), 1024, object_size=40).halo == (40, 40)
    assert choose_tiling((5000, 5000), 1024, object_size=300).halo == (300, 300)


def test_objects_larger_than_a_third_of_a_tile_are_left_to_stitching() -> None:
    assert choose_tiling((5000, 5000), 1024, object_size=3000).halo == (341, 341)
    assert choose_tiling((5000, 5000), 1024, chunks=(512, 512), object_size=3000).halo == (256, 256)


def test_tile_and_halo_override_the_choice() -> None:
    tiling = choose_tiling((5000, 5000), 1024, tile=2000, halo=100)
    assert tiling.halo == (100, 100)
    assert tiling.core == (1667, 1667)
    assert choose_tiling((5000, 5000), 1024, tile=2000, halo=0).core == (1667, 1667)


def test_axes_before_the_plane_go_chunk_by_chunk() -> None:
    tiling = choose_tiling((3, 20, 5000, 5000), 1024, chunks=(1, 4, 256, 256))
    assert tiling.core == (1, 4, 768, 768)
    assert tiling.halo == (0, 0, 128, 128)


@settings(max_examples=200, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 3000), st.integers(1, 3000)),
    model_size=st.integers(3, 1024),
    chunk=st.integers(1, 300),
    object_size=st.none() | st.integers(1, 400),
)
def test_whatever_is_chosen_keeps_its_promises(shape, model_size, chunk, object_size) -> None:
    try:
        tiling = choose_tiling(shape, model_size, (chunk, chunk), object_size)
    except InputError as error:
        assert "chunks" in str(error)
        assert chunk > model_size - 2
        return
    for size, core, halo, count in zip(shape, tiling.core, tiling.halo, tiling.grid, strict=True):
        assert core % chunk == 0
        assert halo >= 1
        assert count == 1 or core + min(count - 1, 2) * halo <= model_size
        assert size > model_size or count == 1
        if object_size is not None:
            assert halo >= min(object_size, model_size // 3, (model_size - chunk) // 2)
    # The second and last tiles are enough; there may be a million.
    for index in (tuple(min(1, n - 1) for n in tiling.grid), tuple(n - 1 for n in tiling.grid)):
        assert tiling[index].shape == tuple(min(size, model_size) for size in shape)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"tile": 64, "halo": 32}, "A tile of 64 pixels has no core left inside a halo of 32"),
        ({"halo": 600}, "A tile of 1024 pixels has no core left"),
        ({"halo": 16, "object_size": 40}, "halo of 16 pixels is narrower than the object size of 40"),
        ({"tile": 64, "object_size": 32}, "use tiles of more than 64"),
        ({"tile": 512, "halo": 64, "chunks": (512, 512)}, "use chunks of at most 384"),
        ({"tile": 0}, "tile must be whole numbers of pixels, at least 1"),
        ({"halo": -1}, "halo must be whole numbers of pixels, at least 0"),
        ({"object_size": 0}, "object size must be whole numbers"),
        ({"chunks": (256,)}, "do not fit an array"),
        ({"chunks": (256, 0)}, "chunks must be whole numbers"),
    ],
)
def test_what_contradicts_itself_is_refused_in_a_sentence(options, sentence) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        choose_tiling((5000, 5000), 1024, **options)
    assert "\n" not in str(caught.value)


def test_a_line_is_no_picture() -> None:
    with pytest.raises(InputError, match="y, x"):
        choose_tiling((5000,), 1024)
