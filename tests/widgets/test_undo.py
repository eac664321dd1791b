"""Undo and redo in a real napari window: prompts, choices of masks, commits, and what is painted by hand."""

import numpy as np
import pytest

pytest.importorskip("napari")

from napari.layers import Image, Labels, Points, Shapes
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from window import canvas_position, click_on, picture, press, settle

UNDO, REDO = "Control-Z", "Control-Shift-Z"


@pytest.fixture
def undo(qtbot):
    """Press a key for undo or redo on the canvas and wait for the answer."""

    def press_it(viewer, dock, key=UNDO, times=1):
        for _ in range(times):
            press(viewer, key)
            settle(qtbot, dock)

    return press_it


def commit(qtbot, viewer, dock, *points):
    click_on(qtbot, dock, *points)
    press(viewer, "N")
    settle(qtbot, dock)


# --- prompts --------------------------------------------------------------------------------------------


def test_each_prompt_is_taken_back_and_made_again(open_dock, qtbot, undo):
    viewer, dock = open_dock(Image(picture(), name="cells"))
    points = dock.canvas.points
    click_on(qtbot, dock, (20, 20))
    dock.use("background")
    click_on(qtbot, dock, (45, 30))
    colours = points.face_color.copy()
    undo(viewer, dock)
    np.testing.assert_array_equal(points.data, [[20, 20]])
    assert len(dock.session.state.masks.iou) == 3
    undo(viewer, dock)
    assert len(points.data) == 0 and dock.session.state.masks is None
    undo(viewer, dock)  # nothing is left to undo
    undo(viewer, dock, REDO, times=3)
    np.testing.assert_array_equal(points.data, [[20, 20], [45, 30]])
    assert list(points.features["prompt"]) == ["foreground", "background"]
    np.testing.assert_array_equal(points.face_color, colours)
    assert [str(symbol) for symbol in points.symbol] == ["disc", "x"]
    np.testing.assert_array_equal(dock.session._prompts.labels, [1, 0])


def test_a_point_that_was_moved_or_deleted_goes_back(open_dock, qtbot, undo):
    viewer, dock = open_dock(Image(picture()))
    points = dock.canvas.points
    click_on(qtbot, dock, (20, 20))
    points.data = [[45.0, 30.0]]
    settle(qtbot, dock)
    points.selected_data = {0}
    points.remove_selected()
    settle(qtbot, dock)
    undo(viewer, dock)
    np.testing.assert_array_equal(dock.session.state.mask, picture() == 200)
    undo(viewer, dock)
    np.testing.assert_array_equal(dock.session.state.mask, picture() == 100)


def test_a_choice_of_mask_is_taken_back(open_dock, qtbot, undo):
    viewer, dock = open_dock(Image(picture()))
    click_on(qtbot, dock, (20, 20))
    dock.masks.buttons[2].click()
    press(viewer, "Control-1")
    undo(viewer, dock)
    assert dock.masks.buttons[2].isChecked()
    undo(viewer, dock)
    assert dock.masks.buttons[1].isChecked() and not dock.session.state.picked
    undo(viewer, dock, REDO)
    assert dock.masks.buttons[2].isChecked()


def test_after_undo_a_mask_is_what_it_was_before_the_correction(open_dock, qtbot, undo):
    viewer, dock = open_dock(Image(picture()))
    click_on(qtbot, dock, (20, 20))
    dock.masks.buttons[2].click()
    click_on(qtbot, dock, (25, 30))
    click_on(qtbot, dock, (26, 31))
    undo(viewer, dock)
    assert [len(asked.points) for asked in dock.session._engine.asked[-2:]] == [1, 2]
    np.testing.assert_array_equal(dock.session._engine.asked[-1].mask, [[8, 9], [10, 11]])
    undo(viewer, dock)
    assert dock.masks.buttons[2].isChecked() and len(dock.session.state.masks.iou) == 3


def test_boxes_and_outlines_come_back_as_they_looked(open_dock, qtbot, undo):
    viewer, dock = open_dock(Image(picture()))
    shapes = dock.canvas.shapes
    shapes.add_rectangles([[10, 15], [10, 39], [29, 39], [29, 15]], edge_color="red", edge_width=3)
    settle(qtbot, dock)
    shapes.add_polygons([[42, 8], [42, 50], [52, 50], [52, 8]])
    settle(qtbot, dock)
    undo(viewer, dock)
    assert shapes.shape_type == ["rectangle"]
    press(viewer, "U")
    settle(qtbot, dock)
    undo(viewer, dock)
    assert shapes.shape_type == ["rectangle"] and shapes.edge_width == [3]
    np.testing.assert_array_equal(shapes.edge_color, [[1, 0, 0, 1]])
    np.testing.assert_array_equal(dock.session._prompts.box, [10, 15, 29, 39])
    undo(viewer, dock, REDO, times=2)
    assert len(shapes.data) == 0


