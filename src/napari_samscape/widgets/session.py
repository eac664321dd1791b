"""One session per viewer: what is looked at, what is asked and answered. No napari, no Qt, no torch.

The session says what is wanted; `_next` compares that with what has been done and starts the one piece of
work that comes next. So a click during a long embedding waits for it, a later click replaces it, and work
for a plane that is no longer shown is stopped. What the cursor points at comes last, and only the newest
place of it is ever asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol

from numpy.typing import NDArray
from psygnal import Signal

from napari_samscape.widgets.turns import (
    Question,
    Turn,
    answered,
    corrected,
    fit,
    is_ambiguous,
    with_point,
    within,
)

if TYPE_CHECKING:
    from napari_samscape.prediction.types import Instance, Masks, Prompts
    from napari_samscape.widgets.engine import Engine

Phase = Literal["nothing", "working", "ready", "stopped"]


@dataclass(frozen=True, eq=False)
class View:
    """A picture to look at: a key that changes with its content, and how to read it (in the worker)."""

    key: Hashable
    read: Callable[[], NDArray]
    text: str = ""
    """Which part of the picture it is, in a few words; nothing where it is all."""


@dataclass(frozen=True, eq=False)
class State:
    """All that the dock shows of a session; frozen, so that whoever renders it cannot change it.

    Attributes
    ----------
    phase : str
        'nothing' to look at, 'working', 'ready' for prompts, or 'stopped' by the user or an error.
    text : str
        One line that says so.
    done, total : int
        Progress of the work; the total is 0 where it is not known.
    masks : Masks or None
        The answer to the prompts, or to the ones before while new ones are being answered.
    chosen : int
        Index of the mask that counts.
    picked : bool
        Whether the user chose it; otherwise it is the one with the highest predicted IoU.
    picture : ndarray of uint8, shape (y, x, 3), or None
        What the model saw, possibly at fewer pixels than the masks.
    preview : Instance or None
        What a click where the cursor is would give.
    """

    phase: Phase = "nothing"
    text: str = "Open an image to begin."
    done: int = 0
    total: int = 0
    masks: Masks | None = None
    chosen: int = 0
    picked: bool = False
    picture: Any = None
    preview: Any = None

    @property
    def shown(self) -> Any:
        """What to draw: an Instance under the cursor if there is one, else the chosen mask, or None."""
        return self.mask if self.preview is None else self.preview

    @property
    def mask(self) -> Any:
        """The chosen mask, bool (y, x), or None."""
        return None if self.masks is None else self.masks.masks[self.chosen]

    @property
    def iou(self) -> float:
        """Predicted IoU of the chosen mask; not a number without one."""
        return math.nan if self.masks is None else float(self.masks.iou[self.chosen])


@dataclass(frozen=True, eq=False)
class Errand:
    """Work of somebody else on the engine; otherwise as `worker.Jobs.start` takes it."""

    work: Callable[[Engine, Any], Any]
    done: Callable[[Any], None]
    failed: Callable[[Exception | None], None]
    reported: Callable[[int, int, str], None]


class JobRunner(Protocol):
    """What a session needs of `worker.Jobs`."""

    @property
    def busy(self) -> bool:
        """Whether work is under way."""

    def start(self, work: Any, done: Any, failed: Any, reported: Any) -> None:
        """Begin work."""

    def cancel(self) -> None:
        """Stop it."""


class Session:
    """Keeps one viewer's view, prompts and answer in step with an engine.

    Parameters
    ----------
    jobs : JobRunner
        Where work is done.
    engine : Engine
        The model.
    """

    changed = Signal(object)
    """The new State."""
    failed = Signal(object)
    """An exception from the work, to be shown to the user."""
    answered = Signal()
    """The masks now belong to the latest prompts."""

    def __init__(self, jobs: JobRunner, engine: Engine) -> None:
        self.state = State()
        self._jobs = jobs
        self._engine = engine
        self._view: View | None = None
        self._running: tuple[Engine, Hashable] | None = None
        self._errand: Errand | None = None
        self._prompts: Prompts | None = None
        self._answer_to: Prompts | None = None
        self._turns: tuple[Turn, ...] = ()  # to the answer
        self._replay: tuple[Turn, ...] = ()  # to go through for the next one
        self._pointed: Prompts | None = None  # the prompts and the cursor's place
        self._previewed: Prompts | None = None
        self._halted = False
        self._idle = False

    @property
    def pending(self) -> bool:
        """Whether there are prompts that have no answer yet."""
        return self._prompts is not None and self._answer_to is not self._prompts and not self._halted

    def use(self, engine: Engine) -> None:
        """Go on with another model; the prompts are asked again."""
        self._engine = engine
        self._answer_to = self._previewed = None
        self._halted = False
        self._next()

    def look_at(self, view: View | None, why_not: str = "Open an image to begin.") -> None:
        """Look at another picture, or at none; prompts and answer belong to the old one and are dropped."""
        if view is not None and self._view is not None and view.key == self._view.key:
            return
        self._view = view
        self._prompts = self._answer_to = self._pointed = None
        self._turns = self._replay = ()
        self._halted = False
        self.state = State(text=why_not)
        self._next()

    def ask(self, prompts: Prompts | None, turns: Sequence[Turn] = ()) -> None:
        """Ask about one object in the picture; None means that there is no prompt any more.

        With the turns that led to an earlier answer it is asked as it was then, for the same answer.
        """
        self._prompts = prompts
        self._replay = tuple(turns) if prompts is not None and fit(turns, prompts) else ()
        self._answer_to = None if self._replay else self._answer_to
        self._halted = False
        self._pointed = None  # it had the old prompts beside it; what is drawn of it stays till the answer
        if prompts is None:
            self._answer_to, self._turns = None, ()
            self.state = replace(self.state, masks=None, chosen=0, picked=False, preview=None)
        self._next()

    @property
    def answer(self) -> tuple[Prompts, tuple[Turn, ...]] | None:
        """The prompts that the masks answer, and what it takes to ask them again; None without masks."""
        if self._answer_to is None or self.state.masks is None or not self._turns:
            return None
        choice = self.state.chosen if self.state.picked else None
        return self._answer_to, (*self._turns[:-1], self._turns[-1]._replace(choice=choice))

    @property
    def has_prompts(self) -> bool:
        """Whether anything is asked for."""
        return self._prompts is not None

    def point_at(self, place: tuple[float, float] | None, label: int = 1) -> None:
        """Preview what a click would give; None where the cursor points at nothing.

        Parameters
        ----------
        place : tuple of float
            (y, x), inside the picture.
        label : int
            1 for the object, 0 for the background.
        """
        if place is None:
            self._pointed = None
            if self.state.preview is not None:
                self._show(preview=None)
            return
        self._pointed = with_point(self._prompts, place, label)
        if not self._jobs.busy or self._idle:
            self._next()

    def look_ahead(self, views: Sequence[View]) -> None:
        """Look at the first of these pictures that is not known yet; whatever else is wanted stops it."""
        engine = self._engine
        view = next((view for view in views if not engine.knows(view.key)), None)
        if view is None or self._jobs.busy or self.state.phase != "ready":
            return
        self._running, self._idle = (engine, view.key), True

        def ended(*_: Any) -> None:
            self._idle = False
            self._next()

        self._jobs.start(lambda progress: _embed(engine, view, progress), ended, ended, lambda *_: None)

    def send(self, errand: Errand | None) -> None:
        """Do an errand as soon as what is under way has been stopped; None stops the one before."""
        self._errand = errand
        self._next()

    def choose(self, index: int) -> None:
        """Let the user's choice among the masks stand until the object is done."""
        masks = self.state.masks
        if masks is not None and 0 <= index < len(masks.iou):
            self._show(chosen=index, picked=True)

    def choose_next(self) -> None:
        """Choose the next mask, and after the last one the first."""
        if self.state.masks is not None:
            self.choose((self.state.chosen + 1) % len(self.state.masks.iou))

    def cancel(self) -> None:
        """Stop the work under way; the next prompt, picture or model starts it again."""
        self._jobs.cancel()
        self._halt("Cancelled; the next prompt starts again.")

    def _show(self, **changes: Any) -> None:
        self.state = replace(self.state, **changes)
        self.changed.emit(self.state)

    def _next(self) -> None:
        """Start the work that leads from what is done to what is wanted, if nothing is under way."""
        view, engine, prompts = self._view, self._engine, self._prompts
        if self._errand is not None:
            self._run(engine, self._errand)
        elif self._jobs.busy:
            if view is None or self._running != (engine, view.key):
                self._jobs.cancel()  # its end calls this function again
            if self._idle and view is not None and not engine.knows(view.key):
                self._show(phase="working", text="Looking at the picture…", done=0, total=0)
            else:
                self._show()
        elif view is None:
            self._show(phase="nothing")
        elif self._halted:
            self._show()
        elif not engine.knows(view.key):
            self._start("Looking at the picture…", lambda progress: _embed(engine, view, progress), None)
        elif self.pending and prompts is not None:
            question = self._question(prompts)
            self._start("Finding the object…", lambda _: answered(engine, view.key, question), question)
        elif self._pointed is not None and self._pointed is not self._previewed:
            self._preview(engine, view, self._pointed)
        else:
            self._show(phase="ready", text=_ready_text(self.state.masks, view.text))

    def _run(self, engine: Engine, errand: Errand) -> None:
        running = (engine, errand)
        if self._jobs.busy:
            if self._running != running:
                self._jobs.cancel()  # its end calls `_next`
            return
        self._running = running

        def ended(tell: Callable[[Any], None], what: Any) -> None:
            self._errand = None if self._errand is errand else self._errand
            tell(what)
            self._next()

        done, failed = partial(ended, errand.done), partial(ended, errand.failed)
        self._jobs.start(partial(errand.work, engine), done, failed, errand.reported)

    def _question(self, prompts: Prompts) -> Question:
        if self._replay:
            return Question(prompts, self._replay)
        asked = self._corrected(prompts, self._answer_to)
        before = () if asked is prompts or self.answer is None else self.answer[1]
        return Question(prompts, (*before, Turn(len(prompts.points))), asked)

    def _corrected(self, new: Prompts, old: Prompts | None) -> Prompts:
        masks, chosen = self.state.masks, self.state.chosen
        return new if masks is None else corrected(new, old, masks, chosen)

    def _start(self, text: str, work: Any, question: Question | None) -> None:
        assert self._view is not None
        self._running = (self._engine, self._view.key)
        self._show(phase="working", text=text, done=0, total=0)
        done = partial(self._on_done, question)
        self._jobs.start(work, done, self._on_failed, self._on_progress)

    def _preview(self, engine: Engine, view: View, pointed: Prompts) -> None:
        """Answer for where the cursor is, without a word: the status would flicker."""
        asked = self._corrected(pointed, self._prompts)
        self._running = (engine, view.key)

        def done(found: Instance) -> None:
            self._previewed = pointed
            if self._pointed is not None:  # a place just left is better than none: the cursor rarely rests
                self.state = replace(self.state, preview=found)
            self._next()

        work = partial(engine.glance, view.key, asked, multimask=is_ambiguous(asked))
        self._jobs.start(lambda _: work(), done, self._on_failed, lambda *_: None)

    def _on_progress(self, done: int, total: int, text: str) -> None:
        if text:
            self._show(done=done, total=total, text=text)

    def _on_done(self, question: Question | None, answer: tuple[Masks, Any] | None) -> None:
        fits = question is not None and question.prompts is self._prompts
        if question is not None and answer is not None and fits:
            masks, picture = answer
            choice = self._choice(question, masks)
            self._answer_to, self._turns, self._replay = question.prompts, question.turns, ()
            chosen = masks.best if choice is None else choice
            state = replace(
                self.state, masks=masks, chosen=chosen, picked=choice is not None, picture=picture
            )
            self.state = replace(state, preview=None if self._pointed is None else state.preview)
        self._next()
        if fits:
            self.answered.emit()

    def _choice(self, question: Question, masks: Masks) -> int | None:
        """Mask that the user chose, of these or of ones like them before."""
        if self._replay:
            return within(question.turns[-1].choice, masks)
        before = self.state.masks
        kept = self.state.picked and before is not None and len(before.iou) == len(masks.iou)
        return self.state.chosen if kept else None

    def _on_failed(self, error: Exception | None) -> None:
        if error is None or self._running != (self._engine, self._view.key if self._view else None):
            self._next()  # cancelled, or about something that is no longer looked at
            return
        self._halt(str(error) or type(error).__name__)
        self.failed.emit(error)

    def _halt(self, text: str) -> None:
        """Wait for another prompt, picture or model; masks for older prompts are dropped."""
        self._halted = True
        self.state = replace(self.state, preview=None)
        if self._answer_to is not self._prompts:
            self.state = replace(self.state, masks=None)
        self._show(phase="stopped", text=text)


def _embed(engine: Engine, view: View, progress: Any) -> None:
    progress(0, 0, "Reading the picture…")
    engine.embed(view.key, view.read(), progress)


def _ready_text(masks: Masks | None, where: str) -> str:
    text = "Choose a mask, correct it, commit it."
    if masks is None:
        text = "Click on an object, or draw a box round it."
    elif len(masks.iou) == 1:
        text = "Correct it further, or commit it."
    return f"{text} {where}".rstrip()
