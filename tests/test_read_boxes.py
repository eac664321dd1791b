"""Boxes from tables and GeoJSON; those of COCO are read in test_modes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_objects import LIKE, ROWS

from napari_samscape.errors import InputError
from napari_samscape.io import BoxList, read_boxes, write_objects


def table(folder: Path, *lines: str) -> Path:
    path = folder / "boxes.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def feature(coordinates: Any, kind: str = "Polygon", **properties: Any) -> dict[str, Any]:
    return {
        "type": "Feature",
        "geometry": {"type": kind, "coordinates": coordinates},
        "properties": properties,
    }


def geojson(folder: Path, content: Any) -> Path:
    path = folder / "boxes.geojson"
    path.write_text(json.dumps(content))
    return path


SQUARE = [[[10, 5], [30, 5], [30, 25], [10, 25], [10, 5]]]  # x, y


# Tables


def test_a_table_names_its_columns_in_any_order(tmp_path: Path) -> None:
    path = table(tmp_path, "x0,x1,y0,y1,colour", "1,3.5,0,2,red", "4,6,5,7,blue")
    assert read_boxes(path) == BoxList([[0, 1, 2, 3.5], [5, 4, 7, 6]])


def test_scores_and_classes_are_read_where_they_are_there(tmp_path: Path) -> None:
    path = table(tmp_path, "y0,x0,y1,x1,score,class", '0,1,2,3,0.5,"cell, round"', "4,5,6,7,0.25,")
    assert read_boxes(path) == BoxList([[0, 1, 2, 3], [4, 5, 6, 7]], [0.5, 0.25], ["cell, round", None])


def test_classes_that_are_all_whole_numbers_are_numbers(tmp_path: Path) -> None:
    assert read_boxes(table(tmp_path, "y0,x0,y1,x1,class", "0,1,2,3,7", "0,1,2,3,-1")).classes == [7, -1]


def test_a_table_of_objects_can_be_read_as_boxes(tmp_path: Path) -> None:
    boxes = read_boxes(write_objects(tmp_path / "objects.csv", ROWS[1:2], like=LIKE))
    assert boxes == BoxList([[3, 4, 5, 6]], [0.7], ["cell"])


def test_a_byte_order_mark_and_an_empty_table_are_no_trouble(tmp_path: Path) -> None:
    assert read_boxes(table(tmp_path, "\ufeffy0,x0,y1,x1", "0,1,2,3")).boxes == [[0, 1, 2, 3]]
    assert read_boxes(table(tmp_path, "y0,x0,y1,x1")) == BoxList([])


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (["y0,x0,y1", "1,2,3"], "must name columns y0, x0, y1 and x1; it lacks x1"),
        (["1,2,3,4"], "it lacks y0, x0, y1, x1"),
        ([""], "it lacks y0, x0, y1, x1"),
        (["y0,x0,y1,x1", "1,2,3,4", "1,2,three,4"], "Line 3 of .*boxes.csv holds no box: .*'three'"),
        (["y0,x0,y1,x1", "1,2,3"], "Line 2 of .* holds no box"),
        (["y0,x0,y1,x1", "1,2,3,nan"], "Line 2 of .* 'nan' is no finite number"),
        (["y0,x0,y1,x1,score", "1,2,3,4,high"], "Line 2 of .*'high'"),
        (["y0,x0,y1,x1,score", "1,2,3,4,0.5", "1,2,3,4,"], "Of the 2 lines of .* 1 have a score"),
    ],
)
def test_a_bad_table_is_refused_with_its_line(tmp_path: Path, lines: list[str], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        read_boxes(table(tmp_path, *lines))


# GeoJSON


def test_of_each_feature_the_bounding_box_is_taken(tmp_path: Path) -> None:
    star = [[[0, 3], [4, 0], [9, 3], [4, 8], [0, 3]]]
    many = [SQUARE, star]
    features = [
        feature(SQUARE),
        feature(star),
        feature(many, "MultiPolygon"),
        feature(SQUARE[0], "LineString"),
    ]
    expected = [[5, 10, 25, 30], [0, 0, 8, 9], [0, 0, 25, 30], [5, 10, 25, 30]]
    for content in ({"type": "FeatureCollection", "features": features}, features):
        assert read_boxes(geojson(tmp_path, content)) == BoxList(expected)
    assert read_boxes(geojson(tmp_path, features[0])).boxes == expected[:1]


def test_scores_and_classes_come_from_the_properties_qupaths_too(tmp_path: Path) -> None:
    features = [
        feature(SQUARE, score=0.5, **{"class": 3}),
        feature(SQUARE, score=0.25, classification={"name": "Tumor"}),
        feature(SQUARE, score=1),
    ]
    boxes = read_boxes(geojson(tmp_path, features))
    assert (boxes.scores, boxes.classes) == ([0.5, 0.25, 1], [3, "Tumor", None])


def test_outlines_of_objects_can_be_read_as_boxes(tmp_path: Path) -> None:
    path = write_objects(tmp_path / "objects.geojson", ROWS[1:2], like=LIKE)
    assert read_boxes(path) == BoxList([[3, 4, 5, 6]], [0.7], ["cell"])


@pytest.mark.parametrize(
    "bad",
    [
        5,
        {"type": "Feature"},
        {"type": "Feature", "geometry": None},
        feature([]),
        feature([[[1, "x"]]]),
        feature([[[1, float("nan")]]]),
        feature(SQUARE, score="high"),
    ],
)
def test_a_bad_feature_is_refused_with_its_number(tmp_path: Path, bad: Any) -> None:
    path = geojson(tmp_path, {"type": "FeatureCollection", "features": [feature(SQUARE), bad]})
    with pytest.raises(InputError, match="feature number 2 of .* holds no box"):
        read_boxes(path)


def test_files_that_are_no_text_or_are_not_there_are_refused(tmp_path: Path) -> None:
    (tmp_path / "boxes.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="it is no text"):
        read_boxes(tmp_path / "boxes.csv")
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_boxes(tmp_path / "none.csv")
