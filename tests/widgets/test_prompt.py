"""The Prompt dock in a real napari window: what users do and what they get."""

import threading

import numpy as np
import pytest

pytest.importorskip("napari")

from fake_engine import FakeEngine
from napari import layers
from napari.components.viewer_model import ViewerModel
from napari.layers import Image, Labels, Points, Shapes
from napari.utils.key_bindings import coerce_keybinding
from napari.utils.shortcuts import default_shortcuts
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication
from window import canvas_position, click_on, picture, press, settle

from napari_samscape.widgets.canvas import role
from napari_samscape.widgets.panel import KEYS
from napari_samscape.widgets.prompt import PromptWidget


def names(viewer):
    return [layer.name for layer in viewer.layers]


# --- opening --------------------------------------------------------------------------------------------


def test_opening_the_dock_makes_prompt_layers_in_the_images_place(open_dock):
    image = Image(picture(), name="cells", scale=(2, 3), rotate=20, translate=(5, 6), units=("um", "um"))
    viewer, dock = open_dock(image)
    assert names(viewer) == ["cells", "Prompt points", "Prompt boxes and outlines"]
    for layer in (dock.canvas.points, dock.canvas.shapes):
        np.testing.assert_allclose(layer.data_to_world((1, 2)), image.data_to_world((1, 2)))
        assert layer.units == image.units
    assert viewer.layers.selection.active is dock.canvas.points
    assert dock.canvas.points.mode == "add"
    assert dock.session.state.text == "Click on an object, or draw a box round it."


def test_a_viewer_without_an_image_says_so_and_an_image_added_later_is_taken(open_dock, qtbot):
    viewer, dock = open_dock()
    assert names(viewer) == [] and dock.status.text.text() == "Open an image to begin."
    viewer.add_image(picture())
    settle(qtbot, dock)
    assert dock.image.layer is viewer.layers[0] and dock.session.state.phase == "ready"


def test_only_images_can_be_chosen_as_the_image(open_dock):
    _, dock = open_dock(
        Image(picture(), name="a"), Labels(np.zeros((64, 64), int)), Image(picture(), name="b")
    )
    assert [dock.image.itemText(i) for i in range(dock.image.count())] == ["b", "a"]


def test_opening_does_not_import_torch(open_dock):
    import subprocess
    import sys

    code = "import sys, napari_samscape.widgets.prompt; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


# --- one object -----------------------------------------------------------------------------------------


def test_click_look_commit(open_dock, qtbot):
    viewer, dock = open_dock(Image(picture(), name="cells"))
    click_on(qtbot, dock, (20, 20))
    assert [button.text() for button in dock.masks.buttons] == [
        "1  ·  IoU 0.50",
        "2  ·  IoU 0.90",
        "3  ·  IoU 0.70",
    ]
    assert [button.isChecked() for button in dock.masks.buttons] == [False, True, False]
    preview = viewer.layers["Samscape preview"]
    assert preview.visible and preview.data.shape == (20, 25)
    np.testing.assert_allclose(preview.data_to_world((0, 0)), (10, 15))
    dock.commit_button.click()
    labels = viewer.layers["cells objects"]
    assert labels.data.dtype == np.int32
    np.testing.assert_array_equal(labels.data, picture() == 100)
    settle(qtbot, dock)
    assert len(dock.canvas.points.data) == 0 and not preview.visible
    assert not dock.commit_button.isEnabled()


