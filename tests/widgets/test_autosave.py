"""Sessions on disk: whole at any moment, found again after any end of the process."""

import json
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

pytest.importorskip("filelock")

from napari_samscape.widgets.autosave import Store, left_behind

LABELS = np.array([[0, 1, 1], [0, 0, 2]], np.int32)


def document(*names, **more):
    return {"layers": [{"array": name} for name in names], **more}


def test_what_was_saved_last_is_read_and_the_rest_is_gone():
    store = Store()
    store.save(document("a-1", word="old"), {"a-1": LABELS})
    store.save(document("a-1", "b-1", word="new"), {"b-1": LABELS * 2})
    assert store.read()["word"] == "new"
    np.testing.assert_array_equal(store.labels("a-1"), LABELS)
    np.testing.assert_array_equal(store.labels("b-1"), LABELS * 2)
    store.save(document("b-1", word="newer"), {})
    assert sorted(path.name for path in store.folder.iterdir()) == ["b-1", "session.json"]


@pytest.mark.parametrize("dtype", ["uint8", "int32", "uint64"])
def test_labels_of_any_kind_and_dimension_come_back_exactly(dtype):
    store, labels = Store(), np.arange(2 * 3 * 1030, dtype=dtype).reshape(2, 3, 1030)
    store.save(document("a"), {"a": labels})
    back = store.labels("a")
    assert back.dtype == labels.dtype
    np.testing.assert_array_equal(back, labels)


def test_a_session_at_work_is_not_left_behind():
    store = Store()
    store.save(document(), {})
    assert left_behind() == []
    store.release()
    (found,) = left_behind()
    assert found.folder == store.folder
    assert left_behind() == [], "whoever has found it has it"


def test_a_discarded_session_leaves_nothing(data_folder):
    store = Store()
    store.save(document("a"), {"a": LABELS})
    store.discard()
    assert left_behind() == [] and list((data_folder / "sessions").iterdir()) == []


def test_a_save_that_is_interrupted_leaves_the_one_before(monkeypatch):
    store = Store()
    store.save(document("a-1", word="old"), {"a-1": LABELS})
    monkeypatch.setattr(json, "dump", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        store.save(document("a-2", word="new"), {"a-2": LABELS * 2})
    store.release()
    (found,) = left_behind()
    assert found.read()["word"] == "old"
    np.testing.assert_array_equal(found.labels("a-1"), LABELS)


def test_nothing_is_saved_any_more_once_it_is_discarded():
    store = Store()
    store.save(document(), {})
    store.discard()
    store.save(document("a"), {"a": LABELS})
    assert left_behind() == [] and not store.folder.exists()


def test_what_one_thread_has_saved_another_can_give_up():
    store = Store()
    thread = threading.Thread(target=store.save, args=(document(), {}))
    thread.start()
    thread.join()
    store.release()
    assert len(left_behind()) == 1


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 99}'])
def test_what_cannot_be_read_is_left_alone(data_folder, text):
    folder = data_folder / "sessions" / "broken"
    folder.mkdir(parents=True)
    (folder / "session.json").write_text(text)
    assert left_behind() == [] and folder.exists()


def test_the_newest_comes_first():
    for number in (1, 2):
        store = Store()
        store.save(document(number=number), {})
        os.utime(store.folder / "session.json", (number, number))
        store.release()
    assert [store.read()["number"] for store in left_behind()] == [2, 1]


def test_a_session_whose_process_was_killed_is_found(data_folder):
    code = (
        "import time; import numpy as np; from napari_samscape.widgets.autosave import Store\n"
        "store = Store()\n"
        "store.save({'layers': [{'array': 'a'}]}, {'a': np.full((2, 2), 7)}); print('saved', flush=True)\n"
        "time.sleep(100)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "saved\n"
        assert left_behind() == []
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    (found,) = left_behind()
    np.testing.assert_array_equal(found.labels("a"), [[7, 7], [7, 7]])
