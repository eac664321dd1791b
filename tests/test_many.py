"""Many pictures with the same settings: what is taken, what it is called, what goes wrong, and going on."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import bright
import numpy as np
import pytest
import tifffile
from bright import spots
from test_cli import ids, printed_json, samscape
from test_resume import content
from test_tiled import scattered
from typer.testing import CliRunner

from napari_samscape.cli.app import app
from napari_samscape.errors import InputError
from napari_samscape.scaling.link import LinkOptions
from napari_samscape.scaling.many import run_many
from napari_samscape.scaling.pictures import Picture, find_pictures, output_names

OUT = Path("out")


@pytest.fixture(autouse=True)
def plate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder of three pictures with 1, 2 and 3 spots."""
    bright.install(monkeypatch)
    monkeypatch.chdir(tmp_path)
    Path("plate").mkdir()
    centres = [(10, 10), (20, 40), (30, 20)]
    for count, name in enumerate("abc", start=1):
        tifffile.imwrite(f"plate/{name}.tif", spots(*centres[:count]))


def run(**options: Any) -> Any:
    return run_many(find_pictures("plate", OUT), OUT, {}, **options)


# Which pictures ----------------------------------------------------------------------------------------


def names(source: str) -> list[str]:
    return [picture.name for picture in find_pictures(source, OUT)]


def test_of_a_folder_the_pictures_in_it_are_taken() -> None:
    Path("plate/notes.md").touch()
    Path("plate/._a.tif").touch()
    Path("plate/z.ome.zarr").mkdir()
    Path("plate/deeper").mkdir()
    assert names("plate") == ["a.tif", "b.tif", "c.tif", "z.ome.zarr"]


def test_a_pattern_finds_pictures_at_any_depth_but_none_of_ours() -> None:
    OUT.mkdir()
    Path("out/a.tif").touch()
    assert names("**/[ab].tif") == ["plate/a.tif", "plate/b.tif"]


def test_a_text_has_one_path_a_line_from_its_own_folder() -> None:
    Path("plate/list.txt").write_text("# ours\n\nb.tif\n../plate/a.tif\nb.tif\n")
    found = find_pictures("plate/list.txt", OUT)
    assert [picture.name for picture in found] == ["b.tif", "../plate/a.tif"]
    assert all(Path(picture.path).is_file() for picture in found)


@pytest.mark.parametrize(
    "text", ["well,Picture\nA1,a.tif\nA2,b.tif\n", "a.tif,A1\nb.tif\n", "\ufeffpath\na.tif\nb.tif"]
)
def test_a_table_has_a_column_of_paths(text: str) -> None:
    Path("plate/list.csv").write_text(text, encoding="utf-8")
    assert names("plate/list.csv") == ["a.tif", "b.tif"]


def test_a_single_picture_is_a_batch_too() -> None:
    assert names("plate/b.tif") == ["b.tif"]


@pytest.mark.parametrize("source", ["nowhere", "*.jpg", "empty.txt", "empty.csv", "folder"])
def test_no_pictures_are_refused(source: str) -> None:
    Path("folder").mkdir()
    Path("empty.txt").touch()
    Path("empty.csv").write_text("picture\n")
    with pytest.raises(InputError, match="There are no pictures in "):
        find_pictures(source, OUT)


