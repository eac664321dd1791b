"""The Prompt dock: points, boxes and outlines in, objects in a Labels layer out.

It renders the session's state, and tells the session what the viewer shows and what the user asks; it
decides nothing else. Coordinates are the business of `layers` and `labels`.
"""

from __future__ import annotations

from collections.abc import Callable

import napari.viewer

from napari_samscape.errors import InputError
from napari_samscape.widgets.canvas import Canvas
from napari_samscape.widgets.commits import Commits
from napari_samscape.widgets.controls import TOOLS
from napari_samscape.widgets.cursor import Cursor
from napari_samscape.widgets.desk import Desk
from napari_samscape.widgets.dock import tell
from napari_samscape.widgets.drawings import end_drawing
from napari_samscape.widgets.drawn import BACKGROUND, FOREGROUND, prompts_on
from napari_samscape.widgets.engine import Engine
from napari_samscape.widgets.gaze import Gaze
from napari_samscape.widgets.history import History
from napari_samscape.widgets.keeper import Keeper
from napari_samscape.widgets.layers import Plane
from napari_samscape.widgets.ledger import Ledger
from napari_samscape.widgets.panel import KEYS, PromptPanel
from napari_samscape.widgets.process_engine import ProcessEngine
from napari_samscape.widgets.propagation import Propagation
from napari_samscape.widgets.recall import Recall
from napari_samscape.widgets.session import Session, State
from napari_samscape.widgets.settings import Settings

SETTLED = 200
"""Milliseconds that the sliders have to rest before the plane they show is looked at."""

PLACE = ("scale", "translate", "rotate", "shear", "affine")


