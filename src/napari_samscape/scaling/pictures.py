"""Which pictures a batch is about, and what their outputs are called."""

from __future__ import annotations

import csv
import glob
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from napari_samscape.errors import InputError
from napari_samscape.io import plate_fields, read_text

MANIFESTS = (".csv", ".txt")
#: What is taken for a picture in a folder; in a manifest or by a pattern anything may be named.
PICTURES = (
    ".tif",
    ".tiff",
    ".png",
    ".jpg",
    ".jpeg",
    ".bmp",
    ".gif",
    ".webp",
    ".jp2",
    ".ppm",
    ".pgm",
    ".zarr",
)
#: Names of a manifest's column.
COLUMNS = ("picture", "image", "path")
ZARR_FILES = ("zarr.json", ".zgroup", ".zarray")
# File systems take 255 bytes, endings and the names of work folders among them.
LONGEST_NAME = 150


@dataclass(frozen=True)
class Picture:
    """One picture of many.

    Attributes
    ----------
    name : str
        What it is called in tables: as in the manifest, its path in the folder, or as the pattern found it.
    path : str
        What is opened.
    short : str or None
        What its output is called if nothing else is; None for the name without its folders and endings.
    """

    name: str
    path: str
    short: str | None = None


def find_pictures(source: str, out: Path) -> list[Picture]:
    """List the pictures of a batch, each once.

    Parameters
    ----------
    source : str
        A manifest: a text with one path a line (empty lines and those with # in front are no paths), or a
        CSV with a column picture, image or path, otherwise the first; paths are relative to the manifest's
        folder. Or a folder, of which the pictures directly inside are taken. Or a pattern such as
        ``plate/*/*.tif``, where ``**`` stands for folders at any depth. Or a single picture. Of an OME-Zarr
        plate, wherever it is named, every field is a picture.
    out : Path
        What lies in this folder is no picture to work on, unless a manifest names it.

    Returns
    -------
    list of Picture
        In the manifest's order, or by path.

    Raises
    ------
    InputError
        If there are none, or the manifest or a plate's metadata cannot be read.
    """
    path = Path(source)
    if not path.exists() and glob.has_magic(source):
        found = [Picture(name, name) for name in sorted(glob.glob(source, recursive=True))]
        found = [picture for picture in found if not _is_inside(Path(picture.path), out)]
    elif path.is_dir() and not any((path / name).is_file() for name in ZARR_FILES):
        inside = (child for child in sorted(path.iterdir()) if child.suffix.lower() in PICTURES)
        inside = (child for child in inside if not child.name.startswith("."))
        found = [Picture(child.name, str(child)) for child in inside if not _is_inside(child, out)]
    elif path.suffix.lower() in MANIFESTS:
        found = [Picture(name, _beside(path, name)) for name in _names(path)]
    else:
        found = [Picture(path.name, source)] if path.exists() or "://" in source else []
    found = [field for picture in found for field in _fields(picture)]
    once = {picture.path: picture for picture in reversed(found)}
    pictures = [picture for picture in found if once[picture.path] is picture]
    if not pictures:
        raise InputError(f"There are no pictures in {source}: no manifest, folder or pattern that names any.")
    return pictures


def output_names(pictures: Sequence[Picture]) -> list[str]:
    """Give each picture's output a name, without an ending: never two the same, and never a path.

    The name is the picture's own, or of a plate's field with plate and well; where several have it, with the
    folders around it; where that is not enough, with a few digits that stand for the picture's path.
    """
    parts = [_parts(picture.name) for picture in pictures]
    names = [_plain([picture.short or own[-1]]) for picture, own in zip(pictures, parts, strict=True)]
    names = _told_apart(names, [_plain(own) for own in parts])
    digits = [hashlib.sha256(picture.path.encode()).hexdigest()[:8] for picture in pictures]
    return _told_apart(names, [f"{name}-{digit}" for name, digit in zip(names, digits, strict=True)])


def _fields(picture: Picture) -> list[Picture]:
    """The fields of a plate, or the picture itself."""
    name, path = picture.name.rstrip("/"), picture.path.rstrip("/")
    is_zarr = path.lower().endswith(".zarr") or any((Path(path) / file).is_file() for file in ZARR_FILES)
    fields = plate_fields(path) if is_zarr else None
    if fields is None:
        return [picture]
    plate = _parts(name)[-1]
    return [
        Picture(f"{name}/{field}", f"{path}/{field}", "_".join([plate, *field.split("/")]))
        for field in fields
    ]


def _told_apart(names: list[str], longer: list[str]) -> list[str]:
    # Some file systems do not tell a from A.
    counts = Counter(name.casefold() for name in names)
    return [other if counts[name.casefold()] > 1 else name for name, other in zip(names, longer, strict=True)]


def _parts(name: str) -> tuple[str, ...]:
    """The folders of a picture and its name, without endings such as .ome.zarr."""
    path = PurePosixPath(name.split("://")[-1].split("?")[0].replace("\\", "/"))
    stem = Path(path.stem).stem if path.stem.lower().endswith(".ome") else path.stem
    return (*path.parent.parts, stem)


def _plain(parts: Iterable[str]) -> str:
    """One name of folders and file, of characters that are fine on any disk."""
    joined = "_".join(part for part in parts if part.strip("./"))
    plain = re.sub(r"[^\w.\- ]", "_", joined).strip(". ")
    return plain.encode()[-LONGEST_NAME:].decode(errors="ignore") or "picture"


def _names(manifest: Path) -> list[str]:
    text = read_text(manifest, f"The manifest {manifest}")
    if manifest.suffix.lower() == ".txt":
        lines = (line.strip() for line in text.splitlines())
        return [line for line in lines if line and not line.startswith("#")]
    try:
        rows = [row for row in csv.reader(text.splitlines()) if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise InputError(f"The manifest {manifest} is no CSV: {error}.") from error
    head = [cell.strip().lower() for cell in rows[0]] if rows else []
    column = next((head.index(name) for name in COLUMNS if name in head), None)
    rows, column = (rows, 0) if column is None else (rows[1:], column)
    return [name for row in rows if len(row) > column and (name := row[column].strip())]


def _beside(manifest: Path, name: str) -> str:
    return name if "://" in name else str(manifest.parent / name)


def _is_inside(path: Path, folder: Path) -> bool:
    return folder.resolve() in (path.resolve(), *path.resolve().parents)
