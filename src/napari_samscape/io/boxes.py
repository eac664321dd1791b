"""Read boxes of one picture: plain lists, COCO's results and annotations, tables, and GeoJSON."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

from napari_samscape.errors import InputError
from napari_samscape.io.text import read_json, read_text

BOX_ENDINGS = (".json", ".csv", ".geojson")
CORNERS = ("y0", "x0", "y1", "x1")


class BoxList(NamedTuple):
    """Boxes (y0, x0, y1, x1), and a score and a class for each where the file has them."""

    boxes: list[list[float]]
    scores: list[float] | None = None
    classes: list[int | str | None] | None = None


def read_boxes(path: str | os.PathLike[str], picture: str | os.PathLike[str] = "") -> BoxList:
    """Read the boxes that a file has for a picture.

    Parameters
    ----------
    path : path
        ``.csv``: a table whose first line names its columns; y0, x0, y1 and x1 are needed, score and class
        are read where they are there, others not. Anything else is JSON: a list of [y0, x0, y1, x1], or
        {"boxes": such a list}; COCO's results, a list of {"image_id", "category_id", "bbox": [x, y, width,
        height], "score"}; COCO's annotations, an object with such a list as "annotations", and "images" and
        "categories"; or GeoJSON's features in pixels (x, y), rectangles or not, of which the bounding box is
        taken, and "score" and "class" (or QuPath's "classification") from the "properties".
    picture : path, optional
        Which picture is meant where a COCO file has several: by its file name or, without extension, its id.

    Returns
    -------
    BoxList
        The numbers go on unchanged, as prompts do. COCO's regions of crowds are left out.

    Raises
    ------
    InputError
        If the file cannot be read, is none of these, or has no boxes for this picture among several; it names
        the line or the feature.
    """
    path = Path(path)
    what = f"The boxes in {path}"
    if path.suffix.lower() == ".csv":
        return _table(path, read_text(path, what))
    content = read_json(path, what)
    if isinstance(content, dict) and content.get("type") in ("FeatureCollection", "Feature"):
        return _geojson(path, content.get("features", [content]))
    if isinstance(content, dict) and "annotations" in content:
        return _coco(path, content["annotations"], content, Path(picture))
    rows = content.get("boxes") if isinstance(content, dict) else content
    if isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows):
        if all(row.get("type") == "Feature" for row in rows):
            return _geojson(path, rows)
        return _coco(path, rows, {}, Path(picture))
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise InputError(f"{path} must hold a list of boxes [y0, x0, y1, x1], COCO's results, or GeoJSON.")
    return BoxList(rows)


def _table(path: Path, text: str) -> BoxList:
    table = csv.DictReader(StringIO(text, newline=""))
    missing = [name for name in CORNERS if name not in (table.fieldnames or ())]
    if missing:
        raise InputError(
            f"The first line of {path} must name columns y0, x0, y1 and x1; it lacks {', '.join(missing)}."
        )
    boxes, scores, classes = [], [], []
    for row in table:
        try:
            boxes.append([_finite(row[name]) for name in CORNERS])
            scores.append(_finite(row["score"]) if row.get("score") else None)
        except ValueError as error:
            raise InputError(f"Line {table.line_num} of {path} holds no box: {error}.") from error
        classes.append(row.get("class") or None)
    return _collected(boxes, scores, classes, f"lines of {path}")


def _geojson(path: Path, features: Any) -> BoxList:
    boxes, scores, classes = [], [], []
    for number, feature in enumerate(features if isinstance(features, list) else [features], start=1):
        try:
            points = list(_points(feature["geometry"]["coordinates"]))
            x, y = [point[0] for point in points], [point[1] for point in points]
            boxes.append([min(y), min(x), max(y), max(x)])
            about = feature.get("properties") or {}
            scores.append(None if about.get("score") is None else _finite(about["score"]))
            kind = about.get("class", (about.get("classification") or {}).get("name"))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"The feature number {number} of {path} holds no box in pixels (x, y)."
            ) from error
        classes.append(kind if kind is None or isinstance(kind, int) else str(kind))
    return _collected(boxes, scores, classes, f"features of {path}")


def _points(coordinates: Any) -> Iterator[tuple[float, float]]:
    """Points (x, y), however deep in lists a geometry has them."""
    if coordinates and all(isinstance(value, list) for value in coordinates):
        for part in coordinates:
            yield from _points(part)
    else:
        x, y = coordinates[:2]
        yield _finite(x), _finite(y)


def _finite(value: Any) -> float:
    number = float("" if value is None else value)
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is no finite number")
    return number


def _collected(
    boxes: list[list[float]], scores: list[float | None], classes: list[Any], where: str
) -> BoxList:
    """Boxes with scores, if all have one, and classes, if any has one; whole numbers where all are."""
    known = [score for score in scores if score is not None]
    if known and len(known) < len(boxes):
        raise InputError(
            f"Of the {len(boxes)} {where} {len(known)} have a score; give one to all or to none."
        )
    if not any(kind is not None for kind in classes):
        return BoxList(boxes, known or None)
    if all(str(kind).removeprefix("-").isdecimal() for kind in classes):
        classes = [int(kind) for kind in classes]
    return BoxList(boxes, known or None, classes)


def _coco(path: Any, rows: Any, content: dict[str, Any], picture: Path) -> BoxList:
    try:
        files = {image["id"]: str(image.get("file_name", "")) for image in content.get("images", ())}
        names = {kind["id"]: kind["name"] for kind in content.get("categories", ())}
        ids = set(files) or {row["image_id"] for row in rows}
        if len(ids) > 1:
            stem = picture.stem.lstrip("0")
            ids = {
                i for i in ids if Path(files.get(i, "")).name == picture.name or str(i).lstrip("0") == stem
            }
        if rows and len(ids) != 1:
            raise InputError(f"{path} is about several pictures, and which one is {picture} cannot be told.")
        mine = [row for row in rows if row["image_id"] in ids and not row.get("iscrowd")]
        boxes = []
        for row in mine:
            x, y, width, height = (float(value) for value in row["bbox"])
            boxes.append([y, x, y + height, x + width])
        scores = [float(row["score"]) for row in mine] if all("score" in row for row in mine) else None
        kinds = [row.get("category_id") for row in mine]
        classes = None if None in kinds else [names.get(kind, kind) for kind in kinds]
    except KeyError as error:
        raise InputError(f"{path} is no COCO file of boxes: it lacks {error}.") from error
    except (TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is no COCO file of boxes: {error}.") from error
    return BoxList(boxes, scores, classes)
