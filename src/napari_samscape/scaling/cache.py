"""Embeddings kept on disk, so that a part of a picture goes through an image encoder once.

A cache is a folder:

    embeddings.zarr/MODEL/KEY/    a group for each part of a picture: features, and whatever else the encoder
                                  gives, as arrays of float16 of one chunk each, with checksums
    parts/                        entries in the making, or on their way out
    users/                        the pictures of the jobs that are running, each held by a lock

What the keys mean is in `memory`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec, ZstdCodec

from napari_samscape.errors import InputError
from napari_samscape.io.pyramid import ATTRIBUTE
from napari_samscape.scaling.pieces import disk_trouble, written_whole
from napari_samscape.scaling.work import read_noted

#: Stands for the user's own cache, see `napari_samscape.model.registry.cache_dir`.
AUTO = "auto"
#: An entry in the making that is older, in seconds, is nobody's any more.
FORGOTTEN = 3600
Arrays = dict[str, NDArray[np.float16]]


@dataclass(frozen=True)
class Entry:
    """One embedding in a cache.

    Attributes
    ----------
    path : Path
        Of its group.
    picture, model : str
        For which picture it was made, and by which model, as the user called them.
    size : int
        Bytes on disk.
    used : float
        When it was last read or written, in seconds since 1970.
    """

    path: Path
    picture: str
    model: str
    size: int
    used: float


class Cache:
    """A folder of embeddings.

    Parameters
    ----------
    folder : path
        "auto" is the user's own.
    make : bool
        Whether it is made where it is not there.

    Raises
    ------
    InputError
        If it is not there, holds something else, or cannot be made.
    """

    def __init__(self, folder: str | os.PathLike[str], make: bool = True) -> None:
        self.folder = cache_folder(folder)
        self.zarr = self.folder / "embeddings.zarr"
        if self._is_made():
            return
        if self.folder.exists() and self._is_foreign():
            raise InputError(f"{self.folder} is no cache of embeddings; choose an empty folder or a new one.")
        if not make:
            raise InputError(f"There is no cache of embeddings in {self.folder}.")
        with disk_trouble(self.folder):
            about: Any = {ATTRIBUTE: {"holds": "embeddings"}}
            with contextlib.suppress(zarr.errors.ContainsGroupError):  # another process was quicker
                zarr.open_group(self.zarr, mode="a", zarr_format=3, attributes=about)

    def _is_made(self) -> bool:
        return ATTRIBUTE in read_noted(self.zarr / "zarr.json").get("attributes", {})

    def _is_foreign(self) -> bool:
        """Whether there is anything but a cache, perhaps one that another process is just making."""
        if not self.folder.is_dir():
            return True
        if (self.zarr / "zarr.json").exists():
            return not self._is_made()
        return any(path != self.zarr for path in self.folder.iterdir())

    def entries(self) -> Iterator[Entry]:
        """List what is kept, in no order; what goes meanwhile is left out."""
        for file in self.zarr.glob("*/*/zarr.json"):
            about = read_noted(file).get("attributes", {}).get(ATTRIBUTE)
            if isinstance(about, dict):
                with contextlib.suppress(OSError):
                    size = sum(path.stat().st_size for path in file.parent.rglob("*") if path.is_file())
                    used = file.parent.stat().st_mtime
                    yield Entry(file.parent, str(about["picture"]), str(about["model"]), size, used)

    def load(self, place: str) -> Arrays | None:
        """Give what is kept at a place; a damaged entry goes, and None is given."""
        path = self.zarr / place
        if not path.exists():
            return None
        try:
            arrays = {name: _read(array) for name, array in zarr.open_group(path, mode="r").arrays()}
        except Exception:  # whatever it is, what it should be can be made again
            self._discard(path)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return arrays

    def save(self, place: str, arrays: Arrays, about: Mapping[str, Any]) -> None:
        """Keep it, unless another process was quicker.

        Raises
        ------
        InputError
            If the disk is full, or cannot be written.
        """
        path, making = self.zarr / place, self.folder / "parts" / uuid.uuid4().hex
        with disk_trouble(path):
            try:
                group = zarr.open_group(making, mode="w-", zarr_format=3, attributes={ATTRIBUTE: dict(about)})
                for name, values in arrays.items():
                    _write(group, name, values)
                with contextlib.suppress(zarr.errors.ContainsGroupError):  # another process was quicker
                    zarr.open_group(path.parent, mode="a", zarr_format=3)
                with contextlib.suppress(FileExistsError):
                    _move(making, path)
            finally:
                shutil.rmtree(making, ignore_errors=True)

    @contextlib.contextmanager
    def used_for(self, picture: str) -> Iterator[None]:
        """While this lasts, `prune` keeps the embeddings of a picture."""
        mark = self.folder / "users" / f"{uuid.uuid4().hex}.json"
        with disk_trouble(mark):
            mark.parent.mkdir(exist_ok=True)
        lock = FileLock(mark.with_suffix(".lock"))
        with lock:
            with written_whole(mark) as file:
                file.write(json.dumps({"picture": picture}).encode())
            try:
                yield
            finally:
                mark.unlink(missing_ok=True)
        Path(lock.lock_file).unlink(missing_ok=True)

    def pictures_in_use(self) -> set[str]:
        """Pictures of the jobs that are running; marks of those that were killed go."""
        pictures = set()
        for mark in (self.folder / "users").glob("*.json"):
            lock = FileLock(mark.with_suffix(".lock"))
            try:
                with lock.acquire(timeout=0):
                    mark.unlink(missing_ok=True)
                Path(lock.lock_file).unlink(missing_ok=True)
            except Timeout:
                pictures.add(str(read_noted(mark).get("picture")))
        return pictures

    def prune(
        self,
        *,
        picture: str | None = None,
        model: str | None = None,
        older_than: float | None = None,
        at_most: int | None = None,
    ) -> list[Entry]:
        """Remove entries, but none of a picture that a job is at work on.

        Parameters
        ----------
        picture : str, optional
            Only those of this picture: its path or URL, or its file's name.
        model : str, optional
            Only those of this model.
        older_than : float, optional
            Only those that were not used for so many seconds.
        at_most : int, optional
            Only as many as it takes, those first that were not used for longest, until the whole cache has so
            many bytes.

        Returns
        -------
        list of Entry
            What was removed.
        """
        everything, now = sorted(self.entries(), key=lambda entry: entry.used), time.time()
        kept = self.pictures_in_use()
        chosen = [
            entry
            for entry in everything
            if entry.picture not in kept
            and picture in (None, entry.picture, _file_name(entry.picture))
            and model in (None, entry.model)
            and (older_than is None or now - entry.used > older_than)
        ]
        if at_most is not None:
            chosen = list(_until(chosen, sum(entry.size for entry in everything) - at_most))
        for entry in chosen:
            self._discard(entry.path)
        for path in (self.folder / "parts").glob("*"):
            with contextlib.suppress(OSError):
                if now - path.stat().st_mtime > FORGOTTEN:
                    shutil.rmtree(path, ignore_errors=True)
        return chosen

    def _discard(self, path: Path) -> None:
        """Remove an entry; whoever reads it meanwhile finds it missing or damaged, and makes it again."""
        gone = self.folder / "parts" / uuid.uuid4().hex
        with contextlib.suppress(OSError):
            _move(path, gone)
        shutil.rmtree(gone, ignore_errors=True)


def cache_folder(folder: str | os.PathLike[str]) -> Path:
    """Where a cache is; "auto" is the user's own."""
    if str(folder) != AUTO:
        return Path(folder).absolute()
    from napari_samscape.model.registry import cache_dir

    return cache_dir() / "embeddings"


def _read(array: Any) -> NDArray[np.float16]:
    if array.nchunks_initialized != array.nchunks:
        raise ValueError("its chunk is missing")
    values: NDArray[np.float16] = np.asarray(array[...])
    return values


def _write(group: zarr.Group, name: str, values: NDArray[np.float16]) -> None:
    array = group.create_array(
        name,
        shape=values.shape,
        dtype=values.dtype,
        chunks=values.shape,
        compressors=[ZstdCodec(level=1), Crc32cCodec()],
        config={"write_empty_chunks": True},
    )
    array[...] = values


def _move(path: Path, to: Path) -> None:
    """Rename a folder; FileExistsError if there is something already."""
    to.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.rename(to)
    except OSError as error:
        if to.exists():
            raise FileExistsError(str(to)) from error
        raise


def _until(entries: Iterable[Entry], size: int) -> Iterator[Entry]:
    """The first entries, until they have so many bytes together."""
    for entry in entries:
        if size <= 0:
            return
        size -= entry.size
        yield entry


def _file_name(picture: str) -> str:
    return picture.rstrip("/").rsplit("/", 1)[-1]
