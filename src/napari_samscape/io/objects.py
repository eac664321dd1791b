"""Objects one by one, overlaps and all, where a label image has room for one object per pixel.

Three files, chosen by the ending: ``.json``, masks as COCO and SA-1B have them; ``.csv``, a table without the
masks; ``.geojson``, outlines for QuPath and QGIS.
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from napari_samscape.errors import InputError
from napari_samscape.io.image import Image
from napari_samscape.io.place import check_output
from napari_samscape.io.pyramid import ATTRIBUTE
from napari_samscape.io.rle import decode_crop, encode_crop
from napari_samscape.io.text import read_json, replacing_text

OBJECT_ENDINGS = (".json", ".csv", ".geojson")
#: COCO's name for what has no class; each annotation needs one there.
UNNAMED = "object"


@dataclass(frozen=True, eq=False)
class ObjectRow:
    """One object, in plain values.

    Attributes
    ----------
    id : int
        As in the label image of the same run.
    mask : ndarray of bool, shape (h, w)
        Inside the object's bounding box.
    offset : tuple of int
        (y, x) in the picture of the mask's first pixel.
    plane : tuple of int
        Where it lies along t and z, as far as the label image has these axes.
    predicted_iou, stability, score : float
        NaN where unknown.
    point : tuple of float or None
        The (y, x) click that found it.
    category : int, str or None
        Its class.
    parent : int or None
        The id of the object that contains it.
    """

    id: int
    mask: NDArray[np.bool_] = field(repr=False)
    offset: tuple[int, int]
    plane: tuple[int, ...] = ()
    predicted_iou: float = math.nan
    stability: float = math.nan
    score: float = math.nan
    point: tuple[float, float] | None = None
    category: int | str | None = None
    parent: int | None = None

    @property
    def box(self) -> tuple[int, int, int, int]:
        """(y0, x0, y1, x1), half open."""
        return (*self.offset, self.offset[0] + self.mask.shape[0], self.offset[1] + self.mask.shape[1])

    @property
    def area(self) -> int:
        """Number of pixels."""
        return int(np.count_nonzero(self.mask))


def write_objects(
    path: str | os.PathLike[str],
    rows: Iterable[ObjectRow],
    *,
    like: Image,
    about: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write objects; the ending of the name says as what.

    Parameters
    ----------
    path : path
        ``.json``: COCO annotations with compressed run lengths, and in each what SA-1B adds,
        ``predicted_iou``, ``stability_score`` and ``point_coords``; one image for each plane. The class as
        it was given is ``category``, beside COCO's number for it, and the object around it is ``parent``.
        ``.csv``: a table with the columns id, t and z where the picture has them, y0, x0, y1, x1 (half
        open), area, predicted_iou, stability, score, class and parent; empty where unknown.
        ``.geojson``: one feature for each object, a polygon along the pixels' sides, several where the object
        is in several parts, in pixels (x, y) from the picture's upper left corner.
    rows : iterable of ObjectRow
    like : Image
        The picture they belong to.
    about : mapping, optional
        How they were found, of plain JSON values; kept inside ``.json`` and ``.geojson``.
    overwrite : bool
        Whether a file that exists is replaced.

    Returns
    -------
    Path
        The path written.

    Raises
    ------
    InputError
        As `check_output`.
    """
    path = check_output(path, endings=OBJECT_ENDINGS, source=like, overwrite=overwrite)
    write: Callable[[TextIO, Iterable[ObjectRow], Image, Mapping[str, Any]], None] = {
        ".json": _write_coco,
        ".csv": _write_table,
        ".geojson": _write_geojson,
    }[path.suffix.lower()]
    with replacing_text(path, overwrite) as file:
        write(file, rows, like, about or {})
    return path


def read_objects(path: str | os.PathLike[str]) -> list[ObjectRow]:
    """Read objects as `write_objects` gives them, or from SA-1B's or other programs' files.

    Parameters
    ----------
    path : path
        ``.geojson``: features that are polygons, in pixels (x, y); others are left out. Any other: COCO
        annotations with run lengths, of which everything is read, whatever image it belongs to.

    Returns
    -------
    list of ObjectRow
        In the file's order.

    Raises
    ------
    InputError
        If the file cannot be read, is no such file, or holds masks that are not run lengths.
    """
    if Path(path).suffix.lower() == ".geojson":
        from napari_samscape.io.geojson import read_polygons

        return [ObjectRow(**values) for values in read_polygons(Path(path))]
    content = read_json(path, f"The objects in {path}")
    if not isinstance(content, dict) or not isinstance(content.get("annotations"), list):
        raise InputError(f"{path} is no COCO file of objects: it lacks a list 'annotations'.")
    rows, images, names = [], _by_id(content.get("images")), _by_id(content.get("categories"))
    for number, annotation in enumerate(content["annotations"], start=1):
        try:
            rows.append(_read_annotation(annotation, images, names))
        except InputError as error:
            raise InputError(f"The object number {number} of {path} cannot be read: {error}") from error
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
            raise InputError(f"The object number {number} of {path} cannot be read: {reason}.") from error
    return rows


# COCO --------------------------------------------------------------------------------------------------