def test_cleared_prompts_come_back(open_dock, qtbot, undo):
    viewer, dock = open_dock(Image(picture()))
    click_on(qtbot, dock, (20, 20), (25, 30))
    press(viewer, "U")
    undo(viewer, dock)
    assert len(dock.canvas.points.data) == 2 and dock.session.state.mask is not None


def test_undo_shows_the_plane_that_it_is_about(open_dock, qtbot, undo):
    viewer, dock = open_dock(Image(np.stack([picture(), picture().T]), name="stack"))
    viewer.dims.set_point(0, 0)
    settle(qtbot, dock)
    click_on(qtbot, dock, (0, 20, 20), (0, 25, 30))
    dock.masks.buttons[0].click()
    viewer.dims.set_point(0, 1)
    settle(qtbot, dock)
    undo(viewer, dock)
    assert viewer.dims.point[0] == 0 and len(dock.canvas.points.data) == 2


def test_a_choice_stays_when_one_looks_at_another_plane_and_back(open_dock, qtbot):
    viewer, dock = open_dock(Image(np.stack([picture(), picture().T]), name="stack"))
    viewer.dims.set_point(0, 0)
    settle(qtbot, dock)
    click_on(qtbot, dock, (0, 20, 20))
    dock.masks.buttons[2].click()
    for plane in (1, 0):
        viewer.dims.set_point(0, plane)
        settle(qtbot, dock)
    assert dock.session.state.chosen == 2 and dock.session.state.picked


def test_prompts_in_layers_of_the_user_keep_their_own_features(open_dock, qtbot, undo):
    mine = Points([[20.0, 20.0]], name="mine", features={"who": ["me"]}, size=7)
    viewer, dock = open_dock(Image(picture()), mine, Shapes(ndim=2, name="drawn"))
    dock.points.choose(mine)
    settle(qtbot, dock)
    mine.selected_data = {0}
    mine.remove_selected()
    settle(qtbot, dock)
    undo(viewer, dock)
    assert list(mine.features["who"]) == ["me"] and list(mine.size) == [7]
    np.testing.assert_array_equal(dock.session.state.mask, picture() == 100)


def test_what_was_drawn_on_layers_that_are_gone_is_passed_over(open_dock, qtbot, undo):
    viewer, dock = open_dock(Image(picture()))
    click_on(qtbot, dock, (20, 20))
    viewer.layers.remove(dock.canvas.points)
    settle(qtbot, dock)
    undo(viewer, dock)
    assert len(dock.canvas.points.data) == 0
    click_on(qtbot, dock, (45, 30))
    undo(viewer, dock)
    assert len(dock.canvas.points.data) == 0


# --- commits --------------------------------------------------------------------------------------------


def test_an_undone_commit_gives_its_prompts_back_to_be_corrected(open_dock, qtbot, undo):
    viewer, dock = open_dock(Image(picture(), name="cells"))
    click_on(qtbot, dock, (20, 20))
    dock.masks.buttons[2].click()
    press(viewer, "N")
    settle(qtbot, dock)
    labels = viewer.layers["cells objects"]
    undo(viewer, dock)
    assert not labels.data.any() and len(labels.features) == 0
    np.testing.assert_array_equal(dock.canvas.points.data, [[20, 20]])
    assert dock.masks.buttons[2].isChecked() and dock.commit_button.isEnabled()
    undo(viewer, dock, REDO)
    assert labels.data.sum() == 22 * 27 - 4 and len(dock.canvas.points.data) == 0
    assert labels.features["area"].tolist() == [22 * 27 - 4]
    assert labels.features["prompts"].tolist() == [1]


