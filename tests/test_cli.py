"""The command line as a user and a program see it."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import bright
import numpy as np
import pytest
import tifffile
from bright import spots
from PIL import Image as pillow
from typer.testing import CliRunner, Result

from napari_samscape.cli.app import app
from napari_samscape.cli.segment import read_prompts
from napari_samscape.errors import InputError
from napari_samscape.io import open_image


@pytest.fixture
def picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A picture with three bright spots, and a stand-in for the model that finds them."""
    bright.install(monkeypatch)
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("cells.tif", spots((10, 10), (20, 40), (30, 20)))
    return Path("cells.tif")


def samscape(*arguments: str) -> Result:
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})
    if result.exit_code not in (0, 2) and result.exception is not None:
        raise result.exception
    return result


def printed_json(*arguments: str) -> dict[str, Any]:
    """What a command with ``--json`` says; nothing else may be on standard output."""
    result = samscape(*arguments, "--json")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("\n") == 1
    return json.loads(result.stdout)


def ids(path: str) -> set[int]:
    return set(np.unique(open_image(path).plane())) - {0}


# segment -----------------------------------------------------------------------------------------------


def test_without_a_prompt_everything_is_segmented(picture: Path) -> None:
    result = samscape("segment", "cells.tif", "out.ome.zarr")
    assert result.exit_code == 0
    assert ids("out.ome.zarr") == {1, 2, 3}
    first, second = result.stdout.splitlines()
    assert first.startswith("3 object(s) in ")
    assert second == "labels: out.ome.zarr"


@pytest.mark.parametrize("out", ["out.zarr", "out.ome.zarr", "out.tif", "out.TIFF", "out.png"])
def test_the_ending_of_the_output_chooses_its_format(picture: Path, out: str) -> None:
    assert samscape("segment", "cells.tif", out).exit_code == 0
    assert ids(out) == {1, 2, 3}


def test_points_ask_for_one_object(picture: Path) -> None:
    result = samscape("segment", "cells.tif", "out.png", "--points", "20,40;10,10", "--labels", "1,0")
    assert result.exit_code == 0
    plane = open_image("out.png").plane()
    assert (plane[20, 40], plane[10, 10], plane[30, 20]) == (1, 0, 0)


def test_each_box_asks_for_an_object(picture: Path) -> None:
    samscape("segment", "cells.tif", "out.png", "--boxes", "25,15,35,25; 5,5,15,15")
    plane = open_image("out.png").plane()
    assert (plane[30, 20], plane[10, 10], plane[20, 40]) == (1, 2, 0)


@pytest.mark.parametrize("wrapped", [False, True])
def test_boxes_may_come_from_a_file(picture: Path, wrapped: bool) -> None:
    boxes: Any = [[25, 15, 35, 25], [15, 5, 5, 15]]
    Path("boxes.json").write_text(json.dumps({"boxes": boxes} if wrapped else boxes))
    assert samscape("segment", "cells.tif", "out.png", "--boxes", "boxes.json").exit_code == 0
    assert ids("out.png") == {1, 2}


def test_an_overlay_is_drawn_where_asked_for(picture: Path) -> None:
    result = samscape("segment", "cells.tif", "out.tif", "--overlay", "overlay.png")
    assert "overlay: overlay.png" in result.stdout
    with pillow.open("overlay.png") as overlay:
        assert overlay.size == (60, 40)


def test_an_output_is_replaced_with_overwrite(picture: Path) -> None:
    assert samscape("segment", "cells.tif", "out.ome.zarr").exit_code == 0
    assert samscape("segment", "cells.tif", "out.ome.zarr", "--points", "20,40").exit_code == 2
    again = samscape("segment", "cells.tif", "out.ome.zarr", "--points", "20,40", "--overwrite")
    assert again.exit_code == 0
    assert ids("out.ome.zarr") == {1}


