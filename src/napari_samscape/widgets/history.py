"""What was done, so that it can be undone and done again: one line of steps. No napari, no Qt.

Some of what is changed keeps a history of its own (a Labels layer does, of its last hundred edits). A step
names such things; it is then undone through them, and at most as many of its steps are kept as they keep.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from psygnal import Signal


@dataclass(frozen=True, eq=False)
class Step:
    """Something that was done.

    Attributes
    ----------
    text : str
        What, in a word or two.
    undo, redo : callable
        Take it back, or do it again; False says that this is not possible any more.
    about : tuple
        The things with a history of their own that it has changed.
    """

    text: str
    undo: Callable[[], Any]
    redo: Callable[[], Any]
    about: tuple[Any, ...] = ()


class History:
    """Steps in the order in which they were done.

    Parameters
    ----------
    limit : int
        How many steps are kept.
    limit_each : int
        How many are kept about any one thing with a history of its own.
    """

    changed = Signal()

    def __init__(self, limit: int = 1000, limit_each: int = 100) -> None:
        self._limit, self._limit_each = limit, limit_each
        self._done: list[Step] = []
        self._undone: list[Step] = []
        self._group: list[Step] | None = None
        self._replaying = False

    @property
    def replaying(self) -> bool:
        """Whether a step is being undone or done again; what changes meanwhile is no new step."""
        return self._replaying

    @property
    def to_undo(self) -> str | None:
        """What would be undone next."""
        return self._done[-1].text if self._done else None

    @property
    def to_redo(self) -> str | None:
        """What would be done again next."""
        return self._undone[-1].text if self._undone else None

    def add(self, step: Step) -> None:
        """Note what has just been done; what had been undone before cannot be done again then."""
        if self._replaying:
            return
        if self._group is not None:
            self._group.append(step)
            return
        self._undone.clear()
        self._done.append(step)
        self._forget()
        self.changed.emit()

    def add_undone(self, step: Step) -> None:
        """Note what has just been undone elsewhere, so that it can be done again."""
        self._undone.append(step)
        self.changed.emit()

    @contextmanager
    def together(self, text: str) -> Iterator[None]:
        """Make one step of all that is done meanwhile, also where it ends in an error."""
        if self._group is not None or self._replaying:
            yield
            return
        self._group = []
        try:
            yield
        finally:
            group, self._group = self._group, None
            if group:
                self.add(_joined(text, group))

    def undo(self, about: Any = None) -> bool:
        """Undo the last step, or as many as it takes to undo one about a thing.

        Returns
        -------
        bool
            Whether there was one.
        """
        return self._move(self._done, self._undone, "undo", about)

    def redo(self, about: Any = None) -> bool:
        """Do again what was undone last, or as much as it takes for a thing; whether there was any."""
        return self._move(self._undone, self._done, "redo", about)

    def cancel(self) -> None:
        """Undo the last step for good: it came to nothing."""
        if self.undo():
            self._undone.pop()

    def clear(self) -> None:
        """Forget everything."""
        self._done.clear()
        self._undone.clear()
        self.changed.emit()

    def _move(self, source: list[Step], target: list[Step], way: str, about: Any) -> bool:
        if about is not None and not any(_is_about(step, about) for step in source):
            return False
        moved = False
        while source and not moved:
            step = source.pop()
            self._replaying = True
            try:
                possible = getattr(step, way)() is not False
            finally:
                self._replaying = False
            if possible:
                target.append(step)
                moved = about is None or _is_about(step, about)
        self.changed.emit()
        return moved

    def _forget(self) -> None:
        """Drop the oldest steps, up to one that the thing it is about has forgotten itself."""
        counts = Counter(id(thing) for step in self._done for thing in step.about)
        newest = self._done[-1]
        while len(self._done) > self._limit or any(counts[id(t)] > self._limit_each for t in newest.about):
            counts.subtract(id(thing) for thing in self._done.pop(0).about)


def _is_about(step: Step, thing: Any) -> bool:
    return any(other is thing for other in step.about)


def _joined(text: str, steps: list[Step]) -> Step:
    """One step of several; it is possible where any of them is."""
    things = {id(thing): thing for step in steps for thing in step.about}

    def undo() -> bool:
        return any([step.undo() is not False for step in reversed(steps)])

    def redo() -> bool:
        return any([step.redo() is not False for step in steps])

    return Step(text, undo, redo, tuple(things.values()))
