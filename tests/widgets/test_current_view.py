"""The docks with a Run button on what is seen of a picture too large to be looked at whole."""

import numpy as np
import pytest

pytest.importorskip("napari")

from board import PERIOD, SQUARE, board
from napari.layers import Image, Shapes

from napari_samscape.widgets.boxes import BoxesWidget
from napari_samscape.widgets.edges import EdgesWidget
from napari_samscape.widgets.everything import EverythingWidget
from napari_samscape.widgets.pyramids import disk_path
from napari_samscape.widgets.windows import SIDE

HUGE = 50_000
PLACE = (20_480, 10_240)  # where a square begins


@pytest.fixture
def open_view(open_task):
    """Open a huge picture in the middle of which a dock looks at a place."""

    def open_it(kind, *layers, zoom=2.0, **place):
        image = Image(board(HUGE, 7), multiscale=True, contrast_limits=(0, 255), name="huge", **place)
        viewer, dock = open_task(kind, image, *layers)
        look(viewer, image.data_to_world(PLACE), zoom)
        for level in image.data:
            level.reads.clear()
        return viewer, dock

    return open_it


def look(viewer, centre, zoom):
    viewer.scene.camera.center, viewer.scene.camera.zoom = tuple(centre), zoom


def read(image):
    """Ends of what the worker has read, in pixels of full resolution, and of which level."""
    found = [
        (number, *places)
        for number, level in enumerate(image.data)
        for thread, places in level.reads
        if thread.startswith("samscape")
    ]
    ((number, rows, columns),) = found
    return number, rows, columns


def test_everything_in_view_is_found_at_full_resolution_and_goes_to_labels_on_disk(open_view, run):
    viewer, dock = open_view(EverythingWidget)
    assert not dock.view.isHidden() and dock.view.isChecked()
    text = run(dock)
    image, labels = viewer.layers["huge"], viewer.layers["huge objects"]
    level, rows, columns = read(image)
    assert level == 0 and rows[1] - rows[0] == columns[1] - columns[0] == SIDE - 1
    assert disk_path(labels) is not None and labels.data[0].shape == (HUGE, HUGE)
    window = slice(rows[0], rows[1] + 1), slice(columns[0], columns[1] + 1)
    np.testing.assert_array_equal(np.asarray(labels.data[0][window]) > 0, image.data[0][window] > 0)
    beside = slice(columns[1] + 1, columns[1] + 1 + PERIOD)
    assert not np.asarray(labels.data[0][window[0], beside]).any(), "nothing is made up beyond the view"
    count = len(np.unique(np.asarray(labels.data[0][window]))) - 1
    assert text == f"Found {count} objects, now in 'huge objects'. (Looked at: this view, at 1 : 1.)"
    assert len(labels.features) == count


def test_the_next_views_objects_go_to_the_same_layer_under_further_ids(open_view, run):
    viewer, dock = open_view(EverythingWidget)
    run(dock)
    labels = viewer.layers["huge objects"]
    assert dock.labels.layer is labels
    first = len(labels.features)
    look(viewer, (40_960, 40_960), 2)
    run(dock)
    assert len(labels.features) > first and labels.features["index"].is_unique
    assert [layer.name for layer in viewer.layers].count("huge objects") == 1
    corner = np.asarray(labels.data[0][40_960 : 40_960 + SQUARE, 40_960 : 40_960 + SQUARE])
    assert corner.min() == corner.max() > first


def test_far_away_it_looks_at_a_coarser_level_and_writes_full_resolution(open_view, run):
    viewer, dock = open_view(EverythingWidget, zoom=0.12)
    text = run(dock)
    level, rows, _ = read(viewer.layers["huge"])
    assert level > 0 and f"at 1 : {2**level}" in text
    square = np.asarray(
        viewer.layers["huge objects"].data[0][
            PLACE[0] - 8 : PLACE[0] + SQUARE + 8, PLACE[1] : PLACE[1] + SQUARE
        ]
    )
    inside = square[8 + 2**level : 8 + SQUARE - 2**level]
    assert inside.min() == inside.max() > 0


def test_without_it_the_whole_plane_is_looked_at_as_a_coarse_copy(open_view, run):
    viewer, dock = open_view(EdgesWidget)
    dock.view.setChecked(False)
    run(dock)
    edges, whole = viewer.layers["huge edges"], viewer.layers["huge"]
    assert max(edges.data.shape) < 2 * SIDE
    np.testing.assert_allclose(edges.data_to_world(np.array(edges.data.shape) - 0.5), (HUGE, HUGE), atol=40)
    assert whole.data[0].shape == (HUGE, HUGE)


def test_edges_in_view_lie_where_they_are(open_view, run):
    viewer, dock = open_view(EdgesWidget, scale=(0.5, 0.5), rotate=20, translate=(3, 4))
    look(viewer, viewer.layers["huge"].data_to_world(PLACE), 4)
    run(dock)
    image, edges = viewer.layers["huge"], viewer.layers["huge edges"]
    _, rows, columns = read(image)
    assert edges.data.shape == (SIDE, SIDE)
    np.testing.assert_allclose(edges.data_to_world((0, 0)), image.data_to_world((rows[0], columns[0])))
    np.testing.assert_allclose(
        edges.data_to_world((5, 9)), image.data_to_world((rows[0] + 5, columns[0] + 9))
    )
    y, x = PLACE[0] - rows[0], PLACE[1] - columns[0]
    assert edges.data[y, x + 9] == 1 and edges.data[y + 9, x + 9] == 0


def test_only_boxes_in_view_are_asked_about(open_view, run):
    def box(y, x):
        return np.array([[y, x], [y, x + SQUARE], [y + SQUARE, x + SQUARE], [y + SQUARE, x]])

    far = (40_960, 40_960)
    boxes = Shapes(
        [box(*far), box(*PLACE)], shape_type="rectangle", name="boxes", features={"score": [0.1, 0.8]}
    )
    viewer, dock = open_view(BoxesWidget, boxes)
    text = run(dock)
    assert text.startswith("Found 1 object in 1 box, now in 'huge in boxes'.")
    labels = viewer.layers["huge in boxes"]
    assert labels.features["score"].tolist() == [0.8]
    assert labels.features[["y0", "x0"]].to_numpy().tolist() == [list(PLACE)]
    assert labels.data[0][PLACE] == 1 and labels.data[0][far] == 0


def test_no_box_in_view_is_said(open_view, run, told):
    box = np.array([[1000, 1000], [1000, 1100], [1100, 1100], [1100, 1000]])
    _, dock = open_view(BoxesWidget, Shapes([box], shape_type="rectangle", name="boxes"))
    assert run(dock) == "The layer 'boxes' has no rectangle on what is seen of this plane."


def test_a_picture_that_is_looked_at_whole_has_no_views(open_task, picture):
    _, dock = open_task(EverythingWidget, Image(picture))
    assert dock.view.isHidden()
