"""A dock that does one thing with an image at the press of a button: choose, run, cancel, have the result.

What is the same for all of these is here and in `objects`; a module per dock says what is asked of the model,
and what becomes of the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import napari.viewer
from napari.layers import Image
from numpy.typing import NDArray
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QFormLayout, QLayout, QPushButton, QVBoxLayout, QWidget

from napari_samscape.errors import InputError
from napari_samscape.model.progress import Progress
from napari_samscape.widgets.choosers import LayerChooser, ModelChooser, users
from napari_samscape.widgets.controls import Scroll, StatusRow, column, form
from napari_samscape.widgets.dock import NO_IMAGE, Dock, tell
from napari_samscape.widgets.engine import Engine
from napari_samscape.widgets.fields import OptionFields, tip
from napari_samscape.widgets.layers import (
    LARGE_SIDE,
    Plane,
    Sight,
    data_shape,
    levels,
    plane_of,
    planes_like,
    read_plane,
)
from napari_samscape.widgets.process_engine import ProcessEngine
from napari_samscape.widgets.settings import Settings
from napari_samscape.widgets.windows import about, shown_plane

Question = Callable[[NDArray, Progress], Any]
"""Asks the model about one plane's pixels; called off the GUI thread."""


@dataclass(frozen=True, eq=False)
class Task:
    """What a run is about: planes of an image, or a window of each, as the viewer showed them at first."""

    image: Image
    planes: Sequence[Plane]
    sight: Sight


