"""An object followed through a volume or a time series from the Prompt dock, as a person does it."""

import threading

import numpy as np
import pytest

pytest.importorskip("napari")

from fake_engine import FakeEngine
from napari.components import ViewerModel
from napari.layers import Image, Labels
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from window import FIRST, canvas_position, click_on, picture, press, settle

from napari_samscape.widgets.layers import plane_of, thickness
from napari_samscape.widgets.prompt import PromptWidget

MIDDLE = 4


def rod(first=2, last=6, planes=9):
    """A box of 100 from one plane to another, and one of 200 on all."""
    volume = np.stack([picture()] * planes)
    volume[:first][(slice(None), *FIRST)] = volume[last + 1 :][(slice(None), *FIRST)] = 0
    return volume


def done(qtbot, dock):
    """Wait until the object has been followed to its ends, and all else has settled."""
    settle(qtbot, dock)
    qtbot.waitUntil(lambda: not dock.propagation.busy, timeout=20_000)
    settle(qtbot, dock)


def go_to(viewer, dock, qtbot, plane):
    viewer.dims.set_point(0, plane)
    settle(qtbot, dock)


@pytest.fixture
def clicked(open_dock, qtbot):
    """Open a volume with a click on the rod in its middle plane."""

    def open_it(volume=None, **options):
        place = options.pop("place", {})
        image = Image(rod() if volume is None else volume, name="cells", **place)
        viewer, dock = open_dock(image, **options)
        viewer.dims.set_point(0, MIDDLE * float(image.scale[0]))
        settle(qtbot, dock)
        click_on(qtbot, dock, (MIDDLE, 20, 20))
        return viewer, dock

    return open_it


class Slow(FakeEngine):
    """Follows to the second plane, and to the next ones when it is let."""

    gate = None

    def __init__(self, name="nano"):
        super().__init__(name)
        self.let = threading.Event()

    def follow(self, key, prompts, before, progress):
        while len(self.followed) >= 2 and not self.let.wait(0.005):
            progress(0, 0, "")
        return super().follow(key, prompts, before, progress)


# --- to the end, and into the layer ---------------------------------------------------------------------


def test_the_button_follows_the_object_both_ways_and_shows_it_on_all_planes(clicked, qtbot):
    viewer, dock = clicked()
    dock.propagate.buttons[-1, 1].click()
    done(qtbot, dock)
    assert dock.status.text.text() == "Found on 5 planes, plane 2 to 6. Click to correct it on any of them."
    preview = viewer.layers["Samscape preview"]
    assert preview.visible and preview.data.shape == (5, 20, 25) and (preview.data > 0).all()
    np.testing.assert_allclose(preview.data_to_world((0, 0, 0)), (2, 10, 15))
    assert "cells objects" not in viewer.layers, "nothing is written before it is accepted"


def test_what_is_accepted_is_one_object_on_all_planes_and_one_step_of_undo(clicked, qtbot):
    viewer, dock = clicked()
    press(viewer, "Shift-G")
    done(qtbot, dock)
    assert dock.commit_button.text() == "Accept 5 planes (N)"
    press(viewer, "N")
    settle(qtbot, dock)
    labels = viewer.layers["cells objects"]
    np.testing.assert_array_equal(labels.data, rod() == 100)
    assert dock.objects.model._rows == [(1, 2500, pytest.approx(0.9), 1, None)]
    assert len(dock.canvas.points.data) == 0 and dock.commit_button.text() == "Commit (N)"
    press(viewer, "Control-Z")
    settle(qtbot, dock)
    assert not labels.data.any() and len(labels.features) == 0
    assert dock.canvas.points.data.tolist() == [[MIDDLE, 20, 20]] and dock.session.state.masks is not None
    press(viewer, "Control-Shift-Z")
    np.testing.assert_array_equal(labels.data, rod() == 100)


def test_accepting_before_the_end_waits_for_it(clicked, qtbot):
    viewer, dock = clicked(engine=Slow)
    press(viewer, "Shift-G")
    engine = dock.session._engine
    qtbot.waitUntil(lambda: len(engine.followed) == 2)
    press(viewer, "N")
    assert "cells objects" not in viewer.layers
    engine.let.set()
    done(qtbot, dock)
    assert (viewer.layers["cells objects"].data > 0).sum() == 2500


def test_it_begins_with_the_mask_that_was_chosen(clicked, qtbot):
    viewer, dock = clicked()
    press(viewer, "Control-1")
    press(viewer, "Shift-G")
    done(qtbot, dock)
    press(viewer, "N")
    areas = (viewer.layers["cells objects"].data > 0).sum(axis=(1, 2))
    assert areas[MIDDLE] == 18 * 23 and areas[MIDDLE + 1] == 20 * 25


