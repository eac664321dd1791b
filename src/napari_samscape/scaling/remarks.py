"""What is said of a job that was done, besides its numbers."""

from __future__ import annotations

from napari_samscape.io import DamagedError
from napari_samscape.scaling.picture import missing_chunks
from napari_samscape.scaling.task import Task


def sentence(task: Task, place: tuple[int, ...], error: DamagedError) -> str:
    """Say which tile could not be read, and why."""
    rows, columns = task.tiling[place[-2:]].core
    key = "/".join(map(str, place))
    where = f"rows {rows.start} to {rows.stop - 1}, columns {columns.start} to {columns.stop - 1}"
    return f"tile {key} ({where}): {error}"


def note(task: Task, objects: int | None, failed: list[str]) -> str | None:
    """What there is to say besides the labels."""
    said = []
    if failed:
        said.append(
            f"{len(failed)} of {task.report.tiles} tiles could not be read and hold nothing; "
            "start again to try them once more."
        )
    missing = missing_chunks(task.image)
    if missing is not None:
        said.append(missing)
    what = "edges" if task.mode.gives_map else "objects"
    notes = list(task.notes()) if not objects or task.mode.needs == "boxes" else []
    empty = [number for note in notes for number in note.empty]
    if notes and all(note.constant for note in notes):
        said.append(f"The picture is constant, so there are no {what}.")
    elif task.mode.needs == "boxes" and empty:
        numbers = ", ".join(map(str, empty[:20])) + (", ..." if len(empty) > 20 else "")
        count = sum(note.count for note in notes)
        said.append(f"{len(empty)} of {count} boxes lie outside the picture or are empty: {numbers}.")
    elif notes and not objects and not any(note.highest for note in notes):
        phrase = task.asked.phrase
        said.append(
            f"No {what} were found."
            if phrase is None
            else f"Nothing was found that looks like '{phrase.text}'; a lower threshold lets more pass."
        )
    return " ".join(said) or None
