"""The modes 'boxes' and 'edges' from the command line to the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import bright
import numpy as np
import pytest
import tifffile
from test_cli import ids, printed_json, samscape

from napari_samscape.errors import InputError
from napari_samscape.io import open_image, read_boxes
from napari_samscape.prediction.enlarge import NOTHING
from napari_samscape.prediction.instances import instance_from_mask
from napari_samscape.prediction.types import Instances
from napari_samscape.scaling.batch import Job

BBOX = [5, 25, 10, 9]  # x, y, width, height
OURS = [25.0, 5.0, 34.0, 15.0]
ROWS = [{"image_id": 7, "category_id": 3, "bbox": BBOX, "score": 0.5}]


def segment_boxes(model: Any, pixels: np.ndarray, boxes: Any, progress: Any = None) -> Instances:
    """Fill the boxes."""
    items = []
    for y0, x0, y1, x1 in np.asarray(boxes, int).clip(0):
        mask = np.zeros(pixels.shape[:2], bool)
        mask[y0:y1, x0:x1] = True
        items.append(instance_from_mask(mask) if mask.any() else NOTHING)
    return Instances(tuple(items), pixels.shape[:2])


def drawn_edges(
    model: Any, pixels: np.ndarray, options: Any, progress: Any = None
) -> tuple[np.ndarray, float]:
    return np.full(pixels.shape[:2], 1.0 if options.thin else 0.5, np.float32), 4.0


@pytest.fixture(autouse=True)
def picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bright.install(monkeypatch)
    monkeypatch.setattr("napari_samscape.prediction.boxes.segment_boxes", segment_boxes)
    monkeypatch.setattr("napari_samscape.prediction.edges.drawn_edges", drawn_edges)
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("cells.tif", bright.spots((10, 10)))


def test_boxes_of_a_detector_give_labels_with_their_numbers_and_the_empty_ones_are_told() -> None:
    done = printed_json("segment", "cells.tif", "o.tif", "--mode", "boxes", "--boxes", "90,90,99,99;1,1,9,9")
    assert done["note"] == "1 of 2 boxes lie outside the picture or are empty: 1."
    assert ids("o.tif") == {2}


@pytest.mark.parametrize("mode", ["boxes", "prompts"])
def test_boxes_may_come_from_cocos_results(mode: str) -> None:
    Path("boxes.json").write_text(json.dumps(ROWS))
    assert samscape("segment", "cells.tif", "o.tif", "--mode", mode, "--boxes", "boxes.json").exit_code == 0
    assert read_boxes("boxes.json") == ([OURS], [0.5], [3])


def test_of_a_coco_file_of_several_pictures_the_right_one_is_taken() -> None:
    images = [{"id": 7, "file_name": "x/cells.tif"}, {"id": 8, "file_name": "other.tif"}]
    rows = [*ROWS, {**ROWS[0], "image_id": 8}, {**ROWS[0], "iscrowd": 1}]
    kinds = [{"id": 3, "name": "cell"}]
    Path("a.json").write_text(json.dumps({"images": images, "annotations": rows, "categories": kinds}))
    assert read_boxes("a.json", "cells.tif") == ([OURS], [0.5], ["cell"])
    Path("r.json").write_text(json.dumps(rows[:2]))
    assert read_boxes("r.json", "data/000008.jpg").boxes == [OURS]
    with pytest.raises(InputError, match="about several pictures, and which one is cells.tif"):
        read_boxes("r.json", "cells.tif")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ([{"image_id": 1}], "lacks 'bbox'"),
        ([{"bbox": BBOX}], "lacks 'image_id'"),
        ([{"image_id": 1, "bbox": [1, 2]}], "no COCO file of boxes"),
        ({"annotations": 5}, "no COCO file of boxes"),
        ({"cells": 5}, "must hold a list of boxes"),
    ],
)
def test_json_that_is_no_coco_is_refused(content: Any, sentence: str) -> None:
    Path("boxes.json").write_text(json.dumps(content))
    result = samscape("segment", "cells.tif", "o.tif", "--mode", "boxes", "--boxes", "boxes.json")
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert not Path("o.tif").exists()


@pytest.mark.parametrize(("option", "value"), [([], 1.0), (["--thin"], 1.0), (["--soft"], 0.5)])
def test_edges_are_written_as_a_map(option: list[str], value: float) -> None:
    result = samscape("segment", "cells.tif", "e.tif", "--mode", "edges", *option)
    assert result.stdout.splitlines()[1] == "edges: e.tif"
    plane = open_image("e.tif").plane()
    assert plane.dtype == np.float32
    np.testing.assert_array_equal(plane, np.full((40, 60), value))


def test_a_constant_picture_has_no_edges_and_says_so() -> None:
    tifffile.imwrite("grey.tif", np.full((40, 60), 7, np.uint16))
    done = printed_json("segment", "grey.tif", "e.tif", "--mode", "edges")
    assert (done["objects"], done["note"]) == (None, "The picture is constant, so there are no edges.")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--mode", "boxes"], "needs --boxes"),
        (["--mode", "boxes", "--boxes", "1,1,9,9", "--points", "1,1"], "takes neither --points"),
        (["--mode", "edges", "--points", "1,1"], "'edges' takes no prompts"),
        (["--mode", "edges", "--overlay", "o.png"], "'edges' finds none"),
    ],
)
def test_what_a_mode_does_not_take_is_refused(options: list[str], sentence: str) -> None:
    result = samscape("segment", "cells.tif", "o.tif", *options)
    assert result.exit_code == 2
    assert sentence in result.stderr


def test_a_job_with_boxes_survives_json() -> None:
    job = Job("a", "b", mode="boxes", boxes=((1.0, 2.0, 3.0, 4.0),), thin=False)
    assert Job.from_json(json.loads(json.dumps(job.to_json()))) == job
