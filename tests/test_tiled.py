"""Pictures in tiles, from file to file: the same as untiled, whatever the mode, in memory that stays."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import bright
import numpy as np
import pytest
import tifffile
import zarr
from bright import MODEL, spots
from numpy.typing import NDArray
from ome_zarr_models.v05.image import Image as OmeImage
from ome_zarr_models.v05.image_label import ImageLabel
from scipy import ndimage
from typer.testing import CliRunner

from napari_samscape.cli.app import app
from napari_samscape.errors import InputError
from napari_samscape.io import open_image
from napari_samscape.prediction.types import Prompts
from napari_samscape.scaling.batch import Job, Result, run, segment
from napari_samscape.scaling.tiles import TileOptions, Tiling, chunks_for, tile_plane

SMALL = TileOptions(tile=32, halo=8)  # cores of 16 pixels at most, so spots of 5 fit in


@pytest.fixture(autouse=True)
def bright_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bright.install(monkeypatch)
    monkeypatch.chdir(tmp_path)


def scattered(shape: tuple[int, int], count: int = 60) -> NDArray[np.uint16]:
    """Blobs of at most 7 pixels, at random, some of which touch and are one."""
    random = np.random.default_rng(0)
    pixels = np.zeros(shape, np.uint16)
    pixels[random.integers(0, shape[0], count), random.integers(0, shape[1], count)] = 1000
    return ndimage.grey_dilation(pixels, 3)


def assert_same_partition(found: NDArray, truth: NDArray) -> None:
    pairs = set(zip(found.ravel().tolist(), truth.ravel().tolist(), strict=True))
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
    np.testing.assert_array_equal(found == 0, truth == 0)


def job(output: str = "out.ome.zarr", **options: Any) -> Job:
    return Job("in.tif", output, **{"tile": SMALL.tile, "halo": SMALL.halo} | options)


def done(pixels: NDArray, output: str = "out.ome.zarr", **options: Any) -> Result:
    """Segment a picture from file to file."""
    tifffile.imwrite("in.tif", pixels, photometric="minisblack")
    return run(job(output, **options))


# The same as untiled -----------------------------------------------------------------------------------


@pytest.mark.parametrize("output", ["out.ome.zarr", "out.tif", "out.png"])
def test_everything_in_tiles_is_everything_in_the_whole_up_to_renaming(output: str) -> None:
    pixels = scattered((150, 170))
    whole = segment(pixels, model=MODEL)
    result = done(pixels, output)
    assert result.tiles == 110
    assert result.objects == whole.max() > 30
    found = open_image(output).plane()
    assert_same_partition(found, whole)
    assert found.max() == result.objects


def test_in_memory_and_from_file_to_file_the_ids_are_the_same() -> None:
    pixels = scattered((60, 70))
    done(pixels)
    np.testing.assert_array_equal(
        open_image("out.ome.zarr").plane(), segment(pixels, model=MODEL, tiles=SMALL)
    )


def test_an_object_across_five_by_five_tiles_is_one() -> None:
    pixels = np.zeros((80, 80), np.uint16)
    pixels[1:79, 1:79] = 1000
    pixels[20:60, 20:60] = 0  # a ring, so that most tiles see only a part of its form
    result = done(pixels)
    assert (result.tiles, result.objects) == (25, 1)
    np.testing.assert_array_equal(open_image("out.ome.zarr").plane(), pixels // 1000)


def test_each_plane_of_a_stack_is_tiled_and_ids_go_on() -> None:
    stack = np.stack([scattered((40, 60), 9), np.zeros((40, 60), np.uint16), 10 * spots((15, 16), (30, 50))])
    result = done(stack)
    labels = open_image("out.ome.zarr").data[...]
    assert (result.planes, result.tiles) == (3, 3 * 8)
    assert labels[0].max() == result.objects - 2
    assert labels[1].max() == 0
    assert set(np.unique(labels[2])) == {0, result.objects - 1, result.objects}
    np.testing.assert_array_equal(labels, segment(stack, model=MODEL, tiles=SMALL))


def test_the_channels_are_seen_in_every_tile() -> None:
    pixels = np.stack([scattered((60, 70)), spots((10, 10), shape=(60, 70)) * 10], axis=-1)
    assert_same_partition(segment(pixels, model=MODEL, tiles=SMALL), segment(pixels, model=MODEL))


def test_a_level_and_channels_are_looked_at_as_if_there_were_no_others() -> None:
    fine = np.stack([np.zeros((120, 140), np.uint16), 10 * scattered((60, 70)).repeat(2, 0).repeat(2, 1)])
    group = zarr.open_group("in.zarr", mode="w", attributes={"ome": two_levels("cyx")})
    for name, level in (("0", fine), ("1", fine[:, ::2, ::2])):
        group.create_array(name, data=level)
    chosen = Job("in.zarr", "out.ome.zarr", level=1, channels=(1,), tile=SMALL.tile, halo=SMALL.halo)
    assert run(chosen).shape == (60, 70)
    found = open_image("out.ome.zarr")
    assert (found.scale, found.plane().max() > 5) == ((2, 2), True)
    assert_same_partition(found.plane(), segment(fine[1, ::2, ::2], model=MODEL))
    assert Job.from_json(json.loads(json.dumps(chosen.to_json()))).open().channels == (1,)
    for other in ({"level": 0}, {"channels": (0,)}):
        with pytest.raises(InputError, match=f"another {next(iter(other))}"):
            run(replace(chosen, **other))


def two_levels(axes: str) -> dict[str, Any]:
    """Attributes of an OME-Zarr image of two levels."""
    named = [{"name": axis, "type": {"c": "channel"}.get(axis, "space")} for axis in axes]
    datasets = []
    for number in range(2):
        scale = [1.0 if axis == "c" else 2.0**number for axis in axes]
        transforms = [{"type": "scale", "scale": scale}]
        datasets.append({"path": str(number), "coordinateTransformations": transforms})
    return {"version": "0.5", "multiscales": [{"axes": named, "datasets": datasets}]}


def test_intensity_limits_are_the_whole_pictures() -> None:
    pixels = spots((10, 10), (50, 60), shape=(64, 80))
    pixels[40:] //= 50  # dim noise in a tile of its own must not be stretched to full brightness
    assert done(pixels).objects == 1


def test_a_whole_picture_is_one_tile_with_the_ids_of_before() -> None:
    pixels = spots((10, 10), (20, 40))
    result = run_whole(pixels)
    assert result.tiles == 1
    assert [int(open_image("out.ome.zarr").plane()[place]) for place in [(10, 10), (20, 40)]] == [1, 2]


def run_whole(pixels: NDArray) -> Result:
    tifffile.imwrite("in.tif", pixels)
    return run(Job("in.tif", "out.ome.zarr"))


# Edges -------------------------------------------------------------------------------------------------


def drawn_edges(model: Any, pixels: NDArray, options: Any, progress: Any = None) -> tuple[NDArray, float]:
    strength = ndimage.gaussian_gradient_magnitude(pixels[..., 0].astype(np.float32), 1, truncate=3)
    return strength / (strength.max() or 1), float(strength.max())


@pytest.mark.parametrize("output", ["edges.ome.zarr", "edges.tif"])
def test_edges_of_tiles_are_cropped_and_have_one_scale(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_samscape.prediction.edges.drawn_edges", drawn_edges)
    pixels = scattered((60, 70)) * np.linspace(0.3, 1, 70)
    result = done(pixels.astype(np.float32), output, mode="edges")
    assert result.objects is None
    whole = segment(pixels.astype(np.float32), model=MODEL, mode="edges")
    assert whole.max() == 1
    np.testing.assert_allclose(open_image(output).plane(), whole, atol=1e-6)


# The choice of tiles -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "options", "grid"),
    [
        ((1536, 900), {}, (1, 1)),
        ((1537, 900), {}, (2, 1)),
        ((1537, 900), {"tile": 2000}, (1, 1)),
        ((500, 900), {"tile": 400}, (2, 3)),
        ((500, 900), {"halo": 40, "object_size": 20}, (1, 1)),
    ],
)
def test_a_plane_is_tiled_above_one_and_a_half_times_the_models_size(
    shape: tuple[int, int], options: dict[str, int], grid: tuple[int, int]
) -> None:
    assert tile_plane(shape, 1024, 1.5, TileOptions(**options)).grid == grid


@pytest.mark.parametrize("options", [{}, {"object_size": 90}, {"tile": 700}, {"tile": 5000, "halo": 10}])
def test_cores_are_whole_chunks_that_are_neither_tiny_nor_huge(options: dict[str, int]) -> None:
    tiling = tile_plane((9000, 20000), 1024, 1.5, TileOptions(**options))
    for core, chunk in zip(tiling.core, chunks_for(tiling, 1024), strict=True):
        assert core % chunk == 0
        assert 200 <= chunk <= 2048


def test_a_whole_plane_has_chunks_of_its_own() -> None:
    assert chunks_for(Tiling((1500, 300), (1500, 300), (0, 0)), 1024) == (1024, 300)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"tile": 0}, "tile must be whole numbers of pixels, at least 1"),
        ({"tile": 32, "halo": 16}, "no core left inside a halo of 16"),
        ({"object_size": 20, "halo": 10}, "halo of 10 pixels is narrower than the object size of 20"),
        ({"mode": "prompts", "prompts": (Prompts(points=[(1, 1)]),)}, "'prompts' looks at a whole plane"),
    ],
)
def test_tiles_that_make_no_sense_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Job("in.tif", "out.tif", **{"tile": 40} | options)


# The output --------------------------------------------------------------------------------------------


def test_labels_of_tiles_are_a_valid_pyramid_that_keeps_ids() -> None:
    pixels = scattered((1100, 600), 300)
    done(pixels, tile=500, halo=20)
    group = zarr.open_group("out.ome.zarr", mode="r")
    assert ImageLabel.from_zarr(group).ome_attributes.image_label is not None
    levels = [np.asarray(level[...]) for level in open_image("out.ome.zarr").levels]
    assert [level.shape for level in levels] == [(1100, 600), (550, 300), (275, 150)]
    for step, level in zip((1, 2, 4), levels, strict=True):
        np.testing.assert_array_equal(level, levels[0][::step, ::step])
    about = dict(group.attrs["samscape"])
    assert Job.from_json(about["job"]) == job(tile=500, halo=20)
    assert (about["objects"], about["tiles"], about["failed"]) == (levels[0].max(), 6, [])


def test_a_map_of_tiles_is_a_valid_pyramid_that_keeps_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_samscape.prediction.edges.drawn_edges", drawn_edges)
    done(scattered((601, 300)), "e.ome.zarr", mode="edges", tile=200, halo=20)
    OmeImage.from_zarr(zarr.open_group("e.ome.zarr", mode="r"))
    full, half = (np.asarray(level[...]) for level in open_image("e.ome.zarr").levels)
    padded = np.pad(full, ((0, 1), (0, 0)))
    np.testing.assert_array_equal(half, padded.reshape(301, 2, 150, 2).max(axis=(1, 3)))


def test_what_a_format_cannot_hold_is_said_before_any_work() -> None:
    zarr.create_array("huge.zarr", shape=(30_000, 30_000), dtype="u1", chunks=(1000, 1000))
    with pytest.raises(InputError, match=r"too large for a \.tif of its labels; use \.ome\.zarr"):
        run(Job("huge.zarr", "out.tif"))
    with pytest.raises(InputError, match="A PNG holds one plane"):
        done(np.zeros((3, 40, 60), np.uint16), "out.png")


def test_the_overlay_of_tiles_is_drawn_from_what_was_written() -> None:
    done(scattered((60, 70)), overlay="out.png")
    assert open_image("out.png").shape == (60, 70, 3)


# Bad input ---------------------------------------------------------------------------------------------


def zarr_of_spots(broken: Callable[[Path], object] | None = None, sharded: bool = False) -> None:
    """Sixteen files of 32 x 32 pixels with a spot in the middle of each; one file may be broken.

    A file is a chunk, or a shard of four.
    """
    cut = {"chunks": (16, 16), "shards": (32, 32)} if sharded else {"chunks": (32, 32)}
    array = zarr.create_array("in.zarr", shape=(128, 128), dtype="u2", **cut)
    array[...] = spots(*((y, x) for y in range(16, 128, 32) for x in range(16, 128, 32)), shape=(128, 128))
    if broken is not None:
        broken(Path("in.zarr/c/1/2"))


IN_CHUNKS = {"tile": 48, "halo": 8}  # a core for each chunk


@pytest.mark.parametrize(
    ("sharded", "missing"), [(False, "1 of the picture's 16"), (True, "4 of the picture's 64")]
)
def test_a_missing_chunk_is_fill_value_and_said_once(sharded: bool, missing: str) -> None:
    zarr_of_spots(Path.unlink, sharded)
    result = run(Job("in.zarr", "out.ome.zarr", **IN_CHUNKS))
    assert (result.objects, result.failed) == (15, ())
    assert result.note == f"{missing} chunks are missing and were read as 0."


@pytest.fixture
def read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples are of one chunk each, as they are in pictures that are larger than these."""
    monkeypatch.setattr("napari_samscape.scaling.picture.READ_SIDE", 32)


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.usefixtures("read_in_parts")
def test_a_damaged_chunk_costs_its_tile_and_no_more(sharded: bool) -> None:
    zarr_of_spots(lambda chunk: chunk.write_bytes(b"broken"), sharded)
    result = run(Job("in.zarr", "out.ome.zarr", **IN_CHUNKS))
    assert (result.tiles, result.objects) == (16, 15)
    (sentence,) = result.failed
    assert sentence.startswith("tile 1/2 (rows 32 to 63, columns 64 to 95): in.zarr cannot be read")
    assert result.note is not None
    assert "1 of 16 tiles could not be read" in result.note
    assert zarr.open_group("out.ome.zarr").attrs["samscape"]["failed"] == [sentence]