def test_objects_get_the_next_free_id_in_the_same_layer(open_dock, qtbot):
    viewer, dock = open_dock(Image(picture(), name="cells"))
    for point in [(20, 20), (45, 30)]:
        click_on(qtbot, dock, point)
        dock.commit()
    np.testing.assert_array_equal(viewer.layers["cells objects"].data, (picture() // 100).astype(int))
    assert names(viewer).count("cells objects") == 1


def test_undo_takes_one_object_back(open_dock, qtbot):
    viewer, dock = open_dock(Image(picture(), name="cells"))
    for point in [(20, 20), (45, 30)]:
        click_on(qtbot, dock, point)
        dock.commit()
    press(viewer, "Control-Z")
    np.testing.assert_array_equal(viewer.layers["cells objects"].data, picture() == 100)
    viewer.layers.selection.active = viewer.layers["cells objects"]
    press(viewer, "Control-Z")
    assert not viewer.layers["cells objects"].data.any()


def test_a_layer_of_the_user_is_written_to_after_its_highest_id(open_dock, qtbot):
    mine = Labels(np.zeros((64, 64), np.uint16), name="mine")
    mine.data[0, 0] = 6
    viewer, dock = open_dock(Image(picture()), mine)
    dock.labels.choose(mine)
    click_on(qtbot, dock, (20, 20))
    dock.commit()
    assert mine.data[20, 20] == 7 and names(viewer).count("mine") == 1


def test_an_object_can_be_extended(open_dock, qtbot):
    viewer, dock = open_dock(Image(picture(), name="cells"))
    click_on(qtbot, dock, (20, 20))
    dock.commit()
    dock.extend.setChecked(True)
    assert dock.commit_button.text() == "Extend object 1 (N)"
    click_on(qtbot, dock, (45, 30))
    dock.commit()
    np.testing.assert_array_equal(viewer.layers["cells objects"].data, picture() > 0)


def test_the_background_cannot_be_extended(open_dock, qtbot, told):
    mine = Labels(np.zeros((64, 64), int), name="mine")
    _, dock = open_dock(Image(picture()), mine)
    dock.labels.choose(mine)
    mine.selected_label = 0
    dock.extend.setChecked(True)
    click_on(qtbot, dock, (20, 20))
    dock.commit()
    assert told == ["Select the object to extend: 'mine' has the background selected."]


def test_objects_there_already_keep_their_pixels_unless_asked(open_dock, qtbot, told):
    mine = Labels((picture() > 0).astype(int), name="mine")
    _, dock = open_dock(Image(picture()), mine)
    dock.labels.choose(mine)
    click_on(qtbot, dock, (20, 20))
    dock.commit()
    assert len(told) == 1 and told[0].startswith("Nothing was written")
    dock.over.setChecked(True)
    dock.commit()
    np.testing.assert_array_equal(mine.data, np.where(picture() == 100, 2, picture() > 0))


def test_another_mask_can_be_chosen_by_button_and_by_key(open_dock, qtbot):
    viewer, dock = open_dock(Image(picture(), name="cells"))
    click_on(qtbot, dock, (20, 20))
    preview = viewer.layers["Samscape preview"]
    dock.masks.buttons[2].click()
    assert preview.data.shape == (22, 27) and dock.masks.buttons[2].isChecked()
    press(viewer, "Control-1")
    assert preview.data.shape == (18, 23) and dock.masks.buttons[0].isChecked()
    press(viewer, "W")
    assert preview.data.shape == (20, 25)
    dock.commit()
    np.testing.assert_array_equal(viewer.layers["cells objects"].data, picture() == 100)


def test_background_points_take_away_and_look_different(open_dock, qtbot):
    pixels = picture()
    _, dock = open_dock(Image(pixels))
    click_on(qtbot, dock, (0, 0))
    dock.use("background")
    click_on(qtbot, dock, (20, 20))
    points = dock.canvas.points
    assert list(points.features["prompt"]) == ["foreground", "background"]
    assert not np.allclose(points.face_color[0], points.face_color[1])
    assert points.symbol[0] != points.symbol[1]
    np.testing.assert_array_equal(dock.session._prompts.labels, [1, 0])


def test_a_box_and_an_outline_are_prompts_too(open_dock, qtbot):
    _, dock = open_dock(Image(picture()))
    shapes = dock.canvas.shapes
    shapes.add_rectangles([[10, 15], [10, 39], [29, 39], [29, 15]])
    settle(qtbot, dock)
    np.testing.assert_array_equal(dock.session._prompts.box, [10, 15, 29, 39])
    np.testing.assert_array_equal(dock.session.state.mask, picture() == 100)
    dock.clear()
    assert len(shapes.data) == 0
    shapes.add_polygons([[42, 8], [42, 50], [52, 50], [52, 8]])
    settle(qtbot, dock)
    assert dock.session._prompts.mask[47, 20] and not dock.session._prompts.mask[20, 20]
    np.testing.assert_array_equal(dock.session.state.mask, picture() == 200)


def test_moving_or_deleting_a_point_asks_again(open_dock, qtbot):
    _, dock = open_dock(Image(picture()))
    click_on(qtbot, dock, (20, 20))
    points = dock.canvas.points
    points.data = [[45.0, 30.0]]
    settle(qtbot, dock)
    np.testing.assert_array_equal(dock.session.state.mask, picture() == 200)
    points.selected_data = {0}
    points.remove_selected()
    settle(qtbot, dock)
    assert dock.session.state.masks is None


def test_layers_of_the_user_can_hold_the_prompts(open_dock, qtbot):
    mine = Points([[20.0, 20.0]], name="mine", features={"who": ["me"]})
    _, dock = open_dock(Image(picture()), mine, Shapes(ndim=2, name="drawn"))
    dock.points.choose(mine)
    settle(qtbot, dock)
    assert dock.canvas.points is mine and list(mine.features) == ["who", "prompt"]
    np.testing.assert_array_equal(dock.session.state.mask, picture() == 100)


# --- keys -----------------------------------------------------------------------------------------------


def test_the_keys_do_what_the_dock_says(open_dock, qtbot):
    viewer, dock = open_dock(Image(picture(), name="cells"))
    press(viewer, "Q")
    assert dock.canvas.kind == "background" and dock.tools.buttons["background"].isChecked()
    press(viewer, "Q")
    assert dock.canvas.kind == "foreground"
    press(viewer, "G")
    assert viewer.layers.selection.active is dock.canvas.shapes
    assert dock.canvas.shapes.mode == "add_rectangle"
    press(viewer, "G")
    click_on(qtbot, dock, (20, 20))
    press(viewer, "U")
    assert len(dock.canvas.points.data) == 0
    click_on(qtbot, dock, (20, 20))
    press(viewer, "N")
    assert viewer.layers["cells objects"].data.max() == 1


def test_no_key_takes_one_away_from_napari(open_dock):
    """Neither the viewer's own keys nor those of any kind of layer, but for the Labels layer's undo."""
    _, dock = open_dock(Image(picture()))
    ours = {coerce_keybinding(key) for key in KEYS}
    undo = {coerce_keybinding(key) for key in ("Control-Z", "Control-Shift-Z")}
    assert ours.isdisjoint(ViewerModel.class_keymap)
    for name in layers.NAMES:
        kind = getattr(layers, name.capitalize())
        theirs = {key for cls in kind.__mro__ for key in getattr(cls, "class_keymap", {})}
        assert ours & theirs <= (undo if kind is Labels else set()), name
    taken = {str(key) for keys in default_shortcuts.values() for key in keys}
    assert {str(key) for key in ours}.isdisjoint(taken)


def test_a_key_that_someone_else_has_bound_stays_theirs(make_napari_viewer, qtbot):
    viewer = make_napari_viewer()
    pressed = []
    viewer.bind_key("N", lambda _: pressed.append("theirs"))
    dock = PromptWidget(viewer, FakeEngine)
    viewer.window.add_dock_widget(dock)
    press(viewer, "N")
    assert pressed == ["theirs"]


# --- mouse and transforms -------------------------------------------------------------------------------


def test_a_real_click_on_a_scaled_and_rotated_image_gets_the_object_under_it(open_dock, qtbot):
    image = Image(picture(), name="cells", scale=(2.5, 1.5), rotate=33, shear=(0.2,), translate=(-40, 70))
    viewer, dock = open_dock(image, show=True)
    viewer.reset_view()
    qtbot.wait(100)
    native = viewer.window._qt_viewer.canvas.native
    where = canvas_position(viewer, image.data_to_world((20, 37)))
    QTest.mouseMove(native, where)
    QTest.mouseClick(native, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, where)
    settle(qtbot, dock)
    np.testing.assert_allclose(dock.canvas.points.data, [[20, 37]], atol=1)
    QTest.keyClick(native, Qt.Key.Key_N)
    labels = viewer.layers["cells objects"]
    np.testing.assert_array_equal(labels.data, picture() == 100)
    np.testing.assert_allclose(labels.data_to_world((3, 4)), image.data_to_world((3, 4)))


def test_the_object_under_the_cursor_is_shown_and_a_click_keeps_it(open_dock, qtbot):
    image = Image(picture(), name="cells", scale=(2, 2), rotate=10)
    viewer, dock = open_dock(image, show=True)
    viewer.reset_view()
    qtbot.wait(100)
    native = viewer.window._qt_viewer.canvas.native
    QTest.mouseMove(native, canvas_position(viewer, image.data_to_world((20, 30))))
    qtbot.waitUntil(lambda: dock.session.state.preview is not None, timeout=5000)
    preview = next(layer for layer in viewer.layers if role(layer) == "preview")
    assert preview.visible and (preview.data > 0).sum() == 20 * 25
    assert len(dock.canvas.points.data) == 0 and dock.session.state.masks is None
    where = canvas_position(viewer, image.data_to_world((45, 30)))
    QTest.mouseMove(native, where)
    qtbot.waitUntil(lambda: dock.session.state.preview.box[0] == 40, timeout=5000)
    QTest.mouseClick(native, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, where)
    settle(qtbot, dock)
    np.testing.assert_array_equal(dock.session.state.mask, picture() == 200)


def test_the_cursor_beside_the_picture_or_with_another_tool_shows_nothing(open_dock, qtbot):
    viewer, dock = open_dock(Image(picture()), show=True)
    viewer.reset_view()
    qtbot.wait(100)
    native = viewer.window._qt_viewer.canvas.native
    inside, outside = (canvas_position(viewer, place) for place in ((20, 30), (-6, 30)))
    QTest.mouseMove(native, inside)
    qtbot.waitUntil(lambda: dock.session.state.preview is not None, timeout=5000)
    QTest.mouseMove(native, outside)
    assert dock.session.state.preview is None
    for forbid in (lambda: dock.preview.setChecked(False), lambda: dock.use("add_rectangle")):
        dock.use("foreground")
        dock.preview.setChecked(True)
        forbid()
        QTest.mouseMove(native, inside + QPoint(1, 0))
        QTest.mouseMove(native, inside)
        settle(qtbot, dock)
        assert dock.session.state.preview is None


def test_with_shift_a_background_point_is_previewed_and_made(open_dock, qtbot):
    viewer, dock = open_dock(Image(picture()), show=True)
    viewer.reset_view()
    qtbot.wait(100)
    native = viewer.window._qt_viewer.canvas.native
    click_on(qtbot, dock, (45, 30))
    where = canvas_position(viewer, (20, 30))
    shift = Qt.KeyboardModifier.ShiftModifier
    event = QMouseEvent(
        QMouseEvent.Type.MouseMove, QPointF(where), QPointF(native.mapToGlobal(where)),
        Qt.MouseButton.NoButton, Qt.MouseButton.NoButton, shift,
    )  # fmt: skip
    QApplication.sendEvent(native, event)
    qtbot.waitUntil(lambda: dock.session.state.preview is not None, timeout=5000)
    QTest.mouseClick(native, Qt.MouseButton.LeftButton, shift, where)
    qtbot.waitUntil(lambda: len(dock.canvas.points.data) == 2, timeout=5000)
    settle(qtbot, dock)
    assert list(dock.canvas.points.features["prompt"]) == ["foreground", "background"]
    qtbot.waitUntil(lambda: dock.canvas.kind == "foreground", timeout=5000)


def test_a_real_drag_draws_a_box(open_dock, qtbot):
    image = Image(picture(), name="cells", scale=(0.5, 0.5), translate=(10, 0))
    viewer, dock = open_dock(image, show=True)
    viewer.reset_view()
    qtbot.wait(100)
    native = viewer.window._qt_viewer.canvas.native
    QTest.keyClick(native, Qt.Key.Key_G)
    start, stop = (canvas_position(viewer, image.data_to_world(corner)) for corner in [(38, 3), (57, 62)])
    QTest.mousePress(native, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, start)
    for share in (0.3, 0.6, 1.0):
        QTest.mouseMove(native, start + (stop - start) * share)
        qtbot.wait(20)
    QTest.mouseRelease(native, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, stop)
    settle(qtbot, dock)
    np.testing.assert_allclose(dock.session._prompts.box, [38, 3, 57, 62], atol=1)
    np.testing.assert_array_equal(dock.session.state.mask, picture() == 200)


def test_a_real_drag_draws_an_outline(open_dock, qtbot, told):
    image = Image(picture(), name="cells", rotate=15)
    viewer, dock = open_dock(image, show=True)
    viewer.reset_view()
    dock.tools.buttons["add_polygon_lasso"].click()
    qtbot.wait(100)
    native = viewer.window._qt_viewer.canvas.native
    corners = [(42, 8), (42, 30), (42, 55), (53, 55), (53, 30), (53, 8), (45, 8)]
    positions = [canvas_position(viewer, image.data_to_world(corner)) for corner in corners]
    QTest.mousePress(native, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, positions[0])
    for position in positions[1:]:
        QTest.mouseMove(native, position)
        qtbot.wait(60)
    QTest.mouseRelease(native, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, positions[-1])
    settle(qtbot, dock)
    assert told == []
    inside = np.zeros((64, 64), bool)
    inside[43:53, 9:55] = True
    assert (dock.session._prompts.mask == inside).mean() > 0.95
    np.testing.assert_array_equal(dock.session.state.mask, picture() == 200)


def test_keys_typed_on_the_canvas_reach_the_dock(open_dock, qtbot):
    viewer, dock = open_dock(Image(picture()), show=True)
    native = viewer.window._qt_viewer.canvas.native
    click_on(qtbot, dock, (20, 20))
    QTest.keyClick(native, Qt.Key.Key_3, Qt.KeyboardModifier.ControlModifier)
    assert dock.session.state.chosen == 2
    QTest.keyClick(native, Qt.Key.Key_W)
    assert dock.session.state.chosen == 0


def test_rgb_images_work(open_dock, qtbot):
    image = Image(np.repeat(picture()[..., None], 3, axis=2), rgb=True, name="colour")
    viewer, dock = open_dock(image)
    click_on(qtbot, dock, (45, 30))
    dock.commit()
    np.testing.assert_array_equal(viewer.layers["colour objects"].data, picture() == 200)


def test_channels_with_a_slider_are_planes(open_dock, qtbot):
    image = Image(np.stack([picture(), picture().T]), name="two")
    viewer, dock = open_dock(image)
    viewer.dims.set_point(0, 1)
    settle(qtbot, dock)
    click_on(qtbot, dock, (1, 30, 45))
    dock.commit()
    labels = viewer.layers["two objects"].data
    assert labels.shape == (2, 64, 64) and not labels[0].any()
    np.testing.assert_array_equal(labels[1], picture().T == 200)


def test_any_kind_of_number_works(open_dock, qtbot):
    viewer, dock = open_dock()
    for dtype in ["bool", "uint8", "int16", "uint16", "float64", ">u2", ">f4"]:
        dock.image.choose(viewer.add_image((picture() == 100).astype(dtype), name=dtype))
        settle(qtbot, dock)
        dock.labels.choose(None)
        click_on(qtbot, dock, (20, 20))
        dock.commit()
        np.testing.assert_array_equal(viewer.layers[f"{dtype} objects"].data, picture() == 100)


# --- time, z and what else changes ----------------------------------------------------------------------


def test_prompts_stay_on_their_plane(open_dock, qtbot):
    image = Image(np.stack([picture(), picture().T, picture()]), name="stack", scale=(3, 1, 1))
    viewer, dock = open_dock(image)
    viewer.dims.set_point(0, 0)
    settle(qtbot, dock)
    click_on(qtbot, dock, (0, 20, 20))
    viewer.dims.set_point(0, 3)
    settle(qtbot, dock)
    assert dock.session.state.masks is None
    click_on(qtbot, dock, (1, 30, 45))
    dock.commit()
    labels = viewer.layers["stack objects"].data
    np.testing.assert_array_equal(labels[1], picture().T == 200)
    assert not labels[[0, 2]].any()
    np.testing.assert_array_equal(dock.canvas.points.data, [[0, 20, 20]])
    viewer.dims.set_point(0, 0)
    settle(qtbot, dock)
    np.testing.assert_array_equal(dock.session.state.mask, picture() == 100)


def test_a_mask_is_not_written_to_a_plane_it_was_not_made_for(open_dock, qtbot):
    viewer, dock = open_dock(Image(np.stack([picture(), picture().T]), name="stack"))
    viewer.dims.set_point(0, 0)
    settle(qtbot, dock)
    click_on(qtbot, dock, (0, 20, 20))
    viewer.dims.set_point(0, 1)
    dock.commit()  # before the slider has settled
    settle(qtbot, dock)
    assert "stack objects" not in viewer.layers


def test_a_3d_view_says_what_to_do_and_2d_goes_on(open_dock, qtbot):
    viewer, dock = open_dock(Image(np.stack([picture()] * 3)))
    viewer.dims.ndisplay = 3
    settle(qtbot, dock)
    assert dock.status.text.text() == "Samscape works on the plane that is shown: switch the viewer to 2D."
    viewer.dims.ndisplay = 2
    settle(qtbot, dock)
    assert dock.session.state.phase == "ready"


def test_rolled_axes_segment_what_is_seen(open_dock, qtbot):
    volume = np.zeros((64, 5, 64), np.uint8)
    volume[:, 2] = picture()
    viewer, dock = open_dock(Image(volume, name="volume"))
    viewer.dims.order = (1, 2, 0)
    viewer.dims.set_point(1, 2)
    settle(qtbot, dock)
    click_on(qtbot, dock, (20, 2, 20))
    dock.commit()
    expected = np.zeros(volume.shape, int)
    expected[:, 2] = picture() == 100
    np.testing.assert_array_equal(viewer.layers["volume objects"].data, expected)


def test_new_pixels_are_looked_at_anew(open_dock, qtbot):
    viewer, dock = open_dock(Image(picture()))
    click_on(qtbot, dock, (20, 37))
    viewer.layers[0].data = picture().T
    settle(qtbot, dock)
    np.testing.assert_array_equal(dock.session.state.mask, picture().T[20, 37] == picture().T)


def test_another_image_gets_prompt_layers_of_its_own(open_dock, qtbot):
    flat, stack = Image(picture(), name="flat"), Image(np.stack([picture()] * 2), name="stack")
    viewer, dock = open_dock(flat)
    viewer.add_layer(stack)
    settle(qtbot, dock)
    dock.image.choose(stack)
    settle(qtbot, dock)
    assert dock.canvas.points.ndim == 3
    assert [role(layer) for layer in viewer.layers].count("points") == 1


def test_prompts_and_preview_lie_above_an_image_opened_later(open_dock, qtbot):
    viewer, dock = open_dock(Image(picture(), name="first"))
    click_on(qtbot, dock, (20, 20))
    viewer.add_image(picture(), name="second")
    settle(qtbot, dock)
    dock.image.choose(viewer.layers["second"])
    settle(qtbot, dock)
    order = names(viewer)
    assert order.index("second") < order.index("Samscape preview") < order.index("Prompt points")


def test_a_pyramid_too_large_to_show_whole_is_written_at_full_resolution(open_dock, qtbot):
    small = np.kron(picture(), np.ones((16, 16), np.uint8))
    levels = [np.kron(small, np.ones((5, 5), np.uint8)), small]
    viewer, dock = open_dock(Image(levels, name="big", multiscale=True))
    click_on(qtbot, dock, (20 * 80, 20 * 80))
    assert dock.session.state.mask.shape == (1024, 1024)
    dock.commit()
    np.testing.assert_array_equal(viewer.layers["big objects"].data, levels[0] == 100)


def test_the_preview_of_a_large_object_is_thinned_out_but_in_place(open_dock, qtbot):
    pixels = np.zeros((3000, 2500), np.uint8)
    pixels[100:2900, 200:2400] = 1
    viewer, dock = open_dock(Image(pixels))
    click_on(qtbot, dock, (1000, 1000))
    preview = viewer.layers["Samscape preview"]
    assert max(preview.data.shape) <= 1024
    np.testing.assert_allclose(preview.extent.world, [[100, 200], [2900, 2400]], atol=5)


# --- things that go away --------------------------------------------------------------------------------


def test_an_image_removed_in_mid_work_ends_the_work(open_dock, qtbot):
    gate = threading.Event()
    viewer, dock = open_dock(Image(picture()), engine=lambda name: FakeEngine(name, gate), wait=False)
    qtbot.waitUntil(lambda: dock.session.state.total == 4)
    assert dock.status.bar.isVisibleTo(dock) and dock.status.cancel.isVisibleTo(dock)
    viewer.layers.pop(0)
    settle(qtbot, dock)
    qtbot.waitUntil(lambda: not dock._jobs.busy)
    assert dock.image.layer is None and dock.status.text.text() == "Open an image to begin."


def test_an_image_renamed_in_mid_work_goes_on(open_dock, qtbot):
    gate = threading.Event()
    viewer, dock = open_dock(Image(picture()), engine=lambda name: FakeEngine(name, gate), wait=False)
    viewer.layers[0].name = "renamed"
    gate.set()
    settle(qtbot, dock)
    click_on(qtbot, dock, (20, 20))
    dock.commit()
    assert "renamed objects" in viewer.layers and dock.image.currentText() == "renamed"


def test_work_can_be_cancelled(open_dock, qtbot):
    gate = threading.Event()
    _, dock = open_dock(Image(picture()), engine=lambda name: FakeEngine(name, gate), wait=False)
    qtbot.waitUntil(lambda: dock.session.state.total == 4)
    dock.status.cancel.click()
    qtbot.waitUntil(lambda: not dock._jobs.busy)
    assert dock.status.text.text().startswith("Cancelled")
    gate.set()
    click_on(qtbot, dock, (20, 20))
    assert dock.session.state.mask is not None


def test_a_commit_waits_for_the_mask_that_is_being_made(open_dock, qtbot):
    gate = threading.Event()
    viewer, dock = open_dock(Image(picture(), name="cells"), engine=lambda n: FakeEngine(n, gate), wait=False)
    qtbot.waitUntil(lambda: dock.session.state.total == 4)
    dock.canvas.points.add((20, 20))
    press(viewer, "N")
    gate.set()
    qtbot.waitUntil(lambda: "cells objects" in viewer.layers)
    np.testing.assert_array_equal(viewer.layers["cells objects"].data, picture() == 100)


def test_prompt_layers_that_are_deleted_come_back(open_dock, qtbot):
    viewer, dock = open_dock(Image(picture()))
    viewer.layers.remove(dock.canvas.points)
    settle(qtbot, dock)
    click_on(qtbot, dock, (20, 20))
    assert dock.canvas.points in viewer.layers and dock.session.state.mask is not None
    viewer.layers.remove("Samscape preview")
    dock.session.choose(0)
    assert "Samscape preview" in viewer.layers


def test_a_labels_layer_that_is_deleted_is_followed_by_a_new_one(open_dock, qtbot):
    viewer, dock = open_dock(Image(picture(), name="cells"))
    click_on(qtbot, dock, (20, 20))
    dock.commit()
    viewer.layers.remove("cells objects")
    settle(qtbot, dock)
    assert dock.labels.layer is None
    click_on(qtbot, dock, (45, 30))
    dock.commit()
    assert viewer.layers["cells objects"].data.max() == 1


def test_the_preview_is_no_place_for_objects(open_dock, qtbot):
    viewer, dock = open_dock(Image(picture()))
    click_on(qtbot, dock, (20, 20))
    settle(qtbot, dock)
    assert "Samscape preview" in viewer.layers
    assert [dock.labels.itemText(i) for i in range(dock.labels.count())] == ["New layer"]


def test_closing_the_dock_gives_back_keys_and_layers(open_dock, qtbot):
    viewer, dock = open_dock(Image(picture(), name="cells"))
    click_on(qtbot, dock, (20, 20))
    dock.commit()
    viewer.window.remove_dock_widget(dock)
    assert names(viewer) == ["cells", "cells objects"]
    assert coerce_keybinding("N") not in viewer.keymap
    again = PromptWidget(viewer, FakeEngine)
    viewer.window.add_dock_widget(again)
    settle(qtbot, again)
    assert coerce_keybinding("N") in viewer.keymap


def test_closing_the_window_in_mid_work_ends_it(open_dock, qtbot):
    gate = threading.Event()
    viewer, dock = open_dock(Image(picture()), engine=lambda name: FakeEngine(name, gate), wait=False)
    engine = dock.session._engine
    qtbot.waitUntil(lambda: len(engine.threads) == 1)
    (thread,) = engine.threads
    viewer.close()
    qtbot.waitUntil(lambda: not thread.is_alive(), timeout=5000)


def test_two_viewers_know_nothing_of_each_other(open_dock, qtbot):
    one, dock_one = open_dock(Image(picture(), name="one"))
    two, dock_two = open_dock(Image(picture().T, name="two"))
    click_on(qtbot, dock_one, (20, 20))
    assert dock_two.session.state.masks is None
    click_on(qtbot, dock_two, (30, 45))
    press(two, "N")
    assert "two objects" in two.layers and "one objects" not in one.layers
    assert dock_one.session.state.masks is not None


# --- what goes wrong ------------------------------------------------------------------------------------


def test_a_click_outside_the_picture_is_told_in_a_sentence(open_dock, qtbot, told):
    _, dock = open_dock(Image(picture()))
    click_on(qtbot, dock, (20, 900))
    assert told == ["The point (y=20, x=900) lies outside the picture of 64 x 64 pixels."]
    assert dock.status.text.text() == told[0]
    dock.clear()
    click_on(qtbot, dock, (20, 20))
    assert dock.session.state.mask is not None


def test_an_outline_beside_the_picture_is_told_in_a_sentence(open_dock, qtbot, told):
    _, dock = open_dock(Image(picture()))
    dock.canvas.shapes.add_polygons([[100, 100], [100, 110], [110, 110]])
    settle(qtbot, dock)
    assert told == ["The shape drawn lies outside the picture."]


def test_a_picture_that_cannot_be_used_is_told_in_a_sentence(open_dock, qtbot, told):
    pixels = picture().astype(float)
    pixels[3, 3] = np.nan
    open_dock(Image(pixels))
    assert told == ["The picture holds values that are not finite."]


def test_a_constant_picture_is_no_error(open_dock, qtbot, told):
    _, dock = open_dock(Image(np.zeros((8, 8), np.uint8)))
    click_on(qtbot, dock, (4, 4))
    assert told == [] and dock.session.state.mask.all()


def test_committing_nothing_says_what_to_do(open_dock, told):
    _, dock = open_dock(Image(picture()))
    dock.commit()
    assert told == ["There is nothing to commit yet: click on an object first."]


def test_a_model_from_a_file_is_asked_instead(open_dock, qtbot):
    made = []

    def engine(name):
        made.append(name)
        return FakeEngine(name)

    _, dock = open_dock(Image(picture()), engine=engine)
    click_on(qtbot, dock, (20, 20))
    dock.model.open("/somewhere/my_model.safetensors")
    settle(qtbot, dock)
    assert made == ["nano", "/somewhere/my_model.safetensors"]
    assert dock.model.currentText() == "my_model.safetensors"
    assert len(dock.session._engine.asked) == 1
