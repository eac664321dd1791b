"""What the Project dock asks for: the next picture, looked for in a process of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from napari_samscape.model.progress import Progress
from napari_samscape.widgets.process_engine import Remote

Next = tuple[str, NDArray[Any], NDArray[Any]]
"""Name, pixels (y, x) or (y, x, c), and labels (y, x) as far as they are there or filled in."""


class Assistant(Protocol):
    """Gives the next picture of a project."""

    def next(self, folder: Path, progress: Progress) -> Next | None:
        """The next picture; None when all are done. It is called off the GUI thread."""

    def close(self) -> None:
        """Give back what it has taken, whatever is under way."""


class LocalAssistant:
    """Does so in this process."""

    def next(self, folder: Path, progress: Progress) -> Next | None:
        """The next picture; None when all are done. It is called off the GUI thread."""
        from napari_samscape.annotation.loop import next_picture
        from napari_samscape.annotation.project import Project
        from napari_samscape.model.weights import load_model
        from napari_samscape.prediction.instances import labels_from_instances
        from napari_samscape.prediction.types import Instances

        project = Project.open(folder)
        found = next_picture(project, load_model(project.model_path(project.newest)), progress=progress)
        if found is None:
            return None
        entry, proposal = found
        pixels = entry.read()
        there = [one.item for one in project.accepted(entry.name)]
        items = Instances((*there, *proposal.filled), (pixels.shape[0], pixels.shape[1]))
        return entry.name, pixels, labels_from_instances(items)

    def close(self) -> None:
        """Nothing is kept."""


class ProcessAssistant(Remote):
    """Does so in a process of its own."""

    def __init__(self) -> None:
        super().__init__("napari_samscape.widgets.assistant:LocalAssistant")

    def next(self, folder: Path, progress: Progress) -> Next | None:
        """The next picture; None when all are done. It is called off the GUI thread."""
        found: Next | None = self._ask("next", progress, folder)
        return found