def test_json_of_segment_says_what_was_done(picture: Path) -> None:
    done = printed_json("segment", "cells.tif", "out.tif", "--overlay", "overlay.png", "--table", "table.csv")
    assert done.pop("seconds") >= 0
    assert done == {
        "output": "out.tif",
        "overlay": "overlay.png",
        "objects": 3,
        "planes": 1,
        "tiles": 1,
        "shape": [40, 60],
        "model": "nano",
        "device": "cpu",
        "note": None,
        "objects_file": None,
        "failed": [],
        "options": {},
        "table": "table.csv",
    }
    assert len(Path("table.csv").read_text().splitlines()) == 4


def test_progress_is_shown_on_standard_error_and_results_stay_clean(picture: Path) -> None:
    terminal = {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "200"}
    result = CliRunner().invoke(app, ["segment", "cells.tif", "out.tif", "--json"], env=terminal)
    assert json.loads(result.stdout)["objects"] == 3
    assert "bright spots" in result.stderr or "done" in result.stderr


def test_a_constant_picture_is_no_error(picture: Path) -> None:
    tifffile.imwrite("grey.tif", np.full((40, 60), 7, np.uint16))
    result = samscape("segment", "grey.tif", "out.tif")
    assert result.exit_code == 0
    assert "0 object(s)" in result.stdout
    assert "The picture is constant, so there are no objects." in result.stdout
    assert ids("out.tif") == set()


