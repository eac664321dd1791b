"""What is found again after napari has died, in real windows; the last test kills a process with kill -9."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("napari")

from napari.layers import Image, Labels
from skimage.io import imsave
from window import click_on, picture, press, settle


def saved(qtbot, dock):
    """Wait until all is saved."""
    settle(qtbot, dock)
    qtbot.waitUntil(lambda: not dock.keeper.busy, timeout=20_000)
    return dock.keeper._stores[0]


def die(qtbot, dock):
    """What the death of the process means for the session: the lock is free, and nothing is removed."""
    store = saved(qtbot, dock)
    store.release()
    dock.keeper._stores[0] = type(store)()


@pytest.fixture
def open_dead(open_dock, qtbot):
    """Commit objects in a window, and let it die."""

    def open_it(*places, image=None):
        viewer, dock = open_dock(image or Image(picture(), name="cells"))
        for place in places:
            click_on(qtbot, dock, place)
            press(viewer, "N")
        die(qtbot, dock)
        viewer.close()

    return open_it


def test_after_a_crash_there_is_one_question_and_all_is_back(open_dead, open_dock, qtbot):
    open_dead((20, 20), (45, 30))
    viewer, dock = open_dock(Image(picture(), name="cells"))
    assert dock.restore.isVisibleTo(dock)
    assert dock.restore.text.text().startswith("napari ended with 2 unsaved objects on 'cells' (")
    dock.restore.yes.click()
    settle(qtbot, dock)
    labels = viewer.layers["cells objects"]
    np.testing.assert_array_equal(labels.data, picture() // 100)
    assert labels.data.dtype == np.int32 and dock.labels.layer is labels
    assert labels.features[["index", "area", "prompts"]].to_numpy().tolist() == [[1, 500, 1], [2, 825, 1]]
    assert not dock.restore.isVisibleTo(dock)
    labels.selected_label = 2
    press(viewer, "H")
    settle(qtbot, dock)
    np.testing.assert_array_equal(dock.canvas.points.data, [[45, 30]])
    np.testing.assert_array_equal(dock.session.state.mask, picture() == 200)


def test_what_was_restored_is_saved_on(open_dead, open_dock, qtbot):
    open_dead((20, 20))
    viewer, dock = open_dock(Image(picture(), name="cells"))
    dock.restore.yes.click()
    click_on(qtbot, dock, (45, 30))
    press(viewer, "N")
    die(qtbot, dock)
    viewer.close()
    _, dock = open_dock(Image(picture(), name="cells"))
    dock.restore.yes.click()
    settle(qtbot, dock)
    np.testing.assert_array_equal(dock.labels.layer.data, picture() // 100)


def test_work_that_is_not_wanted_is_gone_for_good(open_dead, open_dock, data_folder):
    open_dead((20, 20))
    viewer, dock = open_dock(Image(picture(), name="cells"))
    dock.restore.no.click()
    assert not dock.restore.isVisibleTo(dock) and "cells objects" not in viewer.layers
    assert list((data_folder / "sessions").iterdir()) == []


def test_closing_the_window_or_the_dock_leaves_nothing_to_ask_about(open_dock, qtbot, data_folder):
    for end in ("window", "dock"):
        viewer, dock = open_dock(Image(picture(), name="cells"))
        click_on(qtbot, dock, (20, 20))
        press(viewer, "N")
        assert saved(qtbot, dock).folder.exists()
        if end == "dock":
            viewer.window.remove_dock_widget(dock)
        viewer.close()
        qtbot.waitUntil(lambda: list((data_folder / "sessions").iterdir()) == [], timeout=20_000)


def test_looking_around_saves_nothing(open_dock, qtbot, data_folder):
    mine = Labels((picture() > 0).astype(int), name="mine")
    _, dock = open_dock(Image(picture(), name="cells"), mine)
    dock.labels.choose(mine)
    dock.over.setChecked(True)
    saved(qtbot, dock)
    assert not (data_folder / "sessions").exists()


def test_the_image_is_opened_again_from_its_file(open_dock, qtbot, tmp_path):
    imsave(tmp_path / "cells.png", picture(), check_contrast=False)
    viewer, dock = open_dock()
    viewer.open(tmp_path / "cells.png", plugin="napari")
    settle(qtbot, dock)
    click_on(qtbot, dock, (20, 20))
    die(qtbot, dock)
    viewer.close()
    viewer, dock = open_dock()
    dock.restore.yes.click()
    settle(qtbot, dock)
    assert viewer.layers[0].name == "cells" and dock.image.layer is viewer.layers[0]
    np.testing.assert_array_equal(dock.session.state.mask, picture() == 100)


def test_without_the_image_the_objects_are_back_and_the_rest_is_told(open_dead, open_dock, qtbot, told):
    open_dead((20, 20))
    viewer, dock = open_dock()
    dock.restore.yes.click()
    settle(qtbot, dock)
    np.testing.assert_array_equal(viewer.layers["cells objects"].data, picture() == 100)
    assert told == ["The image 'cells' is not open, so its prompts were left out."]


def test_a_session_that_is_damaged_is_told_and_kept(open_dead, open_dock, told, data_folder):
    open_dead((20, 20))
    (labels,) = (data_folder / "sessions").glob("*/labels-*/zarr.json")
    labels.unlink()
    viewer, dock = open_dock(Image(picture(), name="cells"))
    dock.restore.yes.click()
    assert len(told) == 1 and told[0].startswith("The session could not be restored: ")
    assert len(list((data_folder / "sessions").glob("*/session.json"))) == 1


@pytest.mark.slow
def test_a_process_killed_with_kill_9_loses_nothing(open_dock, qtbot):
    script = Path(__file__).with_name("killed_session.py")
    path = os.pathsep.join([str(script.parent), *filter(None, sys.path)])
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    ) as process:
        assert process.stdout.readline() == "saved\n"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    viewer, dock = open_dock(Image(picture(), name="cells", scale=(2, 3)))
    assert "2 unsaved objects on 'cells'" in dock.restore.text.text()
    dock.restore.yes.click()
    settle(qtbot, dock)
    labels = viewer.layers["cells objects"]
    np.testing.assert_array_equal(labels.data, picture() // 100)
    np.testing.assert_allclose(labels.data_to_world((1, 1)), (2, 3))
    np.testing.assert_array_equal(dock.canvas.points.data, [[0, 0]])
    assert dock.session.state.chosen == 2 and dock.session.state.picked
    assert dock.over.isChecked()
