"""Stitching: labels of tiles become those of the whole, whatever the tiles.

'The same partition' means equal up to renaming. Two perfect segmenters are tried throughout. One knows the
truth and gives its labels in the tile, so that a U is one piece even where only its arms are seen; the other
knows the tile only and gives connected components, so that such arms are two.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label

from napari_samscape.errors import InputError
from napari_samscape.prediction.instances import instances_from_labels
from napari_samscape.scaling.engine import segment_tiled
from napari_samscape.scaling.stitch import (
    TileRecord,
    global_ids,
    local_labels,
    match,
    relabel,
    tile_record,
)
from napari_samscape.scaling.tiles import Tiling

Labels = NDArray[np.integer]
few = settings(max_examples=100, deadline=None)


def as_they_are(crop: Labels, origin: tuple[int, ...]) -> Labels:
    return crop


def in_components(crop: Labels, origin: tuple[int, ...]) -> Labels:
    """Touching pixels of one label, corners included."""
    return label(crop)


def in_face_components(crop: Labels, origin: tuple[int, ...]) -> Labels:
    return label(crop, connectivity=1)


def renamed(crop: Labels, origin: tuple[int, ...]) -> Labels:
    """The truth, under other names in each tile."""
    ids = np.unique(crop[crop > 0])
    names = np.random.default_rng(list(origin)).permutation(len(ids)) + 1
    table = np.zeros(int(crop.max()) + 1, int)
    table[ids] = names
    return table[crop]


perfect = pytest.mark.parametrize("segment", [as_they_are, renamed, in_components], ids=lambda f: f.__name__)


def tiled(pixels: NDArray, tiling: Tiling, segment: Callable = as_they_are) -> NDArray[np.int32]:
    out = np.full(tiling.shape, -1, np.int32)
    count = segment_tiled(pixels, tiling, segment, out)
    assert_dense(out, count)
    return out


def assert_dense(labels: Labels, count: int) -> None:
    assert sorted(set(np.unique(labels)) - {0}) == list(range(1, count + 1))


def assert_same_partition(found: Labels, truth: Labels) -> None:
    pairs = set(zip(found.ravel().tolist(), truth.ravel().tolist(), strict=True))
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs}), f"{found}\n!=\n{truth}"
    np.testing.assert_array_equal(found == 0, truth == 0)


def picture(*rows: str) -> Labels:
    """Draw labels: a letter is an object, a dot is background."""
    return np.array([[0 if pixel == "." else ord(pixel) for pixel in row] for row in rows])


@st.composite
def label_images(draw: st.DrawFn, connectivity: int | None = None) -> Labels:
    """2D or 3D, with objects of any form, each connected, many of which touch, none knows its size.

    Values are drawn at random; equal ones that touch are one object, so most pictures are full of thin,
    winding, branching and ring-like objects in contact with others.
    """
    axes = draw(st.integers(2, 3))
    side = 18 if axes == 2 else 8
    shape = tuple(draw(st.lists(st.integers(1, side), min_size=axes, max_size=axes)))
    kinds, zoom = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    noise = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).integers(0, kinds + 1, shape)
    noise = ndimage.zoom(noise, zoom, order=0, grid_mode=True, mode="nearest")
    return label(noise[tuple(slice(size) for size in shape)], connectivity=connectivity)


@st.composite
def cuts(draw: st.DrawFn, shape: tuple[int, ...]) -> Tiling:
    core = tuple(draw(st.integers(1, size)) for size in shape)
    halo = tuple(draw(st.integers(1, 4)) for _ in shape)
    return Tiling(shape, core, halo, tuple(draw(st.integers(1, 9)) for _ in shape))


# The partition


@perfect
@given(data=st.data())
@few
def test_any_label_image_cut_into_any_tiles_comes_back(segment, data) -> None:
    truth = data.draw(label_images())
    tiling = data.draw(cuts(truth.shape))
    assert_same_partition(tiled(truth, tiling, segment), truth)


@given(data=st.data())
@few
def test_objects_whose_pixels_only_touch_by_faces_come_back(data) -> None:
    truth = data.draw(label_images(connectivity=1))
    tiling = data.draw(cuts(truth.shape))
    assert_same_partition(tiled(truth, tiling, in_face_components), truth)


@perfect
def test_an_object_across_five_by_five_tiles_is_one(segment) -> None:
    truth = np.zeros((40, 40), int)
    truth[1:39, 1:39] = 7
    found = tiled(truth, Tiling((40, 40), (8, 8), (2, 2)), segment)
    assert_same_partition(found, truth)
    assert found.max() == 1


@perfect
def test_an_object_across_all_tiles_of_a_volume_is_one(segment) -> None:
    truth = np.full((9, 9, 9), 3)
    assert tiled(truth, Tiling((9, 9, 9), (3, 3, 3), (1, 1, 1)), segment).max() == 1


@perfect
@pytest.mark.parametrize(
    "truth",
    [
        pytest.param(
            picture("U.......U", "U.......U", "U.......U", "U.......U", "U.......U", "UUUUUUUUU"), id="U"
        ),
        pytest.param(
            picture("UU.UU", "UU.UU", "UU.UU", "UU.UU", "UU.UU", "UUUUU"), id="U with its arms in one tile"
        ),
        pytest.param(
            picture("UUAUU", "UUAUU", "UUAUU", "UUAUU", "UUAUU", "UUUUU"), id="U around another object"
        ),
        pytest.param(picture("OOOOOOO", "O.....O", "O.III.O", "O.III.O", "O.....O", "OOOOOOO"), id="ring"),
        pytest.param(picture("ABCDEF", "ABCDEF", "ABCDEF", "ABCDEF"), id="stripes that touch"),
        pytest.param(picture("SSSSSS", ".....S", "SSSSSS", "S.....", "SSSSSS", ".....S"), id="meander"),
        pytest.param(picture("D.....", ".D....", "..D...", "...D..", "....D.", ".....D"), id="diagonal"),
        pytest.param(picture("AAABBB", "AAABBB", "CCCDDD", "CCCDDD"), id="four objects in a corner"),
        pytest.param(picture("WLLLW", "WlWWW", "WWWxW", "WWWWW"), id="objects in another"),
    ],
)
@pytest.mark.parametrize("core", [1, 2, 3])
@pytest.mark.parametrize("halo", [1, 2])
def test_forms_that_are_hard_to_stitch(segment, truth, core, halo) -> None:
    tiling = Tiling(truth.shape, (core, core), (halo, halo))
    assert_same_partition(tiled(truth, tiling, segment), truth)


def test_blobs_of_a_threshold_are_the_same_tiled_and_untiled() -> None:
    noise = ndimage.gaussian_filter(np.random.default_rng(3).random((150, 170)), 2.5)
    whole = label(noise > np.quantile(noise, 0.6))
    limit = float(np.quantile(noise, 0.6))
    found = tiled(noise, Tiling(noise.shape, (32, 48), (12, 12)), lambda crop, _: label(crop > limit))
    assert whole.max() > 40
    assert_same_partition(found, whole)


def test_instances_are_as_good_as_labels() -> None:
    truth = picture("AA..BB", "AA..BB", "AACCCC", "..CCCC")
    found = tiled(truth, Tiling((4, 6), (2, 2), (1, 1)), lambda crop, _: instances_from_labels(crop))
    assert_same_partition(found, truth)


# Segmenters that err


def whatever(**by_origin: Labels) -> Callable[[NDArray, tuple[int, ...]], Labels]:
    """Give these labels for the tile at x=0, and so on."""
    return lambda crop, origin: by_origin[f"x{origin[-1]}"]


def test_pieces_that_differ_a_little_are_one_object() -> None:
    left = picture("......", ".AAAA.", ".AAAA.", ".AAA..")
    right = picture("......", "BBBBB.", "BBBBB.", "BBB...")
    # Cores are columns 0..3 and 4..7; both tiles see 2..5.
    found = tiled(np.zeros((4, 8)), Tiling((4, 8), (4, 4), (2, 2)), whatever(x0=left, x2=right))
    expected = picture("........", ".AAAAAA.", ".AAAAAA.", ".AAAA...") // ord("A")
    np.testing.assert_array_equal(found, expected)


def test_two_objects_that_one_tile_took_for_one_stay_two_in_the_other() -> None:
    left = picture("AAAAAA", "AAAAAA", "AAAAAA", "AAAAAA", "AAAAAA")
    right = picture("BBBBBB", "BBBBBB", "BBBBBB", "CCCCCC", "CCCCCC")
    found = tiled(np.zeros((5, 8)), Tiling((5, 8), (5, 4), (2, 2)), whatever(x0=left, x2=right))
    expected = np.ones((5, 8), int)
    expected[3:, 4:] = 2  # the larger of the two goes on with A
    np.testing.assert_array_equal(found, expected)


def test_what_only_the_halo_shows_is_neither_written_nor_joins_anything() -> None:
    # The left tile thinks that B, which is the right tile's, is A's other part; its C lies outside its core.
    left = picture("AAA...", "....CC")
    right = picture("......", "..BBBB")
    found = tiled(np.zeros((2, 8)), Tiling((2, 8), (4, 4), (2, 2)), whatever(x0=left, x2=right))
    np.testing.assert_array_equal(found, picture("111.....", "....2222") % ord("0") * (found >= 0))


def test_neighbours_far_from_the_seam_are_not_joined_by_a_coincidence() -> None:
    # Column 2 is the left tile's last but one and in the right tile's halo; nothing reaches the seam at 3|4.
    left = picture("AAA...", "......")
    right = picture("B...B.", "......")
    found = tiled(np.zeros((2, 8)), Tiling((2, 8), (4, 4), (2, 2)), whatever(x0=left, x2=right))
    np.testing.assert_array_equal(found, [[1, 1, 1, 0, 0, 0, 2, 0], [0] * 8])


def test_a_half_is_not_enough_to_be_the_same() -> None:
    left, right = picture("..AA", "...."), picture("AA..", "AA..")
    found = tiled(np.zeros((2, 6)), Tiling((2, 6), (3, 3), (1, 1)), whatever(x0=left, x2=right))
    np.testing.assert_array_equal(found, [[0, 0, 1, 2, 0, 0], [0, 0, 0, 2, 0, 0]])


def test_without_a_halo_nothing_is_joined() -> None:
    assert tiled(np.ones((4, 4), int), Tiling((4, 4), (2, 2), (0, 0))).max() == 4


# Ids


def test_ids_follow_the_tiles_then_the_local_ids() -> None:
    truth = picture("..A.B.", ".....B", "C.....", "...D..")
    found = tiled(truth, Tiling((4, 6), (2, 3), (1, 1)))
    np.testing.assert_array_equal(
        found, [[0, 0, 1, 0, 2, 0], [0, 0, 0, 0, 0, 2], [3, 0, 0, 0, 0, 0], [0, 0, 0, 4, 0, 0]]
    )


def records_of(truth: Labels, tiling: Tiling) -> dict[tuple[int, ...], TileRecord]:
    return {
        tile.index: tile_record(local_labels(label(truth[tile.outer]), tile.shape), tile, tiling)
        for tile in tiling
    }


@given(data=st.data(), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_neither_the_order_of_tiles_nor_of_pairs_nor_within_a_pair_matters(data, seed) -> None:
    truth = data.draw(label_images())
    tiling = data.draw(cuts(truth.shape))
    records = records_of(truth, tiling)
    shuffled, pairs = list(records.values()), list(tiling.pairs())
    in_order = global_ids(shuffled, {(a, b): match(records[a], records[b]) for a, b in pairs})
    shuffle = random.Random(seed)
    shuffle.shuffle(shuffled)
    shuffle.shuffle(pairs)
    turned = [pair if shuffle.random() < 0.5 else pair[::-1] for pair in pairs]
    in_disorder = global_ids(shuffled, {(a, b): match(records[a], records[b]) for a, b in turned})
    assert in_order.keys() == in_disorder.keys()
    for index, table in in_order.items():
        np.testing.assert_array_equal(table, in_disorder[index])


def test_the_passes_by_hand_give_what_the_driver_gives() -> None:
    truth = picture("AAAAB", "A...B", "AAAAB", "....B", "CCCCC")
    tiling = Tiling((5, 5), (2, 3), (1, 2))
    records = records_of(truth, tiling)
    pairs = {(a, b): match(records[a], records[b]) for a, b in tiling.pairs()}
    tables = global_ids([record.without_strips() for record in records.values()], pairs)
    out = np.zeros((5, 5), int)
    for tile in tiling:
        out[tile.core] = relabel(label(truth[tile.outer])[tile.inner], tables[tile.index])
    np.testing.assert_array_equal(out, tiled(truth, tiling, in_components))


def test_areas_of_the_pieces_add_up_to_the_objects() -> None:
    truth = picture("AAAAAA", "A....B", "AAAA.B")
    tiling = Tiling((3, 6), (2, 2), (1, 1))
    records = records_of(truth, tiling)
    tables = global_ids(records.values(), {(a, b): match(records[a], records[b]) for a, b in tiling.pairs()})
    areas = np.zeros(3, int)
    for index, record in records.items():
        np.add.at(areas, tables[index][record.ids], record.areas)
    assert areas.tolist() == [0, 11, 2]


def test_a_picture_without_objects_has_none() -> None:
    out = np.ones((4, 4), np.uint8)
    assert segment_tiled(np.zeros((4, 4), int), Tiling((4, 4), (2, 2), (1, 1)), as_they_are, out) == 0
    assert not out.any()


@pytest.mark.parametrize("offset", [1000, 2**40, 2**62])
def test_local_ids_may_be_any_numbers(offset: int) -> None:
    truth = picture("AABB", "AABB", "CCBB")
    found = tiled(truth, Tiling((3, 4), (2, 2), (1, 1)), lambda crop, _: np.where(crop, crop + offset, 0))
    assert_same_partition(found, truth)
    whole = np.where(truth == ord("A"), offset, offset + 1)
    assert_same_partition(tiled(whole, Tiling((3, 4), (2, 2), (1, 1))), whole)


# The driver


def test_from_zarr_to_zarr_with_channels(tmp_path) -> None:
    truth = label(np.random.default_rng(0).random((60, 70)) > 0.4)
    source = zarr.create_array(tmp_path / "in.zarr", shape=(60, 70, 3), dtype="int32", chunks=(32, 32, 3))
    source[...] = truth[..., None] * [1, 0, 0]
    out = zarr.create_array(tmp_path / "out.zarr", shape=(60, 70), dtype="uint32", chunks=(16, 16))
    count = segment_tiled(source, Tiling((60, 70), (16, 32), (4, 4)), lambda crop, _: crop.max(axis=-1), out)
    assert count == truth.max()
    assert_same_partition(np.asarray(out[...]), truth)


def test_no_more_than_a_tile_is_read_or_written_at_once_and_old_strips_are_forgotten(monkeypatch) -> None:
    from napari_samscape.scaling import stitch

    truth = label(np.random.default_rng(1).random((80, 40)) > 0.5)
    tiling = Tiling(truth.shape, (8, 8), (2, 2))
    most: list[int] = []

    class Watched(stitch._Matching):
        def add(self, record: TileRecord) -> None:
            super().add(record)
            most.append(sum(bool(tile.strips) for tile in self.done.values()))

    class Array:
        shape, dtype = truth.shape, np.dtype(np.int32)
        pixels = truth.astype(np.int32)
        largest = 0

        def __getitem__(self, region):
            type(self).largest = max(type(self).largest, self.pixels[region].size)
            return self.pixels[region]

        def __setitem__(self, region, values):
            self.pixels[region] = values

    monkeypatch.setattr(stitch, "_Matching", Watched)
    segment_tiled(Array(), tiling, as_they_are, Array())
    assert Array.largest == 12 * 12
    assert max(most) <= tiling.grid[1] + 1
    assert most[-1] == 0


def test_progress_goes_from_nothing_to_all_over_both_passes() -> None:
    told: list[tuple[int, int, str]] = []
    tiling = Tiling((4, 4), (2, 2), (1, 1))
    segment_tiled(
        np.ones((4, 4), int), tiling, as_they_are, np.zeros((4, 4), int), lambda *step: told.append(step)
    )
    assert [done for done, _, _ in told] == list(range(9))
    assert {total for _, total, _ in told} == {8}
    assert told[1][2] == "tile 2 of 4"
    assert told[-1][2] == "done"


def test_raising_from_progress_cancels() -> None:
    class Cancelled(Exception):
        pass

    def cancel(done: int, total: int, text: str) -> None:
        if done == 2:
            raise Cancelled

    seen = []
    with pytest.raises(Cancelled):
        segment_tiled(
            np.ones((4, 4), int),
            Tiling((4, 4), (2, 2), (1, 1)),
            lambda crop, origin: seen.append(origin) or crop,
            np.zeros((4, 4), int),
            cancel,
        )
    assert seen == [(0, 0), (0, 1)]


# What is refused


@pytest.mark.parametrize(
    ("segment", "sentence"),
    [
        (lambda crop, _: crop[1:], r"the tile's shape \(3, 3\)"),
        (lambda crop, _: crop / 2, "labels of whole numbers"),
        (lambda crop, _: crop - 2, "Labels cannot be negative; the segmenter gave -1"),
    ],
)
def test_a_segmenter_that_gives_no_labels_is_named(segment, sentence) -> None:
    with pytest.raises(InputError, match=sentence):
        tiled(np.ones((4, 4), int), Tiling((4, 4), (2, 2), (1, 1)), segment)


def test_shapes_that_do_not_go_together_are_refused() -> None:
    tiling = Tiling((4, 4), (2, 2), (1, 1))
    for array, out in [((4, 5), (4, 4)), ((4, 4), (4, 4, 1)), ((4,), (4, 4))]:
        with pytest.raises(InputError, match=r"tiles are of an array \(4, 4\)"):
            segment_tiled(np.zeros(array, int), tiling, as_they_are, np.zeros(out, int))


def test_an_output_that_cannot_hold_the_ids_is_refused() -> None:
    truth = np.arange(1, 401).reshape(20, 20)
    tiling = Tiling((20, 20), (10, 10), (1, 1))
    with pytest.raises(InputError, match="uint8 holds ids up to 255"):
        segment_tiled(truth, tiling, as_they_are, np.zeros((20, 20), np.uint8))
    with pytest.raises(InputError, match="whole numbers; this is of float32"):
        segment_tiled(truth, tiling, as_they_are, np.zeros((20, 20), np.float32))


def test_four_dimensions_cannot_be_stitched() -> None:
    with pytest.raises(InputError, match="up to three dimensions; these have 4"):
        tiled(np.ones((2, 2, 2, 2), int), Tiling((2,) * 4, (1,) * 4, (1,) * 4))
