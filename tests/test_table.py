"""The table of a picture's labels: what is in it is what is in the label image, for any number of tiles."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import bright
import numpy as np
import pytest
import tifffile
from bright import spots
from skimage.measure import regionprops
from test_tiled import scattered

from napari_samscape.errors import InputError
from napari_samscape.io import TableRow, join_tables, open_image, write_table
from napari_samscape.prediction.types import Instance, Instances
from napari_samscape.scaling.batch import Job, run
from napari_samscape.scaling.engine import Plane, Writer
from napari_samscape.scaling.measure import measure
from napari_samscape.scaling.pieces import piece_of
from napari_samscape.scaling.tiles import Tiling

HEAD = "id,t,z,y0,x0,y1,x1,area,predicted_iou,stability,score"


@pytest.fixture(autouse=True)
def bright_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bright.install(monkeypatch)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("tile", [None, 64])
def test_it_says_of_each_object_what_the_labels_say(tile: int | None) -> None:
    tifffile.imwrite("in.tif", scattered((150, 190)))
    options = {} if tile is None else {"tile": tile, "halo": 12}
    result = run(Job("in.tif", "out.ome.zarr", table="out.csv", **options))
    rows = list(csv.DictReader(Path("out.csv").read_text().splitlines()))
    expected = regionprops(open_image("out.ome.zarr").plane())
    assert len(rows) == result.objects == len(expected) > 10
    for row, one in zip(rows, expected, strict=True):
        assert int(row["id"]) == one.label
        assert tuple(int(row[name]) for name in ("y0", "x0", "y1", "x1")) == one.bbox
        assert int(row["area"]) == one.area


def test_a_stack_has_its_place_and_ids_that_go_on() -> None:
    stack = np.stack([spots((10, 10), (20, 40)), spots(), spots((30, 30))])
    tifffile.imwrite("in.tif", stack, photometric="minisblack")
    run(Job("in.tif", "out.tif", table="out.csv"))
    assert Path("out.csv").read_text().splitlines() == [
        HEAD,
        "1,,0,8,8,13,13,25,,,",
        "2,,0,18,38,23,43,25,,,",
        "3,,2,28,28,33,33,25,,,",
    ]


def test_an_object_has_the_scores_of_its_largest_piece() -> None:
    tiling = Tiling((4, 8), (4, 4), (0, 2))  # two tiles side by side
    plane = Plane(np.zeros((4, 8)), tiling)
    bars = {(0, 0): (1, 6, 0.5), (0, 1): (0, 2, 0.75)}  # of each tile: from column, to column, predicted IoU
    for index, (start, stop, iou) in bars.items():
        bits = np.packbits(np.ones((1, stop - start), bool).ravel())
        bar = Instance((1, start, 2, stop), bits, predicted_iou=iou, stability=0.25)
        tile = tiling[index]
        plane.pieces.save(index, piece_of(Instances((bar,), tile.shape), tile, tiling))
    rows = list(measure(plane, Writer(np.zeros((4, 8), np.int32))))
    assert [(row.id, row.box, row.area) for row in rows][0] == (1, (1, 1, 2, 4), 3)
    assert rows[0].scores[:2] == (0.5, 0.25)
    assert math.isnan(rows[0].scores[2])


def test_a_table_that_is_missing_is_made_of_a_finished_job() -> None:
    tifffile.imwrite("in.tif", spots((10, 10)))
    run(Job("in.tif", "out.tif"))
    assert run(Job("in.tif", "out.tif", table="out.csv")).note is None
    assert len(Path("out.csv").read_text().splitlines()) == 2


def test_edges_have_no_table() -> None:
    with pytest.raises(InputError, match="A table lists objects; the mode 'edges' finds none"):
        Job("in.tif", "out.tif", mode="edges", table="out.csv")


ROWS = [
    TableRow(1, (), (0, 1, 2, 3), 4, (0.9, math.nan, math.nan)),
    TableRow(3, (), (5, 5, 6, 6), 1, (math.nan,) * 3),
]


def test_tables_are_joined_with_the_names_of_their_pictures() -> None:
    write_table("a.csv", ROWS)
    write_table("b.csv", ROWS[:1])
    join_tables("all.csv", [("x/a.tif", Path("a.csv")), ("x/b, c.tif", Path("b.csv"))])
    assert Path("all.csv").read_text().splitlines() == [
        f"picture,{HEAD}",
        "x/a.tif,1,,,0,1,2,3,4,0.9,,",
        "x/a.tif,3,,,5,5,6,6,1,,,",
        '"x/b, c.tif",1,,,0,1,2,3,4,0.9,,',
    ]


def test_a_joined_table_may_be_parquet() -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    write_table("a.csv", ROWS)
    join_tables("all.parquet", [("a.tif", Path("a.csv"))])
    table = parquet.read_table("all.parquet").to_pydict()
    assert table["picture"] == ["a.tif", "a.tif"]
    assert (table["id"], table["z"], table["x1"]) == ([1, 3], [None, None], [3, 6])
    assert table["predicted_iou"] == [0.9, None]


def test_parquet_without_pyarrow_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(InputError, match="A Parquet table needs pyarrow"):
        join_tables("all.parquet", [])
