"""Stacks from file to file with objects linked: in tiles as untiled, resumable, in memory that stays."""

from __future__ import annotations

import json
import random
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
import zarr
from bright import MODEL, spots
from numpy.typing import NDArray
from test_resume import Stop, content, progress_so_far, stop_at
from test_tiled import assert_same_partition, scattered
from typer.testing import CliRunner

from napari_samscape.cli.app import app
from napari_samscape.errors import InputError
from napari_samscape.io import open_image
from napari_samscape.scaling.batch import Job, Result, run, segment
from napari_samscape.scaling.link import LinkOptions
from napari_samscape.scaling.stack import link_labels
from napari_samscape.scaling.tiles import TileOptions
from napari_samscape.scaling.work import work_folder

LINK = LinkOptions(min_iou=0.2, min_extent=1)
SMALL = {"tile": 32, "halo": 8}


@pytest.fixture(autouse=True)
def bright_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bright.install(monkeypatch)
    monkeypatch.chdir(tmp_path)


def drifting(planes: int = 5, shape: tuple[int, int] = (40, 50)) -> NDArray[np.uint16]:
    """Blobs that move by a pixel a slice, over the seams of tiles; the fourth slice is black."""
    stack = np.stack([np.roll(scattered(shape, 12), slice_, axis=1) for slice_ in range(planes)])
    stack[3] = 0
    return stack


def job(output: str = "out.ome.zarr", **options: Any) -> Job:
    return Job("in.tif", output, **SMALL | {"link": LINK} | options)


def done(stack: NDArray, axes: str = "ZYX", **options: Any) -> Result:
    tifffile.imwrite("in.tif", stack, photometric="minisblack", metadata={"axes": axes}, ome=True)
    return run(job(**options))


# What comes out ----------------------------------------------------------------------------------------


def test_an_object_has_one_id_in_all_slices() -> None:
    stack = np.stack([spots((10, 10)), spots((10, 11), (30, 50)), spots((10, 12), (30, 50))])
    labels = segment(stack, model=MODEL, link=LINK)
    assert [sorted(set(np.unique(plane))) for plane in labels] == [[0, 1], [0, 1, 2], [0, 1, 2]]
    assert labels[2, 10, 12] == 1
    assert [int(plane.max()) for plane in segment(stack, model=MODEL)] == [1, 3, 5], "unlinked, as before"


def test_linked_in_tiles_is_linked_untiled() -> None:
    stack = drifting()
    result = done(stack)
    labels = np.asarray(open_image("out.ome.zarr").data[...])
    assert result.tiles == 5 * 8
    assert labels.max() == result.objects
    assert not labels[3].any()
    whole = segment(stack, model=MODEL, link=LINK)
    assert_same_partition(labels, whole)
    np.testing.assert_array_equal(labels, segment(stack, model=MODEL, tiles=TileOptions(**SMALL), link=LINK))


def test_the_engine_links_as_labels_in_memory_are_linked() -> None:
    stack = drifting()
    plain = segment(stack, model=MODEL)
    count = link_labels(plain, plain, LINK)
    found = segment(stack, model=MODEL, link=LINK)
    np.testing.assert_array_equal(found, plain)
    assert 5 < count < segment(stack, model=MODEL).max()


def test_what_is_dropped_is_background() -> None:
    stack = np.stack([spots((10, 10), (30, 50)), spots((10, 11)), spots((10, 12))])
    result = done(stack, link=LinkOptions())
    assert result.objects == 1
    assert open_image("out.ome.zarr").plane(z=0)[30, 50] == 0
    assert open_image("out.ome.zarr").plane(z=2)[10, 12] == 1


