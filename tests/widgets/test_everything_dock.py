"""The Everything dock in a real napari window, and what all docks with a Run button do alike."""

import threading

import numpy as np
import pytest

pytest.importorskip("napari")

from fake_engine import FakeEngine
from napari.layers import Image, Labels, Points

from napari_samscape.prediction.options import default_options
from napari_samscape.widgets.everything import FURTHER, SHOWN, EverythingWidget


@pytest.fixture
def open_dock(open_task):
    return lambda *layers, **kwargs: open_task(EverythingWidget, *layers, **kwargs)


def gated(gate):
    return lambda name: FakeEngine(name, gate)


def names(viewer):
    return [layer.name for layer in viewer.layers]


# --- one run --------------------------------------------------------------------------------------------


def test_run_puts_all_objects_into_a_new_layer_with_a_table(open_dock, run, picture):
    viewer, dock = open_dock(Image(picture, name="cells"))
    assert run(dock) == "Found 2 objects, now in 'cells objects'."
    labels = viewer.layers["cells objects"]
    np.testing.assert_array_equal(labels.data, picture // 100)
    assert labels.features.to_dict("list") == {
        "index": [1, 2],
        "y0": [10, 40],
        "x0": [15, 5],
        "y1": [30, 55],
        "x1": [40, 60],
        "area": [500, 825],
        "predicted_iou": [0.9, 0.9],
        "stability": [0.75, 0.75],
    }
    assert labels.get_status((45, 30), world=True)["value"].endswith("stability: 0.75")


def test_the_layer_lies_where_the_image_lies_right_above_it(open_dock, run, picture):
    image = Image(picture, name="cells", scale=(2, 3), rotate=20, shear=(0.1,), translate=(5, 6))
    viewer, dock = open_dock(image, Points(ndim=2, name="mine"))
    run(dock)
    assert names(viewer) == ["cells", "cells objects", "mine"]
    labels = viewer.layers["cells objects"]
    np.testing.assert_array_equal(labels.data, picture // 100)
    np.testing.assert_allclose(labels.data_to_world((1, 2)), image.data_to_world((1, 2)))
    assert viewer.layers.selection.active is viewer.layers["mine"]


def test_rgb_images_work(open_dock, run, picture):
    viewer, dock = open_dock(Image(np.repeat(picture[..., None], 3, axis=2), rgb=True, name="colour"))
    run(dock)
    np.testing.assert_array_equal(viewer.layers["colour objects"].data, picture // 100)
    assert not dock.all_planes.isVisibleTo(dock)


def test_of_a_stack_the_plane_shown_is_looked_at(open_dock, run, picture):
    viewer, dock = open_dock(Image(np.stack([picture, picture.T, picture]), name="stack", scale=(3, 1, 1)))
    viewer.dims.set_point(0, 3)
    run(dock)
    labels = viewer.layers["stack objects"]
    np.testing.assert_array_equal(labels.data[1], picture.T // 100)
    assert not labels.data[[0, 2]].any()
    assert list(labels.features.iloc[0, :3]) == [1, 1, 15]  # id, plane, y0
    assert labels.features.columns[1] == labels.axis_labels[0]


def test_all_planes_of_a_stack_can_be_looked_at_in_one_run(open_dock, run, picture):
    viewer, dock = open_dock(Image(np.stack([picture, picture * 0, picture.T]), name="stack"))
    assert dock.all_planes.isVisibleTo(dock)
    dock.all_planes.setChecked(True)
    assert run(dock) == "Found 4 objects on 3 planes, now in 'stack objects'."
    labels = viewer.layers["stack objects"]
    last = np.where(picture.T > 0, picture.T // 100 + 2, 0)
    np.testing.assert_array_equal(labels.data, [picture // 100, picture * 0, last])
    assert list(labels.features["index"]) == [1, 2, 3, 4]
    assert list(labels.features[labels.axis_labels[0]]) == [0, 0, 2, 2]


def test_a_pyramid_too_large_to_show_whole_is_written_and_tabled_at_full_resolution(open_dock, run, picture):
    small = np.kron(picture, np.ones((16, 16), np.uint8))
    large = np.kron(small, np.ones((5, 5), np.uint8))
    viewer, dock = open_dock(Image([large, small], name="big", multiscale=True))
    dock.view.setChecked(False)
    run(dock)
    labels = viewer.layers["big objects"]
    np.testing.assert_array_equal(labels.data, large // 100)
    assert list(labels.features.iloc[0, 1:6]) == [800, 1200, 2400, 3200, 1600 * 2000]


def test_nothing_found_is_an_empty_layer_and_one_sentence(open_dock, run, told):
    viewer, dock = open_dock(Image(np.zeros((8, 8)), name="dark"))
    text = "No object was found; lower thresholds let more pass."
    assert run(dock) == text and told == [text]
    assert viewer.layers["dark objects"].data.shape == (8, 8)
    assert not viewer.layers["dark objects"].data.any()


# --- a layer of the user --------------------------------------------------------------------------------


def test_a_chosen_layer_gets_free_ids_in_one_step_of_undo(open_dock, run, picture):
    mine = Labels(np.zeros((2, 64, 64), np.uint16), name="mine", features={"who": ["nobody", "me"]})
    mine.data[0, 12, 20] = 1
    before = mine.data.copy()
    viewer, dock = open_dock(Image(np.stack([picture] * 2)), mine)
    dock.labels.choose(mine)
    dock.all_planes.setChecked(True)
    run(dock)
    first, second = picture // 100 + (picture > 0), picture // 100 + 3 * (picture > 0)
    first[12, 20] = 1  # what is there keeps its pixels
    np.testing.assert_array_equal(mine.data, [first, second])
    assert list(mine.features["index"]) == [0, 1, 2, 3, 4, 5]
    assert list(mine.features["who"])[:2] == ["nobody", "me"]
    mine.undo()
    np.testing.assert_array_equal(mine.data, before)


def test_objects_there_already_are_written_over_if_asked(open_dock, run, picture):
    mine = Labels((picture == 100).astype(int), name="mine")
    _, dock = open_dock(Image(picture), mine)
    assert not dock.over.isVisibleTo(dock)
    dock.labels.choose(mine)
    assert dock.over.isVisibleTo(dock)
    assert run(dock).endswith("now in 'mine'. 1 of them lie under others.")
    assert list(mine.features["index"]) == [3]
    dock.over.setChecked(True)
    run(dock)
    np.testing.assert_array_equal(mine.data, np.where(picture > 0, picture // 100 + 3, 0))


def test_rows_of_ids_that_were_undone_are_replaced(open_dock, run, picture):
    mine = Labels(np.zeros((64, 64), int), name="mine")
    _, dock = open_dock(Image(picture), mine)
    dock.labels.choose(mine)
    run(dock)
    mine.undo()
    run(dock)
    assert list(mine.features["index"]) == [1, 2]


def test_a_layer_that_cannot_be_written_to_is_told_and_the_result_is_kept(open_dock, run, picture, told):
    data = np.zeros((64, 64), np.int32)
    data.flags.writeable = False
    fixed = Labels(data, name="fixed")
    viewer, dock = open_dock(Image(picture, name="cells"), fixed)
    dock.labels.choose(fixed)
    run(dock)
    assert len(told) == 1 and told[0].startswith("The layer 'fixed' cannot be written to")
    np.testing.assert_array_equal(viewer.layers["cells objects"].data, picture // 100)


def test_of_planes_that_a_layer_does_not_reach_none_is_written(open_dock, run, picture, told):
    short = Labels(np.zeros((2, 64, 64), int), name="short")
    viewer, dock = open_dock(Image(np.stack([picture] * 3), name="stack"), short)
    viewer.dims.set_point(0, 0)
    dock.labels.choose(short)
    dock.all_planes.setChecked(True)
    run(dock)
    assert told == ["The layer 'short' does not reach as far as the image 'stack'."]
    assert not short.data.any() and viewer.layers["stack objects"].data.any(axis=(1, 2)).all()


def test_a_chosen_layer_that_is_deleted_in_mid_work_is_followed_by_a_new_one(open_dock, qtbot, picture):
    gate, mine = threading.Event(), Labels(np.zeros((64, 64), int), name="mine")
    viewer, dock = open_dock(Image(picture, name="cells"), mine, engine=gated(gate))
    dock.labels.choose(mine)
    dock.run_button.click()
    viewer.layers.remove(mine)
    gate.set()
    qtbot.waitUntil(lambda: "cells objects" in viewer.layers)


# --- options --------------------------------------------------------------------------------------------


def test_every_option_of_everything_mode_has_an_editor_and_a_tip(open_dock):
    _, dock = open_dock()
    assert {field.name for field in (*SHOWN, *FURTHER)} | {"point_grids"} == set(vars(default_options(True)))
    for name, editor in dock.options.editors.items():
        assert f"({name})" in editor.toolTip()


def test_the_defaults_are_the_models_own_and_reach_it_exactly(open_dock, run, picture):
    _, dock = open_dock(Image(picture))
    run(dock)
    assert dock._engine.options == default_options(True)
    dock._engine = FakeEngine("vit_b")
    dock.on_model()
    run(dock)
    assert dock._engine.options == default_options(False)


def test_what_is_set_reaches_the_model_and_stays_when_the_model_changes(open_dock, run, picture, qtbot):
    _, dock = open_dock(Image(picture))
    dock.options.editors["stability_score_thresh"].setValue(0.25)
    dock.options.editors["mask_nms_thresh"].setValue(dock.options.editors["mask_nms_thresh"].minimum())
    dock.model.open("/somewhere/my_sam.pth")
    qtbot.waitUntil(lambda: not dock._jobs.busy)
    run(dock)
    options = dock._engine.options
    assert (options.stability_score_thresh, options.mask_nms_thresh) == (0.25, None)
    assert options.pred_iou_thresh == default_options(False).pred_iou_thresh
    dock.defaults_button.click()
    assert dock.options.values()["stability_score_thresh"] == default_options(False).stability_score_thresh


def test_a_higher_threshold_lets_less_pass(open_dock, run, picture, told):
    _, dock = open_dock(Image(picture))
    dock.options.editors["pred_iou_thresh"].setValue(0.95)
    assert run(dock).startswith("No object was found")


def test_only_options_that_count_can_be_set(open_dock):
    _, dock = open_dock()
    editors = dock.options.editors
    assert editors["dense_rounds"].isEnabled() and not editors["points_per_side"].isEnabled()
    editors["prompt_source"].put("grid")
    assert not editors["dense_rounds"].isEnabled() and editors["points_per_side"].isEnabled()
    editors["crop_n_layers"].setValue(0)
    assert not editors["crop_overlap_ratio"].isEnabled()
    editors["crop_n_layers"].setValue(1)
    assert editors["crop_overlap_ratio"].isEnabled() and editors["crop_n_points_downscale_factor"].isEnabled()


def test_points_of_ones_own_are_asked_instead_of_a_grid(open_dock, run, picture, told):
    mine = Points([[16, 32], [48, 16], [999, 0]], name="mine")
    _, dock = open_dock(Image(picture), mine)
    dock.own_points.choose(mine)
    run(dock)
    assert dock._engine.options.prompt_source == "grid"
    assert dock._engine.options.point_grids == (((0.25, 0.5), (0.75, 0.25)),)
    mine.data = [[999.0, 0.0]]
    assert run(dock) == told[-1] == "The layer 'mine' has no point in the picture on this plane."


def test_a_file_that_is_no_model_is_told_in_a_sentence(open_dock, qtbot, told):
    _, dock = open_dock()
    dock.model.open("/somewhere/broken.pth")
    qtbot.waitUntil(lambda: not dock._jobs.busy)
    assert told == ["The file is no model."] and dock.status.text.text() == told[0]


# --- while it works -------------------------------------------------------------------------------------


def test_progress_is_shown_and_work_can_be_cancelled(open_dock, qtbot, picture, run):
    gate = threading.Event()
    viewer, dock = open_dock(Image(picture, name="cells"), engine=gated(gate))
    dock.run_button.click()
    assert not dock.run_button.isEnabled() and not dock.options.editors["pred_iou_thresh"].isEnabled()
    qtbot.waitUntil(lambda: dock.status.bar.maximum() == 4)
    assert dock.status.bar.isVisibleTo(dock) and dock.status.text.text() == "Looking at the picture…"
    dock.status.cancel.click()
    qtbot.waitUntil(lambda: not dock._jobs.busy)
    assert dock.status.text.text() == "Cancelled." and names(viewer) == ["cells"]
    gate.set()
    assert run(dock).startswith("Found 2")


def test_progress_on_many_planes_is_one_progress(open_dock, qtbot, picture):
    gate = threading.Event()
    _, dock = open_dock(Image(np.stack([picture] * 5)), engine=gated(gate))
    dock.all_planes.setChecked(True)
    dock.run_button.click()
    qtbot.waitUntil(lambda: dock.status.bar.maximum() == 5000)
    qtbot.waitUntil(lambda: dock.status.bar.value() == 250)
    assert dock.status.text.text() == "Plane 1 of 5: Looking at the picture…"
    dock.cancel()
    qtbot.waitUntil(lambda: not dock._jobs.busy)


def test_an_image_removed_in_mid_work_ends_the_work(open_dock, qtbot, picture):
    gate = threading.Event()
    viewer, dock = open_dock(Image(picture), engine=gated(gate))
    dock.run_button.click()
    viewer.layers.pop(0)
    qtbot.waitUntil(lambda: not dock._jobs.busy)
    assert names(viewer) == [] and dock.status.text.text() == "Open an image to begin."
    assert not dock.run_button.isEnabled()


def test_new_pixels_in_mid_work_end_the_work(open_dock, qtbot, picture):
    gate = threading.Event()
    viewer, dock = open_dock(Image(picture), engine=gated(gate))
    dock.run_button.click()
    viewer.layers[0].data = picture[:32]
    qtbot.waitUntil(lambda: not dock._jobs.busy)
    assert dock.status.text.text() == "The image has changed; press Run to look at it again."


def test_objects_go_to_the_plane_they_were_asked_for(open_dock, qtbot, picture):
    """Also where the slider has moved on in the meantime."""
    gate, mine = threading.Event(), Labels(np.zeros((2, 64, 64), int), name="mine")
    viewer, dock = open_dock(Image(np.stack([picture, picture.T])), mine, engine=gated(gate))
    dock.labels.choose(mine)
    viewer.dims.set_point(0, 0)
    dock.run_button.click()
    viewer.dims.set_point(0, 1)
    gate.set()
    qtbot.waitUntil(lambda: not dock._jobs.busy)
    np.testing.assert_array_equal(mine.data, [picture // 100, picture * 0])


def test_an_error_is_told_in_a_sentence(open_dock, run, told):
    _, dock = open_dock(Image(np.full((8, 8), np.nan)))
    assert run(dock) == "The picture holds values that are not finite."
    assert told == ["The picture holds values that are not finite."]
    assert dock.run_button.isEnabled()


def test_an_error_of_ours_says_so(open_dock, run, told, picture, monkeypatch):
    monkeypatch.setattr(FakeEngine, "everything", lambda *_: 1 / 0)
    _, dock = open_dock(Image(picture))
    run(dock)
    assert told == ["Something went wrong in Samscape: ZeroDivisionError('division by zero')."]


def test_a_3d_view_says_what_to_do(open_dock, run, told, picture):
    viewer, dock = open_dock(Image(np.stack([picture] * 3)))
    viewer.dims.ndisplay = 3
    assert run(dock) == told[0] == "Samscape works on the plane that is shown: switch the viewer to 2D."


def test_a_viewer_without_an_image_says_so_and_an_image_added_later_is_taken(open_dock, qtbot, picture, run):
    viewer, dock = open_dock()
    assert dock.status.text.text() == "Open an image to begin." and not dock.run_button.isEnabled()
    dock.run()  # nothing but a sentence
    viewer.add_image(picture, name="late")
    qtbot.waitUntil(lambda: dock.image.layer is not None)
    assert run(dock).startswith("Found 2")


def test_two_viewers_know_nothing_of_each_other(open_dock, run, picture):
    one, dock_one = open_dock(Image(picture, name="one"))
    two, dock_two = open_dock(Image(picture.T, name="two"))
    run(dock_two)
    assert names(two) == ["two", "two objects"] and names(one) == ["one"]
    np.testing.assert_array_equal(two.layers["two objects"].data, picture.T // 100)
    assert dock_one.status.text.text() == dock_one.ready_text


def test_closing_the_window_in_mid_work_ends_it(open_dock, qtbot, picture):
    viewer, dock = open_dock(Image(picture), engine=gated(threading.Event()))
    engine = dock._engine
    dock.run_button.click()
    qtbot.waitUntil(lambda: len(engine.threads) == 1)
    (thread,) = engine.threads
    viewer.close()
    qtbot.waitUntil(lambda: not thread.is_alive(), timeout=5000)


def test_opening_the_docks_does_not_import_torch():
    import subprocess
    import sys

    code = (
        "import sys; from napari_samscape.widgets import boxes, edges, everything; "
        "print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
