"""Files of objects: COCO's JSON as pycocotools reads it, a table, and outlines that hold exactly the mask."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools.coco import COCO

from napari_samscape.errors import InputError
from napari_samscape.io import Image, ObjectRow, read_objects, write_objects
from napari_samscape.io.outlines import Ring, mask_polygons
from napari_samscape.io.rle import decode_crop, encode_crop, encode_rle

any_mask = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9))

# A busy machine is slow now and then.
patiently = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def picture(*rows: str) -> np.ndarray:
    """Draw a mask: # is foreground."""
    return np.array([[pixel == "#" for pixel in row] for row in rows])


RING = picture("###", "#.#", "###")
CORNER = picture("#.", ".#")
ROWS = [
    ObjectRow(1, RING, (2, 3), predicted_iou=0.9, stability=0.8, point=(2.0, 4.5)),
    ObjectRow(4, CORNER, (3, 4), score=0.7, category="cell", parent=1),
    ObjectRow(5, np.ones((10, 1), bool), (0, 7), category=3),
]
LIKE = Image((np.zeros((10, 8), np.uint8),), "yx", name="cells")
STACK = Image((np.zeros((2, 3, 10, 8), np.uint8),), "tzyx", name="cells")
IN_STACK = [ObjectRow(1, RING, (0, 0), plane=(0, 2)), ObjectRow(2, RING, (0, 0), plane=(1, 0))]


def whole(row: ObjectRow, shape: tuple[int, int] = (10, 8)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    y0, x0, y1, x1 = row.box
    mask[y0:y1, x0:x1] = row.mask
    return mask


# Run lengths of a crop


@patiently
@given(any_mask, st.integers(0, 3), st.integers(0, 3), st.integers(0, 3), st.integers(0, 3))
def test_run_lengths_of_a_crop_are_those_of_the_whole_picture(
    mask: np.ndarray, above: int, left: int, below: int, right: int
) -> None:
    large = np.pad(mask, ((above, below), (left, right)))
    assert encode_crop(mask, (above, left), large.shape) == encode_rle(large)


@patiently
@given(any_mask)
def test_a_mask_is_read_inside_its_box_only(mask: np.ndarray) -> None:
    crop, (y0, x0) = decode_crop(encode_rle(mask))
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        assert crop.size == 0
        return
    assert (y0, x0) == (rows[0], columns[0])
    np.testing.assert_array_equal(crop, mask[y0 : rows[-1] + 1, x0 : columns[-1] + 1])


# COCO


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # in pycocotools' own code
def test_pycocotools_gives_back_each_mask_exactly(tmp_path: Path) -> None:
    coco = COCO(write_objects(tmp_path / "objects.json", ROWS, like=LIKE))
    assert coco.getAnnIds() == [1, 4, 5]
    for row in ROWS:
        annotation = coco.anns[row.id]
        assert isinstance(annotation["segmentation"]["counts"], str)
        np.testing.assert_array_equal(coco.annToMask(annotation), whole(row))
        assert annotation["area"] == row.mask.sum()
    assert coco.anns[1]["bbox"] == [3, 2, 3, 3]
    assert coco.anns[5]["bbox"] == [7, 0, 1, 10]
    assert coco.imgs == {1: {"id": 1, "width": 8, "height": 10, "file_name": "cells"}}


def test_annotations_hold_what_sa_1b_and_detectors_tell_and_leave_out_what_is_unknown(tmp_path: Path) -> None:
    coco = COCO(write_objects(tmp_path / "objects.json", ROWS, like=LIKE, about={"job": 1}))
    first, second, third = (coco.anns[number] for number in (1, 4, 5))
    assert (first["predicted_iou"], first["stability_score"]) == (0.9, 0.8)
    assert first["point_coords"] == [[4.5, 2.0]], "x, y"
    assert (second["score"], second["category"], second["parent"]) == (0.7, "cell", 1)
    assert set(third) & {"predicted_iou", "stability_score", "score", "point_coords"} == set()
    assert coco.cats[first["category_id"]]["name"] == "object"
    assert coco.cats[second["category_id"]]["name"] == "cell"
    assert third["category_id"] == 3
    assert coco.dataset["info"]["samscape"] == {"job": 1}


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    for like, rows in ((LIKE, ROWS), (STACK, IN_STACK)):
        again = read_objects(write_objects(tmp_path / "objects.json", rows, like=like, overwrite=True))
        assert len(again) == len(rows)
        for one, other in zip(rows, again, strict=True):
            np.testing.assert_array_equal(one.mask, other.mask)
            for name in ("id", "offset", "plane", "point", "category", "parent"):
                assert getattr(one, name) == getattr(other, name)
            for name in ("predicted_iou", "stability", "score"):
                np.testing.assert_equal(getattr(one, name), getattr(other, name))


def test_each_plane_is_an_image_and_objects_name_theirs(tmp_path: Path) -> None:
    coco = COCO(write_objects(tmp_path / "objects.json", IN_STACK, like=STACK))
    assert len(coco.imgs) == 6
    places = [coco.imgs[coco.anns[number]["image_id"]] for number in (1, 2)]
    assert [(image["t"], image["z"]) for image in places] == [(0, 2), (1, 0)]


def test_sa_1bs_own_files_are_read(tmp_path: Path) -> None:
    annotation = {"id": 7, "segmentation": encode_rle(RING, compressed=True), "bbox": [0, 0, 3, 3], "area": 8}
    more = {"predicted_iou": 0.9, "stability_score": 0.8, "point_coords": [[1.0, 2.0]]}
    content = {"image": {"image_id": 3, "width": 3, "height": 3}, "annotations": [annotation | more]}
    (tmp_path / "sa_3.json").write_text(json.dumps(content))
    (row,) = read_objects(tmp_path / "sa_3.json")
    np.testing.assert_array_equal(row.mask, RING)
    assert (row.id, row.predicted_iou, row.point, row.category) == (7, 0.9, (2.0, 1.0), None)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "no JSON file"),
        ([], "lacks a list 'annotations'"),
        ({"annotations": [5]}, "object number 1 of .* cannot be read"),
        ({"annotations": [{"id": 1}]}, "object number 1 of .* lacks 'segmentation'"),
        ({"annotations": [{"id": 1, "segmentation": [[0, 0, 1, 1, 0, 1]]}]}, "not given as run lengths"),
        ({"annotations": [{"segmentation": {"size": [1, 1], "counts": [1]}}]}, "lacks 'id'"),
        ({"annotations": [{"id": 1, "segmentation": {"size": [1, 1], "counts": [9]}}]}, "cover 9 pixels"),
        ({"annotations": [{"id": 1, "segmentation": {"size": [1, 1], "counts": "~"}}]}, "does not belong"),
    ],
)
def test_json_that_holds_no_objects_is_refused(tmp_path: Path, content: Any, sentence: str) -> None:
    path = tmp_path / "objects.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(InputError, match=sentence):
        read_objects(path)


