"""The prompts of a dock as they were: how each plane's were asked, and going back to an earlier moment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from napari_samscape.errors import InputError
from napari_samscape.widgets.drawings import Drawings, is_drawing, kept, put_back
from napari_samscape.widgets.drawn import prompts_on
from napari_samscape.widgets.history import History, Step
from napari_samscape.widgets.layers import Plane
from napari_samscape.widgets.turns import Turn, same

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

    from napari_samscape.prediction.types import Prompts
    from napari_samscape.widgets.canvas import Canvas
    from napari_samscape.widgets.session import Session


Known = dict[Plane, tuple["Prompts", tuple[Turn, ...]]]


@dataclass(frozen=True, eq=False)
class Moment:
    """What is asked at one moment.

    Attributes
    ----------
    drawings : Drawings
        All prompts, those on other planes included.
    known : dict
        How the prompts on each plane were asked.
    editing : tuple of Labels and int, or None
        The object that they belong to, where it is there already.
    point : tuple of float
        Where the sliders stand.
    """

    drawings: Drawings
    known: Known
    editing: tuple[Labels, int] | None
    point: tuple[float, ...]

    def same_as(self, other: Moment) -> bool:
        """Whether the same is asked; the answer may be another, as the turns come with it."""
        return self.editing == other.editing and self.drawings.same_as(other.drawings)


class Recall:
    """Notes each change of the prompts in the history.

    Parameters
    ----------
    viewer, canvas, session, history
        Those of the dock.
    ask_again : callable
        Called when the prompts have been put back.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        canvas: Canvas,
        session: Session,
        history: History,
        ask_again: Callable[[], None],
    ) -> None:
        self._viewer, self._canvas, self._session, self._history = viewer, canvas, session, history
        self._ask_again = ask_again
        self._known: Known = {}
        self._layers: tuple[Any, Any] = (None, None)
        self._last: Moment | None = None
        self.editing: tuple[Labels, int] | None = None
        self.held = False
        """While the mouse is held down, what it does is not complete."""

    # --- turns ---

    def turns(self, plane: Plane, prompts: Prompts) -> tuple[Turn, ...]:
        """How these prompts on this plane were asked before; none where they were not."""
        known = self._known.get(plane)
        return known[1] if known is not None and same(known[0], prompts) else ()

    def forget_turns(self) -> None:
        """Know nothing any more: another image is asked about."""
        self._known.clear()
        self.editing = None

    def remember(self, plane: Plane | None) -> None:
        """Keep how the prompts on the plane were asked, now that they have an answer."""
        self._keep_answer(plane)
        if self._last is not None and self._last.same_as(self._now()):
            self._last = replace(self._last, known=dict(self._known))

    def _keep_answer(self, plane: Plane | None) -> None:
        answer = self._session.answer
        if plane is not None and answer is not None:
            self._known[plane] = answer

    # --- steps ---

    def note_choice(self, plane: Plane | None) -> None:
        """Make a step of the choice of another mask."""
        self._keep_answer(plane)
        self.note("choice of a mask", always=True)

    def note(self, text: str = "prompt", *, always: bool = False) -> None:
        """Make a step of what has changed since the last one."""
        points, shapes = self._canvas.points, self._canvas.shapes
        if points is None or shapes is None or self.held or is_drawing(shapes):
            return
        now, before = self._now(), self._last
        fresh = before is None or self._layers != (points, shapes)
        if before is not None and not fresh and not self._history.replaying:
            if now.same_as(before) and not always:
                return
            self._history.add(self._step(text, before, now))
        self._last, self._layers = now, (points, shapes)

    def _now(self) -> Moment:
        assert self._canvas.points is not None and self._canvas.shapes is not None
        drawings = kept(self._canvas.points, self._canvas.shapes)
        return Moment(drawings, dict(self._known), self.editing, tuple(self._viewer.dims.point))

    def _step(self, text: str, before: Moment, now: Moment) -> Step:
        layers, stored = (self._canvas.points, self._canvas.shapes), [before]

        def swap() -> bool:
            if layers != (self._canvas.points, self._canvas.shapes) or any(
                layer not in self._viewer.layers for layer in layers
            ):
                return False
            other, stored[0] = stored[0], self._now()
            self.go_to(replace(other, point=now.point))
            return True

        return Step(text, swap, swap)

    def go_to(self, moment: Moment) -> None:
        """Put prompts back, show the plane that they were changed on, and have them asked as they were."""
        points, shapes, dims = self._canvas.points, self._canvas.shapes, self._viewer.dims
        if len(moment.point) == dims.ndim:
            dims.set_point(range(dims.ndim), moment.point)
        assert points is not None and shapes is not None
        put_back(moment.drawings, points, shapes)
        self.editing = moment.editing
        self._known = dict(moment.known)
        self._last = moment
        self._ask_again()

    def expect(self, image: Image, plane: Plane, turns: tuple[Turn, ...]) -> None:
        """Let the prompts that are there on a plane be asked in these turns."""
        dims = self._viewer.dims
        try:
            found = prompts_on(image, plane, dims, self._canvas.points, self._canvas.shapes)
        except InputError:
            return  # whoever asks tells
        self._known.pop(plane, None)
        if found is not None and turns:
            self._known[plane] = (found, turns)