def test_an_object_that_was_followed_is_saved_by_itself_and_can_be_taken_up_again(clicked, qtbot):
    viewer, dock = clicked()
    press(viewer, "Shift-G")
    done(qtbot, dock)
    press(viewer, "N")
    qtbot.waitUntil(lambda: not dock.keeper.busy, timeout=5000)
    (layer,) = dock.keeper._stores[0].read()["layers"]
    np.testing.assert_array_equal(dock.keeper._stores[0].labels(layer["array"]), rod() == 100)
    go_to(viewer, dock, qtbot, 0)
    press(viewer, "H")
    settle(qtbot, dock)
    assert dock.canvas.points.data.tolist() == [[MIDDLE, 20, 20]] and viewer.dims.point[0] == MIDDLE
    press(viewer, ".")
    done(qtbot, dock)
    press(viewer, "N")
    areas = (viewer.layers["cells objects"].data == 1).sum(axis=(1, 2))
    assert areas.tolist() == [0, 0, 0, 0, 500, 500, 500, 0, 0], "it replaces what was there on all planes"


# --- ways, axes, places ---------------------------------------------------------------------------------


def test_keys_follow_it_one_way_and_then_the_other_too(clicked, qtbot):
    viewer, dock = clicked(show=True)
    native = viewer.window._qt_viewer.canvas.native
    native.setFocus()
    QTest.keyClick(native, Qt.Key.Key_Period)
    done(qtbot, dock)
    assert sorted(dock.propagation.found) == [4, 5, 6]
    asked = len(dock.session._engine.followed)
    QTest.keyClick(native, Qt.Key.Key_Comma)
    done(qtbot, dock)
    assert sorted(dock.propagation.found) == [2, 3, 4, 5, 6]
    assert len(dock.session._engine.followed) == asked + 3, "what is known is not asked again"


def test_it_goes_along_the_axis_that_is_chosen(open_dock, qtbot):
    series = np.stack([rod(), np.roll(rod(), 1, axis=0), rod()])
    image = Image(series, name="cells", axis_labels=("t", "z", "y", "x"))
    viewer, dock = open_dock(image)
    viewer.dims.set_point((0, 1), (1, MIDDLE))
    settle(qtbot, dock)
    click_on(qtbot, dock, (1, MIDDLE, 20, 20))
    along = dock.propagate.along
    assert [along.itemText(i) for i in range(along.count())] == ["along t", "along z"]
    assert along.currentText() == "along z"
    for axis, planes in (("z", [3, 4, 5, 6, 7]), ("t", [0, 1, 2])):
        along.setCurrentText(f"along {axis}")
        press(viewer, "Shift-G")
        done(qtbot, dock)
        assert sorted(dock.propagation.found) == planes
        assert f", {axis} {planes[0]} to {planes[-1]}." in dock.status.text.text()
        press(viewer, "U")
        settle(qtbot, dock)
    press(viewer, "Shift-G")
    done(qtbot, dock)
    press(viewer, "N")
    found = viewer.layers["cells objects"].data > 0
    assert np.argwhere(found.any(axis=(2, 3))).tolist() == [[0, 4], [1, 4], [2, 4]]


def test_thick_slices_may_change_more_and_lie_where_they_belong(clicked, qtbot):
    volume = rod(0, 8)
    volume[6:, 10:30, 0:64] = 100  # 20 x 64 pixels, of which 20 x 25 are as before
    viewer, dock = clicked(volume, place={"scale": (3, 0.5, 0.5), "units": ("um",) * 3})
    press(viewer, "Shift-G")
    done(qtbot, dock)
    assert sorted(dock.propagation.found) == list(range(9))
    np.testing.assert_allclose(viewer.layers["Samscape preview"].scale, (1, 1, 1))
    np.testing.assert_allclose(
        viewer.layers["Samscape preview"].data_to_world((1, 0, 0)), (3, 5, 0), err_msg="second plane"
    )
    press(viewer, "N")
    np.testing.assert_array_equal(viewer.layers["cells objects"].data, volume == 100)


