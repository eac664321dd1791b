"""The folder in which a job's work is kept until it is finished, so that a job that was killed goes on.

It lies beside the output and is called ``.OUTPUT.samscape``:

    job.json        what is done, as settings with a name; another job is refused by the name of what differs
    pieces/0/3/5.npz    what was found in a tile: plane, row, column
    links/0/7.npz       what the objects of a plane share with those before it: time point, slice
    written.json    how much of the output is written
    OUTPUT          the output in the making
    lock, owner.json    held while somebody works here, and who
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from napari_samscape.errors import InputError
from napari_samscape.scaling.links import StoreInFolder
from napari_samscape.scaling.pieces import PiecesInFolder, written_whole


def work_folder(output: str | os.PathLike[str]) -> Path:
    """Where the work on an output is kept."""
    path = Path(output)
    return path.with_name(f".{path.name}.samscape")


def first_difference(wanted: Mapping[str, Any], there: Mapping[str, Any]) -> str | None:
    """Say in a few words what setting differs: 'tile (256 instead of 512)'; None if all are the same."""
    for name, value in wanted.items():
        if name in there and there[name] != value:
            return f"{name} ({_short(value)} instead of {_short(there[name])})"
    return None


class Work:
    """The work on one output; made by `work_on`.

    Parameters
    ----------
    output : Path
    overwrite : bool
        Whether the work of another job is thrown away instead of refused.
    """

    def __init__(self, output: Path, overwrite: bool) -> None:
        self.output = output
        self.overwrite = overwrite
        self.folder = work_folder(output)
        self.is_finished = False
        self._there: dict[str, Any] = read_noted(self.folder / "job.json")
        self._agreed: dict[str, Any] = {}

    @property
    def result(self) -> Path:
        """The output in the making, always a Zarr; what becomes of it is seen in the end."""
        is_zarr = self.output.suffix.lower() == ".zarr"
        return self.folder / (self.output.name if is_zarr else f"{self.output.name}.zarr")

    @property
    def has_pieces(self) -> bool:
        """Whether there is anything worth keeping."""
        return any(self.folder.joinpath("pieces").rglob("*.npz"))

    def agree(self, settings: Mapping[str, Any]) -> None:
        """Note settings of the job, or find them as they were noted.

        Raises
        ------
        InputError
            If one is another one than before; the sentence names it.
        """
        difference = first_difference(settings, self._there)
        if difference is not None and not self.overwrite:
            raise InputError(
                f"The output {self.output} was begun with another {difference}; finish it as it was begun, "
                "or add --overwrite (overwrite=True) to begin anew."
            )
        if difference is not None:
            self.clear()
        self._agreed |= settings
        self._there |= self._agreed
        with written_whole(self.folder / "job.json") as file:
            file.write(json.dumps(self._there, indent=1).encode())

    def pieces(self, plane: int) -> PiecesInFolder:
        """Give the place of a plane's pieces."""
        return PiecesInFolder(self.folder / "pieces" / str(plane))

    @property
    def links(self) -> StoreInFolder:
        """The place of what links the objects of planes."""
        return StoreInFolder(self.folder / "links")

    def written(self, of: Any) -> int:
        """How many steps of writing are done; none, if they were about something else than ``of``."""
        there = read_noted(self.folder / "written.json")
        same = self.result.exists() and there.get("of") == of
        return int(there["steps"]) if same else 0

    def note_written(self, steps: int, of: Any) -> None:
        """Note how many steps of writing are done."""
        with written_whole(self.folder / "written.json") as file:
            file.write(json.dumps({"of": of, "steps": steps}).encode())

    def clear(self) -> None:
        """Forget all that was done."""
        keep = ("lock", "owner.json")
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name not in keep:
                path.unlink()
        self._there = {}


@contextlib.contextmanager
def work_on(output: str | os.PathLike[str], overwrite: bool = False) -> Iterator[Work]:
    """Open the folder of the work on an output, for this process alone.

    When it is left, the folder goes if the work is finished, or if there is nothing in it worth keeping.

    Parameters
    ----------
    output : path
    overwrite : bool
        See `Work`.

    Raises
    ------
    InputError
        If somebody else works on the same output, or the folder cannot be made.
    """
    path = Path(output)
    folder = work_folder(path)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"The output folder {path.parent} cannot be written: {error.strerror}.") from error
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(f"The output {path} is being made by {_owner(folder)}; wait, or stop it.") from None
    work = None
    try:
        owner = {"process": os.getpid(), "computer": socket.gethostname(), "since": time.time()}
        with written_whole(folder / "owner.json") as file:
            file.write(json.dumps(owner).encode())
        work = Work(path, overwrite)
        yield work
    finally:
        gone = folder
        if work is None or work.is_finished or not work.has_pieces:
            # Out of the way first, so that whoever comes next does not lock a file that is being deleted.
            gone = folder.with_name(f"{folder.name}.{os.getpid()}")
            with contextlib.suppress(OSError):
                folder.rename(gone)
        lock.release()
        if gone != folder:
            shutil.rmtree(gone if gone.exists() else folder, ignore_errors=True)


def _owner(folder: Path) -> str:
    owner = read_noted(folder / "owner.json")
    if not owner:
        return "somebody else"
    minutes = max(0, round((time.time() - owner["since"]) / 60))
    age = f"{minutes} minute(s)" if minutes < 120 else f"{minutes // 60} hours"
    return f"process {owner['process']} on {owner['computer']}, for {age}"


def read_noted(path: Path) -> dict[str, Any]:
    """Read a JSON object; an empty one if it is not there, or is something else."""
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:36]}..."
