"""The table of objects in a real napari window: select, re-open, merge, delete, review."""

import numpy as np
import pytest

pytest.importorskip("napari")

from napari.layers import Image, Labels
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from window import click_on, picture, press, settle

from napari_samscape.widgets.records import PROMPTS

UNDO, REDO = "Control-Z", "Control-Shift-Z"
BOTH = [(20, 20), (45, 30)]


@pytest.fixture
def open_objects(open_dock, qtbot):
    """Open a viewer with the picture and the dock, and commit an object for each place."""

    def open_it(*places, image=None, show=False):
        viewer, dock = open_dock(image or Image(picture(), name="cells"), show=show)
        for place in places:
            click_on(qtbot, dock, place)
            press(viewer, "N")
            settle(qtbot, dock)
        return viewer, dock, dock.labels.layer

    return open_it


def cells(dock):
    """What the table shows, row by row."""
    model = dock.objects.model
    return [[model.data(model.index(row, column)) for column in range(4)] for row in range(model.rowCount())]


def click_row(dock, row, modifier=Qt.KeyboardModifier.NoModifier, double=False):
    view = dock.objects.view
    where = view.visualRect(dock.objects.model.index(row, 1)).center()
    click = QTest.mouseDClick if double else QTest.mouseClick
    QTest.mouseClick(view.viewport(), Qt.MouseButton.LeftButton, modifier, where)
    if double:
        click(view.viewport(), Qt.MouseButton.LeftButton, modifier, where)


def press_and_settle(qtbot, viewer, dock, key):
    press(viewer, key)
    settle(qtbot, dock)


# --- the table ------------------------------------------------------------------------------------------


def test_each_object_has_a_row_with_what_is_known_of_it(open_objects, qtbot):
    viewer, dock, labels = open_objects(*BOTH)
    assert cells(dock) == [["1", "500", "0.90", "1"], ["2", "825", "0.90", "1"]]
    row = labels.features.set_index("index").loc[2]
    assert (row["y0"], row["x0"], row["y1"], row["x1"], row["area"]) == (40, 5, 55, 60, 825)
    press_and_settle(qtbot, viewer, dock, UNDO)
    assert cells(dock) == [["1", "500", "0.90", "1"]]


def test_the_prompts_of_an_object_go_with_its_layer_as_plain_data(open_objects):
    _, _, labels = open_objects(BOTH[0])
    assert labels.metadata[PROMPTS] == {
        1: {
            "image": "cells",
            "axes": [0, 1],
            "position": [0, 0],
            "points": [[20.0, 20.0]],
            "labels": [1],
            "shapes": [],
            "turns": [[1, None]],
        }
    }


def test_rows_are_sorted_by_any_column(open_objects):
    _, dock, _ = open_objects(*BOTH)
    dock.objects.view.sortByColumn(1, Qt.SortOrder.DescendingOrder)
    assert [row[0] for row in cells(dock)] == ["2", "1"]


def test_objects_that_were_there_before_have_rows_too(open_dock, qtbot):
    mine = Labels((picture() > 0).astype(int) * 7, name="mine", features={"index": [7], "who": ["me"]})
    _, dock = open_dock(Image(picture()), mine, Labels((picture() == 100).astype(int), name="other"))
    dock.labels.choose(mine)
    assert cells(dock) == [["7", "1\u202f325", "", ""]] and mine.features["who"].tolist() == ["me"]
    dock.labels.choose(dock.viewer.layers["other"])
    assert cells(dock) == [["1", "500", "", ""]]
    dock.labels.choose(None)
    assert cells(dock) == []


# --- both ways ------------------------------------------------------------------------------------------


def test_a_row_that_is_clicked_selects_the_label_and_centres_the_view(open_objects, qtbot):
    image = Image(picture(), name="cells", scale=(2, 3), translate=(5, 7))
    viewer, dock, labels = open_objects(*BOTH, image=image, show=True)
    viewer.scene.camera.zoom = 10
    click_row(dock, 0)
    assert labels.selected_label == 1
    np.testing.assert_allclose(viewer.scene.camera.center, (0, 2 * 19.5 + 5, 3 * 27 + 7))


def test_a_label_that_is_selected_selects_the_row_and_leaves_the_view_alone(open_objects):
    viewer, dock, labels = open_objects(*BOTH)
    centre = viewer.scene.camera.center
    for value in (1, 2):
        labels.selected_label = value
        assert dock.objects.chosen() == [value]
    labels.selected_label = 9
    assert dock.objects.chosen() == [] and viewer.scene.camera.center == centre


