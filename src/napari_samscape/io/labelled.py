"""Data sets of pictures with label images: zips, folders, OME-Zarr; each picture is read when asked for.

A label image has the picture's size and whole numbers: 0 is background, 65535 a region to ignore, anything
else the number of an object.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as pillow

from napari_samscape.errors import InputError
from napari_samscape.io.read import open_image

#: Label of regions that are neither object nor background, such as crowds.
IGNORE = 65535
ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
SUFFIX = "_labels"
#: What a damaged zip, picture or array raises.
BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, OSError, SyntaxError, ValueError, NotImplementedError)


@dataclass(frozen=True, eq=False)
class LabelledPicture:
    """A picture and its labels, not yet read.

    Attributes
    ----------
    name : str
    read : callable
        Gives pixels, (y, x) or (y, x, c), and labels, (y, x); raises InputError.
    """

    name: str
    read: Callable[[], tuple[NDArray[Any], NDArray[Any]]]


def labelled_pictures(path: Path) -> list[LabelledPicture]:
    """List the pictures of a data set.

    Parameters
    ----------
    path : Path
        A zip with ``index.json`` (a list of objects with a ``name``), ``images/NAME.png`` or ``.jpg``, and
        ``labels/NAME.png``. Or a folder with ``images/`` and ``labels/``, where files of the same name go
        together whatever their endings; or a folder in which ``NAME.png`` goes with ``NAME_labels.png``.
        Files in folders may have any of `ENDINGS`. Or an OME-Zarr with labels inside, of which the first are
        taken, and every plane over t and z that has any; or a folder of such OME-Zarrs.

    Returns
    -------
    list of LabelledPicture
        In the index's order, or by name.

    Raises
    ------
    InputError
        If there is no such data set, it is damaged, or a picture has no labels.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"There is no data set {path}.")
    if not path.is_dir():
        return _in_zip(path)
    if _is_zarr(path):
        return _in_zarr(path)
    inside = [child for child in sorted(path.iterdir()) if _is_zarr(child)]
    return [picture for child in inside for picture in _in_zarr(child)] if inside else _in_folder(path)


def paired_pictures(images: Path, labels: Path) -> list[LabelledPicture]:
    """List pictures whose label images lie elsewhere.

    Parameters
    ----------
    images : Path
        A picture of one plane, or a folder of pictures.
    labels : Path
        A label image, or a folder of them; each is called as its picture, or as that with ``_labels`` behind.

    Returns
    -------
    list of LabelledPicture
        By name.

    Raises
    ------
    InputError
        If one of them is missing, or a picture has no labels.
    """
    for path in (images, labels):
        if not path.exists():
            raise InputError(f"There is no {path}.")
    if _is_file(images) != _is_file(labels):
        raise InputError(f"{images} and {labels} must be a picture and its labels, or a folder of each.")
    if _is_file(images):
        return [LabelledPicture(images.stem, _file_reader(images, labels))]
    pictures = _files(images)
    drawn = {name.removesuffix(SUFFIX): file for name, file in _files(labels).items()}
    if not pictures:
        raise InputError(f"{images} holds no pictures.")
    missing = sorted(set(pictures) - set(drawn))
    if missing:
        raise InputError(f"{labels} holds no labels for the picture '{missing[0]}'.")
    return [LabelledPicture(name, _file_reader(pictures[name], drawn[name])) for name in sorted(pictures)]


def checked_labels(labels: NDArray[Any], shape: tuple[int, ...], name: str) -> NDArray[Any]:
    """Return labels that fit a picture of ``shape`` (y, x), or raise InputError with what is wrong."""
    if labels.ndim != 2 or labels.dtype.kind not in "bui":
        raise InputError(
            f"{name}: labels must be two-dimensional and whole numbers; these have the shape {labels.shape} "
            f"and the type {labels.dtype}."
        )
    if labels.shape != shape:
        raise InputError(
            f"{name}: the labels are {labels.shape[0]} x {labels.shape[1]} pixels, "
            f"but the picture is {shape[0]} x {shape[1]}."
        )
    return labels


