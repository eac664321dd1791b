"""COCO's files and COCO's measure, both by way of pycocotools; the only module that knows it."""

from __future__ import annotations

import contextlib
import io
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_samscape.errors import InputError
from napari_samscape.evaluation.datasets import Sample
from napari_samscape.io import open_image
from napari_samscape.prediction.instances import instance_from_mask
from napari_samscape.prediction.types import BoolArray, Instance

if TYPE_CHECKING:
    from types import ModuleType

MOST = 1000  # detections per picture; COCO's own 100 are fewer than a field of nuclei has
_Row = dict[str, Any]


def coco_samples(path: Path, pictures: Path | None = None) -> list[Callable[[], Sample]]:
    """Readers of the pictures of a COCO file of instances.

    Parameters
    ----------
    path : Path
        JSON with ``images`` and ``annotations``, whose segmentations are polygons or run lengths. Categories
        are not looked at; annotations with ``iscrowd`` are regions to ignore. A picture is looked for next to
        the file, in ``images/`` beside it, and where COCO has it: for ``annotations/instances_val2017.json``
        in ``val2017/``.
    pictures : Path, optional
        The folder of the pictures, where it is none of these.

    Returns
    -------
    list of callable
        One for each picture, in the file's order.

    Raises
    ------
    InputError
        If this is no such file, a picture is missing, or pycocotools is.
    """
    _pycocotools()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        images, annotations = content["images"], content["annotations"]
        by_image: dict[Any, list[_Row]] = defaultdict(list)
        for row in annotations:
            by_image[row["image_id"]].append(row)
        return [_reader(path, image, by_image[image["id"]], pictures) for image in images]
    except OSError as error:
        raise InputError(f"The data set {path} cannot be read: {error.strerror}.") from error
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} is no COCO file of instances: {error}.") from error
    except KeyError as error:
        raise InputError(f"{path} is no COCO file of instances: it lacks {error}.") from error


def _reader(path: Path, image: _Row, annotations: list[_Row], pictures: Path | None) -> Callable[[], Sample]:
    file = _find(path, str(image["file_name"]), pictures)

    def read() -> Sample:
        pixels = open_image(file).plane()
        shape = (pixels.shape[0], pixels.shape[1])
        objects = []
        ignore = np.zeros(shape, dtype=bool)
        for row in annotations:
            mask = _mask(row, shape, f"{path}, annotation {row.get('id')} of {image['file_name']}")
            if row.get("iscrowd"):
                ignore |= mask
            elif mask.any():
                objects.append(instance_from_mask(mask))
        for item in objects:
            y0, x0, y1, x1 = item.box
            ignore[y0:y1, x0:x1] &= ~item.mask
        return Sample(Path(file).stem, pixels, tuple(objects), ignore if ignore.any() else None)

    return read


def _find(path: Path, name: str, pictures: Path | None) -> Path:
    if pictures is not None:
        if (pictures / name).is_file():
            return pictures / name
        raise InputError(f"The picture {name} of {path} is not in {pictures}.")
    split = path.stem.removeprefix("instances_")
    folders = (path.parent, path.parent / "images", path.parent.parent / split, path.parent.parent / "images")
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise InputError(f"The picture {name} of {path} is neither next to it nor in images/ nor in {split}/.")


def _mask(row: _Row, shape: tuple[int, int], where: str) -> BoolArray:
    """One annotation as a mask of the picture's size."""
    mask = _pycocotools().mask
    segmentation = row.get("segmentation")
    try:
        if isinstance(segmentation, list):
            rle = mask.merge(mask.frPyObjects(segmentation, *shape))
        elif isinstance(segmentation, dict) and isinstance(segmentation["counts"], list):
            rle = mask.frPyObjects(segmentation, *segmentation["size"])
        elif isinstance(segmentation, dict):
            rle = segmentation
        else:
            raise InputError(f"{where}: there is no segmentation.")
        decoded: BoolArray = mask.decode(rle).astype(bool)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{where}: the segmentation cannot be read.") from error
    if decoded.shape != shape:
        raise InputError(
            f"{where}: the mask is {decoded.shape[0]} x {decoded.shape[1]} pixels, "
            f"but the picture is {shape[0]} x {shape[1]}."
        )
    return decoded


def coco_ap(
    pictures: Sequence[tuple[Sequence[Instance], BoolArray | None, Sequence[Instance], tuple[int, int]]],
) -> float | None:
    """COCO's average precision of masks, over IoU .5 to .95, of one category, at most 1000 a picture.

    Parameters
    ----------
    pictures : sequence of tuple
        True objects, the region to ignore or None, objects found, with ``predicted_iou`` as their score (1
        where it is unknown), and the picture's (y, x).

    Returns
    -------
    float or None
        None where no objects are known, or pycocotools is not installed.
    """
    try:
        tools = _pycocotools()
    except InputError:
        return None
    truth: list[_Row] = []
    found: list[_Row] = []
    for number, (objects, ignore, items, shape) in enumerate(pictures, start=1):
        for item in objects:
            truth.append({**_annotation(tools, number, item, shape), "iscrowd": 0})
        if ignore is not None:
            truth.append({**_annotation(tools, number, instance_from_mask(ignore), shape), "iscrowd": 1})
        for item in items:
            score = 1.0 if np.isnan(item.predicted_iou) else float(item.predicted_iou)
            found.append({**_annotation(tools, number, item, shape), "score": score})
    if not any(row["iscrowd"] == 0 for row in truth):
        return None
    if not found:
        return 0.0
    for rows in (truth, found):
        for number, row in enumerate(rows, start=1):
            row["id"] = number
    images = [
        {"id": number, "height": shape[0], "width": shape[1]}
        for number, (*_, shape) in enumerate(pictures, start=1)
    ]
    with contextlib.redirect_stdout(io.StringIO()):  # it reports its steps
        return _average_precision(tools, images, truth, found)


def _average_precision(tools: ModuleType, images: list[_Row], truth: list[_Row], found: list[_Row]) -> float:
    sets = []
    for rows in (truth, found):
        coco = tools.coco.COCO()
        coco.dataset = {"images": images, "annotations": rows, "categories": [{"id": 1}]}
        coco.createIndex()
        sets.append(coco)
    judge = tools.cocoeval.COCOeval(*sets, iouType="segm")
    judge.params.maxDets = [MOST]
    judge.params.areaRng, judge.params.areaRngLbl = [[0, 1e10]], ["all"]
    judge.evaluate()
    judge.accumulate()
    precision = judge.eval["precision"]
    return float(precision[precision > -1].mean())


def _annotation(tools: ModuleType, image: int, item: Instance, shape: tuple[int, int]) -> _Row:
    y0, x0, y1, x1 = item.box
    rle = tools.mask.encode(np.asfortranarray(item.within(shape), dtype=np.uint8))
    return {
        "image_id": image,
        "category_id": 1,
        "segmentation": rle,
        "area": item.area,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
    }


def _pycocotools() -> ModuleType:
    try:
        import pycocotools.coco
        import pycocotools.cocoeval
        import pycocotools.mask
    except ImportError as error:
        raise InputError(
            "COCO files need pycocotools: pip install 'napari-samscape[evaluation]' brings it."
        ) from error
    tools: ModuleType = pycocotools
    return tools
