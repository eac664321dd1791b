"""The Project dock in a real napari window."""

import numpy as np
import pytest

pytest.importorskip("napari")

from PIL import Image

from napari_samscape.annotation import loop
from napari_samscape.annotation.project import Project
from napari_samscape.errors import InputError
from napari_samscape.widgets.assistant import LocalAssistant, ProcessAssistant
from napari_samscape.widgets.project import ProjectWidget


@pytest.fixture
def folder(tmp_path, picture):
    """A project of two pictures."""
    (tmp_path / "pictures").mkdir()
    for name in ("a", "b"):
        Image.fromarray(picture).save(tmp_path / "pictures" / f"{name}.png")
    return Project.create(tmp_path / "project", str(tmp_path / "pictures")).folder


@pytest.fixture
def open_project(make_napari_viewer, qtbot, monkeypatch):
    """Open the dock, and a project in it."""

    def open_it(folder):
        viewer = make_napari_viewer()
        dock = ProjectWidget(viewer, LocalAssistant)
        viewer.window.add_dock_widget(dock)
        monkeypatch.setattr(dock, "_folder", lambda what: str(folder))
        dock.open_button.click()
        qtbot.waitUntil(lambda: not dock._jobs.busy, timeout=20_000)
        return viewer, dock

    return open_it


def test_pictures_come_one_after_the_other_and_what_is_accepted_is_kept(
    open_project, folder, picture, qtbot, monkeypatch
) -> None:
    learned = []
    monkeypatch.setattr(loop, "train_in_background", lambda project: learned.append(project.count()))
    viewer, dock = open_project(folder)
    assert [layer.name for layer in viewer.layers] == ["a", "a objects"]
    assert "0 of 2 pictures done; model version 0" in dock.status.text.text()
    for number in (1, 2):
        viewer.layers[1].data = (picture > 0).astype(np.int32) + (picture > 100)
        dock.accept_button.click()
        qtbot.waitUntil(lambda: not dock._jobs.busy, timeout=20_000)
        assert learned[-1] == 2 * number
    assert dock.status.text.text() == "All pictures are done." and len(viewer.layers) == 0
    project = Project.open(folder)
    assert project.stage == "done" and [one.how for one in project.accepted("b")] == ["drawn"] * 2


def test_labels_that_were_removed_are_not_accepted(open_project, folder, told) -> None:
    viewer, dock = open_project(folder)
    viewer.layers.pop(1)
    dock.accept_button.click()
    assert "were removed" in dock.status.text.text() and told
    assert not Project.open(folder).is_done("a")


def test_what_is_no_project_is_said(open_project, tmp_path, told) -> None:
    _, dock = open_project(tmp_path)
    assert "is no annotation project" in dock.status.text.text() and told
    assert not dock.next_button.isEnabled()


def test_another_process_gives_the_same_picture_and_says_the_same(folder, tmp_path) -> None:
    there, here = ProcessAssistant(), LocalAssistant()
    (name, pixels, labels), expected = (one.next(folder, lambda *_: None) for one in (there, here))
    assert name == expected[0] == "a"
    np.testing.assert_array_equal(pixels, expected[1])
    np.testing.assert_array_equal(labels, expected[2])
    with pytest.raises(InputError, match="is no annotation project"):
        there.next(tmp_path, lambda *_: None)
    there.close()
