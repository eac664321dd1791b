"""Volumes cut along any axis: the same as turning the array by hand, and labels as the picture lies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bright
import numpy as np
import pytest
import tifffile
import zarr
from bright import MODEL
from numpy.typing import NDArray
from test_cli import printed_json, samscape
from test_resume import Stop, content, stop_at

from napari_samscape.errors import InputError
from napari_samscape.io import open_image
from napari_samscape.scaling.batch import Job, run, segment
from napari_samscape.scaling.cluster import Cluster, _model, _task, look_at
from napari_samscape.scaling.link import LinkOptions
from napari_samscape.scaling.picture import look_over
from napari_samscape.scaling.pieces import PiecesInFolder
from napari_samscape.scaling.tiles import TileOptions

LINK = LinkOptions(min_iou=0.2, min_extent=1)
#: By plane, how to turn (z, y, x) so that slices come first, and how to turn labels back.
TURNS = {"xy": ((0, 1, 2), (0, 1, 2)), "xz": ((1, 0, 2), (1, 0, 2)), "yz": ((2, 0, 1), (1, 2, 0))}


@pytest.fixture(autouse=True)
def bright_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bright.install(monkeypatch)
    monkeypatch.chdir(tmp_path)


def volume() -> NDArray[np.uint16]:
    """Two boxes and a bent bar, of different extents along z (30), y (40) and x (50)."""
    pixels = np.zeros((30, 40, 50), np.uint16)
    pixels[3:9, 5:20, 10:25] = 1000
    pixels[12:26, 25:35, 5:12] = 1000
    pixels[5:20, 10:14, 30:45] = 1000
    pixels[20:24, 10:30, 40:45] = 1000
    return pixels


def turned(pixels: NDArray[Any], plane: str) -> NDArray[Any]:
    return pixels.transpose(TURNS[plane][0])


def back(labels: NDArray[Any], plane: str) -> NDArray[Any]:
    return labels.transpose(TURNS[plane][1])


def by_hand(plane: str, **options: Any) -> NDArray[np.int32]:
    return back(segment(turned(volume(), plane), model=MODEL, **options), plane)


@pytest.mark.parametrize("plane", TURNS)
@pytest.mark.parametrize("link", [None, LINK], ids=["unlinked", "linked"])
def test_a_plane_is_the_same_as_turning_the_array_by_hand(plane: str, link: LinkOptions | None) -> None:
    found = segment(volume(), model=MODEL, plane=plane, link=link)
    assert found.shape == (30, 40, 50)
    assert found.any()
    np.testing.assert_array_equal(found, by_hand(plane, link=link))


def test_the_slices_are_those_of_the_plane() -> None:
    pixels = volume()
    image = open_image(pixels)
    np.testing.assert_array_equal(image.sliced("xz").plane(z=12), pixels[:, 12, :])
    np.testing.assert_array_equal(image.sliced("yz").plane(z=8), pixels[:, :, 8])
    # Unlinked, ids go on from slice to slice: the first is in the first slice with an object.
    assert np.argwhere(segment(pixels, model=MODEL, plane="yz") == 1)[:, 2].tolist() == [5] * 14 * 10


def test_a_view_keeps_pixel_sizes_and_channels() -> None:
    pixels = np.zeros((3, 30, 40, 50), np.uint16)
    pixels[1] = volume()
    view = open_image(pixels, axes="czyx").sliced("yz")
    assert (view.axes, view.label_shape) == ("cyxz", (50, 30, 40))
    np.testing.assert_array_equal(view.plane(z=8)[..., 1], volume()[:, :, 8])


@pytest.mark.parametrize("plane", ["xz", "yz"])
@pytest.mark.parametrize("ending", [".ome.zarr", ".tif"])
def test_files_have_the_axes_of_the_picture_in_tiles_and_linked(plane: str, ending: str) -> None:
    tifffile.imwrite("in.tif", volume(), photometric="minisblack")
    result = run(Job("in.tif", f"out{ending}", tile=24, halo=6, link=LINK, plane=plane))
    image = open_image(f"out{ending}")
    assert (image.axes, image.shape) == ("zyx", (30, 40, 50))
    assert result.planes == {"xz": 40, "yz": 50}[plane]
    np.testing.assert_array_equal(image.data[...], by_hand(plane, link=LINK, tiles=TileOptions(24, 6)))


def test_a_worker_looks_at_the_same_slices() -> None:
    tifffile.imwrite("in.tif", volume(), photometric="minisblack")
    limits = look_over(open_image("in.tif")).limits
    order = Cluster(None, "").order(Job("in.tif", "out.zarr", plane="yz"), limits, Path("pieces"), "0" * 64)
    try:
        assert look_at(order, (8,), (0, 0)) is None
    finally:
        _task.cache_clear()
        _model.cache_clear()
    found = PiecesInFolder(Path("pieces/8")).values((0, 0))
    np.testing.assert_array_equal(found > 0, volume()[:, :, 8] > 0)


def test_time_points_stay_apart() -> None:
    series = np.stack([volume(), volume()[:, ::-1]])
    found = segment(series, model=MODEL, plane="xz", link=LinkOptions(axes="z"))
    expected = segment(series.transpose(0, 2, 1, 3), model=MODEL, link=LinkOptions(axes="z"))
    np.testing.assert_array_equal(found, expected.transpose(0, 2, 1, 3))


def test_chunks_on_disk_are_cubes_and_each_level_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_samscape.scaling.task.CUBE", 16)
    monkeypatch.setattr("napari_samscape.io.pyramid.COARSEST", 32)
    tifffile.imwrite("in.tif", volume(), photometric="minisblack")
    run(Job("in.tif", "out.ome.zarr", plane="yz", link=LINK))
    levels = [zarr.open_array(f"out.ome.zarr/{level}", mode="r") for level in (0, 1)]
    assert [level.chunks for level in levels] == [(16, 16, 16)] * 2
    np.testing.assert_array_equal(levels[1][...], levels[0][:, ::2, ::2])


@pytest.mark.parametrize(("sign", "times"), [("tile 2 of 2: looking", 9), ("linking", 20), ("writing", 60)])
def test_a_stopped_job_goes_on_to_the_same_labels(sign: str, times: int) -> None:
    tifffile.imwrite("in.tif", volume(), photometric="minisblack")
    job = Job("in.tif", "out.ome.zarr", tile=48, halo=6, link=LINK, plane="xz")
    run(job)
    Path("out.ome.zarr").rename("undisturbed.ome.zarr")
    with pytest.raises(Stop):
        run(job, stop_at(sign, times))
    run(job)
    assert content("out.ome.zarr") == content("undisturbed.ome.zarr")


def test_the_table_names_columns_after_the_axes() -> None:
    Path("in").mkdir()
    tifffile.imwrite("in/a.tif", volume(), photometric="minisblack")
    done = printed_json("batch", "in", "out", "--plane", "xz", "--link", "--table", "all.csv")
    assert done["objects"] == 4, "the bent bar is two, as it jumps from one slice to the next"
    lines = [line.split(",") for line in Path("out/all.csv").read_text().splitlines()]
    assert lines[0][:9] == ["picture", "id", "t", "y", "z0", "x0", "z1", "x1", "area"]
    assert ["a.tif", "1", "", "5", "3", "10", "9", "25", "90"] in [line[:9] for line in lines]


def test_the_table_may_be_parquet() -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    Path("in").mkdir()
    tifffile.imwrite("in/a.tif", volume(), photometric="minisblack")
    printed_json("batch", "in", "out", "--plane", "yz", "--table", "all.parquet")
    assert parquet.read_table("out/all.parquet").column_names[2:8] == ["t", "x", "z0", "y0", "z1", "y1"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--plane", "zx"], "There is no plane 'zx'; there are xy, xz, yz."),
        (["--plane", "xz", "--objects", "o.json"], "leave that file or the plane xz out"),
        (["--plane", "xz", "--points", "3,3"], "Prompts are about one plane, but in.tif has several (z=40)"),
    ],
)
def test_what_makes_no_sense_is_refused(options: list[str], sentence: str) -> None:
    tifffile.imwrite("in.tif", volume(), photometric="minisblack")
    result = samscape("segment", "in.tif", "out.ome.zarr", *options)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert bright.contents(Path()) == ["in.tif"]


def test_a_flat_picture_has_no_other_plane() -> None:
    with pytest.raises(InputError, match="has no axis z, so its only plane is xy, not xz"):
        segment(volume()[0], model=MODEL, plane="xz")


def test_another_plane_is_another_job() -> None:
    tifffile.imwrite("in.tif", volume(), photometric="minisblack")
    run(Job("in.tif", "out.ome.zarr", plane="xz"))
    with pytest.raises(InputError, match=r'made with another plane \("yz" instead of "xz"\)'):
        run(Job("in.tif", "out.ome.zarr", plane="yz"))
