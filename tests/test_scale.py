"""The benchmarks of scale at a small size: what they say is true; no time is looked at."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import zarr

from napari_samscape.io import open_image


@pytest.fixture
def scale(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """benchmarks/scale.py, with pictures of a few small blocks."""
    monkeypatch.syspath_prepend(root / "benchmarks")
    import nuclei
    import scale as module

    monkeypatch.setattr(nuclei, "BLOCK", 256)
    monkeypatch.setattr(nuclei, "read_nuclei", lambda path: [disc(7), disc(12), disc(20)])
    monkeypatch.chdir(tmp_path)
    return module


def disc(radius: int) -> tuple[np.ndarray, np.ndarray]:
    """A bright nucleus: grey values above the background, and its mask."""
    rows, columns = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    mask = rows**2 + columns**2 <= radius**2
    return np.where(mask, 150.0, 0.0), mask


def options(**changes: Any) -> Namespace:
    values = {"model": "nano", "side": [512], "tile": 256, "threads": 1, "scratch": None, "seed": 1}
    return Namespace(nuclei=Path("none"), **(values | changes))


def test_a_picture_is_the_same_whenever_it_is_made_and_its_labels_are_of_its_nuclei(
    scale: ModuleType, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        scale.nuclei.make_picture(tmp_path / name, 512, scale.nuclei.read_nuclei(Path()))
    one, two = (
        [zarr.open_array(tmp_path / name / f"{kind}.zarr")[...] for kind in ("picture", "truth")]
        for name in ("one", "two")
    )
    np.testing.assert_array_equal(one, two)
    pixels, truth = one
    assert 30 < len(np.unique(truth)) - 1 <= 64
    np.testing.assert_array_equal(pixels > 80, truth > 0)


def test_objects_on_seams_and_inside_are_told_apart(scale: ModuleType) -> None:
    def labels(*squares: tuple[int, int, int]) -> Any:
        array = zarr.create_array({}, shape=(20, 20), chunks=(10, 10), dtype="i4")
        pixels = np.zeros((20, 20), np.int32)
        for number, (y, x, side) in enumerate(squares, start=1):
            pixels[y : y + side, x : x + side] = number
        array[...] = pixels
        return array

    # The last one lies on a seam, and the second on the middle of a tile.
    truth = labels((1, 1, 4), (12, 12, 4), (8, 3, 4))
    for squares, inside, seams, middles in (
        (((1, 1, 4), (12, 12, 4), (8, 3, 4)), 1, 1, 1),
        (((1, 1, 4), (12, 12, 4), (8, 3, 2)), 1, 0, 1),  # half of that on the seam: missed, and one too many
        (((1, 1, 4), (8, 3, 4)), 1 / 2, 1, 0),
        (((1, 1, 4), (12, 12, 4), (17, 2, 3), (8, 3, 4)), 2 / 3, 1, 1),  # one too many inside
    ):
        true, found, pairs = scale.nuclei.compare(truth, labels(*squares))
        assert true.on_seam.tolist() == [False, False, False, True]
        assert true.on_middle.tolist() == [False, False, True, True]
        assert scale.nuclei.ap50(true, found, pairs, "inside") == pytest.approx(inside)
        assert scale.nuclei.ap50(true, found, pairs, "seams") == seams
        assert scale.nuclei.ap50(true, found, pairs, "middles") == middles


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_nano_finds_objects_on_seams_as_it_finds_those_inside(scale: ModuleType) -> None:
    row = scale.measure_side(512, options())
    assert row["tiles"] >= 9
    assert row["on_seams"] >= 5
    assert row["count_error"] < 0.1
    assert min(row["ap50_inside"], row["ap50_seams"]) > 0.85


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_killed_job_of_nano_gives_the_same_files(scale: ModuleType) -> None:
    row = scale.measure_kills(1, options(side=[256], tile=128))
    assert (row["killed"], row["same"]) == (1, 1)


def a_row(side: int, cpu: float = 0.5) -> dict[str, Any]:
    """As `measure_side` gives it."""
    times = ["seconds", "start_seconds", "look_seconds", "write_seconds", "seconds_per_megapixel"]
    shares = ["count_error", "ap50_inside", "ap50_seams", "ap50_middles"]
    counts = ["true", "found", "on_seams", "on_middles", "tiles"]
    row = {"side": side, "cpu": cpu, "cpu_per_megapixel": cpu, "peak_mb": 400 + cpu}
    return row | dict.fromkeys(times + shares, 0.5) | dict.fromkeys(counts, 7)


def test_rows_of_several_commands_are_one_table(scale: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "measure_side", lambda side, _: a_row(side))
    for side in ("512", "256"):
        arguments = ["scale.py", "--side", side, "--out", "REPORT.md", "--figures", "scale.json"]
        monkeypatch.setattr(sys, "argv", arguments)
        scale.main()
    assert list(json.loads(Path("scale.json").read_text())["sides"]) == ["256", "512"]
    rows = [
        line for line in Path("REPORT.md").read_text().splitlines() if line.startswith(("| 256", "| 512"))
    ]
    assert [row.split(" | ")[0] for row in rows] == ["| 256", "| 512"]


def test_of_a_side_measured_twice_the_row_has_means_and_the_highest_peak(
    scale: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    took = iter([12.0, 15.0, 14.0])
    monkeypatch.setattr(scale, "measure_side", lambda side, _: a_row(side, next(took)))
    arguments = [
        "scale.py",
        *["--side", "256", "512", "256", "--out", "REPORT.md", "--figures", "scale.json"],
    ]
    monkeypatch.setattr(sys, "argv", arguments)
    scale.main()
    rows = json.loads(Path("scale.json").read_text())["sides"]
    assert (rows["256"]["cpu_per_megapixel"], rows["256"]["peak_mb"]) == (13, 414)
    assert rows["512"]["cpu_per_megapixel"] == 15
    assert "Side 256 was measured 2 times: 12.00, 14.00" in Path("REPORT.md").read_text()


def test_workers_stand_beside_one_process_and_as_many_without_dask(scale: ModuleType) -> None:
    def took(seconds: float) -> dict[str, float]:
        return dict.fromkeys(scale.TIMES, seconds)

    row = {"workers": 2, "same": True, "tiles": 25, "times": 3}
    row |= {"one": took(100), "beside": took(110), "many": took(60)}
    text = "\n".join(scale.workers_table([row | {"side": 1024}, row | {"side": 2048, "same": False}]))
    assert "Side 1024: 25 tiles, 13 rounds of 2 workers; labels are the same, bit for bit." in text
    assert "Side 2048: 25 tiles, 13 rounds of 2 workers; labels DIFFER." in text
    assert text.count("means of 3") == 2
    assert text.count("Overhead against one process alone: +20.0% of the time") == 2
    assert text.count("Overhead against one of 2 processes at the same time: +9.1% of the time") == 2


def test_costs_follow_from_figures_and_say_what_is_missing(
    scale: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scale.costs, "PAGE", tmp_path / "scaling.md")
    with pytest.raises(SystemExit, match="Measure --side"):
        scale.costs.write({}, "scale.py --costs")
    side = {
        "side": 1000,
        "true": 50,
        "tiles": 2,
        "cpu": 10.0,
        "write_seconds": 1.0,
        "cpu_per_megapixel": 10.0,
    }
    side |= {"output_bytes": 100_000, "output_files": 4, "pieces_bytes": 4_000}
    tile = {"tiles": 1000, "dask": 0.001, "picture": 0.1, "picture_files": 2, "plan_bytes": 1000}
    page = scale.costs.write(
        {"sides": {"1000": side}, "tiles": tile | {"number_bytes": 2000}}, "scale.py --costs"
    )
    text = page.read_text()
    # 10,000 megapixels in tiles of 832 pixels without their halo: 121 a side, each 4.5 s and 0.501 s alone.
    assert "| a slide of 100,000 x 100,000 | 14,641 | 20.3 | 1.0 | 0.0 | 29,284 | 2.04 |" in text
    assert "hands out 1,000 tiles a second" in text
    assert "with more than 9 cores the process that was started is what all wait for" in text


def test_what_is_simulated_is_what_it_says(scale: ModuleType, tmp_path: Path) -> None:
    simulated = scale.simulated
    # Each tile has 8 x 8 objects of its own; those on the seams are in two tiles or four, and counted once.
    one, four = simulated.number(1), simulated.number(2)
    assert one <= simulated.OBJECTS
    assert 2 * one < four <= 4 * one
    assert simulated.plan_bytes() > 500
    seconds, files = simulated.pictures(tmp_path)
    assert seconds > 0
    assert files == 2  # metadata; chunks without objects are not written
    assert open_image(tmp_path / "0.ome.zarr").plane().max() == 0


def test_readme_says_what_was_measured_last() -> None:
    root = Path(__file__).resolve().parents[1]
    sides = json.loads((root / "benchmarks" / "scale.json").read_text())["sides"]
    large, small = (f"{sides[side]['peak_mb']:.0f}" for side in ("16384", "4096"))
    told = f"({large} MB at 16,384 pixels a side, {small} MB at 4,096)"
    assert told in (root / "README.md").read_text(encoding="utf-8")
