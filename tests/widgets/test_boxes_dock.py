"""The Boxes dock in a real napari window; what it shares with Everything is tested there."""

import threading

import numpy as np
import pytest

pytest.importorskip("napari")

from fake_engine import FakeEngine
from napari.layers import Image, Labels, Shapes

from napari_samscape.widgets.boxes import BoxesWidget

# Round the two objects of the picture, and one in the dark.
FIRST, SECOND, DARK = (9, 14, 31, 41), (39, 4, 56, 61), (0, 0, 6, 6)


def corners(y0, x0, y1, x1):
    return np.array([[y0, x0], [y0, x1], [y1, x1], [y1, x0]], dtype=float)


def drawn(*boxes, **kwargs):
    return Shapes([corners(*box) for box in boxes], shape_type="rectangle", **{"name": "boxes", **kwargs})


@pytest.fixture
def open_dock(open_task):
    return lambda *layers, **kwargs: open_task(BoxesWidget, *layers, **kwargs)


def test_run_finds_the_object_in_each_box(open_dock, run, picture):
    shapes = drawn(SECOND, FIRST, features={"class": ["plate", "card"], "score": [0.5, 0.75]})
    viewer, dock = open_dock(Image(picture, name="cells"), shapes)
    assert run(dock) == "Found 2 objects in 2 boxes, now in 'cells in boxes'."
    labels = viewer.layers["cells in boxes"]
    np.testing.assert_array_equal(labels.data, np.where(picture > 0, 3 - picture // 100, 0))
    assert labels.features.to_dict("list") == {
        "index": [1, 2],
        "y0": [40, 10],
        "x0": [5, 15],
        "y1": [55, 30],
        "x1": [60, 40],
        "area": [825, 500],
        "predicted_iou": [0.9, 0.9],
        "class": ["plate", "card"],
        "score": [0.5, 0.75],
    }
    np.testing.assert_array_equal(dock._engine.options.boxes, [SECOND, FIRST])


def test_class_and_score_can_be_other_columns_or_none(open_dock, run, picture):
    shapes = drawn(FIRST, features={"score": [0.5], "kind": [3.0], "sure": [1]})
    viewer, dock = open_dock(Image(picture, name="cells"), shapes)
    assert (dock.classes.column, dock.scores.column) == (None, "score")
    dock.classes.setCurrentText("kind")
    dock.scores.setCurrentText("None")
    run(dock)
    features = viewer.layers["cells in boxes"].features
    assert list(features["class"]) == [3] and "score" not in features


def test_columns_added_later_are_offered(open_dock, picture):
    shapes = drawn(FIRST)
    _, dock = open_dock(Image(picture), shapes)
    assert [dock.classes.itemText(i) for i in range(dock.classes.count())] == ["None"]
    shapes.features = {"category": ["x"]}
    assert dock.classes.column == "category" and dock.scores.column is None


def test_scores_that_are_no_numbers_are_told_in_a_sentence(open_dock, run, picture, told):
    _, dock = open_dock(Image(picture), drawn(FIRST, features={"score": ["high"]}))
    assert run(dock) == told[0] == "The column 'score' must hold numbers as scores; 'high' is none."


def test_boxes_left_empty_are_reported_and_keep_their_number(open_dock, run, picture, told):
    viewer, dock = open_dock(Image(picture, name="cells"), drawn(DARK, FIRST, (90, 90, 99, 99)))
    text = run(dock)
    assert text == "Found 1 object in 3 boxes, now in 'cells in boxes'. Nothing was found in boxes 1, 3."
    assert told == ["Nothing was found in boxes 1, 3."]
    labels = viewer.layers["cells in boxes"]
    np.testing.assert_array_equal(labels.data, 2 * (picture == 100))
    assert list(labels.features["index"]) == [1, 2, 3] and list(labels.features["area"]) == [0, 500, 0]


def test_all_boxes_empty_is_an_empty_layer(open_dock, run, picture, told):
    viewer, dock = open_dock(Image(picture, name="cells"), drawn(DARK))
    assert run(dock).startswith("Found 0 objects in 1 box")
    assert not viewer.layers["cells in boxes"].data.any()


def test_of_a_rotated_rectangle_the_box_round_it_counts_and_other_shapes_do_not(
    open_dock, run, picture, told
):
    shapes = drawn(name="mixed", ndim=2)
    shapes.add_rectangles(np.array([[20, 10], [34, 27], [20, 44], [6, 27]]))
    shapes.add_ellipses(corners(*SECOND))
    _, dock = open_dock(Image(picture, name="cells"), shapes)
    assert run(dock).endswith("now in 'cells in boxes'. 1 other shape was left out.")
    assert told == ["1 other shape was left out."]
    np.testing.assert_allclose(dock._engine.options.boxes, [[6, 10, 34, 44]])


def test_boxes_are_carried_through_the_world(open_dock, run, picture):
    image = Image(picture, name="cells", scale=(2, 3), rotate=90, translate=(5, 6))
    world = [image.data_to_world(corner) for corner in corners(*FIRST)]
    viewer, dock = open_dock(image, Shapes([np.array(world)], shape_type="rectangle"))
    run(dock)
    np.testing.assert_allclose(dock._engine.options.boxes, [FIRST], atol=1e-6)
    labels = viewer.layers["cells in boxes"]
    np.testing.assert_array_equal(labels.data, picture == 100)
    np.testing.assert_allclose(labels.data_to_world((3, 4)), image.data_to_world((3, 4)))


def test_of_a_stack_the_boxes_on_the_plane_shown_count(open_dock, run, picture, told):
    boxes = [np.insert(corners(*box), 0, plane, axis=1) for plane, box in ((0, SECOND), (1, FIRST))]
    shapes = Shapes(boxes, shape_type="rectangle", name="boxes", features={"class": ["a", "b"]})
    viewer, dock = open_dock(Image(np.stack([picture] * 3), name="stack"), shapes)
    viewer.dims.set_point(0, 1)
    run(dock)
    labels = viewer.layers["stack in boxes"]
    np.testing.assert_array_equal(labels.data, [picture * 0, picture == 100, picture * 0])
    assert list(labels.features["class"]) == ["b"]
    viewer.dims.set_point(0, 2)
    assert run(dock) == told[-1] == "The layer 'boxes' has no rectangle on this plane."
    assert not dock.all_planes.isVisibleTo(dock)


def test_rgb_images_work(open_dock, run, picture):
    image = Image(np.repeat(picture[..., None], 3, axis=2), rgb=True, name="colour")
    viewer, dock = open_dock(image, drawn(SECOND))
    run(dock)
    np.testing.assert_array_equal(viewer.layers["colour in boxes"].data, picture == 200)


def test_a_chosen_layer_gets_free_ids(open_dock, run, picture, told):
    mine = Labels(np.zeros((64, 64), int), name="mine")
    mine.data[0, 0] = 6
    _, dock = open_dock(Image(picture), mine, drawn(FIRST, DARK))
    dock.labels.choose(mine)
    assert run(dock).endswith("Nothing was found in box 8.")
    assert mine.data[20, 20] == 7
    mine.undo()
    assert mine.data[20, 20] == 0 and mine.data[0, 0] == 6


def test_without_a_shapes_layer_it_says_what_to_do(open_dock, run, picture, told):
    _, dock = open_dock(Image(picture))
    assert run(dock) == told[0] == "Add a Shapes layer with rectangles first."


def test_without_an_image_there_is_nothing_to_run(open_dock):
    _, dock = open_dock(drawn(FIRST))
    assert dock.status.text.text() == "Open an image to begin." and not dock.run_button.isEnabled()


@pytest.mark.parametrize("what", ["cancel", "remove"])
def test_cancelled_work_and_that_on_a_removed_image_writes_nothing(open_dock, qtbot, picture, what):
    gate = threading.Event()
    viewer, dock = open_dock(Image(picture), drawn(FIRST), engine=lambda name: FakeEngine(name, gate))
    dock.run_button.click()
    qtbot.waitUntil(lambda: dock.status.bar.maximum() == 4)
    if what == "cancel":
        dock.status.cancel.click()
    else:
        viewer.layers.pop(0)
    qtbot.waitUntil(lambda: not dock._jobs.busy)
    assert not any(isinstance(layer, Labels) for layer in viewer.layers)


def test_an_error_is_told_in_a_sentence(open_dock, run, told):
    _, dock = open_dock(Image(np.full((8, 8), np.nan)), drawn((0, 0, 4, 4)))
    run(dock)
    assert told == ["The picture holds values that are not finite."]


def test_two_viewers_know_nothing_of_each_other(open_dock, run, picture):
    one, _ = open_dock(Image(picture, name="one"), drawn(FIRST))
    two, dock = open_dock(Image(picture, name="two"), drawn(SECOND))
    run(dock)
    assert (len(one.layers), len(two.layers)) == (2, 3)
    np.testing.assert_array_equal(two.layers["two in boxes"].data, picture == 200)
