"""The worker: one piece of work at a time, off the GUI thread, delivered in it."""

import threading
import time

import pytest

pytest.importorskip("qtpy")

from napari_samscape.errors import InputError
from napari_samscape.widgets.worker import Jobs


class Ears:
    """Hears what the worker delivers, and in which thread."""

    def __init__(self):
        self.heard = []
        self.threads = set()

    def _hear(self, *what):
        self.heard.append(what)
        self.threads.add(threading.current_thread())

    def done(self, result):
        self._hear("done", result)

    def failed(self, error):
        self._hear("failed", error)

    def reported(self, done, total, text):
        if text:
            self._hear("reported", done, total, text)


@pytest.fixture
def jobs(qtbot):
    jobs = Jobs()
    yield jobs
    jobs.close()


def start(jobs, work):
    ears = Ears()
    jobs.start(work, ears.done, ears.failed, ears.reported)
    return ears


def endless(progress):
    while True:
        progress(1, 2, "still at it")
        time.sleep(0.001)


def test_work_is_done_elsewhere_and_its_result_delivered_here(jobs, qtbot):
    where = []
    ears = start(jobs, lambda _: where.append(threading.current_thread()) or 42)
    assert jobs.busy
    qtbot.waitUntil(lambda: not jobs.busy)
    assert ears.heard == [("done", 42)]
    assert where != [threading.main_thread()] and ears.threads == {threading.main_thread()}


def test_progress_is_delivered_here_in_order(jobs, qtbot):
    ears = start(jobs, lambda progress: [progress(i, 3, "x") for i in range(3)] and None)
    qtbot.waitUntil(lambda: not jobs.busy)
    assert [heard[1] for heard in ears.heard if heard[0] == "reported"] == [0, 1, 2]


def test_an_exception_is_delivered_and_the_next_work_runs(jobs, qtbot):
    def fail(_):
        raise InputError("No such picture.")

    ears = start(jobs, fail)
    qtbot.waitUntil(lambda: not jobs.busy)
    assert ears.heard[0][0] == "failed" and str(ears.heard[0][1]) == "No such picture."
    again = start(jobs, lambda _: "fine")
    qtbot.waitUntil(lambda: not jobs.busy)
    assert again.heard == [("done", "fine")]


def test_cancelled_work_stops_at_its_next_report(jobs, qtbot):
    ears = start(jobs, endless)
    qtbot.waitUntil(lambda: len(ears.heard) > 0)
    jobs.cancel()
    qtbot.waitUntil(lambda: not jobs.busy)
    assert ears.heard[-1] == ("failed", None)


def test_the_result_of_cancelled_work_is_dropped(jobs, qtbot):
    gate = threading.Event()
    ears = start(jobs, lambda _: gate.wait(5) and "too late")
    jobs.cancel()
    gate.set()
    qtbot.waitUntil(lambda: not jobs.busy)
    assert ears.heard == [("failed", None)]


def test_a_second_piece_of_work_is_refused(jobs, qtbot):
    start(jobs, endless)
    with pytest.raises(RuntimeError, match="under way"):
        start(jobs, endless)


def test_closing_ends_the_thread_and_delivers_nothing_more(jobs, qtbot):
    before = set(threading.enumerate())
    ears = start(jobs, endless)
    (thread,) = set(threading.enumerate()) - before
    qtbot.waitUntil(lambda: len(ears.heard) > 0)
    jobs.close()
    heard = len(ears.heard)
    thread.join(5)
    assert not thread.is_alive()
    qtbot.wait(20)
    assert len(ears.heard) == heard