@pytest.mark.parametrize(("axes", "ids"), [(None, [1, 1, 1, 1]), ("z", [1, 1, 2, 2]), ("t", [1, 2, 1, 2])])
def test_a_time_series_of_volumes_is_linked_through_both_axes_or_one(
    axes: str | None, ids: list[int]
) -> None:
    series = np.stack([[spots((10, 10)), spots((10, 11))], [spots((10, 11)), spots((10, 12))]])
    done(series, "TZYX", link=LinkOptions(axes=axes))
    labels = np.asarray(open_image("out.ome.zarr").data[...])
    assert labels[:, :, 10, 11].ravel().tolist() == ids


def test_boxes_of_a_detector_are_linked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def segment_detected(model: Any, rgb: NDArray, detector: Any, progress: Any) -> Any:
        return bright.everything(model, rgb)

    monkeypatch.setattr("napari_samscape.prediction.boxes.segment_detected", segment_detected)
    stack = np.stack([spots((10, 10)), spots((10, 11), (30, 50))])
    labels = segment(stack, model=MODEL, detector=lambda rgb: [], link=LINK)
    assert (labels[0, 10, 10], labels[1, 10, 10], labels[1, 30, 50]) == (1, 1, 2)


def test_a_tile_that_cannot_be_read_ends_no_object_beside_it() -> None:
    array = zarr.create_array("in.zarr", shape=(3, 64, 64), dtype="u2", chunks=(1, 32, 32))
    array[...] = np.stack([spots((16, 16), (48, 48), shape=(64, 64))] * 3)
    Path("in.zarr/c/1/0/0").write_bytes(b"broken")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_samscape.scaling.picture.READ_SIDE", 32)
        result = run(Job("in.zarr", "out.ome.zarr", tile=48, halo=8, link=LinkOptions()))
    assert (len(result.failed), result.objects) == (1, 2)
    labels = open_image("out.ome.zarr").data[...]
    assert labels[:, 16, 16].tolist() == [1, 0, 1]
    assert labels[:, 48, 48].tolist() == [2, 2, 2]


# Stopped and started again -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sign", "times"),
    [("tile 2 of 8: looking", 3), ("linking", 1), ("linking", 4), ("writing", 1), ("writing", 40)],
)
def test_a_linked_job_that_is_stopped_goes_on_to_the_same_labels(sign: str, times: int) -> None:
    done(drifting())
    Path("out.ome.zarr").rename("undisturbed.ome.zarr")
    with pytest.raises(Stop):
        run(job(), stop_at(sign, times))
    run(job())
    assert content("out.ome.zarr") == content("undisturbed.ome.zarr")
    assert not work_folder("out.ome.zarr").exists()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_linked_job_killed_at_any_moments_gives_the_same_labels_bit_for_bit() -> None:
    tiles, planes = done(drifting()).tiles, 5
    Path("out.ome.zarr").rename("undisturbed.ome.zarr")
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    # A moment while looking, one while linking, one while writing.
    moments = [random.Random(seed).randrange(*span) for span in ((1, tiles), (tiles, tiles + 2 * planes))]
    moments.append(random.Random(seed).randrange(tiles + 2 * planes, 2 * tiles))
    program = Path(__file__).with_name("bright_process.py")
    options = ["--tile", "32", "--halo", "8", "--link-iou", "0.2", "--link-extent", "1"]
    command = [sys.executable, str(program), "slowly", "segment", "in.tif", "out.ome.zarr", *options]
    killed = 0
    for moment in moments:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            while process.poll() is None and progress_so_far() < moment:
                time.sleep(0.002)
        finally:
            process.kill()
            killed += process.wait() == -signal.SIGKILL
    assert killed >= 2, "the jobs were finished before they were killed"
    run(job())
    assert content("out.ome.zarr") == content("undisturbed.ome.zarr")


def test_planes_that_were_counted_are_not_counted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile.imwrite("in.tif", drifting(), photometric="minisblack")
    with pytest.raises(Stop):
        run(job(), stop_at("linking", 4))
    counted = []
    from napari_samscape.scaling.links import Stack

    count = Stack._count
    monkeypatch.setattr(Stack, "_count", lambda self, place: counted.append(place) or count(self, place))
    run(job())
    assert counted == [(4,)]


