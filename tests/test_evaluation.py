"""`evaluate`: what is asked of a method about pictures whose objects are known, and what is made of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from napari_samscape import InputError
from napari_samscape.cli.app import app
from napari_samscape.evaluation.baselines import Baseline
from napari_samscape.evaluation.datasets import Dataset, open_dataset, sample_from_labels
from napari_samscape.evaluation.methods import ModelMethod
from napari_samscape.evaluation.protocols import jittered_box, next_click
from napari_samscape.evaluation.report import calibration_svg, markdown
from napari_samscape.evaluation.run import evaluate
from napari_samscape.model.sam import build_nano
from napari_samscape.prediction.ask import Answer
from napari_samscape.prediction.instances import (
    instance_from_mask,
    instances_from_labels,
    interior_point,
    prompt_box,
)
from napari_samscape.prediction.types import NOTHING, Instance, Instances, Prompts

LABELS = np.zeros((40, 60), np.int32)
LABELS[4:13, 4:13], LABELS[20:35, 30:50] = 1, 2


def rectangle(y0: int, x0: int, y1: int, x1: int) -> Instance:
    return instance_from_mask(np.ones((y1 - y0, x1 - x0), bool), offset=(y0, x0))


class Painter:
    """A method that sees labels as they are, and errs on purpose: clicks get what ``err`` makes of them."""

    name = "painter"

    def __init__(self, err: Any = None) -> None:
        self.err = err
        self.asked: list[Prompts] = []

    def look(self, pixels: np.ndarray) -> Painter:
        self.labels = pixels
        return self

    def ask(self, prompts: Sequence[Prompts], previous: Any = None) -> list[Answer]:
        self.asked += prompts
        return [self._answer(prompt) for prompt in prompts]

    def _answer(self, prompt: Prompts) -> Answer:
        y, x = prompt.points[0] if prompt.box is None else prompt.box.reshape(2, 2).mean(0)
        mask = self.labels == self.labels[round(y), round(x)]
        if self.err is not None:
            mask = self.err(mask, len(prompt.points))
        found = instance_from_mask(mask) if mask.any() else NOTHING
        return Answer((NOTHING, found), np.array([0.1, 0.8], np.float32))

    def everything(self) -> Instances:
        return instances_from_labels(self.labels)


def dataset(*labels: np.ndarray) -> Dataset:
    def reader(ids: np.ndarray) -> Any:
        return lambda: sample_from_labels("drawn", np.where(ids == 65535, 0, ids), ids)

    return Dataset("drawn", tuple(reader(ids) for ids in labels or (LABELS,)))


class TestClicks:
    def test_the_first_is_farthest_from_everything_outside(self) -> None:
        assert interior_point(rectangle(4, 4, 13, 13)) == (8, 8)

    def test_the_pictures_edge_is_outside_too(self) -> None:
        assert interior_point(rectangle(0, 0, 5, 5)) == (2, 2)

    def test_the_next_is_in_the_middle_of_the_largest_error(self) -> None:
        true = rectangle(0, 0, 9, 9)
        assert next_click(true, rectangle(0, 0, 9, 6)) == ((1, 7), 1)  # missed, the first of the deepest
        larger = np.zeros((9, 16), bool)
        larger[:, :9], larger[2:7, 9:14] = True, True
        assert next_click(true, instance_from_mask(larger)) == ((4, 11), 0)  # too much
        assert next_click(true, true) is None
        assert next_click(true, NOTHING) == ((4, 4), 1)

    def test_a_box_goes_through_the_middles_of_the_outermost_pixels(self) -> None:
        assert prompt_box(rectangle(4, 6, 10, 8)).tolist() == [4, 6, 9, 7]
        assert prompt_box(rectangle(4, 6, 5, 8)).tolist() == [3.5, 6, 4.5, 7]  # one with an area

    def test_a_jittered_box_moves_by_a_tenth_and_stays_in_the_picture(self) -> None:
        box = np.array([0.0, 10.0, 20.0, 40.0])
        moved = np.array([jittered_box(box, (25, 41), np.random.default_rng(i)) for i in range(50)])
        assert (np.abs(moved - box) <= [2, 3, 2, 3]).all() and np.ptp(moved, axis=0).min() > 0.5
        assert moved[:, 0].min() == -0.5 and moved[:, 3].max() == 40.5


class TestPoint:
    def test_one_who_knows_gets_one_and_is_asked_once_an_object(self) -> None:
        painter = Painter()
        figures = evaluate(dataset(), painter, "point")
        assert figures["n"] == 2 and figures["mean_iou"] == figures["oracle_iou"] == 1
        assert [prompt.points.tolist() for prompt in painter.asked] == [[[8, 8]], [[27, 37]]]
        assert figures["ci95_over"] == "objects"

    def test_the_mask_of_highest_predicted_iou_counts_and_the_oracle_takes_the_best(self) -> None:
        class Doubter(Painter):
            def _answer(self, prompt: Prompts) -> Answer:
                answer = super()._answer(prompt)
                return Answer(answer.masks, answer.iou[::-1].copy())

        figures = evaluate(dataset(), Doubter(), "point", clicks=1)
        assert (figures["mean_iou"], figures["oracle_iou"]) == (0, 1)

    def test_more_clicks_go_where_the_mask_is_wrong(self) -> None:
        def half_at_first(mask: np.ndarray, clicks: int) -> np.ndarray:
            return mask & (np.arange(60) >= 7) if clicks == 1 else mask

        painter = Painter(half_at_first)
        figures = evaluate(dataset(), painter, "point", clicks=2)
        assert figures["iou_clicks"] == {"1": pytest.approx((6 / 9 + 1) / 2), "2": 1}
        assert painter.asked[-1].points.tolist() == [[8, 8], [5, 5]]  # the first of the deepest
        assert painter.asked[-1].labels.tolist() == [1, 1]


def test_boxes_are_judged_exact_and_jittered() -> None:
    painter = Painter()
    figures = evaluate(dataset(), painter, "box")
    assert figures["mean_iou"] == figures["jittered_iou"] == 1
    assert painter.asked[0].box is not None and painter.asked[0].box.tolist() == [4, 4, 12, 12]
    assert len(painter.asked) == 4 and painter.asked[2].box.tolist() != [4, 4, 12, 12]


class TestEverything:
    def test_one_who_knows_gets_one(self) -> None:
        figures = evaluate(dataset(LABELS, LABELS.T), Painter(), "everything")
        assert figures["ap50"] == figures["ap75"] == figures["ap"] == figures["aji"] == 1
        assert figures["coco_ap"] == pytest.approx(1)
        assert (figures["n"], figures["count_error"], figures["ci95"]) == (4, 0, [1, 1])

    def test_missed_and_invented_objects_count_alike(self) -> None:
        class Inventor(Painter):
            def everything(self) -> Instances:
                (_, second), invented = super().everything().items, rectangle(36, 0, 39, 9)
                return Instances((second, invented), self.labels.shape)

        figures = evaluate(dataset(), Inventor(), "everything")
        assert figures["ap50"] == pytest.approx(1 / 3)
        assert figures["recall50"] == pytest.approx(1 / 2)
        assert figures["count_error"] == 0

    def test_what_lies_in_an_ignored_region_is_not_judged(self) -> None:
        class Inventor(Painter):
            def everything(self) -> Instances:
                items = super().everything().items
                return Instances((*items, rectangle(36, 0, 39, 9)), self.labels.shape)

        crowd = LABELS.copy()
        crowd[35:, :20] = 65535
        assert evaluate(dataset(crowd), Inventor(), "everything")["ap50"] == 1
        assert evaluate(dataset(LABELS), Inventor(), "everything")["ap50"] == pytest.approx(2 / 3)


def test_the_baselines_are_a_flood_a_filled_box_and_a_watershed() -> None:
    labels = np.zeros((80, 80), np.int32)
    labels[10:15, 10:15], labels[40:46, 60:64] = 1, 2
    pixels = np.where(labels > 0, 200, 20).astype(np.uint8)
    data = Dataset("bright", (lambda: sample_from_labels("bright", pixels, labels),))
    for protocol, key in (("point", "mean_iou"), ("box", "mean_iou"), ("everything", "ap50")):
        assert evaluate(data, Baseline(), protocol)[key] == 1
    assert evaluate(data, Baseline(), "point")["rank_correlation"] is None  # it does not know


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"protocol": "edge"}, "no protocol 'edge'; there are point, box"),
        ({"clicks": 0}, "At least one click"),
    ],
)
def test_what_cannot_be_measured_gets_one_sentence(change: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        evaluate(dataset(), Painter(), **change)


def test_a_data_set_without_objects_is_refused() -> None:
    with pytest.raises(InputError, match="no labelled object"):
        evaluate(dataset(LABELS * 0), Painter(), "everything")


def test_a_view_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="no view 'half'"):
        ModelMethod(build_nano(), "half")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One picture with labels beside it."""
    pixels = np.where(LABELS > 0, 200, 20).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "cells.png")
    Image.fromarray(LABELS.astype(np.uint16)).save(tmp_path / "cells_labels.png")
    return tmp_path


