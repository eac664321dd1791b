"""Read boxes of one picture: plain lists, or COCO's results and annotations."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from napari_samscape.errors import InputError


class BoxList(NamedTuple):
    """Boxes (y0, x0, y1, x1), and a score and a class for each where the file has them."""

    boxes: list[list[float]]
    scores: list[float] | None = None
    classes: list[int | str] | None = None


def read_boxes(path: str | os.PathLike[str], picture: str | os.PathLike[str] = "") -> BoxList:
    """Read the boxes that a JSON file has for a picture.

    Parameters
    ----------
    path : path
        A list of [y0, x0, y1, x1], or {"boxes": such a list}; COCO's results, a list of {"image_id",
        "category_id", "bbox": [x, y, width, height], "score"}; or COCO's annotations, an object with such a
        list as "annotations", and "images" and "categories".
    picture : path, optional
        Which picture is meant where a COCO file has several: by its file name or, without extension, its id.

    Returns
    -------
    BoxList
        COCO's numbers go on unchanged, as prompts do. Its regions of crowds are left out.

    Raises
    ------
    InputError
        If the file cannot be read, is neither of these, or has no boxes for this picture among several.
    """
    try:
        content: Any = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"The boxes in {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise InputError(f"{path} is no JSON file: {error}.") from error
    if isinstance(content, dict) and "annotations" in content:
        return _coco(path, content["annotations"], content, Path(picture))
    rows = content.get("boxes") if isinstance(content, dict) else content
    if isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows):
        return _coco(path, rows, {}, Path(picture))
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise InputError(f"{path} must hold a list of boxes [y0, x0, y1, x1], or COCO's results.")
    return BoxList(rows)


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
