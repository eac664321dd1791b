"""OME-Zarr plates as what a batch is about: every field of every well is a picture."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import bright
import ome_zarr_models.v04.hcs as hcs04
import ome_zarr_models.v05.hcs as hcs05
import pytest
import zarr
from bright import spots
from test_cli import ids, printed_json
from typer.testing import CliRunner

from napari_samscape.cli.app import app
from napari_samscape.errors import InputError
from napari_samscape.io import open_image
from napari_samscape.scaling.pictures import find_pictures, output_names

OUT = Path("out")
WELLS = {"A/1": ["0", "1"], "B/2": ["0"]}
FIELDS = ["A/1/0", "A/1/1", "B/2/0"]


@pytest.fixture(autouse=True)
def bright_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bright.install(monkeypatch)
    monkeypatch.chdir(tmp_path)


def make_plate(version: str = "0.5", path: str = "p.ome.zarr") -> None:
    """A plate of two wells and three fields, with 1, 2 and 3 spots."""
    kind: Any = 3 if version == "0.5" else 2

    def group(where: str, about: dict[str, Any]) -> zarr.Group:
        about = {"ome": {"version": "0.5"} | about} if kind == 3 else about
        return zarr.open_group(f"{path}/{where}", mode="a", zarr_format=kind, attributes=about)

    plate = {
        "version": version,
        "name": "test",
        "rows": [{"name": "A"}, {"name": "B"}],
        "columns": [{"name": "1"}, {"name": "2"}],
        "wells": [
            {"path": "A/1", "rowIndex": 0, "columnIndex": 0},
            {"path": "B/2", "rowIndex": 1, "columnIndex": 1},
        ],
    }
    group("", {"plate": plate})
    centres, count = [(10, 10), (20, 40), (30, 20)], 0
    for well, fields in WELLS.items():
        zarr.open_group(f"{path}/{well[0]}", mode="a", zarr_format=kind)
        group(well, {"well": {"version": version, "images": [{"path": field} for field in fields]}})
        for field in fields:
            count += 1
            axes = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "yx"]
            levels = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [0.5, 0.5]}]}]
            multiscale = {"version": version, "axes": axes, "datasets": levels}
            image = group(f"{well}/{field}", {"multiscales": [multiscale]})
            pixels = spots(*centres[:count])
            names = {"dimension_names": ["y", "x"]} if kind == 3 else {}
            level = image.create_array("0", shape=pixels.shape, dtype=pixels.dtype, chunks=(32, 32), **names)
            level[:] = pixels


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_every_field_is_segmented_and_in_the_table(version: str) -> None:
    make_plate(version)
    models: Any = {"0.4": hcs04, "0.5": hcs05}[version]
    models.HCS.from_zarr(zarr.open_group("p.ome.zarr", mode="r"))  # the plate is one by the specification
    done = printed_json("batch", "p.ome.zarr", "out")
    names = [f"p.ome.zarr/{field}" for field in FIELDS]
    assert [(row["picture"], row["objects"]) for row in done["pictures"]] == list(
        zip(names, (1, 2, 3), strict=True)
    )
    assert ids("out/p_B_2_0.ome.zarr") == {1, 2, 3}
    labels = open_image("out/p_A_1_1.ome.zarr")
    assert (labels.scale, labels.units) == ((0.5, 0.5), ("micrometer",) * 2)
    rows = Path("out/objects.csv").read_text().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == [names[0], *[names[1]] * 2, *[names[2]] * 3]


@pytest.mark.parametrize("source", ["plates", "plates/*", "list.txt", "plates/q"])
def test_plates_are_found_wherever_pictures_are(source: str) -> None:
    Path("plates").mkdir()
    make_plate(path="plates/p.zarr")
    make_plate(path="plates/q")
    Path("list.txt").write_text("plates/p.zarr/\n")
    name = {"plates": "p.zarr", "plates/*": "plates/p.zarr", "list.txt": "plates/p.zarr", "plates/q": "q"}
    found = [picture.name for picture in find_pictures(source, OUT)]
    assert found[:3] == [f"{name[source]}/{field}" for field in FIELDS]


def test_two_plates_of_one_name_are_told_apart() -> None:
    for folder in ("x", "y"):
        Path(folder).mkdir()
        make_plate(path=f"{folder}/p.zarr")
    names = output_names(find_pictures("*/p.zarr", OUT))
    assert len(set(names)) == 6
    assert names[0] == "x_p.zarr_A_1_0"


def test_a_well_that_is_missing_is_reported_and_the_others_go_on() -> None:
    make_plate()
    shutil.rmtree("p.ome.zarr/A/1")
    result = CliRunner().invoke(app, ["batch", "p.ome.zarr", "out"])
    assert result.exit_code == 1
    assert "samscape: p.ome.zarr/A/1: There is no file p.ome.zarr/A/1." in result.stderr
    assert ids("out/p_B_2_0.ome.zarr") == {1, 2, 3}


def test_a_plate_is_no_single_picture() -> None:
    make_plate()
    with pytest.raises(InputError, match="is a plate of many pictures; samscape batch takes all of them"):
        open_image("p.ome.zarr")


def test_wrong_metadata_are_named() -> None:
    make_plate()
    group = zarr.open_group("p.ome.zarr", mode="a")
    plate: Any = group.attrs["ome"]
    del plate["plate"]["rows"]
    group.attrs["ome"] = plate
    with pytest.raises(InputError, match=r"p\.ome\.zarr has metadata that are no plate's \(rows: "):
        find_pictures("p.ome.zarr", OUT)