class TestDataSets:
    def test_a_folder_and_a_coco_file_hold_the_same_objects(self, folder: Path) -> None:
        mask = pytest.importorskip("pycocotools.mask")
        rows = []
        for number in (1, 2):
            segmentation = mask.encode(np.asfortranarray(number == LABELS, dtype=np.uint8))
            segmentation["counts"] = segmentation["counts"].decode()
            rows.append({"id": number, "image_id": 7, "segmentation": segmentation, "category_id": 1})
        images = [{"id": 7, "file_name": "cells.png", "height": 40, "width": 60}]
        (folder / "coco.json").write_text(json.dumps({"images": images, "annotations": rows}))
        one, other = (open_dataset(path).readers[0]() for path in (folder, folder / "coco.json"))
        assert [item.box for item in one.objects] == [item.box for item in other.objects]
        assert [item.box for item in one.objects] == [(4, 4, 13, 13), (20, 30, 35, 50)]

    def test_labels_of_another_size_are_refused_by_name(self, folder: Path) -> None:
        Image.fromarray(LABELS[:10].astype(np.uint16)).save(folder / "cells_labels.png")
        with pytest.raises(InputError, match=r"cells_labels.png: the labels are 10 x 60 pixels"):
            open_dataset(folder).readers[0]()

    @pytest.mark.parametrize(
        ("spoil", "says"),
        [
            (lambda f: (f / "cells_labels.png").unlink(), "without labels"),
            (
                lambda f: (f / "more.png").write_bytes((f / "cells.png").read_bytes()),
                "no labels for .* 'more'",
            ),
        ],
    )
    def test_pictures_without_labels_are_refused(self, folder: Path, spoil: Any, says: str) -> None:
        spoil(folder)
        with pytest.raises(InputError, match=says):
            open_dataset(folder)

    @pytest.mark.parametrize("text", ["{", "[]", '{"images": []}'])
    def test_json_that_is_no_coco_is_refused(self, folder: Path, text: str) -> None:
        pytest.importorskip("pycocotools")
        (folder / "coco.json").write_text(text)
        with pytest.raises(InputError, match="is no COCO file of instances"):
            open_dataset(folder / "coco.json")

    def test_a_truncated_zip_is_refused(self, folder: Path) -> None:
        (folder / "d.zip").write_bytes(b"PK\x03\x04 and no more")
        with pytest.raises(InputError, match="cannot be read as a zip"):
            open_dataset(folder / "d.zip")