def _write_coco(file: TextIO, rows: Iterable[ObjectRow], like: Image, about: Mapping[str, Any]) -> None:
    shape, planes = like.label_shape[-2:], list(np.ndindex(like.label_shape[:-2]))
    name = like.path.name if like.path else like.name
    numbers = {plane: number for number, plane in enumerate(planes, start=1)}
    annotations: list[dict[str, Any]] = [
        {
            "id": row.id,
            "image_id": numbers[row.plane],
            "segmentation": encode_crop(row.mask, row.offset, (shape[0], shape[1]), compressed=True),
            "bbox": [row.box[1], row.box[0], row.box[3] - row.box[1], row.box[2] - row.box[0]],
            "area": row.area,
            "iscrowd": 0,
            "category": row.category,
            "parent": row.parent,
        }
        | _known(predicted_iou=row.predicted_iou, stability_score=row.stability, score=row.score)
        | ({} if row.point is None else {"point_coords": [[row.point[1], row.point[0]]]})
        for row in rows
    ]
    kinds = _category_ids(annotation["category"] for annotation in annotations)
    content = {
        "info": {"description": f"Objects found in {name}", ATTRIBUTE: dict(about)},
        "licenses": [],
        "images": [
            {"id": numbers[plane], "width": shape[1], "height": shape[0], "file_name": name}
            | dict(zip(like.label_axes[:-2], plane, strict=True))
            for plane in planes
        ],
        "categories": [
            {"id": number, "name": UNNAMED if kind is None else str(kind)} for kind, number in kinds.items()
        ],
    }
    # One object a line, so that people can look for one.
    head = json.dumps(content)
    lines = (
        json.dumps(annotation | {"category_id": kinds[annotation["category"]]}, allow_nan=False)
        for annotation in annotations
    )
    file.write(f'{head[:-1]}, "annotations": [\n' + ",\n".join(lines) + "\n]}\n")


def _category_ids(kinds: Iterable[int | str | None]) -> dict[int | str | None, int]:
    """COCO's number of each class: a number stays what it is, texts get those that are left, from 1."""
    known = list(dict.fromkeys(kinds))
    numbers: dict[int | str | None, int] = {kind: kind for kind in known if isinstance(kind, int)}
    number = 0
    for kind in known:
        if not isinstance(kind, int):
            number += 1
            while number in numbers:
                number += 1
            numbers[kind] = number
    return {kind: numbers[kind] for kind in known}


def _by_id(items: Any) -> dict[Any, dict[str, Any]]:
    if not isinstance(items, list):
        return {}
    known = [item for item in items if isinstance(item, dict) and isinstance(item.get("id"), int | str)]
    return {item["id"]: item for item in known}


def _read_annotation(
    annotation: Any, images: dict[Any, dict[str, Any]], kinds: dict[Any, dict[str, Any]]
) -> ObjectRow:
    segmentation = annotation["segmentation"]
    if not isinstance(segmentation, dict):
        raise InputError("Its mask is not given as run lengths.")
    mask, offset = decode_crop(segmentation)
    image = images.get(annotation.get("image_id"), {})
    number = annotation.get("category_id")
    kind = kinds.get(number, {}).get("name", number)
    points = annotation.get("point_coords")
    return ObjectRow(
        id=int(annotation["id"]),
        mask=mask,
        offset=offset,
        plane=tuple(int(image[axis]) for axis in "tz" if axis in image),
        predicted_iou=float(annotation.get("predicted_iou", math.nan)),
        stability=float(annotation.get("stability_score", math.nan)),
        score=float(annotation.get("score", math.nan)),
        point=(float(points[0][1]), float(points[0][0])) if points else None,
        category=annotation.get("category", kind),
        parent=annotation.get("parent"),
    )


# Table and outlines ------------------------------------------------------------------------------------


def _write_table(file: TextIO, rows: Iterable[ObjectRow], like: Image, about: Mapping[str, Any]) -> None:
    places = list(like.label_axes[:-2])
    measures = ["predicted_iou", "stability", "score"]
    corners = ["y0", "x0", "y1", "x1"]
    table = csv.writer(file)
    table.writerow(["id", *places, *corners, "area", *measures, "class", "parent"])
    for row in rows:
        values = [getattr(row, name) for name in measures]
        shown = ["" if math.isnan(value) else value for value in values]
        table.writerow([row.id, *row.plane, *row.box, row.area, *shown, row.category, row.parent])


def _write_geojson(file: TextIO, rows: Iterable[ObjectRow], like: Image, about: Mapping[str, Any]) -> None:
    head = json.dumps({"type": "FeatureCollection", ATTRIBUTE: dict(about)})
    file.write(f'{head[:-1]}, "features": [\n')
    for number, feature in enumerate(_features(rows, like.label_axes[:-2])):
        file.write((",\n" if number else "") + json.dumps(feature, allow_nan=False))
    file.write("\n]}\n")


def _features(rows: Iterable[ObjectRow], axes: str) -> Iterator[dict[str, Any]]:
    from napari_samscape.io.outlines import mask_polygons  # scikit-image takes a moment

    for row in rows:
        polygons = mask_polygons(row.mask, row.offset)
        one = len(polygons) == 1
        geometry: dict[str, Any] = {
            "type": "Polygon" if one else "MultiPolygon",
            "coordinates": polygons[0] if one else polygons,
        }
        place = dict(zip(axes, row.plane, strict=True))
        if place:  # where QuPath looks for it; -1 means all channels
            geometry["plane"] = {"c": -1, "z": 0, "t": 0} | place
        numbers = {"area": row.area} | _known(
            predicted_iou=row.predicted_iou, stability=row.stability, score=row.score
        )
        # QuPath reads the measurements, QGIS what lies beside them.
        properties = {"objectType": "detection", "name": str(row.id), "id": row.id} | place | numbers
        if row.category is not None:
            properties |= {"class": row.category, "classification": {"name": str(row.category)}}
        if row.parent is not None:
            properties["parent"] = row.parent
        properties["measurements"] = numbers
        yield {"type": "Feature", "id": row.id, "geometry": geometry, "properties": properties}


def _known(**values: float) -> dict[str, float]:
    """Those that are known."""
    return {name: value for name, value in values.items() if not math.isnan(value)}