def test_a_row_brings_its_plane_into_view(open_dock, qtbot):
    viewer, dock = open_dock(
        Image(np.stack([picture(), picture().T]), name="stack", scale=(3, 1, 1)), show=True
    )
    viewer.dims.set_point(0, 0)
    settle(qtbot, dock)
    click_on(qtbot, dock, (0, 20, 20))
    press_and_settle(qtbot, viewer, dock, "N")
    viewer.dims.set_point(0, 3)
    settle(qtbot, dock)
    click_row(dock, 0)
    assert viewer.dims.point[0] == 0


# --- re-open --------------------------------------------------------------------------------------------


def test_an_object_is_re_opened_with_its_prompts_and_replaced(open_objects, qtbot):
    viewer, dock, labels = open_objects()
    click_on(qtbot, dock, (20, 20))
    dock.masks.buttons[2].click()
    press_and_settle(qtbot, viewer, dock, "N")
    labels = dock.labels.layer
    click_on(qtbot, dock, (45, 30))
    press_and_settle(qtbot, viewer, dock, "N")
    labels.selected_label = 1
    press_and_settle(qtbot, viewer, dock, "H")
    np.testing.assert_array_equal(dock.canvas.points.data, [[20, 20]])
    assert dock.masks.buttons[2].isChecked() and dock.commit_button.text() == "Replace object 1 (N)"
    press(viewer, "Control-1")
    press_and_settle(qtbot, viewer, dock, "N")
    assert cells(dock) == [["1", str(18 * 23), "0.50", "1"], ["2", "825", "0.90", "1"]]
    assert (labels.data == 1).sum() == 18 * 23 and dock.commit_button.text() == "Commit (N)"
    press_and_settle(qtbot, viewer, dock, UNDO)
    assert (labels.data == 1).sum() == 22 * 27 - 4 and dock.commit_button.text() == "Replace object 1 (N)"
    for _ in range(2):  # the choice, and the re-opening
        press_and_settle(qtbot, viewer, dock, UNDO)
    assert len(dock.canvas.points.data) == 0 and dock.commit_button.text() == "Commit (N)"


def test_a_corrected_object_is_asked_turn_by_turn_when_it_is_re_opened(open_objects, qtbot):
    viewer, dock, _ = open_objects()
    click_on(qtbot, dock, (20, 20))
    dock.masks.buttons[2].click()
    click_on(qtbot, dock, (25, 30))
    press_and_settle(qtbot, viewer, dock, "N")
    press_and_settle(qtbot, viewer, dock, "H")
    asked = dock.session._engine.asked[-2:]
    assert [len(prompts.points) for prompts in asked] == [1, 2]
    np.testing.assert_array_equal(asked[-1].mask, [[8, 9], [10, 11]])


def test_boxes_and_background_points_are_re_opened_too(open_objects, qtbot):
    viewer, dock, _ = open_objects()
    dock.canvas.shapes.add_rectangles([[10, 15], [10, 39], [29, 39], [29, 15]])
    click_on(qtbot, dock, (20, 20))
    dock.use("background")
    click_on(qtbot, dock, (45, 30))
    press_and_settle(qtbot, viewer, dock, "N")
    assert cells(dock)[0][3] == "3"
    press_and_settle(qtbot, viewer, dock, "H")
    np.testing.assert_array_equal(dock.session._prompts.box, [10, 15, 29, 39])
    np.testing.assert_array_equal(dock.session._prompts.points, [[20, 20], [45, 30]])
    np.testing.assert_array_equal(dock.session._prompts.labels, [1, 0])
    assert [str(symbol) for symbol in dock.canvas.points.symbol] == ["disc", "x"]


def test_an_object_on_another_plane_is_re_opened_there(open_dock, qtbot):
    viewer, dock = open_dock(
        Image(np.stack([picture(), picture().T]), name="stack", scale=(3, 1, 1)), show=True
    )
    viewer.dims.set_point(0, 0)
    settle(qtbot, dock)
    click_on(qtbot, dock, (0, 20, 20))
    press_and_settle(qtbot, viewer, dock, "N")
    viewer.dims.set_point(0, 3)
    settle(qtbot, dock)
    dock.use("foreground")
    click_on(qtbot, dock, (1, 30, 45))
    click_row(dock, 0, double=True)
    settle(qtbot, dock)
    assert viewer.dims.point[0] == 0
    np.testing.assert_array_equal(dock.canvas.points.data, [[1, 30, 45], [0, 20, 20]])
    np.testing.assert_array_equal(dock.session.state.mask, picture() == 100)


def test_clearing_the_prompts_ends_the_editing(open_objects, qtbot):
    viewer, dock, labels = open_objects(BOTH[0])
    press_and_settle(qtbot, viewer, dock, "H")
    press_and_settle(qtbot, viewer, dock, "U")
    assert dock.commit_button.text() == "Commit (N)"
    click_on(qtbot, dock, BOTH[1])
    press_and_settle(qtbot, viewer, dock, "N")
    assert labels.data.max() == 2 and (labels.data == 1).sum() == 500