# Table


def test_the_table_has_a_line_for_each_object_and_blanks_for_what_is_unknown(tmp_path: Path) -> None:
    path = write_objects(tmp_path / "objects.csv", ROWS, like=LIKE)
    assert path.read_text().splitlines() == [
        "id,y0,x0,y1,x1,area,predicted_iou,stability,score,class,parent",
        "1,2,3,5,6,8,0.9,0.8,,,",
        "4,3,4,5,6,2,,,0.7,cell,1",
        "5,0,7,10,8,10,,,,3,",
    ]


def test_in_the_table_of_a_stack_each_object_has_its_plane(tmp_path: Path) -> None:
    with write_objects(tmp_path / "objects.csv", IN_STACK, like=STACK).open(newline="") as file:
        assert [(row["id"], row["t"], row["z"]) for row in csv.DictReader(file)] == [
            ("1", "0", "2"),
            ("2", "1", "0"),
        ]


# Outlines


def signed_area(ring: Ring) -> float:
    """By the shoelace formula; above 0 if counterclockwise where y points up."""
    x, y = np.array(ring, float).T
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2)


def filled(rings: list[Ring], shape: tuple[int, int]) -> np.ndarray:
    """Pixels whose centres lie inside by the even-odd rule; each upright side turns what is right of it."""
    mask = np.zeros(shape, bool)
    for ring in rings:
        for (xa, ya), (xb, yb) in zip(ring[:-1], ring[1:], strict=True):
            assert (xa == xb) != (ya == yb), "a side is upright or level, and has a length"
            if xa == xb:
                mask[min(ya, yb) : max(ya, yb), xa:] ^= True
    return mask


