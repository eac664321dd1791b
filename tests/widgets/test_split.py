"""Classes, objects cut by a line, the wheel, and settings, as a person uses them in a real window."""

import json

import numpy as np
import pytest

pytest.importorskip("napari")

from fake_engine import FakeEngine
from napari.layers import Image, Labels
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication
from window import canvas_position, click_on, picture, press, settle

from napari_samscape.widgets.edges import EdgesWidget
from napari_samscape.widgets.everything import EverythingWidget
from napari_samscape.widgets.prompt import PromptWidget
from napari_samscape.widgets.split import split


def drag(qtbot, native, start, stop):
    """Drag with the mouse held down."""
    QTest.mousePress(native, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, start)
    for step in range(1, 6):
        QTest.mouseMove(native, start + (stop - start) * step / 5)
        qtbot.wait(20)
    QTest.mouseRelease(native, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, stop)


def with_objects(classes=False):
    table = {"index": [1, 2], "class": ["nucleus", None]} if classes else None
    return Labels(picture() // 100, name="cells objects", features=table)


# --- split ---


def test_a_line_cuts_what_it_crosses_and_the_largest_part_stays_what_it_was():
    mask = np.zeros((9, 12), bool)
    mask[1:8, 1:11] = True
    mask[8, 11] = True  # touches by a corner only, and the line does not reach it
    parts = split(mask, np.array([[-2, 4], [12, 4]]))
    assert np.unique(parts[1:8, 1:4]).tolist() == [2] and np.unique(parts[1:8, 5:11]).tolist() == [1]
    assert parts[8, 11] == 1 and ((parts > 0) == mask).all()


@pytest.mark.parametrize("line", [[[2, 2], [5, 5]], [[0, 0], [0, 11]], [[20, 20], [30, 40]]])
def test_a_line_that_does_not_cross_cuts_nothing(line):
    mask = np.zeros((9, 12), bool)
    mask[1:8, 1:11] = True
    assert split(mask, np.array(line)).max() == 1


def test_a_line_through_a_ring_opens_it_and_two_lines_would_cut_it():
    y, x = np.indices((21, 21)) - 10
    ring = (y**2 + x**2 < 100) & (y**2 + x**2 > 25)
    assert split(ring, np.array([[10, 0], [10, 10]])).max() == 1
    assert split(ring, np.array([[10, 0], [10, 20]])).max() == 2


def test_an_object_is_cut_by_a_line_drawn_across_it_and_made_whole_by_undo(open_dock, qtbot, told):
    viewer, dock = open_dock(Image(picture(), name="cells"), with_objects(classes=True), show=True)
    dock.labels.choose(viewer.layers["cells objects"])
    settle(qtbot, dock)
    viewer.reset_view()
    qtbot.wait(50)
    native, labels = viewer.window._qt_viewer.canvas.native, viewer.layers["cells objects"]
    dock.objects.select([1])
    dock.objects.divide.click()
    assert viewer.layers.selection.active.name == "Line across object 1" and "Draw a line" in told[-1]
    drag(qtbot, native, canvas_position(viewer, (5, 25)), canvas_position(viewer, (35, 25)))
    settle(qtbot, dock)
    assert "Line across object 1" not in [layer.name for layer in viewer.layers]
    assert viewer.layers.selection.active is dock.canvas.points, "the tool is back in hand"
    assert np.unique(labels.data[10:30, 15:25]).tolist() == [3], "the smaller part has a new number"
    assert np.unique(labels.data[10:30, 26:40]).tolist() == [1]
    table = {row["index"]: row for row in labels.features.to_dict("records")}
    assert table[3]["area"] + table[1]["area"] == 500 and table[3]["class"] == table[1]["class"] == "nucleus"
    press(viewer, "Control-Z")
    np.testing.assert_array_equal(labels.data, picture() // 100)
    assert sorted(labels.features["index"]) == [1, 2]
    dock.objects.select([2])
    dock.objects.divide.click()
    drag(qtbot, native, canvas_position(viewer, (45, 20)), canvas_position(viewer, (46, 30)))
    settle(qtbot, dock)
    assert "does not cut object 2 in two" in told[-1]
    np.testing.assert_array_equal(labels.data, picture() // 100)


# --- classes ---


def test_classes_are_typed_into_the_table_for_all_selected_rows_and_undone(open_dock, qtbot):
    viewer, dock = open_dock(Image(picture(), name="cells"), with_objects())
    labels = viewer.layers["cells objects"]
    dock.labels.choose(labels)
    settle(qtbot, dock)
    dock.objects.select([1, 2])
    model = dock.objects.model
    cell = model.index(1, model.columnCount() - 1)
    assert model.headerData(4, Qt.Orientation.Horizontal) == "Class"
    assert model.flags(cell) & Qt.ItemFlag.ItemIsEditable
    assert not model.flags(model.index(1, 0)) & Qt.ItemFlag.ItemIsEditable
    model.setData(cell, " nucleus ", Qt.ItemDataRole.EditRole)
    settle(qtbot, dock)
    assert labels.features["class"].tolist() == ["nucleus", "nucleus"]
    assert model.data(model.index(0, 4)) == "nucleus"
    dock.objects.select([2])
    model.setData(model.index(0, 4), "", Qt.ItemDataRole.EditRole)
    settle(qtbot, dock)
    assert labels.features.set_index("index")["class"].dropna().to_dict() == {2: "nucleus"}
    press(viewer, "Control-Z")
    press(viewer, "Control-Z")
    settle(qtbot, dock)
    assert "class" not in labels.features or labels.features["class"].isna().all()


# --- wheel and settings ---


def turn(native, where, degrees, modifier):
    event = QWheelEvent(
        QPointF(where), QPointF(native.mapToGlobal(where)), QPoint(0, 0), QPoint(0, 8 * degrees),
        Qt.MouseButton.NoButton, modifier, Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(native, event)


def test_the_wheel_with_shift_goes_through_the_masks_and_without_it_zooms(open_dock, qtbot):
    viewer, dock = open_dock(Image(picture(), name="cells"), show=True)
    viewer.reset_view()
    qtbot.wait(50)
    native = viewer.window._qt_viewer.canvas.native
    click_on(qtbot, dock, (20, 20))
    where, zoom = canvas_position(viewer, (20, 20)), viewer.scene.camera.zoom
    chosen = [dock.session.state.chosen]
    for degrees in (-15, -15, 15):
        turn(native, where, degrees, Qt.KeyboardModifier.ShiftModifier)
        chosen.append(dock.session.state.chosen)
    assert chosen == [1, 2, 0, 2] and viewer.scene.camera.zoom == zoom
    turn(native, where, 15, Qt.KeyboardModifier.NoModifier)
    qtbot.waitUntil(lambda: viewer.scene.camera.zoom != zoom)
    assert dock.session.state.chosen == 2
    press(viewer, "Control-Z")
    settle(qtbot, dock)
    assert dock.session.state.chosen == 0, "a choice is a step like any other"


def test_what_is_set_is_set_the_next_time(make_napari_viewer, qtbot, data_folder, tmp_path):
    checkpoint = tmp_path / "my.safetensors"
    checkpoint.write_bytes(b"")
    viewer = make_napari_viewer()
    docks = [kind(viewer, FakeEngine) for kind in (PromptWidget, EverythingWidget, EdgesWidget)]
    docks[0].preview.setChecked(False)
    docks[0].model.open(str(checkpoint))
    docks[1].options.editors["pred_iou_thresh"].put(0.42)
    docks[2].options.editors["thin"].put(False)
    settings = (docks[0]._settings, docks[1].settings, docks[2].settings)
    qtbot.waitUntil(lambda: not any(each._soon.isActive() for each in settings))
    again = [kind(viewer, FakeEngine) for kind in (PromptWidget, EverythingWidget, EdgesWidget)]
    assert not again[0].preview.isChecked() and again[0].model.currentData() == str(checkpoint)
    assert again[0].session._engine.name == str(checkpoint)
    assert again[1].options.changes() == {"pred_iou_thresh": 0.42} and again[2].options.changes() == {
        "thin": False
    }
    stored = json.loads((data_folder / "settings.json").read_text())
    assert stored["EverythingWidget"]["options"] == {"pred_iou_thresh": 0.42}
    (data_folder / "settings.json").write_text("no JSON")
    assert PromptWidget(viewer, FakeEngine).preview.isChecked()
