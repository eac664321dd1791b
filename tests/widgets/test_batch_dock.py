"""The Batch dock in a real window; the process that does the work is played by the test."""

import json

import pytest

pytest.importorskip("napari")

from qtpy.QtCore import QObject, Signal

from napari_samscape.widgets import batch as batch_dock
from napari_samscape.widgets.jobs import Batch, shown_time


class FakeProcess(QObject):
    said = Signal(object)
    ended = Signal(object)
    started = []

    def __init__(self, order):
        super().__init__()
        self.order, self.is_running = order, True
        self.started.append(self)

    def end(self):
        self.is_running = False

    def report(self, done, total, text):
        self.said.emit({"progress": [done, total, text]})

    def finish(self, failed=()):
        pictures = [{"picture": name, "error": "it is damaged", "failed": []} for name in failed]
        result = {
            "pictures": pictures,
            "done": 3,
            "failed": len(failed),
            "objects": 40,
            "table": "t",
            "seconds": 2,
        }
        self.said.emit({"result": result})
        self.ended.emit(self)


@pytest.fixture
def open_batch(make_napari_viewer, monkeypatch):
    monkeypatch.setattr(batch_dock, "Attended", FakeProcess)
    monkeypatch.setattr(FakeProcess, "started", [])
    viewer = make_napari_viewer()

    def open_it():
        dock = batch_dock.BatchWidget(viewer)
        viewer.window.add_dock_widget(dock)
        return dock

    return open_it


@pytest.fixture
def order(tmp_path):
    def fill_in(dock, name="plate"):
        dock.source.setText(str(tmp_path / name))
        dock.folder.setText(str(tmp_path / f"{name} labels"))
        dock.add_button.click()

    return fill_in


def test_batches_run_one_after_the_other_with_progress_and_time_left(open_batch, order, monkeypatch, told):
    clock = [0.0]
    monkeypatch.setattr(batch_dock.time, "monotonic", lambda: clock[0])
    dock = open_batch()
    order(dock)
    order(dock, "slides")
    (process,) = FakeProcess.started
    assert process.order["source"].endswith("plate") and process.order["ending"] == ".ome.zarr"
    assert process.order["settings"] == {
        "model": "nano",
        "mode": "everything",
        "detector": None,
        "link": None,
    }
    process.report(0, 3000, "a.tif: tile 1 of 8")
    clock[0] = 10.0
    process.report(1000, 3000, "b.tif: tile 1 of 8")
    assert dock.table.item(0, 2).text() == "20 s"
    assert dock.table.cellWidget(0, 1).value() == 1000
    assert [batch.stage for batch in dock.batches] == ["running", "waiting"]
    process.finish(failed=["c.tif"])
    assert [batch.stage for batch in dock.batches] == ["failed", "running"]
    assert dock.batches[0].text == "3 pictures, 1 failed, 40 objects" and len(FakeProcess.started) == 2
    dock.table.selectRow(0)
    assert "b.tif: tile 1 of 8" in dock.log.toPlainText() and "c.tif: it is damaged" in dock.log.toPlainText()
    FakeProcess.started[1].finish()
    assert told[-1] == "slides: 3 pictures, 40 objects."


def test_a_batch_is_cancelled_and_goes_on(open_batch, order):
    dock = open_batch()
    order(dock)
    dock.go_button.click()
    assert not FakeProcess.started[0].is_running and dock.batches[0].stage == "stopped"
    assert dock.go_button.text() == "Resume"
    dock.go_button.click()
    assert len(FakeProcess.started) == 2 and FakeProcess.started[1].order == FakeProcess.started[0].order
    dock.remove_button.click()
    assert dock.batches == [] and not FakeProcess.started[1].is_running and not dock.go_button.isEnabled()


def test_closing_the_dock_ends_the_process_and_the_list_is_there_next_time(open_batch, order, data_folder):
    dock = open_batch()
    order(dock)
    order(dock, "slides")
    dock.close_session()
    assert not FakeProcess.started[0].is_running
    assert [batch["stage"] for batch in json.loads((data_folder / "batches.json").read_text())] == [
        "stopped",
        "waiting",
    ]
    again = open_batch()
    assert [batch.name for batch in again.batches] == ["plate", "slides"]
    assert {batch.stage for batch in again.batches} == {"stopped"}, "nothing runs without being told to"
    again.table.selectRow(1)
    again.go_button.click()
    assert FakeProcess.started[-1].order["source"].endswith("slides")


def test_a_process_that_dies_says_so(open_batch, order):
    dock = open_batch()
    order(dock)
    process = FakeProcess.started[0]
    process.ended.emit(process)
    assert dock.batches[0].stage == "failed" and "memory" in dock.batches[0].text


def test_what_is_wrong_is_said_in_a_sentence(open_batch, order, told):
    dock = open_batch()
    dock.add_button.click()
    order(dock)
    order(dock)
    dock.source.setText("x")
    dock.folder.setText("/nowhere/labels")
    dock.add_button.click()
    FakeProcess.started[0].said.emit({"error": "The folder plate holds no pictures."})
    assert told[0] == "Say which pictures, and into which folder."
    assert told[1].startswith("There is a batch into") and told[2] == "The folder /nowhere does not exist."
    assert told[3] == "The folder plate holds no pictures." and dock.batches[0].stage == "failed"


@pytest.mark.parametrize(("seconds", "text"), [(None, ""), (8.2, "8 s"), (95, "2 min"), (7300, "2 h 2 min")])
def test_times_are_for_people(seconds, text):
    assert shown_time(seconds) == text


def test_a_log_keeps_the_newest_lines_and_each_once():
    batch = Batch({"source": "a", "folder": "b"})
    batch.start()
    for step in range(3000):
        batch.report(step, 3000, f"tile {step // 2}", now=step)
    assert len(batch.log) == 1000 and batch.log[-1] == "tile 1499"
