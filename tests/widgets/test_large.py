"""Pictures too large to look at whole: what is in view is looked at, and labels are on disk."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("napari")

from board import PERIOD, SQUARE, board
from napari.components import ViewerModel
from napari.layers import Image, Labels
from window import click_on, press, settle

from napari_samscape.widgets.labels import FreeIds, new_labels, renumber
from napari_samscape.widgets.layers import read_plane
from napari_samscape.widgets.pyramids import CHUNK, Writable, disk_path, stored, writable
from napari_samscape.widgets.windows import GRID, SIDE, about, neighbours, shown_plane

HUGE = 100_000


@pytest.fixture
def viewer():
    viewer = ViewerModel()
    viewer.canvas.size = (600, 800)
    return viewer


def image_of(side=HUGE, levels=8, **place):
    return Image(board(side, levels), multiscale=True, contrast_limits=(0, 255), name="huge", **place)


def look(viewer, centre, zoom):
    """Show a place, with so many screen pixels for each pixel of the world."""
    viewer.scene.camera.center, viewer.scene.camera.zoom = tuple(centre), zoom


def ends(plane):
    """First and one past last data coordinate (y, x) that a plane shows."""
    first = plane.to_data(np.array([[-0.5, -0.5]]))[0]
    last = plane.to_data(np.array(plane.shape)[None] - 0.5)[0]
    return first, last


@pytest.mark.parametrize("zoom", [2, 1, 0.5, 0.11, 0.02])
def test_the_view_is_looked_at_at_the_level_at_which_it_has_about_the_models_size(viewer, zoom):
    image = viewer.add_layer(image_of())
    look(viewer, (50_000, 30_000), zoom)
    plane = shown_plane(image, viewer)
    assert plane.shape == (SIDE, SIDE)
    first, last = ends(plane)
    half = np.array(viewer.canvas.size) / zoom / 2
    assert (first <= (50_000, 30_000) - half).all() and (last >= (50_000, 30_000) + half).all()
    if zoom < 1:
        assert 800 / zoom > (SIDE - GRID) * plane.factor[0] / 2, "a finer level would not hold it"
    assert f"1 : {max(plane.factor):g}" in about(plane)


def test_only_what_is_looked_at_is_read(viewer):
    image = viewer.add_layer(image_of())
    look(viewer, (50_000, 30_000), 0.11)
    plane = shown_plane(image, viewer)
    for level in image.data:
        level.reads.clear()
    pixels = read_plane(list(image.data), plane)
    assert pixels.shape == (SIDE, SIDE)
    ((_, (rows, columns)),) = image.data[plane.level].reads
    assert rows[1] - rows[0] == columns[1] - columns[0] == (SIDE - 1) * plane.factor[0]
    assert rows[0] < 50_000 < rows[1] and columns[0] < 30_000 < columns[1]
    assert sum(len(level.reads) for level in image.data) == 1


def test_a_small_picture_is_looked_at_whole(viewer):
    image = viewer.add_layer(Image(np.zeros((3000, 2000), np.uint8)))
    look(viewer, (100, 100), 4)
    plane = shown_plane(image, viewer)
    assert plane.window is None and plane.shape == (3000, 2000) and about(plane) == ""


def test_windows_end_where_the_picture_ends(viewer):
    image = viewer.add_layer(image_of(5000, 1))
    for corner in [(0, 0), (5000, 5000)]:
        look(viewer, corner, 1)
        first, last = ends(shown_plane(image, viewer))
        assert (first >= -0.5).all() and (last <= 4999.5).all() and (last - first == SIDE).all()


def test_a_large_array_without_levels_is_read_with_a_stride(viewer):
    image = viewer.add_layer(Image(np.zeros((5000, 6000), np.uint8)))
    look(viewer, (2500, 3000), 0.1)
    plane = shown_plane(image, viewer)
    assert (plane.level, plane.step) == (0, 8)
    assert read_plane([image.data], plane).shape == plane.shape == (625, 750)


def test_what_is_rotated_and_scaled_is_found_where_it_is_seen(viewer):
    image = viewer.add_layer(image_of(20_000, 5, scale=(0.5, 0.5), rotate=30, translate=(100, -50)))
    look(viewer, image.data_to_world((8000, 9000)), 2)
    first, last = ends(shown_plane(image, viewer))
    assert (first < (7800, 8800)).all() and (last > (8200, 9200)).all()


def test_a_little_panning_and_zooming_changes_nothing(viewer):
    image = viewer.add_layer(image_of())
    look(viewer, (50_000, 50_000), 0.9)
    plane = shown_plane(image, viewer)
    look(viewer, (50_040, 49_970), 1)
    assert shown_plane(image, viewer, plane) is plane
    look(viewer, (50_000, 50_000), 8)
    assert shown_plane(image, viewer, plane) != plane, "much finer now"
    look(viewer, (60_000, 50_000), 0.9)
    assert shown_plane(image, viewer, plane) != plane, "elsewhere"


def test_prompts_keep_their_window_whatever_is_in_view(viewer):
    image = viewer.add_layer(image_of())
    look(viewer, (50_000, 50_000), 0.5)
    plane = shown_plane(image, viewer)
    prompts = np.array([[50_100.0, 50_100.0]])
    for centre, zoom in [((50_000, 50_000), 8), ((50_000, 50_000), 0.01), ((10_000, 10_000), 1)]:
        look(viewer, centre, zoom)
        assert shown_plane(image, viewer, plane, prompts) is plane
    far = np.array([[50_100.0, 50_100.0], [58_000.0, 50_000.0]])
    first, last = ends(shown_plane(image, viewer, plane, far))
    assert (first < far).all() and (last > far).all(), "a prompt outside takes a wider window"


def test_neighbours_share_half_of_the_window_and_lie_in_the_picture(viewer):
    image = viewer.add_layer(image_of())
    look(viewer, (50_000, 50_000), 0.9)
    plane = shown_plane(image, viewer)
    moves = {tuple(np.subtract(other.window, plane.window).tolist()) for other in neighbours(image, plane)}
    assert moves == {(SIDE // 2, 0), (-SIDE // 2, 0), (0, SIDE // 2), (0, -SIDE // 2)}
    look(viewer, (0, 0), 0.5)
    assert len(neighbours(image, shown_plane(image, viewer))) == 2


# --- labels on disk ---


def consistent(labels):
    """Whether each level has the first of each 2 x 2 pixels of the one before."""
    levels = [np.asarray(level[...]) for level in labels.data]
    return all((coarse == fine[::2, ::2]).all() for fine, coarse in zip(levels, levels[1:], strict=False))


@pytest.fixture
def pyramid(monkeypatch):
    """A layer of 2001 x 1999 pixels on disk."""
    monkeypatch.setattr("napari_samscape.widgets.labels.LARGEST", 1000)
    return new_labels(Image(np.zeros((2001, 1999), np.uint8), name="cells", scale=(0.5, 0.5)), "objects")


def set_block(labels, where, value):
    rows, columns = np.indices([part.stop - part.start for part in where]).reshape(2, -1)
    indices = (rows + where[0].start, columns + where[1].start)
    writable(labels).set_noted(labels, indices, value)


def test_labels_of_a_huge_image_are_on_disk_in_its_place(data_folder):
    image = image_of(50_000)
    labels = new_labels(image, "huge objects")
    assert labels.multiscale and labels.data.shape == (50_000, 50_000) and labels.dtype == np.int32
    assert disk_path(labels).parent == data_folder / "labels" and labels.name == "huge objects"
    np.testing.assert_allclose(labels.extent.world, image.extent.world)
    assert sum(file.stat().st_size for file in disk_path(labels).rglob("*") if file.is_file()) < 50_000


@pytest.mark.parametrize("start", [(300, 400), (301, 401), (2000, 1998)])
def test_pixels_are_set_at_every_level_and_taken_back(pyramid, start):
    where = tuple(slice(at, min(at + 333, size)) for at, size in zip(start, (2001, 1999), strict=True))
    set_block(pyramid, where, 7)
    expected = np.zeros((2001, 1999), np.int32)
    expected[where] = 7
    np.testing.assert_array_equal(pyramid.data[0][...], expected)
    assert consistent(pyramid)
    pyramid.undo()
    assert not np.asarray(pyramid.data[0][...]).any() and consistent(pyramid)
    pyramid.redo()
    np.testing.assert_array_equal(pyramid.data[0][...], expected)
    assert consistent(pyramid)


def test_only_chunks_that_are_touched_are_written(pyramid):
    set_block(pyramid, (slice(600, 700), slice(600, 700)), 3)
    chunks = [path for path in disk_path(pyramid).rglob("c/*/*") if path.is_file()]
    assert len(chunks) == len(pyramid.data), "one at each level"
    assert list(stored(pyramid.data[0])) == [(slice(512, 768), slice(512, 768))]


def test_ids_and_edits_read_only_what_is_there(pyramid):
    set_block(pyramid, (slice(600, 700), slice(600, 700)), 3)
    set_block(pyramid, (slice(1900, 1950), slice(10, 90)), 5)
    assert FreeIds().next(pyramid) == 6
    renumber(pyramid, [3, 5], 9)
    assert np.unique(pyramid.data[0][...]).tolist() == [0, 9] and consistent(pyramid)
    pyramid.undo()
    assert np.unique(pyramid.data[0][...]).tolist() == [0, 3, 5]


def test_pyramids_in_memory_can_be_written_where_each_level_is_half_of_the_one_before():
    levels = [np.zeros((9, 8), np.int32), np.zeros((5, 4), np.int32)]
    labels = Labels(levels, multiscale=True)
    assert isinstance(writable(labels), Writable)
    labels.data.put((slice(2, 5), slice(3, 8)), np.full((3, 5), 4, np.int32))
    assert consistent(labels) and levels[0].sum() == 60


def test_objects_of_a_huge_image_from_view_to_disk_and_back(open_dock, qtbot, data_folder):
    viewer, dock = open_dock(image_of(16_384, 6), show=True)
    look(viewer, (8 * PERIOD + 128, 8 * PERIOD + 128), 1)
    qtbot.waitUntil(lambda: dock.plane.level == 0, timeout=10_000)
    settle(qtbot, dock)
    assert dock.plane.shape == (SIDE, SIDE) and "(Looked at: this view, at 1 : 1.)" in dock.status.text.text()
    click_on(qtbot, dock, (8 * PERIOD + 100, 8 * PERIOD + 100))
    window = dock.plane
    viewer.scene.camera.zoom = 0.05
    qtbot.wait(250)
    settle(qtbot, dock)
    assert dock.plane is window and dock.session.state.mask is not None, "prompts survive zooming"
    press(viewer, "N")
    labels = viewer.layers["huge objects"]
    square = np.s_[8 * PERIOD - 5 : 8 * PERIOD + SQUARE + 5, 8 * PERIOD - 5 : 8 * PERIOD + SQUARE + 5]
    expected = np.pad(np.ones((SQUARE, SQUARE), int), 5)
    np.testing.assert_array_equal(labels.data[0][square], expected)
    assert len(list(stored(labels.data[0]))) <= (SQUARE // CHUNK + 1) ** 2
    assert labels.features[["index", "area", "prompts"]].to_numpy().tolist() == [[1, SQUARE**2, 1]]
    settle(qtbot, dock)
    qtbot.waitUntil(lambda: dock.plane.level > 3, timeout=10_000)
    settle(qtbot, dock)
    press(viewer, "H")  # edit it again: as it was asked, in the window that it was asked in
    settle(qtbot, dock)
    assert dock.plane == window and dock.recall.editing == (labels, 1)
    press(viewer, "Control-Z")
    press(viewer, "Control-Z")
    assert not np.asarray(labels.data[0][square]).any() and len(labels.features) == 0
    press(viewer, "Control-Shift-Z")
    np.testing.assert_array_equal(labels.data[0][square], expected)
    qtbot.waitUntil(lambda: not dock.keeper.busy, timeout=20_000)
    (document,) = Path(data_folder, "sessions").glob("*/session.json")
    assert str(disk_path(labels)) in document.read_text()


@pytest.mark.parametrize("shift", [(0, 0), (3, -2), (-4, 5), (30, 0)])
def test_pixels_that_lie_on_pixels_are_carried_over_as_any_others_are(shift):
    from napari_samscape.widgets.resample import footprint, resampled

    mask = np.random.default_rng(0).random((9, 8)) < 0.5
    for shape in [(9, 8), (20, 3)]:
        expected = np.zeros(shape, bool)
        for y, x in np.argwhere(mask) - shift:
            if 0 <= y < shape[0] and 0 <= x < shape[1]:
                expected[y, x] = True
        place = np.eye(2), np.array(shift, float)
        (y0, x0), (y1, x1) = where = footprint(mask, *place, shape)
        found = np.zeros(shape, bool)
        found[y0:y1, x0:x1] = resampled(mask, *place, where)
        np.testing.assert_array_equal(found, expected)


def test_a_small_pyramid_of_labels_is_as_good_a_place_for_objects(open_dock, qtbot):
    picture = np.zeros((64, 64), np.uint8)
    picture[10:30, 15:40] = 100
    mine = Labels([np.zeros((64, 64), np.int32), np.zeros((32, 32), np.int32)], multiscale=True, name="mine")
    viewer, dock = open_dock(Image(picture, name="cells"), mine)
    dock.labels.choose(mine)
    click_on(qtbot, dock, (20, 20))
    press(viewer, "N")
    settle(qtbot, dock)
    assert (mine.data[0] == picture // 100).all() and consistent(mine)
    assert mine.features["area"].tolist() == [500]
    dock.objects.deleted.emit([1])
    assert not mine.data[0].any() and consistent(mine)
    press(viewer, "Control-Z")
    assert mine.data[0].sum() == 500 and mine.features["area"].tolist() == [500]
