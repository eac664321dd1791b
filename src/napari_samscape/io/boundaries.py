"""Data sets of pictures with boundaries that several humans drew; each picture is read when asked for."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as pillow

from napari_samscape.errors import InputError
from napari_samscape.io.labelled import BROKEN, ENDINGS

BoolArray = NDArray[np.bool_]
_PACKED = "gt"  # folder of NAME.npz
_BSDS = "groundTruth"  # folder of NAME.mat, in BSDS500 as it is distributed
#: Where a file NAME of the truth may lie, from the top of a folder or zip, and where its picture does.
_PLACES = (
    (f"{_PACKED}/", "images/", ".npz"),
    (f"{_BSDS}/test/", "images/test/", ".mat"),
    (f"data/{_BSDS}/test/", "data/images/test/", ".mat"),
    (f"BSDS500/data/{_BSDS}/test/", "BSDS500/data/images/test/", ".mat"),
)


@dataclass(frozen=True, eq=False)
class BoundaryPicture:
    """A picture and what humans drew on it, not yet read.

    Attributes
    ----------
    name : str
    read : callable
        Gives pixels, (y, x) or (y, x, c), and boundaries, bool (k, y, x); raises InputError.
    """

    name: str
    read: Callable[[], tuple[NDArray[Any], BoolArray]]


def boundary_pictures(path: Path) -> list[BoundaryPicture]:
    """List the pictures of a data set of boundaries.

    Parameters
    ----------
    path : Path
        A zip or a folder with ``images/NAME.jpg`` (or another of `ENDINGS`) and ``gt/NAME.npz``, which holds
        ``shape``, (k, y, x), and ``bounds_packed``, a row of bits for each of k humans; in the order of
        ``index.json`` where there is one. Or a folder or zip of BSDS500 as it is distributed, with
        ``images/test`` and ``groundTruth/test/NAME.mat``; of this, the test pictures only.

    Returns
    -------
    list of BoundaryPicture
        Empty if this is no data set of boundaries.

    Raises
    ------
    InputError
        If it is damaged, or a picture is missing.
    """
    path = Path(path)
    with _said(path):
        names = _names(path)
        found = [place for place in _PLACES if any(_is_truth(name, place) for name in names)]
        if not found:
            return []
        folder, images, ending = found[0]
        stems = [Path(name).stem for name in sorted(names) if _is_truth(name, found[0])]
        if "index.json" in names:
            stems = [str(row["name"]) for row in json.loads(_bytes(path, "index.json"))]
        return [_picture(path, stem, (f"{images}{stem}", f"{folder}{stem}{ending}"), names) for stem in stems]


def _is_truth(name: str, place: tuple[str, str, str]) -> bool:
    return name.startswith(place[0]) and name.endswith(place[2])


def _names(path: Path) -> set[str]:
    """All files that may be of a data set, with / between folders."""
    if path.is_dir():
        folders = {folder for place in _PLACES for folder in place[:2]}
        found = {f"{folder}{file.name}" for folder in folders for file in path.glob(f"{folder}*.*")}
        return found | ({"index.json"} if (path / "index.json").is_file() else set())
    if not zipfile.is_zipfile(path):
        return set()
    with zipfile.ZipFile(path) as archive:
        return set(archive.namelist())


def _bytes(path: Path, name: str) -> bytes:
    if path.is_dir():
        return (path / name).read_bytes()
    with zipfile.ZipFile(path) as archive:
        return archive.read(name)


def _picture(path: Path, name: str, files: tuple[str, str], names: set[str]) -> BoundaryPicture:
    stem, truth = files
    images = [f"{stem}{end}" for end in ENDINGS if f"{stem}{end}" in names]
    if not images:
        raise InputError(f"{path} holds boundaries of the picture '{name}', but not the picture.")
    if truth not in names:
        raise InputError(f"{path} holds no boundaries for the picture '{name}' ({truth}).")

    def read() -> tuple[NDArray[Any], BoolArray]:
        with _said(path):
            pixels = np.array(pillow.open(io.BytesIO(_bytes(path, images[0]))))
            unpack = _from_npz if truth.endswith(".npz") else _from_mat
            drawn = unpack(_bytes(path, truth), f"{path}, {truth}")
        if len(drawn) == 0 or drawn.shape[1:] != pixels.shape[:2]:
            raise InputError(
                f"{path}, {truth}: boundaries must be at least one of {pixels.shape[0]} x {pixels.shape[1]} "
                f"pixels; these have the shape {drawn.shape}."
            )
        return pixels, drawn

    return BoundaryPicture(name, read)


def _from_npz(data: bytes, where: str) -> BoolArray:
    with np.load(io.BytesIO(data)) as stored:
        if not {"shape", "bounds_packed"} <= set(stored):
            raise InputError(f"{where} lacks shape or bounds_packed.")
        k, height, width = (int(length) for length in stored["shape"])
        bits = np.unpackbits(stored["bounds_packed"], axis=1)
    return bits[:, : height * width].reshape(k, height, width).astype(bool)


def _from_mat(data: bytes, where: str) -> BoolArray:
    """One cell for each human, with a structure that has Boundaries (BSDS500's README)."""
    from scipy.io import loadmat

    stored = loadmat(io.BytesIO(data), squeeze_me=True, struct_as_record=False).get("groundTruth")
    if stored is None:
        raise InputError(f"{where} lacks groundTruth.")
    return np.stack([np.asarray(human.Boundaries, dtype=bool) for human in np.atleast_1d(stored)])


@contextmanager
def _said(path: Path) -> Iterator[None]:
    """Say in one sentence that a data set, or something in it, cannot be read."""
    try:
        yield
    except InputError:
        raise
    except (*BROKEN, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} cannot be read as pictures and boundaries: {error}.") from error