def _in_zip(path: Path) -> list[LabelledPicture]:
    with _said(path), zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        if "index.json" not in names:
            raise InputError(f"{path} is no data set: it holds no index.json.")
        index = json.loads(archive.read("index.json"))
    if not isinstance(index, list) or not all(isinstance(row, dict) and "name" in row for row in index):
        raise InputError(f"{path}: index.json must be a list of objects that each have a name.")
    found = []
    for row in index:
        images = [name for end in ENDINGS if (name := f"images/{row['name']}{end}") in names]
        if not images:
            raise InputError(f"{path} names the picture '{row['name']}' but does not hold it.")
        labels = f"labels/{row['name']}.png"
        if labels not in names:
            raise InputError(f"{path} holds no labels for the picture '{row['name']}' ({labels}).")
        found.append(LabelledPicture(str(row["name"]), _zip_reader(path, images[0], labels)))
    return found


def _zip_reader(path: Path, image: str, labels: str) -> Callable[[], tuple[NDArray[Any], NDArray[Any]]]:
    def read() -> tuple[NDArray[Any], NDArray[Any]]:
        with _said(path), zipfile.ZipFile(path) as archive:
            pixels, ids = (np.array(pillow.open(io.BytesIO(archive.read(name)))) for name in (image, labels))
        return pixels, checked_labels(ids, pixels.shape[:2], f"{path}, {labels}")

    return read


@contextmanager
def _said(path: Path) -> Iterator[None]:
    """Say in one sentence that a zip, or something in it, cannot be read."""
    try:
        yield
    except InputError:
        raise
    except BROKEN as error:
        raise InputError(f"{path} cannot be read as a zip of pictures and labels: {error}.") from error


def _is_file(path: Path) -> bool:
    return path.is_file() or _is_zarr(path)


def _is_zarr(path: Path) -> bool:
    return any((path / name).is_file() for name in ("zarr.json", ".zgroup"))


def _in_zarr(path: Path) -> list[LabelledPicture]:
    image = open_image(path)
    names = [child.name for child in sorted((path / "labels").glob("*")) if _is_zarr(child)]
    if not names:
        raise InputError(f"{path} is a data set without labels: it holds none in labels/.")
    labels = open_image(path / "labels" / names[0])
    shapes = [[other.sizes.get(axis, 1) for axis in "tzyx"] for other in (image, labels)]
    if shapes[0] != shapes[1]:
        raise InputError(
            f"{labels}: the labels are {shapes[1]} in t, z, y, x, but the picture is {shapes[0]}."
        )

    def reader(t: int, z: int) -> Callable[[], tuple[NDArray[Any], NDArray[Any]]]:
        return lambda: (image.plane(t, z), labels.plane(t, z))

    planes = np.ndindex(image.sizes.get("t", 1), image.sizes.get("z", 1))
    return [
        LabelledPicture(f"{path.name}/{t}/{z}", reader(t, z)) for t, z in planes if labels.plane(t, z).any()
    ]


def _in_folder(path: Path) -> list[LabelledPicture]:
    if (path / "images").is_dir():
        if not (path / "labels").is_dir():
            raise InputError(f"{path} is a data set without labels: it has images/ but no labels/.")
        images, labels = _files(path / "images"), _files(path / "labels")
    else:
        files = _files(path)
        images = {name: file for name, file in files.items() if not name.endswith(SUFFIX)}
        labels = {name.removesuffix(SUFFIX): file for name, file in files.items() if name.endswith(SUFFIX)}
        if not labels:
            raise InputError(
                f"{path} is a data set without labels: it has neither images/ and labels/, "
                f"nor any NAME{SUFFIX}.png next to a NAME.png."
            )
    if not images:
        raise InputError(f"{path} holds no pictures.")
    missing = sorted(set(images) - set(labels))
    if missing:
        raise InputError(f"{path} holds no labels for the picture '{missing[0]}'.")
    return [LabelledPicture(name, _file_reader(images[name], labels[name])) for name in sorted(images)]


def _files(folder: Path) -> dict[str, Path]:
    return {file.stem: file for file in sorted(folder.iterdir()) if file.suffix.lower() in ENDINGS}


def _file_reader(image: Path, labels: Path) -> Callable[[], tuple[NDArray[Any], NDArray[Any]]]:
    def read() -> tuple[NDArray[Any], NDArray[Any]]:
        pixels, ids = open_image(image).plane(), open_image(labels).plane()
        return pixels, checked_labels(ids, pixels.shape[:2], str(labels))

    return read