@pytest.mark.parametrize(
    ("scale", "units", "labels", "thick"),
    [
        ((3, 0.5, 0.5), ("um", "um", "um"), "zyx", 6),
        ((3, 500, 500), ("um", "nm", "nm"), "zyx", 6),
        ((3, 0.5, 0.5), ("s", "um", "um"), "zyx", 1),
        ((3, 0.5, 0.5), ("pixel",) * 3, "tyx", 1),
    ],
)
def test_how_thick_planes_are_is_read_off_the_layer(scale, units, labels, thick):
    viewer = ViewerModel()
    image = viewer.add_image(rod(), scale=scale, units=units, axis_labels=tuple(labels), rotate=(0, 0, 30))
    assert thickness(image, plane_of(image, viewer.dims), 0) == pytest.approx(thick)


def test_in_large_planes_it_is_followed_through_the_window_in_view(open_dock, qtbot):
    volume = np.zeros((5, 4200, 64), np.uint8)
    volume[1:4, 4000:4020, 15:40] = 100
    viewer, dock = open_dock(Image(volume, name="tall"))
    viewer.scene.camera.center, viewer.scene.camera.zoom = (4000, 32), 2
    viewer.dims.set_point(0, 2)
    settle(qtbot, dock)
    assert dock.plane.shape == (1024, 64)
    click_on(qtbot, dock, (2, 4010, 20))
    press(viewer, "Shift-G")
    done(qtbot, dock)
    press(viewer, "N")
    np.testing.assert_array_equal(viewer.layers["tall objects"].data, volume == 100)


# --- stopping, correcting, discarding -------------------------------------------------------------------


def test_it_says_plane_by_plane_how_far_it_is_and_what_was_found_stays_when_it_is_stopped(clicked, qtbot):
    viewer, dock = clicked(engine=Slow)
    press(viewer, "Shift-G")
    qtbot.waitUntil(lambda: len(dock.propagation.found) == 3, timeout=5000)
    qtbot.waitUntil(lambda: dock.status.text.text() == "Following the object: plane 2…", timeout=5000)
    assert (dock.status.bar.value(), dock.status.bar.maximum()) == (3, 9)
    assert dock.status.cancel.text() == "Stop"
    dock.status.cancel.click()
    assert dock.status.text.text().startswith("Stopped. Found on 3 planes, plane 3 to 5.")
    press(viewer, "N")
    assert (viewer.layers["cells objects"].data > 0).sum() == 1500


def test_the_key_that_starts_it_stops_it(clicked, qtbot):
    viewer, dock = clicked(engine=Slow)
    press(viewer, "Shift-G")
    assert dock.propagation.busy
    press(viewer, "Shift-G")
    assert not dock.propagation.busy and dock.propagation.on


def test_sliders_can_be_moved_meanwhile(clicked, qtbot):
    viewer, dock = clicked(engine=Slow)
    engine = dock.session._engine
    press(viewer, "Shift-G")
    qtbot.waitUntil(lambda: len(engine.followed) == 2)
    go_to(viewer, dock, qtbot, 8)
    engine.let.set()
    done(qtbot, dock)
    assert sorted(dock.propagation.found) == [2, 3, 4, 5, 6]


def test_a_click_on_another_plane_corrects_what_was_found_there_and_it_is_followed_on(clicked, qtbot):
    volume = rod(0, 8)
    volume[6:, 10:30, 15:40] = 0
    volume[6:, 10:30, 25:50] = 100  # it moves on by ten pixels ...
    volume[6:, 10:30, 50:60] = 70  # ... and has a part that is darker
    viewer, dock = clicked(volume, show=True)
    press(viewer, "Shift-G")
    done(qtbot, dock)
    assert sorted(dock.propagation.found) == [0, 1, 2, 3, 4, 5], "it has moved too far"
    engine, asked = dock.session._engine, len(dock.session._engine.followed)
    viewer.reset_view()
    go_to(viewer, dock, qtbot, 6)
    native = viewer.window._qt_viewer.canvas.native
    for place in ((20, 30), (20, 55)):
        where = canvas_position(viewer, place)
        QTest.mouseMove(native, where)
        QTest.mouseClick(native, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, where)
        done(qtbot, dock)
    assert sorted(dock.propagation.found) == list(range(9))
    assert dock.propagation.found[6].item.box == (10, 25, 30, 60), "both clicks say what it is"
    again = [key[1].position[0] for key in engine.followed[asked:]]
    assert set(again) <= {5, 6, 7, 8}, "nothing is asked again of what lies before"
    press(viewer, "N")
    labels = viewer.layers["cells objects"].data
    assert (labels[6] > 0).sum() == 20 * 35 and set(np.unique(labels)) == {0, 1}
    assert len(dock.canvas.points.data) == 0


