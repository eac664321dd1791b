"""What File > Save and File > Open do with labels, tables and prompts; napari's readers and writers.

What a layer is besides its pixels goes along as `saved.state_of` gives it, so that it comes back as it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_samscape import io
from napari_samscape.errors import InputError
from napari_samscape.io.image import Image as Picture
from napari_samscape.widgets.features import INDEX, Table
from napari_samscape.widgets.prompt_files import is_prompts, read_prompts
from napari_samscape.widgets.pyramids import LARGEST, copied, opened
from napari_samscape.widgets.saved import arguments, state_of

if TYPE_CHECKING:
    from napari.layers import Labels

LayerData = tuple[Any, dict[str, Any], str]
MOST = 2**30
"""Labels of more pixels are saved as OME-Zarr only: the other formats want them in memory."""
TIFFS = (".tif", ".tiff")


# --- writers ---


def write_labels(path: str, data: Any, meta: Mapping[str, Any]) -> list[str]:
    """Write a Labels layer as OME-Zarr or TIFF, with its place, table and prompts.

    Raises
    ------
    InputError
        As `io.write_labels`; or if the labels are too large for a TIFF.
    """
    labels, like, state = _opened(data, meta)
    about = {"layer": state}
    if labels.multiscale and Path(path).suffix.lower() == ".zarr":
        copied(list(labels.data), Path(path), like, about)
    else:
        io.write_labels(path, _pixels(labels), like=like, about=about, overwrite=True)
    return [path]


def write_objects(path: str, data: Any, meta: Mapping[str, Any]) -> list[str]:
    """Write the objects of a Labels layer one by one: COCO, GeoJSON, or a table without the masks.

    Raises
    ------
    InputError
        As `io.write_objects`; or if the labels are too large.
    """
    labels, like, state = _opened(data, meta)
    found = list(_rows(_pixels(labels), state["features"]))
    about = {"layer": state, "labels": [value for value, _ in found]}
    io.write_objects(path, [row for _, row in found], like=like, about=about, overwrite=True)
    return [path]


def _opened(data: Any, meta: Mapping[str, Any]) -> tuple[Labels, Picture, dict[str, Any]]:
    """The layer, what its file is to be like, and its state."""
    from napari.layers import Layer

    labels: Any = Layer.create(data, dict(meta), "labels")
    levels = list(labels.data) if labels.multiscale else [labels.data]
    shape = tuple(levels[0].shape)
    if not 2 <= len(shape) <= 4:
        raise InputError(
            f"'{labels.name}' has {len(shape)} axes; files of labels have t, z, y and x at most."
        )
    units = tuple(None if str(unit) == "pixel" else str(unit) for unit in labels.units)
    scale = tuple(abs(float(step)) for step in labels.scale)
    like = Picture((np.broadcast_to(np.int32(0), shape),), "tzyx"[-len(shape) :], scale, units, labels.name)
    return labels, like, {**state_of(labels), "shape": list(shape), "dtype": str(levels[0].dtype)}


def _pixels(labels: Labels) -> NDArray[Any]:
    array = list(labels.data)[0] if labels.multiscale else labels.data
    if int(np.prod(array.shape)) > MOST:
        raise InputError(f"'{labels.name}' is too large for this kind of file; save it as .ome.zarr.")
    return np.asarray(array)


def _rows(pixels: NDArray[Any], table: Table) -> Iterator[tuple[int, io.ObjectRow]]:
    """The objects plane by plane, each with its label; in a stack, one for each plane it is on."""
    from scipy.ndimage import find_objects

    if pixels.size and int(pixels.min()) < 0:
        raise InputError("Objects have numbers from 1 on; there are negative labels.")
    known = {i: row for row, i in enumerate(table.get(INDEX, []))}
    number = 0
    for plane in np.ndindex(pixels.shape[:-2]):
        values, flat = np.unique(pixels[plane], return_inverse=True)
        dense = flat.reshape(pixels.shape[-2:]) + 1
        for value, where in zip(values.tolist(), find_objects(dense), strict=True):
            if value == 0:
                continue
            number = value if pixels.ndim == 2 else number + 1
            about = {name: column[known[value]] for name, column in table.items()} if value in known else {}
            yield (
                value,
                io.ObjectRow(
                    id=number,
                    mask=pixels[plane][where] == value,
                    offset=(where[0].start, where[1].start),
                    plane=plane,
                    predicted_iou=_number(about.get("predicted_iou")),
                    stability=_number(about.get("stability")),
                    score=_number(about.get("score")),
                    category=about.get("class"),
                ),
            )


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


# --- readers ---


def get_reader(path: str | list[str]) -> Callable[[str], list[LayerData]] | None:
    """Return what reads a file of ours, an OME-Zarr, or other programs' COCO and GeoJSON; None for others."""
    if not isinstance(path, str):
        return None
    place = Path(path)
    ending = place.suffix.lower()
    if ending == ".zarr" and any((place / name).is_file() for name in ("zarr.json", ".zgroup")):
        return lambda path: read_zarr(Path(path))
    if ending in TIFFS and _state(place) is not None:
        return lambda path: [_as_layer(np.asarray(io.open_image(path).data), _state(Path(path)) or {})]
    if ending == ".geojson" and place.is_file():
        return lambda path: read_prompts(Path(path)) if is_prompts(Path(path)) else read_objects(Path(path))
    if ending == ".json" and _is_coco(place):
        return lambda path: read_objects(Path(path))
    return None