class TaskDock(Dock):
    """What the docks with a Run button share.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Filled in by napari.
    engine : callable, optional
        Makes an Engine of a model's name or path; the model in a process of its own where left out.
    """

    ready_text = "Press Run."
    many_planes = True
    """Whether all planes of a stack can be done in one run."""
    sees_views = True
    """Whether what is seen of a large image can be done by itself."""

    # napari recognises the viewer's parameter by just this annotation.
    def __init__(self, viewer: napari.viewer.Viewer, engine: Callable[[str], Engine] = ProcessEngine) -> None:
        super().__init__(viewer)
        self._make_engine = engine
        self._engine = self._engines.take(engine("nano"))
        self._task: Task | None = None
        self._why_cancelled = ""
        self.image = LayerChooser(self.viewer, users(Image), about="The image to work on.")
        self.model = ModelChooser()
        self.all_planes = QCheckBox("All planes")
        self.all_planes.setToolTip(
            tip("Every position of the sliders, one after the other, each by itself; else the plane shown.")
        )
        self.view = QCheckBox("Current view")
        self.view.setToolTip(
            tip(
                "Look at what the window shows of this large image, at the resolution that it shows: about "
                "1024 x 1024 pixels. Else at a coarser copy of the whole plane."
            )
        )
        self.view.setChecked(True)
        self.run_button = QPushButton("Run")
        self.run_button.setToolTip(tip("Begin, with what is set above; it can be cancelled at any time."))
        self.run_button.setStyleSheet("font-weight: bold")
        self.run_button.setMinimumHeight(30)
        self.status = StatusRow()
        for button in (self.all_planes, self.view, self.run_button):
            button.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._layers_soon = self._timer(0, self._on_layers)
        self._choices = QWidget()
        where, *rest = self.build()
        self._choices.setLayout(column(where, self.view, *rest))
        self._lay_out()
        self.image.chosen.connect(self._on_image)
        self.model.chosen.connect(self._on_model)
        self.run_button.clicked.connect(self.run)
        self.status.cancelled.connect(lambda: self.cancel())
        self.settings = Settings(self, type(self).__name__)
        self.settings.model(self.model)
        self.settings.check("view", self.view)
        if isinstance(options := getattr(self, "options", None), OptionFields):
            self.settings.options(options)
        changes = ("inserted", "removed", "reordered", "renamed")
        self._listening.to("layers", self.viewer.layers, changes, lambda *_: self._layers_soon.start())
        self._on_image()

    def _lay_out(self) -> None:
        """Let the options scroll where the window is low, and keep the button and the progress in sight."""
        layout = QVBoxLayout(self)
        layout.setSpacing(8)
        layout.addWidget(Scroll(self._choices), 100)
        layout.addWidget(self.run_button)
        layout.addWidget(self.status)
        layout.addStretch(1)

    def where(self, *rows: tuple[str, QWidget]) -> QFormLayout:
        """Make the form at the top: image and model, then what else the dock needs to know."""
        return form(("Image", self.image), ("Model", self.model), *rows)

    # --- what each dock says for itself ---

    def build(self) -> Sequence[QWidget | QLayout]:
        """Make the dock's own choosers and options; gives all that is above the button, from the top down."""
        raise NotImplementedError

    def choosers(self) -> list[LayerChooser]:
        """The choosers of layers, which are kept up to date."""
        return [self.image]

    def question(self, engine: Engine, task: Task) -> Question:
        """Read what the user has set; an InputError where it cannot be asked."""
        raise NotImplementedError

    def deliver(self, task: Task, answers: list[Any]) -> str:
        """Show the answers, one for each plane, and return a sentence about them."""
        raise NotImplementedError

    def on_model(self) -> None:
        """Another model has been chosen, or it has been loaded."""

    # --- what changes ---

    def _on_layers(self) -> None:
        for chooser in self.choosers():
            chooser.refresh()
        if self._task is not None and self._task.image not in self.viewer.layers:
            self.cancel("The image was removed, so nothing was made of it.")

    def _on_image(self) -> None:
        image = self.image.layer
        self.all_planes.setVisible(self.many_planes and image is not None and image.ndim > 2)
        large = image is not None and max(data_shape(image)) > LARGE_SIDE
        self.view.setVisible(self.sees_views and large)
        if not self._jobs.busy:
            self._show(NO_IMAGE if image is None else self.ready_text)

    def _on_pixels(self, *_: object) -> None:
        if self._task is not None:
            self.cancel("The image has changed; press Run to look at it again.")

    def _on_model(self, name: str) -> None:
        self._engine = self._engines.take(self._make_engine(name))
        self.on_model()

    # --- running ---

    def run(self) -> None:
        """Ask the model about the plane that the viewer shows, or about all."""
        if self._jobs.busy:
            return
        try:
            task = self._new_task()
            question = self.question(self._engine, task)
        except InputError as problem:
            self._show(str(problem))
            tell(problem)
            return
        self._task = task
        self._listening.to("pixels", task.image, ("data",), self._on_pixels)
        arrays = levels(task.image)
        self.begin(
            "Reading the picture…",
            lambda progress: _asked(question, arrays, task.planes, progress),
            partial(self._on_answers, task),
        )

    def cancel(self, why: str = "Cancelled.") -> None:
        """Stop the work under way; nothing comes of it."""
        if self._jobs.busy:
            self._why_cancelled = why
            self._jobs.cancel()

    def begin(self, text: str, work: Callable[[Progress], Any], done: Callable[[Any], None]) -> None:
        """Start work that the dock shows; only while there is none."""
        self._why_cancelled = ""
        self._jobs.start(work, done, self._on_failed, self._on_progress)
        self._show(text)

    def _new_task(self) -> Task:
        image = self.image.layer
        if image is None:
            raise InputError(NO_IMAGE)
        sight = Sight.of(self.viewer.dims)
        plane = plane_of(image, sight)
        if self.view.isChecked():
            plane = shown_plane(image, self.viewer)
        every = self.many_planes and image.ndim > 2 and self.all_planes.isChecked()
        return Task(image, planes_like(image, plane) if every else [plane], sight)

    def _on_progress(self, done: int, total: int, text: str) -> None:
        if text:
            self._show(text, done, total)

    def _on_answers(self, task: Task, answers: list[Any]) -> None:
        self._task = None
        if task.image not in self.viewer.layers:
            self._show("The image was removed, so nothing was made of it.")
            return
        try:
            self._show(f"{self.deliver(task, answers)} {about(task.planes[0])}".rstrip())
        except InputError as problem:
            self._show(str(problem))
            tell(problem)

    def _on_failed(self, error: Exception | None) -> None:
        self._task = None
        if error is None:
            self._show(NO_IMAGE if self.image.layer is None else self._why_cancelled)
            return
        self._show(str(error) or type(error).__name__)
        tell(error)

    def _show(self, text: str, done: int = 0, total: int = 0) -> None:
        busy = self._jobs.busy
        self.status.show_status(text, busy, done, total)
        self._choices.setEnabled(not busy)
        self.run_button.setEnabled(not busy and self.image.layer is not None)


def _asked(
    question: Question, arrays: Sequence[Any], planes: Sequence[Plane], progress: Progress
) -> list[Any]:
    """Ask about each plane; this runs off the GUI thread."""
    answers = []
    for number, plane in enumerate(planes):
        part = _part(progress, number, len(planes))
        part(0, 0, "Reading the picture…")
        answers.append(question(read_plane(arrays, plane), part))
    return answers


def _part(progress: Progress, number: int, count: int) -> Progress:
    """Progress on one of several planes, as a part of the whole."""
    if count == 1:
        return progress

    def tell_part(done: int, total: int, text: str) -> None:
        share = done / total if total else 0
        progress(round(1000 * (number + share)), 1000 * count, f"Plane {number + 1} of {count}: {text}")

    return tell_part
