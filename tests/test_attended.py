"""A batch in a process of its own says in JSON how it goes, and ends with whoever started it."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image as pillow

from napari_samscape.scaling import many
from napari_samscape.scaling.attended import PARTS, attend


@pytest.fixture
def order(tmp_path):
    for name in "ab":
        pillow.fromarray(np.zeros((20, 30), np.uint8)).save(tmp_path / f"{name}.png")
    return {
        "source": str(tmp_path),
        "folder": str(tmp_path / "out"),
        "settings": {"model": "nano", "mode": "everything", "link": None},
        "ending": ".tif",
        "table": "objects.csv",
    }


def test_progress_and_the_result_are_said(order, monkeypatch, nano):
    monkeypatch.setattr(many, "load_for", lambda job: nano)
    said = []
    attend(order, said.append)
    *progress, result = said
    assert all(0 <= step["progress"][0] <= step["progress"][1] == 2 * PARTS for step in progress)
    assert progress[-1]["progress"][:2] == [2 * PARTS, 2 * PARTS]
    assert result["result"]["done"] == 2 and result["result"]["failed"] == 0
    json.dumps(said)


def test_bad_input_is_said(order):
    said = []
    attend({**order, "source": "nowhere"}, said.append)
    (error,) = said
    assert "nowhere" in error["error"]


def test_the_process_ends_with_its_input(order, tmp_path):
    os.mkfifo(tmp_path / "pictures.txt")  # reading the list of pictures takes for ever
    command = [sys.executable, "-m", "napari_samscape.scaling.attended"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, text=True) as process:
        process.stdin.write(json.dumps({**order, "source": str(tmp_path / "pictures.txt")}) + "\n")
        process.stdin.close()
        assert process.wait(timeout=60) == 1
