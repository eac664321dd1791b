"""A job that was stopped goes on; one that is finished is left alone; another one is told apart by name."""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bright
import numpy as np
import pytest
import tifffile
from bright import MODEL
from filelock import FileLock
from test_tiled import scattered

from napari_samscape.errors import InputError
from napari_samscape.io import open_image
from napari_samscape.scaling.batch import Job, run
from napari_samscape.scaling.work import first_difference, work_folder, work_on

JOB = Job("in.tif", "out.ome.zarr", tile=64, halo=12)  # cores of 40 pixels at most
TILES = 20


@pytest.fixture(autouse=True)
def picture(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bright.install(monkeypatch)
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("in.tif", scattered((150, 190)))


def job(**options: Any) -> Job:
    return Job(**{"image": "in.tif", "output": "out.ome.zarr", "tile": 64, "halo": 12} | options)


def content(folder: str) -> dict[str, bytes]:
    paths = (path for path in Path(folder).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def undisturbed() -> dict[str, bytes]:
    """What the job gives when nothing happens; it is moved away afterwards."""
    assert run(JOB).tiles == TILES
    Path("out.ome.zarr").rename("undisturbed.ome.zarr")
    return content("undisturbed.ome.zarr")


class Stop(Exception):
    pass


def stop_at(sign: str, times: int = 1) -> Callable[[int, int, str], None]:
    """Stop when progress is told with a sign in it, for the so manyth time."""
    seen: list[str] = []

    def tell(done: int, total: int, text: str) -> None:
        seen.extend([text] * (sign in text))
        if len(seen) == times:
            raise Stop

    return tell


def tiles_looked_at(how: Job = JOB) -> int:
    """Run a job to its end and count the tiles that were not done before."""
    looked = 0

    def everything(*arguments: Any, **options: Any) -> Any:
        nonlocal looked
        looked += 1
        return bright.everything(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_samscape.prediction.automatic.everything", everything)
        run(how)
    return looked


# Killed ------------------------------------------------------------------------------------------------


def progress_so_far() -> int:
    """Tiles that are done, and then steps of writing."""
    folder = work_folder("out.ome.zarr")
    try:
        written = json.loads((folder / "written.json").read_text())["steps"]
    except (OSError, ValueError):
        written = 0
    return len(list(folder.rglob("*.npz"))) + written


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_job_killed_at_any_moments_gives_the_same_labels_bit_for_bit() -> None:
    expected = undisturbed()
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    moments = sorted(random.Random(seed).sample(range(1, 2 * TILES - 1), 3))
    program = Path(__file__).with_name("bright_process.py")
    command = [sys.executable, str(program), "slowly", "segment", "in.tif", "out.ome.zarr"]
    killed = 0
    for moment in moments:
        process = subprocess.Popen([*command, "--tile", "64", "--halo", "12"], stdout=subprocess.DEVNULL)
        try:
            while process.poll() is None and progress_so_far() < moment:
                time.sleep(0.005)
        finally:
            process.kill()
            killed += process.wait() == -signal.SIGKILL
    assert killed >= 2, "the jobs were finished before they were killed"
    run(JOB)
    assert content("out.ome.zarr") == expected
    assert bright.contents(Path())[0] == "in.tif", "the work is still there"


@pytest.mark.parametrize(
    ("sign", "times"), [("tile 2 of 20: looking", 1), ("tile 17", 2), ("writing", 1), ("writing", 15)]
)
def test_a_job_that_is_cancelled_goes_on_to_the_same_labels(sign: str, times: int) -> None:
    expected = undisturbed()
    for _ in range(2):
        with pytest.raises(Stop):
            run(JOB, stop_at(sign, times))
        assert not Path("out.ome.zarr").exists()
    assert tiles_looked_at() < TILES
    assert content("out.ome.zarr") == expected
    assert sorted(path.name for path in Path().iterdir()) == [
        "in.tif",
        "out.ome.zarr",
        "undisturbed.ome.zarr",
    ]


def test_a_job_cancelled_before_its_first_tile_leaves_nothing() -> None:
    with pytest.raises(Stop):
        run(JOB, stop_at("tile 1 of 20"))
    assert bright.contents(Path()) == ["in.tif"]


def test_a_tile_is_not_done_before_all_of_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def half(file: Any, **arrays: Any) -> None:
        file.write(b"half of it")
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr("numpy.savez_compressed", half)
        with pytest.raises(Stop):
            run(JOB)
    assert tiles_looked_at() == TILES


def test_what_a_killed_writer_left_half_done_is_written_over() -> None:
    expected = undisturbed()
    with pytest.raises(Stop):
        run(JOB, stop_at("writing", 5))
    (work_folder("out.ome.zarr") / "pieces/0/0/0.npz.part").write_bytes(b"half")
    run(JOB)
    assert content("out.ome.zarr") == expected


def test_a_piece_that_a_bad_disk_has_changed_is_named() -> None:
    with pytest.raises(Stop):
        run(JOB, stop_at("tile 9 of 20"))
    piece = work_folder("out.ome.zarr") / "pieces/0/0/1.npz"
    piece.write_bytes(piece.read_bytes()[:-30])
    with pytest.raises(InputError, match=r"1\.npz is damaged; delete it and start again"):
        run(JOB)
    piece.unlink()
    assert tiles_looked_at() == 1


# Finished ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", ["out.ome.zarr", "out.tif", "out.png"])
def test_a_finished_job_does_nothing_and_says_so(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(job(output=output))
    before = Path(output).stat().st_mtime_ns
    monkeypatch.setattr("napari_samscape.model.weights.load_model", None)  # would fail if it were called
    again = run(job(output=output))
    assert again.note == "This job was finished before."
    assert (again.objects, again.tiles, again.shape) == (first.objects, first.tiles, first.shape)
    assert Path(output).stat().st_mtime_ns == before


def test_a_finished_job_is_done_again_if_that_is_asked_for() -> None:
    run(JOB)
    assert tiles_looked_at(job(overwrite=True)) == TILES


def test_an_overlay_is_drawn_of_a_finished_job() -> None:
    run(JOB)
    run(job(overlay="out.png"))
    assert open_image("out.png").shape == (150, 190, 3)


def test_a_job_killed_when_all_was_done_but_the_cleaning_is_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object, **__: object) -> None:
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr("napari_samscape.scaling.batch.note", die)  # the next that is called
        with pytest.raises(Stop):
            run(JOB)
    assert work_folder("out.ome.zarr").exists()
    assert run(JOB).note == "This job was finished before."
    assert not work_folder("out.ome.zarr").exists()


# Another one -------------------------------------------------------------------------------------------

OTHERS = {
    "tile": ({"tile": 80}, r"another tile \(80 instead of 64\)"),
    "object size": ({"object_size": 10}, r"another object_size \(10 instead of null\)"),
    "mode": ({"mode": "edges"}, r'another mode \("edges" instead of "everything"\)'),
    "options": (
        {"options": {"points_per_side": 8}},
        r'another points_per_side \(8 instead of "default"\)',
    ),
    "model": ({"model": "bright"}, r'another model \("bright" instead of "nano"\)'),
}


@pytest.mark.parametrize("what", OTHERS)
def test_another_setting_is_refused_by_its_name(what: str) -> None:
    options, sentence = OTHERS[what]
    with pytest.raises(Stop):
        run(JOB, stop_at("tile 9 of 20"))
    with pytest.raises(
        InputError, match=f"was begun with {sentence}; finish it as it was begun, or add --over"
    ):
        run(job(**options))
    assert 0 < tiles_looked_at() < TILES, "the work was lost"
    with pytest.raises(InputError, match=f"exists already, made with {sentence}; add --overwrite"):
        run(job(**options))


def test_an_option_that_is_left_out_is_another_setting_too() -> None:
    run(job(options={"mask_nms_thresh": None}))
    with pytest.raises(InputError, match=r'another mask_nms_thresh \("default" instead of null\)'):
        run(JOB)
    assert run(job(options={"mask_nms_thresh": None})).note == "This job was finished before."


def test_the_work_of_another_job_is_thrown_away_if_that_is_asked_for() -> None:
    with pytest.raises(Stop):
        run(JOB, stop_at("tile 9 of 20"))
    assert tiles_looked_at(job(tile=80, overwrite=True)) == run(job(tile=80)).tiles


def test_what_was_agreed_before_stays_agreed_when_work_is_thrown_away() -> None:
    folder = work_folder("out.tif")
    folder.mkdir()
    (folder / "job.json").write_text('{"tile": 64, "version": "1"}')
    with work_on("out.tif", overwrite=True) as work:
        work.agree({"tile": 64})
        work.agree({"version": "2"})
        assert json.loads((folder / "job.json").read_text()) == {"tile": 64, "version": "2"}


def test_another_picture_under_the_same_name_is_another_job() -> None:
    with pytest.raises(Stop):
        run(JOB, stop_at("tile 9 of 20"))
    tifffile.imwrite("in.tif", scattered((150, 190))[::-1])
    with pytest.raises(InputError, match="another picture"):
        run(JOB)


def test_another_version_or_other_weights_do_not_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Stop):
        run(JOB, stop_at("tile 9 of 20"))
    with monkeypatch.context() as patch:
        patch.setattr("napari_samscape.scaling.batch._version", lambda: "99")
        with pytest.raises(InputError, match="another version"):
            run(JOB)
    monkeypatch.setattr(MODEL, "digest", "1" * 64)
    with pytest.raises(InputError, match="another model_sha256"):
        run(JOB)


def test_where_and_on_what_it_runs_is_no_setting() -> None:
    with pytest.raises(Stop):
        run(JOB, stop_at("tile 9 of 20"))
    assert 0 < tiles_looked_at(job(device="cpu", overlay="over.png", overwrite=True)) < TILES


def test_a_difference_is_told_shortly() -> None:
    assert first_difference({"a": 1, "b": 2}, {"a": 1, "b": 3}) == "b (2 instead of 3)"
    assert first_difference({"a": 1, "new": 2}, {"a": 1}) is None
    long = first_difference({"boxes": [[1.5] * 4] * 50}, {"boxes": []})
    assert long is not None
    assert len(long) < 80


# Two at once, and a full disk --------------------------------------------------------------------------


def test_the_second_of_two_jobs_on_an_output_is_refused_with_owner_and_age() -> None:
    refused = []

    def second(done: int, total: int, text: str) -> None:
        if not refused and "tile 3" in text:
            with pytest.raises(InputError) as caught:
                run(JOB)
            refused.append(str(caught.value))

    run(JOB, second)
    owner = r"process \d+ on .+, for 0 minute\(s\); wait, or stop it\."
    assert re.fullmatch(rf"The output out\.ome\.zarr is being made by {owner}", refused[0])


def test_a_lock_that_a_dead_process_left_holds_nobody_up() -> None:
    folder = work_folder("out.ome.zarr")
    folder.mkdir()
    (folder / "lock").touch()
    (folder / "owner.json").write_text('{"process": 1, "computer": "x", "since": 0}')
    assert run(JOB).tiles == TILES
    with FileLock("out.ome.zarr.lock"):  # a lock of somebody else's is none of ours
        assert run(JOB).note is not None


@pytest.mark.parametrize("step", ["numpy.savez_compressed", "napari_samscape.scaling.engine.Writer._write"])
def test_a_full_disk_stops_clearly_and_the_job_goes_on_when_there_is_room(
    step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = undisturbed()
    module, _, name = step.rpartition(".")
    owner = np if module == "numpy" else __import__(module.rpartition(".")[0], fromlist=["Writer"]).Writer
    work, calls = getattr(owner, name), iter(range(1000))

    def full(*arguments: Any, **options: Any) -> Any:
        if next(calls) == 10:
            raise OSError(28, "No space left on device")
        return work(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, full)
        with pytest.raises(InputError, match=r"The disk is full, so .* What is done is kept: make room"):
            run(JOB)
    assert not list(Path().rglob("*.part"))
    assert tiles_looked_at() < TILES
    assert content("out.ome.zarr") == expected