def test_counts_that_a_bad_disk_has_changed_are_named_and_made_again() -> None:
    done(drifting())
    Path("out.ome.zarr").rename("undisturbed.ome.zarr")
    with pytest.raises(Stop):
        run(job(), stop_at("writing", 9))
    counts = work_folder("out.ome.zarr") / "links" / "1.npz"
    counts.write_bytes(counts.read_bytes()[:-30])
    with pytest.raises(InputError, match=r"1\.npz is damaged; delete it and start again"):
        run(job())
    counts.unlink()
    run(job())
    assert content("out.ome.zarr") == content("undisturbed.ome.zarr")


def test_other_links_are_another_job() -> None:
    done(drifting())
    with pytest.raises(InputError, match=r'made with another link \(null instead of {"min_iou": 0.2'):
        run(job(link=None))


def test_a_linked_job_comes_back_from_json() -> None:
    assert Job.from_json(json.loads(json.dumps(job().to_json()))) == job()
    with pytest.raises(InputError, match="This is no job"):
        Job.from_json(job().to_json() | {"link": {"iou": 1}})


# The command line --------------------------------------------------------------------------------------


def test_on_the_command_line_each_link_option_is_enough() -> None:
    tifffile.imwrite(
        "in.tif", np.stack([spots((10, 10)), spots((10, 11)), spots((30, 50))]), photometric="minisblack"
    )
    # One object is in two slices, one in the last only.
    counts = []
    for number, options in enumerate([[], ["--link"], ["--link-extent", "1"], ["--link-axes", "z"]]):
        result = CliRunner().invoke(app, ["segment", "in.tif", f"{number}.tif", "--json", *options])
        assert result.exit_code == 0, result.output
        counts.append(json.loads(result.stdout)["objects"])
    assert counts == [3, 1, 2, 1]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--link", "--mode", "edges"], "'edges' finds no objects, so none can be linked"),
        (["--link-axes", "t"], "cannot be linked along t; it is stacked along z"),
        (["--link-axes", "x"], "linked along 'z', 't' or 'zt', not along 'x'"),
        (["--link", "--objects", "o.csv"], "Objects one by one are those of single planes"),
        (["--link-iou", "2"], "above 0 and at most 1, not 2.0"),
    ],
)
def test_links_that_make_no_sense_are_refused(options: list[str], sentence: str) -> None:
    tifffile.imwrite("in.tif", np.stack([spots((10, 10))] * 3), photometric="minisblack")
    result = CliRunner().invoke(app, ["segment", "in.tif", "out.ome.zarr", *options])
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert bright.contents(Path()) == ["in.tif"]


def test_a_single_plane_has_nothing_to_link() -> None:
    with pytest.raises(InputError, match="cannot be linked; it is a single plane"):
        segment(spots((10, 10)), model=MODEL, link=LinkOptions())


# Memory ------------------------------------------------------------------------------------------------


def peak_megabytes(planes: int) -> int:
    name = f"{planes}.zarr"
    array = zarr.create_array(name, shape=(planes, 1024, 1024), dtype="u1", chunks=(1, 512, 512))
    block = spots(*((y, x) for y in range(60, 1024, 120) for x in range(60, 1024, 120)), shape=(1024, 1024))
    for z in range(planes):
        array[z] = block
    process = [sys.executable, str(Path(__file__).with_name("bright_process.py"))]
    command = [*process, "segment", name, f"{planes}.ome.zarr", "--tile", "768", "--halo", "32", "--link"]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.startswith("81 object(s)")
    return int(ran.stderr.split()[-1])


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_peak_memory_does_not_grow_with_the_stack() -> None:
    few, many = peak_megabytes(2), peak_megabytes(20)
    # Ten times the planes: their labels alone would be 75 MB more.
    assert many < few + 40, f"{few} MB, then {many} MB"