def test_a_background_click_takes_something_away_from_there_on(clicked, qtbot):
    volume = rod(0, 8)
    viewer, dock = clicked(volume)
    click_on(qtbot, dock, (MIDDLE, 45, 30))  # both boxes are one object
    dock.use("foreground")
    press(viewer, ".")
    done(qtbot, dock)
    dock.use("background")
    go_to(viewer, dock, qtbot, 4)
    found = dock.propagation.found
    assert sorted(found) == [4, 5, 6, 7, 8]
    go_to(viewer, dock, qtbot, 6)
    dock.canvas.points.add((6, 20, 20))
    done(qtbot, dock)
    assert 6 not in dock.propagation.found, "nothing is left of it"
    press(viewer, "Control-Z")
    done(qtbot, dock)
    assert sorted(dock.propagation.found) == [4, 5, 6, 7, 8]


def test_discarding_drops_the_preview_and_leaves_the_prompts(clicked, qtbot):
    viewer, dock = clicked()
    press(viewer, "Shift-G")
    done(qtbot, dock)
    assert dock.clear_button.text() == "Discard (U)"
    press(viewer, "U")
    settle(qtbot, dock)
    assert len(dock.canvas.points.data) == 1 and dock.session.state.masks is not None
    assert dock.clear_button.text() == "Clear prompts (U)"
    assert viewer.layers["Samscape preview"].data.shape == (1, 20, 25)
    assert not any(isinstance(layer, Labels) and layer.name == "cells objects" for layer in viewer.layers)


def test_another_image_or_model_ends_it(clicked, qtbot):
    viewer, dock = clicked()
    press(viewer, "Shift-G")
    done(qtbot, dock)
    dock.model.chosen.emit("nano")
    settle(qtbot, dock)
    assert not dock.propagation.on and dock.session.state.masks is not None
    press(viewer, "Shift-G")
    done(qtbot, dock)
    viewer.layers.remove("cells")
    settle(qtbot, dock)
    assert not dock.propagation.on and dock.status.text.text() == "Open an image to begin."


def test_an_object_that_is_taken_up_again_ends_it(clicked, qtbot):
    viewer, dock = clicked()
    press(viewer, "N")
    click_on(qtbot, dock, (MIDDLE, 45, 30))
    press(viewer, ".")
    done(qtbot, dock)
    assert sorted(dock.propagation.found) == [4, 5, 6, 7, 8]
    press(viewer, "H")
    settle(qtbot, dock)
    assert not dock.propagation.on and dock.commit_button.text() == "Replace object 1 (N)"
    assert dock.canvas.points.data.tolist() == [[MIDDLE, 20, 20]]


# --- what cannot be done --------------------------------------------------------------------------------


def test_a_single_plane_has_nothing_to_follow_through(open_dock, qtbot, told):
    viewer, dock = open_dock(Image(picture(), name="cells"))
    click_on(qtbot, dock, (20, 20))
    press(viewer, "Shift-G")
    assert told == ["'cells' is one plane: there is no volume or time series to follow an object through."]
    assert not dock.propagate.isVisibleTo(dock) and dock.session.state.masks is not None


def test_without_a_prompt_it_asks_for_one(open_dock, qtbot, told):
    viewer, dock = open_dock(Image(rod()))
    press(viewer, ".")
    assert told == ["Say first what is to be followed: click on an object, or draw a box round it."]
    assert not dock.propagation.on


def test_an_error_on_the_way_is_told_and_what_was_found_stays(clicked, qtbot, told):
    class Odd(FakeEngine):
        def follow(self, key, prompts, before, progress):
            if key[1].position[0] == 7:
                raise MemoryError("no memory is left")
            return super().follow(key, prompts, before, progress)

    viewer, dock = clicked(rod(0, 8), engine=Odd)
    press(viewer, "Shift-G")
    done(qtbot, dock)
    assert len(told) == 1 and "no memory is left" in told[0]
    assert dock.status.text.text().startswith("Stopped by an error. Found on 6 planes, plane 1 to 6.")


def test_closing_the_dock_in_the_middle_ends_it(make_napari_viewer, qtbot):
    viewer = make_napari_viewer()
    viewer.add_image(rod(), name="cells")
    dock = PromptWidget(viewer, Slow)
    docked = viewer.window.add_dock_widget(dock)
    settle(qtbot, dock)
    viewer.dims.set_point(0, MIDDLE)
    settle(qtbot, dock)
    click_on(qtbot, dock, (MIDDLE, 20, 20))
    press(viewer, "Shift-G")
    qtbot.waitUntil(lambda: len(dock.session._engine.followed) == 2)
    viewer.window.remove_dock_widget(docked)
    assert dock._jobs._thread._shutdown and "Samscape preview" not in viewer.layers