def test_what_nobody_expected_ends_with_1_and_is_not_hidden(
    picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr("napari_samscape.prediction.automatic.everything", fail)
    result = CliRunner().invoke(app, ["segment", "cells.tif", "out.tif"])
    assert result.exit_code == 1
    assert isinstance(result.exception, RuntimeError)
    assert bright.contents(Path()) == ["cells.tif"]


# prompts -----------------------------------------------------------------------------------------------


def test_points_and_one_box_are_one_object() -> None:
    (prompt,) = read_prompts("12,40; 30.5,8", "1,0", "10,10,60,80")
    np.testing.assert_array_equal(prompt.points, [(12, 40), (30.5, 8)])
    np.testing.assert_array_equal(prompt.labels, [1, 0])
    np.testing.assert_array_equal(prompt.box, [10, 10, 60, 80])


def test_points_without_labels_are_all_inside() -> None:
    (prompt,) = read_prompts("12,40;30,8", None, None)
    np.testing.assert_array_equal(prompt.labels, [1, 1])


@pytest.mark.parametrize("labels", ["1,0", "1;0", "1, 0"])
def test_labels_are_separated_by_commas_or_semicolons(labels: str) -> None:
    (prompt,) = read_prompts("12,40;30,8", labels, None)
    np.testing.assert_array_equal(prompt.labels, [1, 0])


def test_no_prompt_is_no_prompt() -> None:
    assert read_prompts(None, None, None) == ()


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        ((None, "1", None), "there are no --points"),
        (("1,1", None, "1,1,2,2;3,3,4,4"), "one box goes with them; there are 2"),
        (("1,2,3", None, None), "--points '1,2,3' cannot be read"),
        (("one,two", None, None), "--points 'one,two' cannot be read"),
        (("1,1", "1,x", None), "--labels '1,x' cannot be read"),
        ((None, None, "1,2,3"), "--boxes '1,2,3' cannot be read"),
        ((None, None, ""), "--boxes holds no box"),
        (("", None, None), "The prompt is empty"),
    ],
)
def test_texts_that_cannot_be_prompts_are_refused(texts: tuple[str | None, ...], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        read_prompts(*texts)


# models, info, help ------------------------------------------------------------------------------------


def test_models_lists_what_is_known_and_what_is_here() -> None:
    models = {model["name"]: model for model in printed_json("models")["models"]}
    assert models["vit_b"]["licence"] == "Apache-2.0"
    assert models["vit_b"]["here"] is False
    assert models["vit_b"]["size_bytes"] == 375_042_383
    assert models["nano"]["url"] is None
    table = samscape("models").stdout
    assert all(name in table for name in models)


def test_models_downloads_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def download(name: str, *, progress: Any = None) -> Path:
        progress(1, 2, name)
        return tmp_path / f"{name}.pth"

    monkeypatch.setattr("napari_samscape.model.registry.download", download)
    expected = {"name": "vit_b", "path": str(tmp_path / "vit_b.pth")}
    assert printed_json("models", "--download", "vit_b") == expected


def test_an_unknown_model_is_bad_input() -> None:
    result = samscape("models", "--download", "vit_x")
    assert result.exit_code == 2
    assert "vit_x" in result.stderr


def test_info_says_what_runs_here() -> None:
    facts = printed_json("info")
    assert {"samscape", "python", "torch", "device", "threads", "cache", "models"} <= set(facts)
    assert facts["python"] == sys.version.split()[0]
    assert f"python:    {facts['python']}" in samscape("info").stdout


def test_info_says_what_a_picture_holds(picture: Path) -> None:
    assert printed_json("info", "cells.tif")["image"] == {
        "path": "cells.tif",
        "axes": "yx",
        "shape": [40, 60],
        "dtype": "uint16",
        "scale": [1, 1],
        "units": [None, None],
        "levels": [[40, 60]],
    }
    assert "uint16" in samscape("info", "cells.tif").stdout


def test_help_has_examples() -> None:
    text = samscape("segment", "--help").stdout
    assert "samscape segment cells.tif cells_labels.ome.zarr" in text
    for option in (
        "--model",
        "--mode",
        "--points",
        "--labels",
        "--boxes",
        "--device",
        "--overwrite",
        "--json",
    ):
        assert option in text


def test_the_command_starts_without_torch_and_says_its_version() -> None:
    code = (
        "import sys; from napari_samscape import cli\n"
        "assert not {'torch', 'napari', 'zarr'} & set(sys.modules)\n"
        "cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("samscape 0.")
    assert done.stderr == ""


def test_a_mistake_in_a_real_shell_is_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    code = "from napari_samscape import cli; cli.main()"
    arguments = ["segment", "missing.png", "out.tif", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "samscape: There is no file missing.png.\n"


# Examples ----------------------------------------------------------------------------------------------


def test_the_demo_can_be_run_twice(
    picture: Path, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    demo = runpy.run_path(str(root / "examples" / "demo.py"))
    demo["segment_samples"].__globals__["load_model"] = bright.load_model
    for _ in range(2):
        monkeypatch.setattr(sys, "argv", ["demo.py", "results"])
        demo["main"]()
        said = capsys.readouterr().out
        for name in ("nuclei", "tissue", "scene"):
            assert f"results/{name}.ome.zarr" in said
            assert f"{name}: {len(ids(f'results/{name}.ome.zarr'))} objects in " in said
            assert Path(f"results/{name}_overlay.png").is_file()


def test_six_lines_of_python_write_labels(picture: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_samscape.load_model", bright.load_model)
    names = runpy.run_path(str(root / "examples" / "six_lines.py"))
    np.testing.assert_array_equal(open_image("nuclei_labels.ome.zarr").plane(), names["labels"])
    assert names["labels"].max() > 10


# With a real network -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the bundled model's kind that has learnt nothing."""
    import torch

    from napari_samscape.model.sam import build_nano
    from napari_samscape.model.weights import save_model

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("models") / "untrained.safetensors"
    save_model(build_nano().eval(), path)
    return path


@pytest.mark.parametrize(
    "prompt", [("--points", "20,40"), ("--points", "20,40;5,5"), ("--boxes", "5,5,35,55")]
)
def test_a_checkpoint_from_a_path_answers_prompts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, untrained: Path, prompt: tuple[str, str]
) -> None:
    monkeypatch.chdir(tmp_path)
    pillow.fromarray(spots((10, 10), (20, 40), dtype="uint8")).save("cells.png")
    done = printed_json(
        "segment", "cells.png", "out.ome.zarr", *prompt, "--model", str(untrained), "--device", "cpu"
    )
    image = open_image("out.ome.zarr")
    assert image.shape == (40, 60)
    assert done["objects"] == len(ids("out.ome.zarr")) <= 1
    assert done["model"] == str(untrained)