def test_a_manifest_that_is_no_text_is_refused() -> None:
    Path("list.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"list\.txt cannot be read: it is no text in UTF-8"):
        find_pictures("list.txt", OUT)


# What they are called ----------------------------------------------------------------------------------


def called(*paths: str) -> list[str]:
    return output_names([Picture(path, path) for path in paths])


def test_outputs_are_called_as_the_pictures() -> None:
    assert called("plate/a.tif", "b.ome.zarr", "s3://bucket/c.d.tiff?x=1") == ["a", "b", "c.d"]


def test_folders_tell_pictures_of_one_name_apart() -> None:
    assert called("A1/x.tif", "A2/x.tif", "A2/y.tif") == ["A1_x", "A2_x", "y"]


def test_no_two_names_are_the_same_even_where_case_means_nothing() -> None:
    found = called("x.tif", "x.png", "X.png", "a/b.tif", "a_b.tif", "c/a_b.tif")
    assert len({name.casefold() for name in found}) == 6


@pytest.mark.parametrize(
    "path", ["../../up.tif", "/etc/x.tif", "..", ".tif", "a\\..\\b.tif", "q?*:<>.tif", "é" * 300]
)
def test_a_name_is_never_a_path_and_never_hidden(path: str) -> None:
    for name in called(path, f"other/{path}"):
        assert Path(name).name == name
        assert not name.startswith(".")
        assert 0 < len(name.encode()) < 170


# What comes out ----------------------------------------------------------------------------------------


def test_each_picture_has_its_labels_and_all_objects_are_in_one_table() -> None:
    done = printed_json("batch", "plate", "out", "--ending", ".tif")
    assert done.pop("seconds") >= 0
    assert [(row["picture"], row["output"], row["objects"]) for row in done.pop("pictures")] == [
        ("a.tif", "out/a.tif", 1),
        ("b.tif", "out/b.tif", 2),
        ("c.tif", "out/c.tif", 3),
    ]
    assert done == {"folder": "out", "table": "out/objects.csv", "done": 3, "failed": 0, "objects": 6}
    assert ids("out/c.tif") == {1, 2, 3}
    lines = Path("out/objects.csv").read_text().splitlines()
    assert lines[0].startswith("picture,id,")
    assert [line.split(",")[:2] for line in lines[1:]] == [
        ["a.tif", "1"],
        ["b.tif", "1"],
        ["b.tif", "2"],
        ["c.tif", "1"],
        ["c.tif", "2"],
        ["c.tif", "3"],
    ]
    assert bright.contents(OUT) == [
        *("a.tif", "b.tif", "batch.json", "c.tif", "objects.csv", "tables"),
        *("tables/a.csv", "tables/b.csv", "tables/c.csv"),
    ]


def test_the_table_may_be_parquet() -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    run(table="all.parquet")
    assert parquet.read_table("out/all.parquet").num_rows == 6


def test_objects_are_linked_through_each_stack_by_the_same_options() -> None:
    Path("stacks").mkdir()
    for name, shift in (("a", 1), ("b", 20)):
        stack = np.stack([spots((10, 10)), spots((10, 10 + shift))])
        tifffile.imwrite(f"stacks/{name}.tif", stack, photometric="minisblack")
    done = printed_json("batch", "stacks", "out", "--ending", ".tif", "--link-extent", "1")
    assert [row["objects"] for row in done["pictures"]] == [1, 2]
    rows = [line.split(",")[:4] for line in Path("out/objects.csv").read_text().splitlines()[1:]]
    assert rows == [
        ["a.tif", "1", "", "0"],
        ["a.tif", "1", "", "1"],
        ["b.tif", "1", "", "0"],
        ["b.tif", "2", "", "1"],
    ]


def test_a_picture_that_cannot_be_linked_is_reported() -> None:
    tifffile.imwrite("plate/b.tif", np.stack([spots((10, 10))] * 2), photometric="minisblack")
    result = CliRunner().invoke(app, ["batch", "plate", "out", "--link"])
    assert result.exit_code == 1
    assert "samscape: a.tif: The objects of this picture cannot be linked" in result.stderr
    assert ids("out/b.ome.zarr") == {1}


def test_progress_counts_pictures() -> None:
    told: list[tuple[int, int, str]] = []
    run(progress=lambda *now: told.append(now))
    assert told[-1][:2] == (3, 3)
    assert any(text.startswith("b.tif: ") for _, _, text in told)


# What goes wrong ---------------------------------------------------------------------------------------


def test_a_picture_that_fails_is_reported_and_the_others_go_on() -> None:
    Path("plate/b.tif").write_bytes(b"II*\0 and nothing else")
    result = CliRunner().invoke(app, ["batch", "plate", "out", "--ending", ".tif"])
    assert result.exit_code == 1
    assert "samscape: b.tif: plate/b.tif cannot be read" in result.stderr
    assert (ids("out/a.tif"), ids("out/c.tif")) == ({1}, {1, 2, 3})
    tifffile.imwrite("plate/b.tif", spots((10, 10)))
    assert samscape("batch", "plate", "out", "--ending", ".tif").exit_code == 0, "it is tried again"


def test_whatever_a_model_raises_is_about_one_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    def everything(model: Any, pixels: Any, *rest: Any) -> Any:
        found = bright.everything(model, pixels)
        if len(found) == 2:
            raise RuntimeError("out of memory")
        return found

    monkeypatch.setattr("napari_samscape.prediction.automatic.everything", everything)
    result = run()
    assert result.sentences == ["b.tif: RuntimeError: out of memory"]
    assert [outcome.objects for outcome in result.outcomes] == [1, None, 3]


def test_a_model_that_is_missing_stops_all() -> None:
    result = samscape("batch", "plate", "out", "--model", "no_such")
    assert result.exit_code == 2
    assert "There is no model 'no_such'." in result.stderr


def test_a_full_disk_stops_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numpy.savez_compressed", full)
    with pytest.raises(InputError, match="The disk is full"):
        run()


def test_other_settings_are_refused_by_name() -> None:
    run()
    with pytest.raises(InputError, match=r"was begun with another tile \(64 instead of null\)"):
        run_many(find_pictures("plate", OUT), OUT, {"tile": 64})
    run_many(find_pictures("plate", OUT), OUT, {"tile": 64, "overwrite": True})


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"mode": "edges", "link": LinkOptions()}, "'edges' finds no objects, so none can be linked"),
        ({"options": {"points_per_side": 0}}, "points_per_side"),
    ],
)
def test_settings_that_fit_no_picture_are_refused_at_once(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        run_many(find_pictures("plate", OUT), OUT, settings)
    assert not OUT.exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"ending": ".jpg"}, r"Outputs cannot end in '\.jpg'"),
        ({"ending": "/../x.tif"}, "Outputs cannot end in"),
        ({"table": "../objects.csv"}, "must be a name without folders"),
        ({"table": "objects.xlsx"}, r"must end in \.csv or \.parquet"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_done(options: dict[str, str], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        run(**options)


# Going on ----------------------------------------------------------------------------------------------


def test_pictures_that_are_finished_do_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    run()
    before = {path: path.stat().st_mtime_ns for path in OUT.rglob("zarr.json")}
    monkeypatch.setattr("napari_samscape.model.weights.load_model", None)  # would fail if it were called
    assert run().objects == 6
    assert {path: path.stat().st_mtime_ns for path in OUT.rglob("zarr.json")} == before


def test_a_cancelled_batch_goes_on() -> None:
    def stop(done: int, total: int, text: str) -> None:
        if text.startswith("b.tif"):
            raise KeyError("stop")

    with pytest.raises(KeyError, match="stop"):
        run(progress=stop)
    assert not Path("out/objects.csv").exists()
    assert run().objects == 6


@pytest.mark.slow
def test_a_batch_killed_in_the_middle_gives_the_same_bit_for_bit() -> None:
    for name in "abc":
        tifffile.imwrite(f"plate/{name}.tif", scattered((100, 120)))
    options = {"tile": 64, "halo": 12}
    run_many(find_pictures("plate", OUT), OUT, options)
    expected = content("out")
    OUT.rename("undisturbed")
    program = Path(__file__).with_name("bright_process.py")
    command = [
        sys.executable,
        str(program),
        "slowly",
        "batch",
        "plate",
        "out",
        "--tile",
        "64",
        "--halo",
        "12",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        while process.poll() is None and not list(OUT.glob(".b*/pieces/0/0/1.npz")):
            time.sleep(0.005)
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL, "it was finished before it was killed"
    assert Path("out/a.ome.zarr").exists()
    assert not Path("out/objects.csv").exists()
    run_many(find_pictures("plate", OUT), OUT, options)
    assert content("out") == expected
    assert np.array([name.startswith(".") for name in bright.contents(OUT)]).sum() == 0
