"""The loop: which picture comes next, what is in it already, and when the model learns."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout
from numpy.typing import NDArray

from napari_samscape.annotation.project import Accepted, Entry, Project, Version
from napari_samscape.annotation.stages import Confidence, Proposal, propose
from napari_samscape.errors import InputError
from napari_samscape.io import Image, ObjectRow, write_labels, write_objects
from napari_samscape.model.process import LOWER_PRIORITY
from napari_samscape.model.progress import Progress
from napari_samscape.model.sam import Sam
from napari_samscape.model.weights import load_model
from napari_samscape.prediction.instances import instances_from_labels, labels_from_instances
from napari_samscape.prediction.types import Instances
from napari_samscape.training.finetune import Settings
from napari_samscape.training.material import hold_out
from napari_samscape.training.tuning import NothingGainedError, tune

LOOKED_AT = 8  # pictures among which the most uncertain one is sought
LOCK, LOG = "training.lock", "training.log"


def next_picture(
    project: Project, model: Sam, confidence: Confidence | None = None, progress: Progress | None = None
) -> tuple[Entry, Proposal] | None:
    """The picture to do next, and what the model is sure of in it; None when all are done.

    One that was begun comes first. In the first stage they come in their order, and nothing is filled in.
    Then, of the next few, the one of which the model is least sure, since there is most to learn from it.
    """
    left = project.left()
    begun = [entry for entry in left if project.accepted(entry.name)]
    if project.stage == "assisted":
        return (begun or left)[0], Proposal((), 1.0)
    best: tuple[Entry, Proposal] | None = None
    for entry in begun[:1] or left[:LOOKED_AT]:
        there = [one.item for one in project.accepted(entry.name)]
        found = propose(model, entry.read(), there, confidence, progress)
        if best is None or found.uncertainty > best[1].uncertainty:
            best = entry, found
    return best


def accept_labels(project: Project, name: str, labels: NDArray, by: str, done: bool) -> int:
    """Take the objects of a label image (y, x) as a picture's; those that were there keep their story.

    Returns
    -------
    int
        How many there are now.

    Raises
    ------
    InputError
        If there is no such picture, or the labels do not fit it.
    """
    shape = project.entry(name).read().shape[:2]
    if labels.shape != shape:
        raise InputError(
            f"The labels are {' x '.join(map(str, labels.shape))} pixels, but the picture '{name}' is "
            f"{shape[0]} x {shape[1]}."
        )
    known = {(one.item.box, one.item.bits.tobytes()): one for one in project.accepted(name)}
    drawn = instances_from_labels(labels)
    fresh = [Accepted(item, "drawn", by, project.newest.number) for item in drawn]
    project.put(name, [known.get((o.item.box, o.item.bits.tobytes()), o) for o in fresh], done=done)
    return len(fresh)


def accept_proposal(project: Project, name: str, proposal: Proposal, by: str, *, how: str, done: bool) -> int:
    """Take what the model is sure of, beside what is there; gives how many objects were added."""
    new = [Accepted(item, how, by, project.newest.number) for item in proposal.filled]
    project.put(name, [*project.accepted(name), *new], done=done)
    return len(new)


def finish_automatically(
    project: Project, model: Sam, confidence: Confidence | None = None, progress: Progress | None = None
) -> int:
    """The last stage: what the model is sure of, in each picture that is left; gives how many these were."""
    left = project.left()
    for number, entry in enumerate(left):
        if progress is not None:
            progress(number, len(left), f"Looking at {entry.name}")
        there = [one.item for one in project.accepted(entry.name)]
        found = propose(model, entry.read(), there, confidence)
        accept_proposal(project, entry.name, found, "", how="automatic", done=True)
    return len(left)


def lessons(model: Sam) -> Settings:
    """How a project's model learns: all of `nano`, which is small, and of another what makes masks.

    It serves the project's own pictures, and need not remember any others; so it goes all the way.
    """
    method = "full" if model.is_nano else "decoder"
    return Settings(method=method, rehearsal=0.0, share=1.0)


def train(
    project: Project,
    progress: Progress | None = None,
    *,
    minutes: float | None = None,
    steps: int = Settings.steps,
) -> Version | None:
    """Fine-tune the project's first model on all finished pictures, see `lessons`.

    Each version begins at the first model, so that errors do not add up.

    Parameters
    ----------
    project : Project
    progress : callable, optional
        Called as ``progress(done, total, text)``; raise from it to cancel.
    minutes : float or None
        At most; any time where left out.
    steps : int
        At most.

    Returns
    -------
    Version or None
        The new one; None if nothing was gained.

    Raises
    ------
    InputError
        If nothing is labelled, or the model is learning already.
    """
    with _learning(project):
        objects = project.count()
        parent = load_model(project.model_path(project.state.versions[0]))
        settings = replace(lessons(parent), minutes=minutes, steps=steps, seed=project.newest.number)
        material = hold_out(project.samples(), seed=project.newest.number)
        path: Path | None = None
        with suppress(NothingGainedError):
            out = project.new_path()
            path = tune(parent, material, out, settings, overwrite=True, progress=progress).path
        # What was accepted meanwhile stays; only the models are written here.
        project.note_training(objects, path)
    return project.newest if path is not None else None


def train_in_background(project: Project) -> bool:
    """Start `samscape engine train` in a process of its own, if it is due and not under way."""
    if not project.is_due():
        return False
    try:
        with _learning(project):
            pass
    except InputError:
        return False
    program = [sys.executable, "-m", "napari_samscape.cli"]
    command = [*program, "engine", "train", "--give-way", str(project.folder)]  # labelling goes on meanwhile
    with (project.folder / LOG).open("ab") as log:
        subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            creationflags=LOWER_PRIORITY,
        )
    return True


@contextmanager
def _learning(project: Project) -> Iterator[None]:
    """Hold the lock of the project's training."""
    lock = FileLock(project.folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(f"The model of {project.folder} is learning already.") from None
    try:
        yield
    finally:
        lock.release()


def export(project: Project, folder: Path | str) -> list[Path]:
    """Write the objects of all pictures that have any: ``NAME.json`` (COCO, SA-1B) and ``NAME.ome.zarr``.

    Raises
    ------
    InputError
        If one of them exists already, or nothing was accepted.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for entry in project.state.pictures:
        objects = project.accepted(entry.name)
        if not objects:
            continue
        pixels = entry.read()
        like = Image((pixels,), "yx" if pixels.ndim == 2 else "yxc", name=entry.name)
        items = Instances(tuple(one.item for one in objects), (pixels.shape[0], pixels.shape[1]))
        about = {"picture": entry.path, "plane": [entry.t, entry.z], "accepted": _stories(objects)}
        written.append(write_objects(folder / f"{entry.name}.json", _rows(objects), like=like, about=about))
        labels = folder / f"{entry.name}.ome.zarr"
        written.append(write_labels(labels, labels_from_instances(items), like=like, about=about))
    if not written:
        raise InputError(f"Nothing was accepted yet in the project {project.folder}, so nothing is exported.")
    return written


def _rows(objects: Sequence[Accepted]) -> list[ObjectRow]:
    return [
        ObjectRow(
            id=number,
            mask=one.item.mask,
            offset=one.item.box[:2],
            predicted_iou=one.item.predicted_iou,
            stability=one.item.stability,
        )
        for number, one in enumerate(objects, start=1)
    ]


def _stories(objects: Sequence[Accepted]) -> list[dict[str, object]]:
    """Of each object, by its id: how it came, by whom, with which model's help."""
    return [
        {"id": number, "how": one.how, "by": one.by, "version": one.version, "clicks": one.clicks}
        for number, one in enumerate(objects, start=1)
    ]
