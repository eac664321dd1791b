"""The Models dock in a real window; downloads are played by the test."""

import pytest

pytest.importorskip("napari")

from napari_samscape.errors import InputError
from napari_samscape.model import registry
from napari_samscape.widgets.choosers import ModelChooser
from napari_samscape.widgets.models import ModelsWidget

GIGABYTES = 3_000_000_000  # more than Qt's whole numbers hold


@pytest.fixture
def dock(make_napari_viewer, monkeypatch, tmp_path):
    monkeypatch.setenv("SAMSCAPE_CACHE", str(tmp_path))
    viewer = make_napari_viewer()
    dock = ModelsWidget(viewer)
    viewer.window.add_dock_widget(dock)
    return dock


def choose(dock, name):
    dock.table.selectRow(list(registry.KNOWN).index(name))


def wait(qtbot, dock):
    qtbot.waitUntil(lambda: not dock._jobs.busy, timeout=20_000)
    return dock.status.text.text()


def bring(name):
    path = registry.cache_dir() / "models" / registry.KNOWN[name].filename
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"weights")
    return path


def test_a_model_is_downloaded_with_its_licence_in_sight_and_removed(dock, qtbot, monkeypatch):
    shown = []

    def download(name, progress):
        progress(GIGABYTES // 2, GIGABYTES, "Downloading vit.pth")
        return bring(name)

    monkeypatch.setattr(registry, "download", download)
    report = dock._on_progress
    monkeypatch.setattr(
        dock, "_on_progress", lambda *what: (report(*what), shown.append(dock.status.text.text()))
    )
    models = ModelChooser()
    choose(dock, "vit_b_lm")
    assert "CC-BY-4.0" in dock.about.text() and dock.get.text() == "Download (CC-BY-4.0)"
    assert dock.get.isEnabled() and not dock.remove.isEnabled() and models.findData("vit_b_lm") < 0
    dock.get.click()
    assert wait(qtbot, dock) == "'vit_b_lm' is here, and can be chosen in every dock."
    assert "Downloading vit.pth: 1500 of 3000 MB" in shown
    assert not dock.get.isEnabled() and dock.remove.isEnabled()
    models.showPopup()
    assert models.findData("vit_b_lm") > 0
    models.hidePopup()
    dock.remove.click()
    assert registry.local_path("vit_b_lm") is None and dock.get.isEnabled()
    models.showPopup()
    assert models.findData("vit_b_lm") < 0 and models.currentData() == "nano"
    models.hidePopup()


def test_a_file_that_is_not_what_was_published_is_found_out(dock, qtbot, told):
    bring("vit_b")
    choose(dock, "vit_b")
    dock._show("")
    dock.verify.click()
    assert "is not the file that was published under this name" in wait(qtbot, dock)
    assert told and told[-1] == dock.status.text.text()


def test_the_bundled_model_stays(dock, qtbot):
    choose(dock, "nano")
    assert not dock.remove.isEnabled() and not dock.get.isEnabled()
    dock.verify.click()
    assert wait(qtbot, dock) == "'nano' came with the package."
    with pytest.raises(InputError, match="part of the package"):
        registry.remove("nano")


def test_a_download_can_be_cancelled(dock, qtbot, monkeypatch):
    def download(name, progress):
        while True:
            progress(1, 2, "Downloading")

    monkeypatch.setattr(registry, "download", download)
    choose(dock, "vit_b")
    dock.get.click()
    dock.status.cancel.click()
    assert wait(qtbot, dock) == "Cancelled; the next download goes on from here."
