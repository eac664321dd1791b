"""An engine in a process of its own: the same answers, and no process that outlives anybody."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from fake_engine import FakeEngine
from window import picture

from napari_samscape.errors import InputError
from napari_samscape.prediction.options import EdgeOptions, EverythingOptions
from napari_samscape.prediction.types import Prompts
from napari_samscape.widgets.drawn import Rectangles
from napari_samscape.widgets.lesson import Lesson
from napari_samscape.widgets.process_engine import ProcessEngine

CLICK = Prompts(points=[(20, 20)])


def silent(done, total, text):
    pass


@pytest.fixture(scope="module")
def engine():
    engine = ProcessEngine("nano", engine="odd_engine:OddEngine")
    yield engine
    engine.close()


def gone(pid):
    """Whether a process has ended, within some seconds."""
    for _ in range(500):
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().split()[2] == "Z":
                    return True
        except FileNotFoundError:
            return True
        time.sleep(0.01)
    return False


class Stop(Exception):
    """What a cancelled job's progress raises."""


def stop_after(count):
    heard = []

    def progress(done, total, text):
        heard.append((done, total, text))
        if len(heard) >= count:
            raise Stop

    return progress


def test_it_answers_as_the_engine_itself_would(engine):
    here = FakeEngine()
    for one in (engine, here):
        one.embed("a", picture(), silent)
    assert engine.knows("a") and not engine.knows("b")
    np.testing.assert_array_equal(engine.picture("a"), here.picture("a"))
    found, expected = (one.predict("a", CLICK, True) for one in (engine, here))
    np.testing.assert_array_equal(found.masks, expected.masks)
    np.testing.assert_array_equal(found.iou, expected.iou)
    assert engine.glance("a", CLICK, True).box == here.glance("a", CLICK, True).box == (10, 15, 30, 40)
    rod = [one.follow("a", CLICK, None, silent) for one in (engine, here)]
    assert rod[0].item.box == rod[1].item.box and rod[0].view == rod[1].view == (0, 0, 64, 64)
    boxes = Rectangles(np.array([[10, 15, 29, 39]]), (0,))
    assert engine.boxes(picture(), boxes, silent)[0].area == 500
    assert len(engine.everything(picture(), EverythingOptions(), silent)) == 2
    assert engine.edges(picture(), EdgeOptions(), silent).max() == 1
    engine.load(silent)
    assert engine.has_dense
    lesson = Lesson([("plane 1", picture(), np.full((64, 64), 3))], True, Path("mine.safetensors"), {})
    assert [one.tune(lesson, silent).rows for one in (engine, here)] == [[("objects", "3")]] * 2


def test_it_knows_what_is_remembered_over_there(engine):
    for key in "abc":
        engine.embed(key, picture(), silent)
    assert [engine.knows(key) for key in "abc"] == [False, True, True]


def test_what_is_wrong_is_said_as_it_was(engine):
    with pytest.raises(InputError, match="^This picture cannot be used.$"):
        engine.embed("bad", picture(), silent)
    with pytest.raises(KeyError):
        engine.predict("unknown", CLICK, True)


def test_work_that_is_cancelled_stops_and_the_next_question_is_answered(engine):
    with pytest.raises(Stop):
        engine.embed("slow", picture(), stop_after(3))
    engine.embed("a", picture(), silent)
    assert engine.glance("a", CLICK, True).area == 500


def test_work_that_says_nothing_can_be_cancelled_and_ended_all_the_same():
    engine = ProcessEngine("nano", engine="odd_engine:OddEngine")
    with pytest.raises(Stop):
        engine.embed("deaf", picture(), stop_after(4))
    pid = engine._worker._process.pid
    engine.close()
    assert gone(pid) and not engine.knows("deaf")


def test_a_process_that_dies_is_told_in_a_sentence_and_started_again():
    engine = ProcessEngine("nano", engine="odd_engine:OddEngine")
    engine.embed("a", picture(), silent)
    with pytest.raises(InputError, match="process has ended"):
        engine.embed("fatal", picture(), silent)
    assert not engine.knows("a")
    engine.embed("a", picture(), silent)
    assert engine.knows("a")
    pid = engine._worker._process.pid
    del engine
    assert gone(pid), "nobody uses it any more"


@pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="needs Linux's classes of priority")
def test_the_window_comes_first_wherever_both_want_the_processor(engine):
    engine.embed("a", picture(), silent)
    threads = map(int, os.listdir(f"/proc/{engine._worker._process.pid}/task"))
    assert {os.sched_getscheduler(thread) for thread in threads} == {os.SCHED_IDLE}


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_the_process_ends_with_the_window_even_if_that_is_killed_in_mid_work():
    code = """
import threading, time
from window import picture
from napari_samscape.widgets.process_engine import ProcessEngine
engine = ProcessEngine("nano", engine="odd_engine:OddEngine")
engine.embed("a", picture(), lambda *_: None)
print(engine._worker._process.pid, flush=True)
engine.embed("deaf", picture(), lambda *_: None)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as window:
        pid = int(window.stdout.readline())
        window.kill()
    assert gone(pid)