def test_the_labels_layers_own_key_goes_back_commit_by_commit(open_dock, qtbot, undo):
    viewer, dock = open_dock(Image(picture(), name="cells"))
    commit(qtbot, viewer, dock, (20, 20))
    commit(qtbot, viewer, dock, (45, 30))
    click_on(qtbot, dock, (0, 0))
    labels = viewer.layers.selection.active = viewer.layers["cells objects"]
    undo(viewer, dock)
    np.testing.assert_array_equal(labels.data, picture() == 100)
    np.testing.assert_array_equal(dock.canvas.points.data, [[45, 30]])
    undo(viewer, dock)
    assert not labels.data.any()
    undo(viewer, dock, REDO, times=2)
    np.testing.assert_array_equal(labels.data, picture() // 100)
    assert labels.features["index"].tolist() == [1, 2]


def test_what_is_painted_by_hand_is_undone_in_its_turn_and_counted(open_dock, qtbot, undo):
    viewer, dock = open_dock(Image(picture(), name="cells"))
    commit(qtbot, viewer, dock, (20, 20))
    labels = viewer.layers["cells objects"]
    labels.selected_label, labels.brush_size = 2, 3
    labels.paint((20, 20), 2)
    labels.paint((60, 60), 2)
    assert dict(zip(labels.features["index"], labels.features["area"], strict=True)) == {1: 491, 2: 18}
    click_on(qtbot, dock, (45, 30))
    undo(viewer, dock, times=3)
    assert dict(zip(labels.features["index"], labels.features["area"], strict=True)) == {1: 500}
    np.testing.assert_array_equal(labels.data, picture() == 100)
    undo(viewer, dock, REDO)
    assert labels.data[20, 20] == 2


def test_an_object_painted_over_altogether_has_no_row_until_that_is_undone(open_dock, qtbot, undo):
    viewer, dock = open_dock(Image(picture(), name="cells"))
    commit(qtbot, viewer, dock, (20, 20))
    labels = viewer.layers["cells objects"]
    labels.fill((20, 20), 0)
    assert len(labels.features) == 0
    undo(viewer, dock)
    assert labels.features["predicted_iou"].tolist() == [pytest.approx(0.9)]


def test_what_was_painted_before_the_dock_was_opened_can_be_undone_and_redone(open_dock, qtbot, undo):
    mine = Labels(np.zeros((64, 64), int), name="mine")
    mine.paint((3, 3), 5)
    viewer, dock = open_dock(Image(picture()), mine)
    dock.labels.choose(mine)
    commit(qtbot, viewer, dock, (20, 20))
    viewer.layers.selection.active = mine
    undo(viewer, dock, times=3)
    assert not mine.data.any() and len(mine.features) == 0
    undo(viewer, dock, REDO)
    assert mine.data.max() == 5
    undo(viewer, dock, REDO)
    assert mine.data.max() == 6 and mine.data[20, 20] == 6


def test_a_labels_layer_that_the_dock_has_nothing_to_do_with_keeps_its_own_undo(open_dock, qtbot, undo):
    other = Labels(np.zeros((64, 64), int), name="other")
    viewer, dock = open_dock(Image(picture(), name="cells"), other)
    commit(qtbot, viewer, dock, (20, 20))
    other.paint((3, 3), 5)
    viewer.layers.selection.active = other
    undo(viewer, dock)
    assert not other.data.any() and viewer.layers["cells objects"].data.any()


def test_a_labels_layer_that_is_gone_is_passed_over(open_dock, qtbot, undo):
    viewer, dock = open_dock(Image(picture(), name="cells"))
    commit(qtbot, viewer, dock, (20, 20))
    viewer.layers.remove("cells objects")
    settle(qtbot, dock)
    click_on(qtbot, dock, (45, 30))
    undo(viewer, dock)
    assert len(dock.canvas.points.data) == 0


def test_closing_the_dock_gives_the_labels_layer_its_keys_back(open_dock, qtbot):
    viewer, dock = open_dock(Image(picture(), name="cells"))
    commit(qtbot, viewer, dock, (20, 20))
    labels = viewer.layers["cells objects"]
    assert labels.keymap
    viewer.window.remove_dock_widget(dock)
    assert not labels.keymap
    viewer.layers.selection.active = labels
    press(viewer, UNDO)
    assert not labels.data.any()


# --- with the mouse -------------------------------------------------------------------------------------


def test_a_box_that_is_dragged_is_one_step(open_dock, qtbot):
    image = Image(picture(), name="cells", scale=(2, 2))
    viewer, dock = open_dock(image, show=True)
    viewer.reset_view()
    qtbot.wait(100)
    native = viewer.window._qt_viewer.canvas.native
    QTest.keyClick(native, Qt.Key.Key_G)
    start, stop = (canvas_position(viewer, image.data_to_world(corner)) for corner in [(38, 3), (57, 62)])
    QTest.mousePress(native, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, start)
    for share in (0.3, 0.6, 1.0):
        QTest.mouseMove(native, start + (stop - start) * share)
        qtbot.wait(60)  # longer than the dock waits before it asks
    QTest.mouseRelease(native, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, stop)
    settle(qtbot, dock)
    assert dock.session.state.mask is not None
    QTest.keyClick(native, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    settle(qtbot, dock)
    assert len(dock.canvas.shapes.data) == 0 and dock.session.state.masks is None
    both = Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier
    QTest.keyClick(native, Qt.Key.Key_Z, both)
    settle(qtbot, dock)
    np.testing.assert_allclose(dock.session._prompts.box, [38, 3, 57, 62], atol=1)


def test_undo_in_the_middle_of_a_polygon_ends_it(open_dock, qtbot):
    image = Image(picture(), name="cells")
    viewer, dock = open_dock(image, show=True)
    viewer.reset_view()
    dock.use("add_polygon")
    qtbot.wait(100)
    native = viewer.window._qt_viewer.canvas.native
    for corner in [(42, 8), (42, 50), (52, 50)]:
        where = canvas_position(viewer, corner)
        QTest.mouseMove(native, where)
        QTest.mouseClick(native, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, where)
        qtbot.wait(60)
    QTest.keyClick(native, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    settle(qtbot, dock)
    assert len(dock.canvas.shapes.data) == 0
    click_on(qtbot, dock, (20, 20))
    assert dock.session.state.mask is not None
