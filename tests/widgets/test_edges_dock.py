"""The Edges dock in a real napari window; what it shares with Everything is tested there."""

import threading

import numpy as np
import pytest

pytest.importorskip("napari")

from fake_engine import FakeEngine
from napari.layers import Image
from scipy import ndimage as ndi

from napari_samscape.prediction.options import EdgeOptions
from napari_samscape.widgets.edges import EdgesWidget
from napari_samscape.widgets.everything import EverythingWidget


@pytest.fixture
def open_dock(open_task):
    return lambda *layers, **kwargs: open_task(EdgesWidget, *layers, **kwargs)


def outline(picture):
    return ((picture > 0) & ~ndi.binary_erosion(picture > 0)).astype(np.float32)


def test_run_draws_edges_over_the_image_in_its_place(open_dock, run, picture):
    image = Image(picture, name="cells", scale=(2, 3), rotate=20, translate=(5, 6), affine=np.diag([2, 1, 1]))
    viewer, dock = open_dock(image)
    assert run(dock) == "The edges are in 'cells edges', from 0 to 1."
    edges = viewer.layers["cells edges"]
    np.testing.assert_array_equal(edges.data, outline(picture))
    assert edges.data.dtype == np.float32 and edges.blending == "additive"
    assert tuple(edges.contrast_limits) == (0, 1)
    for name in ("scale", "translate", "rotate", "shear"):
        np.testing.assert_allclose(getattr(edges, name), getattr(image, name))
    np.testing.assert_allclose(edges.data_to_world((1, 2)), image.data_to_world((1, 2)))
    assert dock._engine.options == EdgeOptions()


def test_lines_can_be_soft_and_the_grid_finer(open_dock, run, picture):
    viewer, dock = open_dock(Image(picture, name="cells"))
    dock.options.editors["thin"].put(False)
    dock.options.editors["points_per_side"].put(24)
    run(dock)
    assert dock._engine.options == EdgeOptions(thin=False, points_per_side=24)
    assert (viewer.layers["cells edges"].data == 0.5).any()


def test_rgb_images_work(open_dock, run, picture):
    viewer, dock = open_dock(Image(np.repeat(picture[..., None], 3, axis=2), rgb=True, name="colour"))
    run(dock)
    np.testing.assert_array_equal(viewer.layers["colour edges"].data, outline(picture))


def test_a_picture_three_pixels_wide_is_no_colour_picture(open_dock, run):
    viewer, dock = open_dock(Image(np.ones((5, 4, 3)), rgb=False, name="narrow"))
    run(dock)
    assert viewer.layers["narrow edges"].data.shape == (1, 4, 3)


def test_of_a_stack_the_plane_shown_is_drawn_where_it_lies(open_dock, run, picture):
    image = Image(np.stack([picture, picture.T, picture]), name="stack", scale=(3, 2, 1), rotate=(0, 0, 30))
    viewer, dock = open_dock(image)
    viewer.dims.set_point(0, 3)
    run(dock)
    edges = viewer.layers["stack edges"]
    np.testing.assert_array_equal(edges.data, outline(picture.T)[None])
    np.testing.assert_allclose(edges.data_to_world((0, 4, 5)), image.data_to_world((1, 4, 5)))


def test_all_planes_make_one_stack(open_dock, run, picture):
    viewer, dock = open_dock(Image(np.stack([picture, picture.T]), name="stack", translate=(7, 0, 0)))
    dock.all_planes.setChecked(True)
    run(dock)
    edges = viewer.layers["stack edges"]
    np.testing.assert_array_equal(edges.data, [outline(picture), outline(picture.T)])
    np.testing.assert_allclose(edges.translate, (7, 0, 0))


def test_planes_across_the_stack_are_drawn_across_it(open_dock, run, picture):
    volume = np.zeros((64, 5, 64), np.uint8)
    volume[:, 2] = picture
    viewer, dock = open_dock(Image(volume, name="volume"))
    viewer.dims.order = (1, 2, 0)
    viewer.dims.set_point(1, 2)
    run(dock)
    edges = viewer.layers["volume edges"]
    np.testing.assert_array_equal(edges.data[:, 0], outline(picture))
    np.testing.assert_allclose(edges.translate, (0, 2, 0))


def test_of_a_large_pyramid_the_map_is_coarse_but_in_place(open_dock, run, picture):
    small = np.kron(picture, np.ones((16, 16), np.uint8))
    image = Image([np.kron(small, np.ones((5, 5), np.uint8)), small], name="big", multiscale=True)
    viewer, dock = open_dock(image)
    dock.view.setChecked(False)
    run(dock)
    edges = viewer.layers["big edges"]
    assert edges.data.shape == (1024, 1024)
    # The centre of a coarse pixel is the centre of the 5 x 5 fine ones under it.
    np.testing.assert_allclose(edges.data_to_world((1, 2)), (5 + 2, 10 + 2))


def test_no_edge_is_a_black_map_and_one_sentence(open_dock, run, told):
    viewer, dock = open_dock(Image(np.zeros((8, 8)), name="dark"))
    assert run(dock) == told[0] == "No edge was found; 'dark edges' is black."
    assert not viewer.layers["dark edges"].data.any()


def test_a_map_of_edges_is_no_image_to_work_on(open_dock, run, picture, qtbot):
    viewer, dock = open_dock(Image(picture, name="cells"))
    run(dock)
    other = EverythingWidget(viewer, FakeEngine)
    viewer.window.add_dock_widget(other)
    assert [other.image.itemText(i) for i in range(other.image.count())] == ["cells"]


def test_cancelled_work_draws_nothing(open_dock, qtbot, picture):
    gate = threading.Event()
    viewer, dock = open_dock(Image(picture), engine=lambda name: FakeEngine(name, gate))
    dock.run_button.click()
    qtbot.waitUntil(lambda: dock.status.bar.maximum() == 4)
    dock.status.cancel.click()
    qtbot.waitUntil(lambda: not dock._jobs.busy)
    assert len(viewer.layers) == 1


def test_an_image_removed_in_mid_work_ends_the_work(open_dock, qtbot, picture):
    gate = threading.Event()
    viewer, dock = open_dock(Image(picture), engine=lambda name: FakeEngine(name, gate))
    dock.run_button.click()
    viewer.layers.pop(0)
    qtbot.waitUntil(lambda: not dock._jobs.busy)
    assert len(viewer.layers) == 0


def test_an_error_is_told_in_a_sentence(open_dock, run, told):
    viewer, dock = open_dock(Image(np.full((8, 8), np.nan)))
    run(dock)
    assert told == ["The picture holds values that are not finite."] and len(viewer.layers) == 1


def test_without_an_image_there_is_nothing_to_run(open_dock):
    _, dock = open_dock()
    assert dock.status.text.text() == "Open an image to begin." and not dock.run_button.isEnabled()


def test_two_viewers_know_nothing_of_each_other(open_dock, run, picture):
    one, _ = open_dock(Image(picture, name="one"))
    two, dock = open_dock(Image(picture, name="two"))
    run(dock)
    assert (len(one.layers), len(two.layers)) == (1, 2)