def test_a_pixel_is_outlined_by_its_sides() -> None:
    assert mask_polygons(np.ones((1, 1), bool), (5, 7)) == [[[[7, 6], [7, 5], [8, 5], [8, 6], [7, 6]]]]


def test_a_hole_is_a_ring_the_other_way_round() -> None:
    ((outer, hole),) = mask_polygons(RING)
    assert (signed_area(outer), signed_area(hole)) == (9, -1)


def test_an_island_in_a_hole_and_a_pixel_at_a_corner_are_polygons_of_their_own() -> None:
    island = picture("#####", "#...#", "#.#.#", "#...#", "#####")
    assert [len(polygon) for polygon in mask_polygons(island)] == [2, 1]
    assert [len(polygon) for polygon in mask_polygons(CORNER)] == [1, 1]


@patiently
@given(any_mask)
def test_filling_the_outlines_gives_back_the_mask(mask: np.ndarray) -> None:
    polygons = mask_polygons(mask)
    np.testing.assert_array_equal(filled([ring for rings in polygons for ring in rings], mask.shape), mask)
    assert sum(signed_area(ring) for rings in polygons for ring in rings) == mask.sum()
    for outer, *holes in polygons:
        assert signed_area(outer) > 0
        assert all(signed_area(hole) < 0 for hole in holes)
        for ring in (outer, *holes):
            assert ring[0] == ring[-1]
            assert len({tuple(point) for point in ring}) == len(ring) - 1, "no ring touches itself"


def test_geojson_has_a_feature_for_each_object_with_what_is_known(tmp_path: Path) -> None:
    path = write_objects(tmp_path / "objects.geojson", ROWS, like=LIKE, about={"job": 1})
    content = json.loads(path.read_text())
    assert (content["type"], content["samscape"]) == ("FeatureCollection", {"job": 1})
    shapes = [feature["geometry"] for feature in content["features"]]
    assert [shape["type"] for shape in shapes] == ["Polygon", "MultiPolygon", "Polygon"]
    for shape, row in zip(shapes, ROWS, strict=True):
        polygons = shape["coordinates"] if shape["type"] == "MultiPolygon" else [shape["coordinates"]]
        mask = filled([ring for rings in polygons for ring in rings], (10, 8))
        np.testing.assert_array_equal(mask, whole(row))
    assert [feature["id"] for feature in content["features"]] == [1, 4, 5]
    assert content["features"][1]["properties"] == {
        "objectType": "detection",
        "name": "4",
        "id": 4,
        "area": 2,
        "score": 0.7,
        "class": "cell",
        "classification": {"name": "cell"},
        "parent": 1,
        "measurements": {"area": 2, "score": 0.7},
    }


def test_geojson_of_a_stack_names_the_plane_as_qupath_does(tmp_path: Path) -> None:
    path = write_objects(tmp_path / "objects.geojson", IN_STACK, like=STACK)
    first, second = json.loads(path.read_text())["features"]
    assert first["geometry"]["plane"] == {"c": -1, "z": 2, "t": 0}
    assert (second["properties"]["t"], second["properties"]["z"]) == (1, 0)


# Any of them


@pytest.mark.parametrize("ending", [".json", ".csv", ".geojson"])
def test_without_objects_the_file_is_there_and_empty(tmp_path: Path, ending: str) -> None:
    path = write_objects(tmp_path / f"objects{ending}", [], like=LIKE)
    if ending == ".csv":
        assert len(path.read_text().splitlines()) == 1
    else:
        content = json.loads(path.read_text())
        assert content["features" if ending == ".geojson" else "annotations"] == []
        assert ending == ".geojson" or read_objects(path) == []


def test_an_unknown_ending_is_refused_with_those_known(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must end in \.json, \.csv or \.geojson"):
        write_objects(tmp_path / "objects.xml", ROWS, like=LIKE)


@pytest.mark.parametrize("ending", [".json", ".csv", ".geojson"])
def test_what_fails_half_way_leaves_the_old_file(tmp_path: Path, ending: str) -> None:
    path = write_objects(tmp_path / f"objects{ending}", ROWS, like=LIKE)
    before = path.read_bytes()

    def failing() -> Any:
        yield ROWS[0]
        raise RuntimeError("out of luck")

    with pytest.raises(InputError, match="exists already"):
        write_objects(path, ROWS, like=LIKE)
    with pytest.raises(RuntimeError):
        write_objects(path, failing(), like=LIKE, overwrite=True)
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == [path.name]