class PromptWidget(PromptPanel):
    """Segment objects of an image with points, boxes and outlines.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Filled in by napari.
    engine : callable, optional
        Makes an Engine of a model's name or path; the model in a process of its own where left out.
    """

    # napari recognises the viewer's parameter by just this annotation.
    def __init__(self, viewer: napari.viewer.Viewer, engine: Callable[[str], Engine] = ProcessEngine) -> None:
        super().__init__(viewer)
        self._make_engine = engine
        self.session = Session(self._jobs, self._engines.take(engine("nano")))
        self.canvas = Canvas(self.viewer)
        self.history = History()
        self.ledger = Ledger(self.history, lambda labels: labels in self.viewer.layers)
        self.gaze = Gaze(self)
        self.look = self.gaze.look
        self.recall = Recall(self.viewer, self.canvas, self.session, self.history, self.look)
        self.desk, self.cursor = Desk(self), Cursor(self)
        self.commits, self.propagation = Commits(self), Propagation(self)
        self._tool = FOREGROUND
        self._shown = State()
        self.when_answered: Callable[[], None] | None = None
        """What is to be done as soon as the prompts are answered."""
        self._look_soon = self._timer(SETTLED, self.look)
        self.ask_soon = self._timer(30, self.ask)
        self._layers_soon = self._timer(0, self._on_layers)
        self._image_soon = self._timer(30, self.take_image)
        self._connect()
        self.keeper = Keeper(self)
        self._settings = Settings(self, "prompt")
        self._settings.model(self.model)
        for name in ("preview", "extend", "over"):
            self._settings.check(name, getattr(self, name))
        self._restore_soon = self._timer(0, self.keeper.look)
        self._restore_soon.start()
        self._image_soon.start()  # the dock is drawn first: new layers take napari most of a second

    # --- connections ---

    def _connect(self) -> None:
        self.image.chosen.connect(self.take_image)
        self.points.chosen.connect(self._prepare)
        self.shapes.chosen.connect(self._prepare)
        self.labels.chosen.connect(self._on_labels)
        self.extend.toggled.connect(self._target_change)
        self.model.chosen.connect(self._on_model)
        self.tools.used.connect(self.use)
        self.masks.picked.connect(self.choose)
        self.status.cancelled.connect(self.cancel)
        self.commit_button.clicked.connect(self.commit)
        self.clear_button.clicked.connect(self.clear)
        self.session.changed.connect(self._show)
        self.session.answered.connect(self._on_answer)
        self.session.failed.connect(tell)
        layers, dims, listen = self.viewer.layers, self.viewer.dims, self._listening.to
        listen("layers", layers, ("inserted", "removed", "reordered", "renamed"), self._layers_change)
        listen("dims", dims, ("point", "order", "ndisplay", "ndim"), self._dims_change)
        listen("active", layers.selection, ("active",), self._show_tool)
        self.cursor.listen()
        self.gaze.listen()
        self.canvas.bind((key, getattr(self, name)) for key, (name, _) in KEYS.items())

    # --- the viewer changes ---

    def _layers_change(self, *_: object) -> None:
        self._layers_soon.start()  # not now: napari is still busy with its list

    def _dims_change(self, *_: object) -> None:
        self._look_soon.start()

    def _prompts_change(self, *_: object) -> None:
        self.ask_soon.start()

    def _on_model(self, name: str) -> None:
        self.propagation.leave()
        self.session.use(self._engines.take(self._make_engine(name)))

    def _pixels_change(self, *_: object) -> None:
        self.propagation.leave(look=False)
        self.gaze.forget()
        self.recall.forget_turns()
        self._look_soon.start()

    def _on_layers(self) -> None:
        for chooser in (self.image, self.labels, self.points, self.shapes):
            chooser.refresh()
        made = (self.canvas.points, self.canvas.shapes)
        if not self._image_soon.isActive() and any(layer not in self.viewer.layers for layer in made):
            self._prepare()

    def take_image(self) -> None:
        """Have prompt layers for the image that is chosen, and look at it."""
        self._image_soon.stop()
        self.propagation.leave(look=False)
        image = self.image.layer
        if image is not None:
            self.gaze.forget()
            self.recall.forget_turns()
            self._listening.to("pixels", image, ("data",), self._pixels_change)
            self._listening.to("place", image, PLACE, self._prompts_change)
            self._prepare()
            self.use(self._tool)
        self.look()

    def _prepare(self) -> None:
        """Have prompt layers that fit the image, and listen to them."""
        if self.image.layer is None:
            return
        self.canvas.prepare(self.image.layer, self.points.layer, self.shapes.layer)
        changes = ("data", "features", *PLACE)
        for what, layer in (("points", self.canvas.points), ("shapes", self.canvas.shapes)):
            self._listening.to(what, layer, changes, self._prompts_change)
            self._listening.to(f"{what} tool", layer, ("mode", "feature_defaults"), self._show_tool)
        self.recall.note()
        self.ask_soon.start()

    def _on_labels(self) -> None:
        if self.labels.layer is not None:
            self.ledger.follow(self.labels.layer)
            self._listening.to("label", self.labels.layer, ("selected_label",), self._target_change)
        self.desk.use(self.labels.layer)
        self._target_change()

    def _target_change(self, *_: object) -> None:
        if self.propagation.on:
            self.propagation.show()
        else:
            self.show_target(self.edited)

    @property
    def edited(self) -> int | None:
        """Id of the object that is being edited, in the layer that is chosen."""
        labels, value = self.recall.editing or (None, None)
        return value if labels is not None and labels is self.labels.layer else None

    # --- to the session ---

    @property
    def plane(self) -> Plane | None:
        """What is looked at of the image."""
        return self.gaze.plane

    def ask(self) -> None:
        """Ask what the prompts on the plane say."""
        self.ask_soon.stop()
        self.when_answered = None
        self.recall.note()
        if self.propagation.on:
            self.propagation.ask()
            return
        image, plane = self.image.layer, self.plane
        if image is None or plane is None:
            return
        found = None
        try:
            plane = self.gaze.with_room(image, plane)
            found = prompts_on(image, plane, self.viewer.dims, self.canvas.points, self.canvas.shapes)
        except InputError as problem:
            tell(problem)
        self._target_change()
        self.session.ask(found, () if found is None else self.recall.turns(plane, found))

    # --- tools and keys ---

    def use(self, tool: str) -> None:
        """Take up a tool: 'foreground', 'background', or a mode of the Shapes layer."""
        self._tool = tool
        if tool in (FOREGROUND, BACKGROUND):
            self.canvas.use_points(tool)
        else:
            self.canvas.use_shapes(tool)
        self._show_tool()

    def _show_tool(self, *_: object) -> None:
        """Show which tool is in the user's hand, also where it was taken up in napari's own controls."""
        active = self.viewer.layers.selection.active
        mode = str(getattr(active, "mode", None))
        tool = None
        if active is not None and active is self.canvas.points and mode == "add":
            tool = self.canvas.kind
        elif active is not None and active is self.canvas.shapes and mode in TOOLS:
            tool = mode
        self._tool = tool or self._tool
        self.tools.show_tool(tool)

    def toggle_kind(self) -> None:
        """Let the next points be background ones, or foreground ones again."""
        self.use(BACKGROUND if self._tool == FOREGROUND else FOREGROUND)

    def toggle_box(self) -> None:
        """Go from points to boxes, or back."""
        self.use("add_rectangle" if self._tool in (FOREGROUND, BACKGROUND) else FOREGROUND)

    def choose(self, index: int) -> None:
        """Choose a mask."""
        self.recall.note()
        before = self.session.answer
        self.session.choose(index)
        if self.session.answer != before:
            self.recall.note_choice(self.plane)

    def choose_next(self) -> None:
        """Choose the next mask, and after the last one the first."""
        masks = self.session.state.masks
        if masks is not None:
            self.choose((self.session.state.chosen + 1) % len(masks.iou))

    def choose_first(self) -> None:
        """Choose the first mask."""
        self.choose(0)

    def choose_second(self) -> None:
        """Choose the second mask."""
        self.choose(1)

    def choose_third(self) -> None:
        """Choose the third mask."""
        self.choose(2)

    def clear(self) -> None:
        """Remove the prompts on the plane, and with them the masks; or else drop what was followed."""
        if self.propagation.on:
            self.propagation.leave()
        elif self.image.layer is not None and self.plane is not None:
            self.canvas.clear(self.image.layer, self.plane.holds)
            self.recall.editing = None
            self.ask()

    def undo(self) -> None:
        """Undo the last step: a prompt, a choice, a commit, something painted."""
        self.settle_prompts()
        if not self.history.undo() and self.labels.layer is not None:
            self.ledger.undo(self.labels.layer)

    def redo(self) -> None:
        """Do again what was undone last."""
        self.settle_prompts()
        self.history.redo()

    def settle_prompts(self) -> None:
        """End what is being drawn, and make a step of it."""
        if self.canvas.shapes is not None:
            end_drawing(self.canvas.shapes)
        self.recall.held = False
        self.recall.note()

    # --- objects ---

    def edit(self) -> None:
        """Take the selected object up again, with its prompts."""
        self.desk.edit()

    def next_uncertain(self) -> None:
        """Go to the next object by predicted IoU, from the most uncertain one on."""
        self.desk.step(1)

    def previous_uncertain(self) -> None:
        """Go to the one before."""
        self.desk.step(-1)

    def commit(self) -> None:
        """Write the chosen mask into the Labels layer; a mask that is still being made is waited for.

        An object that was followed is written as it was found, on all planes.
        """
        if self.ask_soon.isActive():
            self.ask()
        if self.propagation.on:
            self.propagation.accept()
        elif self.session.pending:
            self.when_answered = self.commit
        else:
            self.commits.commit()

    def propagate_both(self) -> None:
        """Follow the object along the axis that is chosen, both ways; stop it if that is being done."""
        self.propagation.go(-1, 1)

    def propagate_down(self) -> None:
        """Follow the object to lower planes; stop it if that is being done."""
        self.propagation.go(-1)

    def propagate_up(self) -> None:
        """Follow the object to higher planes; stop it if that is being done."""
        self.propagation.go(1)

    def cancel(self) -> None:
        """Stop the work under way; what was found on other planes stays to be accepted."""
        if self.propagation.on:
            self.propagation.stop()
        else:
            self.session.cancel()

    def _on_answer(self) -> None:
        self.recall.remember(self.plane)
        act, self.when_answered = self.when_answered, None
        if act is not None:
            act()

    # --- showing, and the end ---

    def _show(self, state: State) -> None:
        before, self._shown = self._shown, state
        if self.propagation.on:
            return
        self.render_state(state)
        same = state.masks is before.masks and state.chosen == before.chosen
        if not same or state.preview is not before.preview:
            self.canvas.show(state.shown, self.image.layer, self.plane)

    def close_session(self) -> None:
        """Stop the work and leave the viewer as it was, but for prompts and objects."""
        super().close_session()
        self.cursor.close()
        self.canvas.close()
        self.ledger.close()
        self.keeper.close()
