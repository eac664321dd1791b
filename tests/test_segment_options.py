"""The options of everything-mode and edges: by name, from the command line, a job or Python, to the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import bright
import numpy as np
import pytest
import tifffile
from test_cli import printed_json, samscape

from napari_samscape.cli.options import HELP
from napari_samscape.errors import InputError
from napari_samscape.prediction.options import DENSE_DEFAULTS, EdgeOptions, EverythingOptions, changed
from napari_samscape.prediction.types import Instances
from napari_samscape.scaling.batch import Job, segment

#: As texts, what is given for each option, and what the model's side is to get.
GIVEN: dict[str, tuple[str, Any]] = {
    "points_per_side": ("16", 16),
    "points_per_batch": ("8", 8),
    "pred_iou_thresh": ("0.7", 0.7),
    "stability_score_thresh": ("0.8", 0.8),
    "stability_score_offset": ("0.5", 0.5),
    "box_nms_thresh": ("0.6", 0.6),
    "crop_n_layers": ("1", 1),
    "crop_nms_thresh": ("0.5", 0.5),
    "crop_where_small": ("", True),
    "crop_overlap_ratio": ("0.25", 0.25),
    "crop_n_points_downscale_factor": ("2", 2),
    "point_grids": ("points.json", (((0.25, 0.5),), ((0.5, 0.5), (0.0, 1.0)))),
    "min_mask_region_area": ("20", 20),
    "mask_nms_thresh": ("0.4", 0.4),
    "prompt_source": ("grid", "grid"),
    "dense_inside_thresh": ("0.4", 0.4),
    "dense_centre_thresh": ("0.2", 0.2),
    "dense_min_distance": ("3", 3),
    "dense_rounds": ("2", 2),
    "dense_max_points": ("50", 50),
}


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The options with which everything was looked for, or edges; beside a picture and a file of points."""
    bright.install(monkeypatch)
    options_seen: list[Any] = []

    def everything(model: Any, pixels: Any, options: Any = None, progress: Any = None) -> Instances:
        options_seen.append(options)
        return bright.everything(model, pixels)

    def drawn_edges(model: Any, pixels: Any, options: Any, progress: Any = None) -> tuple[Any, float]:
        options_seen.append(options)
        return np.zeros(pixels.shape[:2], np.float32), 0.0

    monkeypatch.setattr("napari_samscape.prediction.automatic.everything", everything)
    monkeypatch.setattr("napari_samscape.prediction.edges.drawn_edges", drawn_edges)
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("cells.tif", bright.spots((10, 10)))
    Path("points.json").write_text(json.dumps([[[0.25, 0.5]], [[0.5, 0.5], [0, 1]]]))
    return options_seen


def arguments(names: Any) -> list[str]:
    parts = [part for name in names for part in (f"--{name.replace('_', '-')}", GIVEN[name][0])]
    return [part for part in parts if part]  # what is on or off has no value


def test_every_option_is_there_under_its_own_name() -> None:
    assert set(HELP) == set(vars(EverythingOptions())) == set(GIVEN)
    text = samscape("segment", "--help").stdout
    for name in GIVEN:
        assert f"--{name.replace('_', '-')} " in text
    assert f"[default: 0.88; with a dense head {DENSE_DEFAULTS.pred_iou_thresh}]" in text
    assert "--prompt-source grid --crop-n-layers 1 --pred-iou-thresh 0.6" in text, "an example"


def test_all_of_them_reach_the_model_and_stand_in_the_json(seen: list[Any]) -> None:
    done = printed_json("segment", "cells.tif", "out.tif", *arguments(GIVEN))
    expected = {name: value for name, (_, value) in GIVEN.items()}
    assert seen == [expected]
    assert changed(DENSE_DEFAULTS, seen[0]) == EverythingOptions(**expected)
    assert done["options"] == json.loads(json.dumps(expected))