def read_zarr(path: Path) -> list[LayerData]:
    """Read labels, which can be written to where they are large, or an image with the labels in it."""
    image = io.open_image(path)
    about = _state(path)
    if about is not None or _holds_labels(path):
        large = int(np.prod(image.shape)) > LARGEST
        data: Any = opened(path) if large else np.asarray(image.data)
        if about is not None:
            return [_as_layer(data, about)]
        return [(data, {"scale": image.scale, "name": image.name, "multiscale": large}, "labels")]
    channels = image.axes.index("c") if "c" in image.axes else None
    scale = [step for axis, step in zip(image.axes, image.scale, strict=True) if axis != "c"]
    options = {"name": image.name, "scale": scale, "channel_axis": channels}
    data = list(image.levels) if len(image.levels) > 1 else image.levels[0]
    layers: list[LayerData] = [(data, {**options, "multiscale": len(image.levels) > 1}, "image")]
    for inside in sorted((path / "labels").glob("*")):
        if inside.is_dir():
            layers += read_zarr(inside)
    return layers


def read_objects(path: Path) -> list[LayerData]:
    """Read objects one by one into labels; without a picture's size, polygons as shapes."""
    about = io.read_about(path) or {}
    state = about.get("layer")
    if state is None and path.suffix.lower() == ".geojson":
        return read_prompts(path)
    rows = io.read_objects(path)
    shape = tuple(state["shape"]) if state else _size(path)
    ids = about.get("labels") or [row.id for row in rows]
    pixels = np.zeros(shape, state["dtype"] if state else np.int32)
    for value, row in zip(ids, rows, strict=True):
        y0, x0, y1, x1 = row.box
        pixels[row.plane][y0:y1, x0:x1][row.mask] = value
    if state is not None:
        return [_as_layer(pixels, state)]
    names = ("predicted_iou", "stability", "score", "category")
    table = {name: [getattr(row, name) for row in rows] for name in names}
    table = {INDEX: ids, "area": [row.area for row in rows], **table}
    table["class"] = table.pop("category")
    return [(pixels, {"name": path.stem, "features": table}, "labels")]


def _as_layer(data: Any, state: Mapping[str, Any]) -> LayerData:
    if isinstance(data, list):
        return data, {**arguments(state), "multiscale": True}, "labels"
    return data.astype(state["dtype"], copy=False), arguments(state), "labels"


def _state(path: Path) -> dict[str, Any] | None:
    found: dict[str, Any] | None = (io.read_about(path) or {}).get("layer")
    return found


def _holds_labels(path: Path) -> bool:
    import zarr

    attributes: Any = zarr.open_group(path, mode="r").attrs.asdict()
    return "image-label" in attributes.get("ome", attributes)


def _is_coco(path: Path) -> bool:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and "annotations" in content


def _size(path: Path) -> tuple[int, ...]:
    """Shape of a COCO file's labels: of its only image, or of SA-1B's."""
    content = json.loads(path.read_text(encoding="utf-8"))
    images: Sequence[dict[str, Any]] = content.get("images") or [content.get("image") or {}]
    sizes = {(int(image.get("height", 0)), int(image.get("width", 0))) for image in images}
    planes = [max(int(image[axis]) for image in images) + 1 for axis in "tz" if axis in images[0]]
    if len(sizes) != 1 or (0, 0) in sizes or (len(images) > 1 and not planes):
        raise InputError(f"{path.name} has objects of {len(images)} images; a layer shows those of one.")
    return (*planes, *next(iter(sizes)))
