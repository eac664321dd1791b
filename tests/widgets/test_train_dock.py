"""The Train dock in a real napari window."""

import itertools
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("napari")

from napari.layers import Image, Labels

from napari_samscape.training import tuning
from napari_samscape.training.finetune import Tuned
from napari_samscape.training.tuning import Outcome
from napari_samscape.widgets.controls import Scroll
from napari_samscape.widgets.engine import LocalEngine
from napari_samscape.widgets.everything import EverythingWidget
from napari_samscape.widgets.train import TrainWidget


@pytest.fixture
def asked(monkeypatch):
    """What the dock asked to be learned; nothing is."""
    calls = []

    def tune(parent, material, out, settings, *, progress):
        progress(0, 0, "Learning")
        calls.append((parent.name, material, Path(out), settings))
        return Outcome(Path(out), Tuned(parent, 3, 2, 1.0), {"point": 0.5}, {"point": 0.75})

    monkeypatch.setattr(tuning, "tune", tune)
    return calls


@pytest.fixture
def open_train(open_task):
    """Open a viewer with layers and the dock, whose model is in this process."""
    return lambda *layers: open_task(TrainWidget, *layers, engine=LocalEngine)


@pytest.fixture
def labels(picture):
    return (picture > 0).astype(np.int32) + (picture > 100)


def test_run_learns_from_the_labels_and_offers_the_model_everywhere(
    open_train, run, asked, picture, labels
) -> None:
    viewer, dock = open_train(Image(picture, name="cells"), Labels(labels, name="mine"))
    other = EverythingWidget(viewer)
    viewer.window.add_dock_widget(other)
    out = dock.out.text()
    assert run(dock) == f"The model is in {out}; choose it as Model in any dock."
    ((parent, material, path, settings),) = asked
    assert (parent, material.objects, str(path)) == ("nano", 2, out)
    assert settings.method == "decoder" and settings.minutes == 2.0
    assert material.learn[0].complete
    assert "0.500" in dock.table.text() and "+0.250" in dock.table.text()
    assert other.model.findData(out) >= 0 and other.model.currentData() == "nano"


def test_the_whole_table_is_in_sight_where_there_is_room(
    open_train, run, monkeypatch, qtbot, picture, labels
) -> None:
    scores = dict.fromkeys(tuning.SCORES, 0.5)
    outcome = Outcome(Path("mine.safetensors"), Tuned(None, 3, 2, 1.0), scores, scores)
    monkeypatch.setattr(tuning, "tune", lambda *_, **__: outcome)
    # However many docks were opened before: napari counts them, and stretches what is below the later ones.
    monkeypatch.setattr("napari._qt.widgets.qt_viewer_dock_widget.counter", itertools.count(50))
    viewer, dock = open_train(Image(picture, name="cells"), Labels(labels, name="mine"))
    viewer.window.resize(1400, 1000)
    viewer.window.show()
    run(dock)
    bar = dock.findChild(Scroll).verticalScrollBar()
    qtbot.waitUntil(lambda: dock.table.height() >= dock.table.heightForWidth(dock.table.width()) > 60)
    qtbot.waitUntil(lambda: bar.maximum() == 0)


def test_all_planes_with_labels_are_learned_from(open_train, run, asked, picture, labels) -> None:
    stack, drawn = np.stack([picture] * 3), np.stack([labels, labels * 0, labels])
    _, dock = open_train(Image(stack, name="stack"), Labels(drawn, name="mine"))
    dock.all_planes.setChecked(True)
    dock.complete.setChecked(False)
    run(dock)
    material = asked[0][1]
    assert [one.name for one in material.learn] == ["plane 1", "plane 3"]
    assert not material.learn[0].complete


def test_labels_of_another_size_are_refused(open_train, run, asked, told, picture, labels) -> None:
    _, dock = open_train(Image(picture, name="cells"), Labels(labels[:50], name="mine"))
    assert run(dock) == "The labels 'mine' are 50 x 64 pixels, but the image 'cells' is 64 x 64."
    assert told and not asked


def test_without_labels_there_is_nothing_to_learn_from(open_train, run, asked, told, picture) -> None:
    _, dock = open_train(Image(picture, name="cells"))
    assert "no Labels layer to learn from" in run(dock)


def test_learning_can_be_cancelled(open_train, qtbot, monkeypatch, picture, labels) -> None:
    def tune(parent, material, out, settings, *, progress):
        while True:
            progress(1, 2, "Learning")

    monkeypatch.setattr(tuning, "tune", tune)
    _, dock = open_train(Image(picture, name="cells"), Labels(labels, name="mine"))
    dock.run_button.click()
    qtbot.waitUntil(lambda: dock.status.text.text() == "Learning", timeout=20_000)
    dock.cancel()
    qtbot.waitUntil(lambda: not dock._jobs.busy, timeout=20_000)
    assert dock.status.text.text() == "Cancelled." and not Path(dock.out.text()).exists()