class TestReport:
    def test_the_table_has_a_row_for_each_method(self) -> None:
        rows = [evaluate(dataset(), method, "box") for method in (Painter(), Baseline())]
        lines = markdown(rows).splitlines()
        assert lines[0].startswith("| data set | model | pictures | objects | mean IoU | 95 % | jittered |")
        assert [line.split("|")[2].strip() for line in lines[2:]] == ["painter", "baseline"]
        assert "| 1.000 |" in lines[2]

    def test_the_calibration_is_drawn_as_svg(self) -> None:
        curve = [{"n": 3, "predicted": 0.25, "true": 0.5}, {"n": 5, "predicted": 1.0, "true": 1.0}]
        drawn = calibration_svg({"a <b>": curve}, side=100)
        assert 'points="75.0,100.0 150.0,50.0"' in drawn  # 50 pixels of margin, y downwards
        assert "3 objects" in drawn and "a &lt;b&gt;" in drawn


@pytest.mark.parametrize("protocol", ["point", "box", "everything"])
def test_the_command_prints_one_json_object(folder: Path, protocol: str) -> None:
    command = ["evaluate", str(folder), "--model", "nano", "--protocol", protocol, "--clicks", "2", "--json"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout)
    assert figures["protocol"] == protocol and figures["n"] == 2 and figures["peak_mb"] > 0
    wanted = {
        "point": {"mean_iou", "oracle_iou", "iou_clicks"},
        "box": {"mean_iou", "jittered_iou"},
        "everything": {"ap50", "ap75", "ap", "coco_ap", "aji", "count_error"},
    }
    assert wanted[protocol] | {"dataset", "model", "ci95", "seconds_per_image", "baseline"} <= set(figures)