@pytest.mark.usefixtures("read_in_parts")
def test_on_the_command_line_a_damaged_chunk_is_exit_code_1() -> None:
    zarr_of_spots(lambda chunk: chunk.write_bytes(b"broken"))
    options = ["--tile", "48", "--halo", "8", "--json"]
    result = CliRunner().invoke(app, ["segment", "in.zarr", "out.ome.zarr", *options])
    assert result.exit_code == 1
    assert json.loads(result.stdout)["objects"] == 15
    assert result.stderr.startswith("samscape: tile 1/2 (rows 32 to 63, columns 64 to 95): in.zarr cannot be")


def test_a_tile_that_could_not_be_read_is_tried_again() -> None:
    zarr_of_spots()
    chunk = Path("in.zarr/c/1/2")
    content = chunk.read_bytes()
    # Another picture would be another job, so the damage must be where no sample is taken.
    once = Job("in.zarr", "out.ome.zarr", **IN_CHUNKS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_samscape.scaling.picture._blocks", lambda *_: [(slice(0, 32), slice(0, 32))])
        chunk.write_bytes(b"broken")
        assert len(run(once).failed) == 1
        chunk.write_bytes(content)
        seen = []
        result = run(once, lambda *step: seen.append(step[2]))
        assert (result.failed, result.objects, result.note) == ((), 16, None)
        assert len([text for text in seen if "bright" in text]) == 1, "more than that tile was looked at"
        assert run(once).note == "This job was finished before."
    assert bright.contents(Path())[0] == "in.zarr"


def test_a_picture_of_which_nothing_can_be_read_is_refused() -> None:
    zarr_of_spots()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_samscape.scaling.picture._blocks", lambda *_: [(slice(0, 32), slice(64, 96))])
        Path("in.zarr/c/0/2").write_bytes(b"broken")
        with pytest.raises(InputError, match="cannot be read"):
            run(Job("in.zarr", "out.ome.zarr", **IN_CHUNKS))
    assert not Path("out.ome.zarr").exists()


def test_not_a_number_in_a_tile_is_told_with_its_place() -> None:
    pixels = spots((10, 10), shape=(128, 128)).astype(np.float32)
    pixels[100, 100:103] = np.nan
    with pytest.MonkeyPatch.context() as patch:  # no sample finds it
        patch.setattr("napari_samscape.scaling.picture._blocks", lambda *_: [(slice(0, 32), slice(0, 32))])
        with pytest.raises(InputError, match=r"NaN or infinite values in 3 of \d+ pixels, from \d+, \d+ on"):
            done(pixels)


def test_an_output_inside_its_input_is_refused() -> None:
    zarr_of_spots()
    with pytest.raises(InputError, match=r"lies inside the picture in\.zarr"):
        run(Job("in.zarr", "in.zarr/labels.ome.zarr", **IN_CHUNKS))
    assert not list(Path("in.zarr").glob("*labels*"))


def test_labels_may_lie_where_ome_zarr_has_them_inside_the_image() -> None:
    group = zarr.open_group("in.zarr", mode="w", attributes={"ome": two_levels("yx")})
    pixels = scattered((60, 70))
    for name, level in (("0", pixels), ("1", pixels[::2, ::2])):
        group.create_array(name, data=level)
    for name in ("spots.zarr", "again.zarr"):
        result = run(Job("in.zarr", f"in.zarr/labels/{name}", tile=SMALL.tile, halo=SMALL.halo))
    assert zarr.open_group("in.zarr/labels").attrs["ome"] == {
        "version": "0.5",
        "labels": ["spots.zarr", "again.zarr"],
    }
    model = ImageLabel.from_zarr(zarr.open_group("in.zarr/labels/spots.zarr", mode="r"))
    assert model.ome_attributes.image_label is not None
    assert model.ome_attributes.image_label.source.image == "../.."
    assert open_image("in.zarr/labels/spots.zarr").plane().max() == result.objects
    assert sorted(path.name for path in Path("in.zarr/labels").iterdir()) == [
        "again.zarr",
        "spots.zarr",
        "zarr.json",
    ]
    again = Job("in.zarr", "in.zarr/labels/spots.zarr", tile=SMALL.tile, halo=SMALL.halo)
    assert run(again).note == "This job was finished before."


@pytest.mark.parametrize("place", ["labels/a/b.zarr", "a.zarr", "labels/a.tif"])
def test_nothing_else_may_lie_inside_the_image(place: str) -> None:
    group = zarr.open_group("in.zarr", mode="w", attributes={"ome": two_levels("yx")})
    for name, side in (("0", 60), ("1", 30)):
        group.create_array(name, data=scattered((side, side)))
    with pytest.raises(InputError, match="does not exist|lies inside the picture"):
        run(Job("in.zarr", f"in.zarr/{place}"))
    assert not Path("in.zarr/labels").exists()


# Memory ------------------------------------------------------------------------------------------------


def peak_megabytes(side: int) -> int:
    name = f"{side}.zarr"
    array = zarr.create_array(name, shape=(side, side), dtype="u1", chunks=(512, 512))
    block = spots(*((y, x) for y in range(60, 512, 120) for x in range(60, 512, 120)), shape=(512, 512))
    for y in range(0, side, 512):
        for x in range(0, side, 512):
            array[y : y + 512, x : x + 512] = block
    process = [sys.executable, str(Path(__file__).with_name("bright_process.py"))]
    options = ["--tile", "768", "--halo", "32"]
    ran = subprocess.run(
        [*process, "segment", name, f"{side}.ome.zarr", *options], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.startswith(f"{16 * (side // 512) ** 2} object(s)")
    return int(ran.stderr.split()[-1])


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_peak_memory_does_not_grow_with_the_picture() -> None:
    small, large = peak_megabytes(1024), peak_megabytes(4096)
    # Sixteen times the pixels: labels alone would be 60 MB more, the picture as RGB 45 MB.
    assert large < small + 40, f"{small} MB, then {large} MB"
