"""An annotation project on disk: which pictures, what was accepted in them and by whom, which models.

    PROJECT/engine.json           pictures, settings, model versions
    PROJECT/accepted/NAME.json    the objects of one picture, and whether it is done
    PROJECT/models/1.safetensors  what was fine-tuned, each with its card

Every file is written to a temporary name and moved, so that a project can be left at any moment.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_samscape.errors import InputError
from napari_samscape.evaluation.datasets import Sample
from napari_samscape.io import open_image
from napari_samscape.io.rle import decode_crop, encode_crop
from napari_samscape.io.text import read_json, replacing_text
from napari_samscape.prediction.instances import instance_from_mask
from napari_samscape.prediction.types import Instance
from napari_samscape.scaling.pictures import find_pictures, output_names

VERSION = 1  # of the files' form; a newer one is refused
FILE = "engine.json"
EVERY = 50  # objects between two versions of the model


@dataclass(frozen=True)
class Entry:
    """A picture of the project: one plane.

    Attributes
    ----------
    name : str
        What its files are called; no two have the same.
    path : str
    t, z : int
        The plane.
    """

    name: str
    path: str
    t: int = 0
    z: int = 0

    def read(self) -> NDArray[Any]:
        """Pixels, (y, x) or (y, x, c)."""
        return open_image(self.path).plane(self.t, self.z)


@dataclass(frozen=True)
class Version:
    """A model of the project.

    Attributes
    ----------
    number : int
        0 is the one that the project began with.
    model : str
        Its name or path; of later ones relative to the project.
    objects : int
        How many accepted objects there were when it was made.
    date : str
    """

    number: int
    model: str
    objects: int = 0
    date: str = ""


@dataclass(frozen=True, eq=False)
class Accepted:
    """An object that someone has accepted.

    Attributes
    ----------
    item : Instance
    how : str
        "clicked" with a model's help, "filled" in by the model and left so by a person, "automatic" without
        one, or "drawn" by hand or elsewhere.
    by : str
        Who.
    version : int
        Of the model that helped.
    clicks : int
        It took.
    """

    item: Instance
    how: str = "drawn"
    by: str = ""
    version: int = 0
    clicks: int = 0


@dataclass(frozen=True)
class State:
    """What `engine.json` holds."""

    pictures: tuple[Entry, ...]
    versions: tuple[Version, ...]
    every: int = EVERY
    fills: bool = False  # in from the start what the model is sure of, not only after it has learned
    tried: int = 0  # accepted objects when the model was last fine-tuned, with a gain or without


class Project:
    """A project that is open.

    Attributes
    ----------
    folder : Path
    state : State
    """

    def __init__(self, folder: Path, state: State) -> None:
        self.folder, self.state = folder, state

    @classmethod
    def create(
        cls, folder: Path | str, source: str, model: str = "nano", *, every: int = EVERY, fills: bool = False
    ) -> Project:
        """Begin a project over pictures.

        Parameters
        ----------
        folder : path
            It must not exist yet, or be empty.
        source : str
            As `scaling.pictures.find_pictures` takes it: a folder, a pattern, a manifest, an OME-Zarr plate.
        model : str
            Its name or path.
        every : int
            So many new objects in finished pictures bring a new version of the model.
        fills : bool
            Whether the first model fills in what it is sure of, so that the second stage begins at once.

        Raises
        ------
        InputError
            If there are no pictures, one cannot be opened, or the folder holds something.
        """
        folder = Path(folder)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(
                f"{folder} exists already and is not empty; a project begins in a folder of its own."
            )
        if every < 1:
            raise InputError(f"The model cannot learn after every {every} objects; 1 is the least.")
        pictures = find_pictures(source, folder)
        entries: list[Entry] = []
        for picture, name in zip(pictures, output_names(pictures), strict=True):
            sizes = open_image(picture.path).sizes
            planes = list(np.ndindex(sizes.get("t", 1), sizes.get("z", 1)))
            alone = len(planes) == 1
            entries += [
                Entry(name if alone else f"{name}_t{t}_z{z}", _absolute(picture.path), t, z)
                for t, z in planes
            ]
        try:
            for child in (folder, folder / "accepted", folder / "models"):
                child.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"The project {folder} cannot be made: {error.strerror}.") from error
        project = cls(folder, State(tuple(entries), (Version(0, _absolute(model)),), every, fills))
        project._save()
        return project

    @classmethod
    def open(cls, folder: Path | str) -> Project:
        """Go on with a project.

        Raises
        ------
        InputError
            If there is none, it is damaged, or a newer version of this program made it.
        """
        folder = Path(folder)
        if not (folder / FILE).is_file():
            raise InputError(f"{folder} is no annotation project: it holds no {FILE}.")
        values = read_json(folder / FILE, f"The project {folder}")
        try:
            version = int(values["version"])
            if version > VERSION:
                raise InputError(
                    f"The project {folder} was made by a newer version of samscape (form {version}; this one "
                    f"knows up to {VERSION}); update samscape to open it."
                )
            state = State(
                tuple(Entry(**row) for row in values["pictures"]),
                tuple(Version(**row) for row in values["versions"]),
                int(values["every"]),
                bool(values["fills"]),
                int(values["tried"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"The project {folder} is damaged: {FILE} lacks or mistakes {error}.") from error
        return cls(folder, state)

    # --- pictures ---

    def entry(self, name: str) -> Entry:
        """The picture of this name.

        Raises
        ------
        InputError
            If there is none.
        """
        for entry in self.state.pictures:
            if entry.name == name:
                return entry
        raise InputError(f"The project {self.folder} has no picture '{name}'.")

    def accepted(self, name: str) -> list[Accepted]:
        """What was accepted in a picture, in the order in which it was."""
        return [_object(row) for row in self._picture(name)["objects"]]

    def is_done(self, name: str) -> bool:
        """Whether all objects of a picture are there."""
        return bool(self._picture(name)["done"])

    def left(self) -> list[Entry]:
        """The pictures that are not done."""
        return [entry for entry in self.state.pictures if not self.is_done(entry.name)]

    def put(self, name: str, objects: Sequence[Accepted], *, done: bool) -> None:
        """Keep the objects of a picture, in place of those it had.

        Raises
        ------
        InputError
            If there is no such picture, or the disk cannot be written.
        """
        shape = self.entry(name).read().shape[:2]
        rows = [_row(one, (shape[0], shape[1])) for one in objects]
        content = {"version": VERSION, "picture": name, "done": done, "objects": rows}
        with replacing_text(self._file(name), True) as file:
            json.dump(content, file)

    def samples(self) -> Iterator[Sample]:
        """The finished pictures that hold objects, to learn from."""
        for entry in self.state.pictures:
            if self.is_done(entry.name) and (objects := self.accepted(entry.name)):
                yield Sample(entry.name, entry.read(), tuple(one.item for one in objects))

    def count(self) -> int:
        """Objects accepted in finished pictures."""
        names = (entry.name for entry in self.state.pictures)
        pictures = (self._picture(name) for name in names)
        return sum(len(picture["objects"]) for picture in pictures if picture["done"])

    # --- models ---

    @property
    def stage(self) -> str:
        """What goes on: "assisted", all objects by clicks; "semi", sure ones are filled in; or "done"."""
        if not self.left():
            return "done"
        return "semi" if self.state.fills or self.newest.number else "assisted"

    @property
    def newest(self) -> Version:
        """The version of the model that helps now."""
        return self.state.versions[-1]

    def model_path(self, version: Version) -> str:
        """What `load_model` takes."""
        return version.model if version.number == 0 else str(self.folder / version.model)

    def new_path(self) -> Path:
        """Where the next version is written."""
        return self.folder / "models" / f"{self.newest.number + 1}.safetensors"

    def is_due(self) -> bool:
        """Whether there is enough that is new for another version of the model."""
        return self.count() - self.state.tried >= self.state.every

    def note_training(self, objects: int, path: Path | None) -> None:
        """Write down that the model was fine-tuned on so many objects; without a path, in vain."""
        self.state = replace(self.state, tried=objects)
        if path is not None:
            new = Version(
                self.newest.number + 1,
                path.relative_to(self.folder).as_posix(),
                objects,
                f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
            )
            self.state = replace(self.state, versions=(*self.state.versions, new))
        self._save()

    # --- files ---

    def _save(self) -> None:
        with replacing_text(self.folder / FILE, True) as file:
            json.dump({"version": VERSION, **asdict(self.state)}, file, indent=1)

    def _file(self, name: str) -> Path:
        return self.folder / "accepted" / f"{name}.json"

    def _picture(self, name: str) -> dict[str, Any]:
        path = self._file(name)
        if not path.exists():
            return {"done": False, "objects": []}
        content: dict[str, Any] = read_json(path, f"The objects {path}")
        return content


def _absolute(path: str) -> str:
    """A path that holds wherever the project is opened from; names and URLs stay as they are."""
    return str(Path(path).resolve()) if Path(path).exists() else path


def _row(one: Accepted, shape: tuple[int, int]) -> dict[str, Any]:
    item = one.item
    return {
        "segmentation": encode_crop(item.mask, item.box[:2], shape, compressed=True),
        "how": one.how,
        "by": one.by,
        "version": one.version,
        "clicks": one.clicks,
        "predicted_iou": None if math.isnan(item.predicted_iou) else item.predicted_iou,
        "stability": None if math.isnan(item.stability) else item.stability,
    }


def _object(row: dict[str, Any]) -> Accepted:
    mask, offset = decode_crop(row["segmentation"])
    known = (row[key] for key in ("predicted_iou", "stability"))
    iou, stability = (math.nan if value is None else float(value) for value in known)
    item = instance_from_mask(mask, offset=offset, predicted_iou=iou, stability=stability)
    return Accepted(item, row["how"], row["by"], row["version"], row["clicks"])