def test_a_batch_takes_the_same_and_goes_on_only_with_the_same(seen: list[Any]) -> None:
    assert samscape("batch", "cells.tif", "out", *arguments(GIVEN)).exit_code == 0
    assert seen == [{name: value for name, (_, value) in GIVEN.items()}]
    result = samscape("batch", "cells.tif", "out", *arguments(GIVEN), "--points-per-side", "8")
    assert result.exit_code == 2
    assert "was begun with another points_per_side (8 instead of 16)" in result.stderr


def test_what_is_not_given_is_left_to_the_model(seen: list[Any]) -> None:
    samscape("segment", "cells.tif", "out.tif", "--pred-iou-thresh", "0.7")
    assert seen == [{"pred_iou_thresh": 0.7}]
    assert changed(DENSE_DEFAULTS, seen[0]).stability_score_thresh == DENSE_DEFAULTS.stability_score_thresh


def test_edges_have_those_that_mean_something_to_them(seen: list[Any]) -> None:
    names = ["points_per_side", "pred_iou_thresh", "box_nms_thresh"]
    samscape("segment", "cells.tif", "out.tif", "--mode", "edges", "--soft", *arguments(names))
    assert seen == [EdgeOptions(points_per_side=16, pred_iou_thresh=0.7, box_nms_thresh=0.6, thin=False)]


@pytest.mark.parametrize("options", [{"points_per_side": 16}, EverythingOptions(points_per_side=16)])
def test_python_takes_names_or_all_at_once(seen: list[Any], options: Any) -> None:
    segment("cells.tif", model=bright.MODEL, options=options)
    assert changed(EverythingOptions(), seen[0]) == EverythingOptions(points_per_side=16)


def test_python_draws_bands_too(seen: list[Any]) -> None:
    for options in ({"thin": False}, EdgeOptions(thin=False)):
        segment("cells.tif", model=bright.MODEL, mode="edges", options=options)
    assert seen == [EdgeOptions(thin=False)] * 2


def test_a_job_with_options_survives_json() -> None:
    job = Job("a", "b", options={"crop_n_layers": 1, "point_grids": [[(0.5, 0.5)], [(0.1, 0.9)]]})
    assert Job.from_json(json.loads(json.dumps(job.to_json()))) == job


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        (["--points-per-side", "0"], "points_per_side must be a whole number from 1 to 1024; it is 0"),
        (["--box-nms-thresh", "1.5"], "box_nms_thresh must be a number from 0 to 1"),
        (["--prompt-source", "magic"], "prompt_source must be one of 'auto', 'grid', 'dense'"),
        (["--point-grids", "none.json"], "none.json of --point-grids cannot be read: No such file"),
        (["--point-grids", "cells.tif"], "cells.tif of --point-grids cannot be read: it is no text"),
        (["--point-grids", "points.json", "--crop-n-layers", "0"], "must hold 1 grids"),
        (["--mode", "edges", "--crop-n-layers", "1"], "no option 'crop_n_layers' here; there are points_per"),
        (
            ["--points", "9,9", "--crop-n-layers", "1"],
            "'prompts' takes no options of 'everything', so no crop",
        ),
    ],
)
def test_what_cannot_be_is_one_sentence(seen: list[Any], texts: list[str], sentence: str) -> None:
    result = samscape("segment", "cells.tif", "out.tif", *texts)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert (seen, Path("out.tif").exists()) == ([], False)


@pytest.mark.parametrize("text", ["7", '"points"', "{}", "[[[2, 2]]]"])
def test_a_file_that_holds_no_points_is_refused(seen: list[Any], text: str) -> None:
    Path("points.json").write_text(text)
    result = samscape("segment", "cells.tif", "out.tif", "--point-grids", "points.json")
    assert result.exit_code == 2
    assert "point_grids" in result.stderr


def test_options_that_are_none_are_refused() -> None:
    with pytest.raises(InputError, match="Options are EverythingOptions or values by name; these are 7"):
        segment(bright.spots((10, 10)), model=bright.MODEL, options=7)
    with pytest.raises(InputError, match="Options are EdgeOptions or values by name"):
        segment(bright.spots((10, 10)), model=bright.MODEL, mode="edges", options=EverythingOptions())
