"""One object followed through a volume or through time, from the Prompt dock: a preview until it is accepted.

Meanwhile the session rests. All prompts along the axis are this object's. Those on the plane where it began
had their answer from the session; those on a plane where it was found correct what was found there, and it
is followed on from them; those elsewhere begin anew.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.notifications import show_info

from napari_samscape.errors import InputError
from napari_samscape.prediction.instances import instance_from_mask
from napari_samscape.prediction.types import Prompts
from napari_samscape.scaling.propagate import Found, PropagateOptions, SliceMask, is_start
from napari_samscape.widgets.dock import NO_IMAGE, tell
from napari_samscape.widgets.drawn import places_of, prompts_on
from napari_samscape.widgets.layers import Sight, data_shape, plane_of
from napari_samscape.widgets.session import Errand
from napari_samscape.widgets.stack import Request, Stack
from napari_samscape.widgets.turns import same

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_samscape.model.progress import Progress
    from napari_samscape.widgets.engine import Engine
    from napari_samscape.widgets.prompt import PromptWidget

REDRAWN = 100
"""Milliseconds between two drawings of what has been found while more is being found."""


class Propagation:
    """Follows the object that a dock's prompts are about.

    Parameters
    ----------
    dock : PromptWidget
        Whose.
    """

    def __init__(self, dock: PromptWidget) -> None:
        self._dock = dock
        self._stack: Stack | None = None
        self._draw_soon = dock._timer(REDRAWN, self._draw)
        dock.propagate.wanted.connect(lambda ways: self.go(*ways))
        self._forget()

    def _forget(self) -> None:
        self._stack = None
        self._sight: Sight | None = None
        self._ways: set[int] = set()
        self._start = -1
        self._answered: tuple[Prompts, Found] | None = None  # on the plane where it began
        self._bases: dict[int, Found | None] = {}  # what was found before there were prompts on a plane
        self._asked: dict[int, Prompts] = {}
        self._steps: list[SliceMask] = []  # a thread of the worker's appends to it
        self._errand: Errand | None = None
        self._accept_at_end = False
        self._progress = (0, 0, "")

    @property
    def on(self) -> bool:
        """Whether an object is being followed, or shown as it was found."""
        return self._stack is not None

    @property
    def busy(self) -> bool:
        """Whether it is being followed at the moment."""
        return self._errand is not None

    @property
    def found(self) -> dict[int, SliceMask]:
        """What has been found, by plane."""
        return {step.index: step for step in list(self._steps) if step.found is not None}

    def offer_axes(self, image: Image | None) -> None:
        """Let those axes of an image be chosen along which an object can be followed."""
        dims, axes = self._dock.viewer.dims, []
        if image is not None:
            missing, shown = dims.ndim - image.ndim, dims.displayed
            for axis, size in enumerate(data_shape(image)):
                if axis + missing not in shown[-2:] and size > 1:
                    axes.append((axis, str(image.axis_labels[axis]).removeprefix("axis ")))
        self._dock.propagate.offer(axes)

    # --- what the user asks for ---

    def go(self, *ways: int) -> None:
        """Follow the object these ways, too; stop where that is being done already."""
        dock = self._dock
        if self.busy and set(ways) <= self._ways:
            self.stop()
            return
        if not self.on:
            if dock.ask_soon.isActive():
                dock.ask()
            if dock.session.pending:
                dock.when_answered = partial(self.go, *ways)
                return
            try:
                self._begin()
            except InputError as problem:
                tell(problem)
                return
        self._ways |= set(ways)
        drawn = self._drawn()
        self._run(self._prompts(drawn), drawn)

    def ask(self) -> None:
        """Take note of the prompts: where they are others now, the object is followed anew."""
        if self._stack is None:
            return
        drawn = self._drawn()
        prompts = self._prompts(drawn)
        known = self._asked
        if prompts.keys() == known.keys() and all(same(prompts[i], known[i]) for i in prompts):
            return
        if not any(is_start(prompt) for prompt in prompts.values()):
            self.leave()  # there is nothing left of what was said
            return
        self._run(prompts, drawn)

    def stop(self) -> None:
        """Be content with what has been found by now."""
        if self.busy:
            self._errand, self._accept_at_end = None, False
            self._dock.session.send(None)
            self._end("Stopped")

    def accept(self) -> None:
        """Write the object into the Labels layer, on all planes where it was found; at the end, if busy."""
        stack, found = self._stack, self.found
        if stack is None:
            return
        if self.busy:
            self._accept_at_end = True
            return
        if not found:
            show_info("There is nothing to accept: the object was not found on any plane.")
            return
        order = sorted(found, key=lambda index: (index != self._start, index))
        parts = [(stack.at(index), found[index].item) for index in order]
        try:
            self._dock.commits.write(stack.image, parts, stack.holds, self._sight, self._clear)
        except InputError as problem:
            tell(problem)

    def leave(self, look: bool = True) -> None:
        """Go back to single planes: what was found is dropped, the prompts stay."""
        if self._stack is None:
            return
        self._forget()
        self._draw_soon.stop()
        self._dock.session.send(None)
        self._dock.canvas.hide()
        self._dock.show_target()
        if look:
            self._dock.look()

    def _clear(self) -> None:
        """Remove the object's prompts; what follows is a part of the step that is being noted."""
        dock, stack = self._dock, self._stack
        assert stack is not None
        dock.canvas.clear(stack.image, stack.holds)
        dock.recall.editing = None
        dock.recall.note()
        self.leave()

    # --- following ---

    def _begin(self) -> None:
        """Take the object that is asked for on the plane that is shown."""
        dock = self._dock
        image, session = dock.image.layer, dock.session
        if image is None:
            raise InputError(NO_IMAGE)
        shown = plane_of(image, dock.viewer.dims)
        if dock.plane is None or not dock.plane.lies_on(shown):
            dock.look()  # the slider has just been moved
        plane, axis = dock.plane, dock.propagate.axis
        if axis is None or axis in shown.axes or plane is None:
            raise InputError(
                f"'{image.name}' is one plane: there is no volume or time series to follow an object through."
            )
        stack, sight = Stack(image, plane, axis, dock.gaze.key), Sight.of(dock.viewer.dims)
        drawn = self._drawn_on(stack, sight)
        if not any(is_start(prompt) for prompt in drawn.values()):
            raise InputError("Say first what is to be followed: click on an object, or draw a box round it.")
        self._stack, self._sight, self._start = stack, sight, plane.position[axis]
        masks, answer = session.state.masks, session.answer
        if masks is not None and answer is not None and masks.masks[session.state.chosen].any():
            item = instance_from_mask(session.state.mask, predicted_iou=session.state.iou)
            view = masks.view or (0, 0, *plane.shape)
            self._answered = answer[0], Found(item, view, masks.logits[session.state.chosen])
        self._bases = dict.fromkeys(drawn)
        session.look_at(None, "")

    def _drawn(self) -> dict[int, Prompts]:
        """The prompts that are drawn along the axis that the object is followed along."""
        assert self._stack is not None
        return self._drawn_on(self._stack, self._sight)

    def _drawn_on(self, stack: Stack, sight: Any) -> dict[int, Prompts]:
        """The prompts that are drawn along the axis, by plane."""
        dock = self._dock
        drawn = dock.canvas.points, dock.canvas.shapes
        places = places_of(stack.image, sight, *drawn)
        places = places[stack.holds(places)]
        indices = np.unique(np.rint(places[:, stack.axis]).astype(int))
        found = {}
        for index in indices[(indices >= 0) & (indices < len(stack))].tolist():
            try:
                prompts = prompts_on(stack.image, stack.at(index), sight, *drawn)
            except InputError as problem:
                tell(problem)
                continue
            if prompts is not None:
                found[index] = prompts
        return found

    def _prompts(self, drawn: dict[int, Prompts]) -> dict[int, Prompts]:
        """What is to be asked on each plane with prompts that say anything."""
        found = self.found
        self._bases = {index: base for index, base in self._bases.items() if index in drawn}
        asked = {}
        for index, prompts in drawn.items():
            if index not in self._bases:
                self._bases[index] = found[index].found if index in found else None
            prompts = self._corrected(index, prompts)
            if is_start(prompts):
                asked[index] = prompts
        return asked

    def _corrected(self, index: int, prompts: Prompts) -> Prompts:
        """The prompts with the mask that they correct, if they do: a drawn mask stands for itself."""
        base = self._bases[index]
        if index == self._start and self._answered is not None:
            before, answer = self._answered
            base = answer if _adds_to(prompts, before) else None
        if base is None or prompts.mask is not None or prompts.box is not None and index != self._start:
            return prompts
        return replace(prompts, mask=base.logits, mask_view=base.view)

    def _run(self, prompts: dict[int, Prompts], drawn: dict[int, Prompts]) -> None:
        """Follow the object that is asked for by prompts, which come from those that are drawn."""
        stack = self._stack
        assert stack is not None
        self._asked, self._accept_at_end = prompts, False
        self._steps = found = list[SliceMask]()
        known = {}
        if self._answered is not None and self._start in prompts:
            before, answer = self._answered
            if same(drawn[self._start], before):
                known[self._start] = answer
        request = Request(prompts, known, PropagateOptions(ways=tuple(sorted(self._ways))))

        def work(engine: Engine, progress: Progress) -> None:
            stack.follow(engine, request, found, progress)

        errand = Errand(
            work,
            lambda _: self._on_end(errand, None),
            lambda error: self._on_end(errand, error),
            lambda *progress: self._on_progress(errand, *progress),
        )
        self._errand = errand
        self._progress = (0, 0, "Following the object…")
        self._dock.session.send(errand)
        self.show()

    def _on_progress(self, errand: Errand, done: int, total: int, text: str) -> None:
        if errand is self._errand and text:
            self._progress = (done, total, text)
            self.show()
            if not self._draw_soon.isActive():
                self._draw_soon.start()

    def _on_end(self, errand: Errand, error: Exception | None) -> None:
        if errand is not self._errand:
            return  # it was stopped, or there is a newer one
        self._errand = None
        if error is not None:
            tell(error)
        accept = self._accept_at_end and error is None
        self._end("Stopped by an error" if error is not None else "")
        if accept:
            self.accept()

    def _end(self, why: str) -> None:
        found = sorted(self.found)
        text = "The object was not found; click to correct it, or discard it (U)."
        if found:
            count = f"{len(found)} plane{'s' * (len(found) > 1)}"
            where = f"{self._stack.name if self._stack else ''} {found[0]} to {found[-1]}"
            text = f"Found on {count}, {where}. Click to correct it on any of them."
        self._progress = (0, 0, f"{why}. {text}" if why else text)
        self._draw()
        self.show()

    # --- showing ---

    def show(self) -> None:
        """Let the dock say how far it is."""
        done, total, text = self._progress
        self._dock.render_propagation(text, self.busy, (done, total), len(self.found))

    def _draw(self) -> None:
        self._draw_soon.stop()
        if self._stack is not None:
            items = {index: step.item for index, step in self.found.items()}
            self._dock.canvas.show_planes(items, self._stack)


def _adds_to(prompts: Prompts, before: Prompts) -> bool:
    """Whether prompts are earlier ones and further points."""
    count = len(before.points)
    return (
        len(prompts.points) >= count
        and np.array_equal(prompts.points[:count], before.points)
        and np.array_equal(prompts.labels[:count], before.labels)
        and np.array_equal(prompts.box, before.box)
        and np.array_equal(prompts.mask, before.mask)
    )
