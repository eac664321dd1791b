"""Work that outlives its process: one folder per dock, in the user's data folder. No napari, no Qt.

A folder holds ``session.json`` and the labels it names, each a Zarr array. All of it is written under a
temporary name and then moved; the JSON goes last, and only then do labels go that it no longer names, so that
there is a whole session at any moment. A lock beside the folder, which the system releases when the process
ends in whatever way, tells sessions that are at work from those that were left behind.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

VERSION = 2
SESSION = "session.json"
CHUNK = 1024
"""Sides of the labels' chunks, in pixels."""


def data_folder() -> Path:
    """Where we keep what is the user's: ``SAMSCAPE_DATA``, or the place that the system has for it."""
    if chosen := os.environ.get("SAMSCAPE_DATA"):
        return Path(chosen)
    import platformdirs

    return Path(platformdirs.user_data_dir("samscape", appauthor=False))


def sessions_folder() -> Path:
    """Where the sessions are."""
    return data_folder() / "sessions"


class Store:
    """The saved session of one dock; its folder is made when there is something to save.

    Parameters
    ----------
    folder : Path, optional
        A session that was left behind, to go on with; a new one where left out.
    lock : FileLock, optional
        The lock of that folder, which is held already.
    """

    def __init__(self, folder: Path | None = None, lock: FileLock | None = None) -> None:
        self.folder = folder or sessions_folder() / uuid4().hex
        self._lock = lock
        self._at_work = threading.Lock()
        self._discarded = False

    def save(self, document: Mapping[str, Any], arrays: Mapping[str, NDArray]) -> None:
        """Write a session.

        Parameters
        ----------
        document : mapping
            Plain data for JSON; ``layers`` is a list of mappings, whose ``array`` names the layer's labels.
        arrays : mapping of str to ndarray
            Labels by that name. Those that are there from before, and have not changed, are left out;
            others need a name that has not been used yet.
        """
        with self._at_work:
            if not self._discarded:
                self._save(document, arrays)

    def _save(self, document: Mapping[str, Any], arrays: Mapping[str, NDArray]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._lock is None:
            self._lock = _lock_of(self.folder)
            self._lock.acquire(timeout=0)
        for name, array in arrays.items():
            part = self.folder / f"{name}.part"
            shutil.rmtree(part, ignore_errors=True)
            _write(part, array)
            part.rename(self.folder / name)
        part = self.folder / f"{SESSION}.part"
        with part.open("w", encoding="utf-8") as file:
            json.dump({"version": VERSION, **document}, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self.folder / SESSION)
        named = {SESSION, *(layer["array"] for layer in document["layers"])}
        for path in self.folder.iterdir():
            if path.name not in named:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)

    def read(self) -> dict[str, Any]:
        """What was saved last."""
        document: dict[str, Any] = json.loads((self.folder / SESSION).read_text(encoding="utf-8"))
        return document

    def labels(self, name: str) -> NDArray:
        """The labels of this name."""
        import zarr

        array = zarr.open_array(self.folder / name, mode="r")
        return np.asarray(array[...])

    def discard(self) -> None:
        """Remove the session for good; what is being saved meanwhile, in another thread, is waited for."""
        self._discarded = True
        with self._at_work:
            (self.folder / SESSION).unlink(missing_ok=True)  # first: without it there is no session
            shutil.rmtree(self.folder, ignore_errors=True)
            self.release()

    def release(self) -> None:
        """Give the lock back; what is saved stays, as left behind."""
        if self._lock is not None:
            self._lock.release()
            if not self.folder.exists():
                with suppress(OSError):
                    Path(self._lock.lock_file).unlink(missing_ok=True)
            self._lock = None


def left_behind() -> list[Store]:
    """Sessions whose process is gone, the newest first; they are locked for the caller from now on."""
    folder = sessions_folder()
    saved = sorted(folder.glob(f"*/{SESSION}"), key=lambda path: path.stat().st_mtime, reverse=True)
    stores = []
    for path in saved:
        lock = _lock_of(path.parent)
        with suppress(Timeout, OSError):
            lock.acquire(timeout=0)
            store = Store(path.parent, lock)
            if _readable(store):
                stores.append(store)
            else:
                store.release()
    return stores


def _readable(store: Store) -> bool:
    """Whether this version can read a session; one that a later version has written is left alone."""
    try:
        return bool(store.read()["version"] == VERSION)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _lock_of(folder: Path) -> FileLock:
    return FileLock(folder.with_suffix(".lock"), thread_local=False)


def _write(path: Path, array: NDArray) -> None:
    """Write labels, without the chunks in which there is nothing."""
    import zarr

    data = np.asarray(array)
    chunks = tuple(min(size, CHUNK) if axis >= data.ndim - 2 else 1 for axis, size in enumerate(data.shape))
    made = zarr.create_array(
        path, shape=data.shape, chunks=chunks, dtype=data.dtype, config={"write_empty_chunks": False}
    )
    made[...] = data