def test_an_edit_that_would_leave_nothing_is_told_and_changes_nothing(open_objects, qtbot, told):
    viewer, dock, labels = open_objects(*BOTH)
    labels.selected_label = 1
    press_and_settle(qtbot, viewer, dock, "H")
    dock.canvas.points.data = [BOTH[1]]
    settle(qtbot, dock)
    press_and_settle(qtbot, viewer, dock, "N")
    assert told[-1].startswith("Nothing was written")
    np.testing.assert_array_equal(labels.data, picture() // 100)
    np.testing.assert_array_equal(dock.canvas.points.data, [BOTH[1]])


def test_what_was_painted_by_hand_has_no_prompts_to_re_open(open_objects, qtbot, told):
    viewer, dock, labels = open_objects(BOTH[0])
    labels.paint((60, 60), 2)
    labels.selected_label = 2
    press_and_settle(qtbot, viewer, dock, "H")
    assert told[-1].startswith("Object 2 cannot be re-opened")


def test_an_object_of_an_image_that_is_gone_says_so(open_objects, qtbot, told):
    viewer, dock, _ = open_objects(BOTH[0])
    viewer.layers.remove("cells")
    settle(qtbot, dock)
    press_and_settle(qtbot, viewer, dock, "H")
    assert told == ["Object 1 was found in the image 'cells', which is not open."]


# --- merge, delete, extend ------------------------------------------------------------------------------


def test_objects_are_merged_under_the_lowest_id(open_objects, qtbot):
    viewer, dock, labels = open_objects(*BOTH, show=True)
    click_row(dock, 1)
    click_row(dock, 0, Qt.KeyboardModifier.ControlModifier)
    dock.objects.merge.click()
    settle(qtbot, dock)
    np.testing.assert_array_equal(labels.data, picture() > 0)
    assert cells(dock) == [["1", "1\u202f325", "", "2"]] and labels.metadata[PROMPTS] == {}
    press_and_settle(qtbot, viewer, dock, UNDO)
    np.testing.assert_array_equal(labels.data, picture() // 100)
    assert cells(dock) == [["1", "500", "0.90", "1"], ["2", "825", "0.90", "1"]]
    assert list(labels.metadata[PROMPTS]) == [1, 2]


def test_objects_are_deleted_and_come_back(open_objects, qtbot):
    viewer, dock, labels = open_objects(*BOTH, show=True)
    click_row(dock, 0)
    dock.objects.delete.click()
    settle(qtbot, dock)
    np.testing.assert_array_equal(labels.data, 2 * (picture() == 200))
    assert [row[0] for row in cells(dock)] == ["2"]
    press_and_settle(qtbot, viewer, dock, UNDO)
    assert [row[0] for row in cells(dock)] == ["1", "2"] and (labels.data == 1).sum() == 500
    press_and_settle(qtbot, viewer, dock, REDO)
    assert [row[0] for row in cells(dock)] == ["2"]


def test_an_extended_object_has_all_its_prompts_counted(open_objects, qtbot):
    viewer, dock, labels = open_objects(BOTH[0])
    dock.extend.setChecked(True)
    click_on(qtbot, dock, BOTH[1])
    press_and_settle(qtbot, viewer, dock, "N")
    assert cells(dock) == [["1", "1\u202f325", "", "2"]]
    row = labels.features.iloc[0]
    assert (row["y0"], row["x0"], row["y1"], row["x1"]) == (10, 5, 55, 60)


def test_buttons_are_there_for_what_is_selected(open_objects):
    _, dock, labels = open_objects(*BOTH)
    buttons = (dock.objects.edit, dock.objects.merge, dock.objects.delete)
    for ids, enabled in (([], (0, 0, 0)), ([1], (1, 0, 1)), ([1, 2], (0, 1, 1))):
        dock.objects.select(ids)
        assert tuple(int(button.isEnabled()) for button in buttons) == enabled


# --- review ---------------------------------------------------------------------------------------------


def test_the_uncertain_ones_are_gone_through_in_order(open_objects, told):
    viewer, dock, labels = open_objects(*BOTH)
    features = labels.features.copy()
    features["predicted_iou"] = [0.8, 0.4]
    labels.features = features
    labels.paint((60, 60), 3)
    dock.desk._show()
    labels.selected_label = 0
    seen = []
    for key in "JJJK":
        press(viewer, key)
        seen.append(int(labels.selected_label))
    assert seen == [2, 1, 1, 2] and dock.objects.chosen() == [2]
    assert told == ["That was the last one."]
    np.testing.assert_allclose(viewer.scene.camera.center, (0, 47, 32))


def test_without_any_predicted_iou_the_review_says_so(open_objects, told):
    viewer, _, _ = open_objects()
    press(viewer, "J")
    assert told == ["No object has a predicted IoU to go by."]
