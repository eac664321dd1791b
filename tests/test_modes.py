"""The modes 'boxes' and 'edges' from the command line to the file."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import bright
import numpy as np
import pytest
import tifffile
from test_cli import ids, printed_json, samscape

from napari_samscape.errors import InputError
from napari_samscape.io import open_image, read_boxes, read_objects
from napari_samscape.prediction.detections import Detections
from napari_samscape.prediction.instances import instance_from_mask
from napari_samscape.prediction.types import NOTHING, Instances
from napari_samscape.scaling.batch import Job, segment

BBOX = [5, 25, 10, 9]  # x, y, width, height
OURS = [25.0, 5.0, 34.0, 15.0]
ROWS = [{"image_id": 7, "category_id": 3, "bbox": BBOX, "score": 0.5}]


def segment_boxes(  # noqa: PLR0913  (as the real one)
    model: Any, pixels: np.ndarray, boxes: Any, scores: Any = None, classes: Any = None, progress: Any = None
) -> Instances:
    """Fill the boxes."""
    given, items = Detections(boxes, scores, classes), []
    for box, score, kind in zip(given.boxes.astype(int).clip(0), given.scores, given.classes, strict=True):
        mask = np.zeros(pixels.shape[:2], bool)
        mask[box[0] : box[2], box[1] : box[3]] = True
        item = instance_from_mask(mask) if mask.any() else NOTHING
        items.append(replace(item, score=float(score), category=kind))
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


def test_even_if_all_boxes_lie_outside_they_are_told() -> None:
    done = printed_json("segment", "cells.tif", "o.tif", "--mode", "boxes", "--boxes", "90,90,99,99")
    assert (done["objects"], done["note"]) == (0, "1 of 1 boxes lie outside the picture or are empty: 1.")


def test_a_detector_that_finds_nothing_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_samscape.prediction.cells.otsu", lambda pixels: np.zeros((0, 4)))
    done = printed_json("segment", "cells.tif", "o.tif", "--mode", "boxes", "--detector", "otsu")
    assert (done["objects"], done["note"]) == (0, "No objects were found.")


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
        (["--mode", "boxes"], "needs --boxes or --detector"),
        (["--mode", "boxes", "--boxes", "1,1,9,9", "--detector", "otsu"], "needs --boxes or --detector"),
        (["--mode", "edges", "--detector", "otsu"], "'edges' takes no boxes and no detector"),
        (["--mode", "boxes", "--detector", "magic"], "no detector 'magic'; there are blobs, otsu"),
        (["--mode", "boxes", "--detector", "transformers:"], "needs a model's name or folder"),
        (["--mode", "edges", "--objects", "o.json"], "'edges' finds none"),
        (["--objects", "o.xml"], "must end in .json, .csv or .geojson"),
        (["--points", "10,10", "--nested", "parts"], "'prompts' keeps all masks"),
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
    boxed = {"mode": "boxes", "boxes": ((1.0, 2.0, 3.0, 4.0),), "scores": (0.5,), "classes": ("cell",)}
    for job in (Job("a", "b", **boxed, objects="o.csv"), Job("a", "b", mode="boxes", detector="otsu")):
        assert Job.from_json(json.loads(json.dumps(job.to_json()))) == job


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"boxes": [[1, 2, 3]]}, "shape"),
        ({"boxes": [[1, 2, 3, float("nan")]]}, "box number 1 is not finite"),
        ({"boxes": [[1, 2, 3, 4]], "scores": [1, 2]}, "1 boxes but 2 scores"),
        ({"boxes": [[1, 2, 3, 4]], "detector": "otsu"}, "use one of them"),
        ({"mode": "everything", "nested": "some"}, "'all', 'parts' or 'wholes', not 'some'"),
    ],
)
def test_a_job_with_boxes_is_checked_when_it_is_made(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Job("a", "b", **{"mode": "boxes", **given})


# Objects one by one


def test_scores_and_classes_of_a_coco_file_go_on_to_the_objects_and_their_ids_are_the_labels() -> None:
    outside = {**ROWS[0], "bbox": [900, 900, 5, 5], "score": 0.25}
    Path("boxes.json").write_text(json.dumps([outside, *ROWS]))
    arguments = ("--mode", "boxes", "--boxes", "boxes.json", "--objects", "objects.json")
    done = printed_json("segment", "cells.tif", "o.tif", *arguments)
    assert done["objects_file"] == "objects.json"
    assert done["note"] == "1 of 2 boxes lie outside the picture or are empty: 1."
    (row,) = read_objects("objects.json")
    assert (row.id, row.score, row.category) == (2, 0.5, 3)
    mask = np.zeros((40, 60), bool)
    mask[row.box[0] : row.box[2], row.box[1] : row.box[3]] = row.mask
    np.testing.assert_array_equal(mask, open_image("o.tif").plane() == row.id)


@pytest.mark.parametrize("out", ["objects.json", "objects.csv", "objects.geojson"])
def test_the_ending_of_objects_chooses_their_format(out: str) -> None:
    result = samscape("segment", "cells.tif", "o.tif", "--objects", out)
    assert f"objects: {out}" in result.stdout
    text = Path(out).read_text()
    if out.endswith(".csv"):
        (row,) = csv.DictReader(text.splitlines())
        assert (row["id"], row["y0"], row["x1"], row["area"]) == ("1", "8", "13", "25")
    else:
        assert len(json.loads(text)["features" if out.endswith(".geojson") else "annotations"]) == 1


def test_an_objects_file_that_exists_is_refused_before_any_work() -> None:
    Path("objects.csv").write_text("precious")
    result = samscape("segment", "cells.tif", "o.tif", "--objects", "objects.csv")
    assert (result.exit_code, Path("objects.csv").read_text()) == (2, "precious")
    assert not Path("o.tif").exists()


def test_in_a_stack_the_ids_of_the_objects_go_on_and_each_names_its_plane() -> None:
    stack = np.stack([bright.spots((10, 10), (20, 40)), bright.spots((30, 30))])
    tifffile.imwrite("stack.tif", stack, photometric="minisblack", metadata={"axes": "ZYX"})
    assert samscape("segment", "stack.tif", "o.tif", "--objects", "objects.csv").exit_code == 0
    with Path("objects.csv").open(newline="") as file:
        assert [(row["id"], row["z"]) for row in csv.DictReader(file)] == [("1", "0"), ("2", "0"), ("3", "1")]


def test_no_object_gives_an_empty_file_and_a_sentence() -> None:
    tifffile.imwrite("grey.tif", np.full((40, 60), 7, np.uint16))
    done = printed_json("segment", "grey.tif", "o.tif", "--objects", "objects.json")
    assert done["note"] == "The picture is constant, so there are no objects."
    assert read_objects("objects.json") == []


# Masks within masks


@pytest.mark.parametrize(("nested", "areas"), [("all", [100, 25]), ("parts", [25]), ("wholes", [100])])
def test_of_masks_within_masks_all_or_parts_or_wholes_are_kept(
    nested: str, areas: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def everything(model: Any, pixels: np.ndarray, options: Any = None, progress: Any = None) -> Instances:
        return segment_boxes(model, pixels, [(5, 5, 15, 15), (8, 8, 13, 13)])

    monkeypatch.setattr("napari_samscape.prediction.automatic.everything", everything)
    options = ("--nested", nested, "--objects", "objects.json")
    assert samscape("segment", "cells.tif", "o.tif", *options).exit_code == 0
    rows = read_objects("objects.json")
    assert [row.area for row in rows] == areas
    assert [row.id for row in rows] == sorted(ids("o.tif"))
    assert [row.parent for row in rows] == [None, 1][: len(rows)]


# Detectors


def test_a_detector_finds_the_boxes() -> None:
    done = printed_json("segment", "cells.tif", "o.tif", "--mode", "boxes", "--detector", "otsu")
    assert (done["objects"], done["note"]) == (1, None)
    assert open_image("o.tif").plane()[10, 10] == 1
    assert samscape("segment", "cells.tif", "p.tif", "--detector", "otsu").exit_code == 0, "the mode is clear"


def test_a_detector_looks_at_each_plane_as_rgb_and_may_be_any_function() -> None:
    seen = []

    def corner(pixels: np.ndarray) -> Any:
        seen.append((pixels.shape, pixels.dtype))
        return [(1, 1, 9, 9), (-9, -9, -2, -2)]

    stack = np.stack([bright.spots((10, 10)), bright.spots((30, 30))])
    labels = segment(stack, model=bright.MODEL, detector=corner)
    assert seen == [((40, 60, 3), np.uint8)] * 2
    assert [int(plane.max()) for plane in labels] == [1, 3]


def test_what_a_detector_gives_outside_the_picture_is_reported_by_its_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "napari_samscape.prediction.cells.otsu", lambda pixels: [(1, 1, 9, 9), (90, 90, 99, 99)]
    )
    done = printed_json("segment", "cells.tif", "o.tif", "--mode", "boxes", "--detector", "otsu")
    assert done["note"] == "1 of 2 boxes lie outside the picture or are empty: 2."


def test_a_detector_that_fails_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_samscape.prediction.cells.otsu", lambda pixels: 1 / 0)
    result = samscape("segment", "cells.tif", "o.tif", "--mode", "boxes", "--detector", "otsu")
    assert result.exit_code == 2
    assert "The detector otsu failed: ZeroDivisionError: division by zero." in result.stderr
    assert not Path("o.tif").exists()
