"""What is known of a batch: what was ordered, how far it is, how long it takes. No napari, no Qt."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from napari_samscape.io.text import replacing_text
from napari_samscape.widgets.autosave import data_folder

Stage = Literal["waiting", "running", "stopped", "done", "failed"]
LINES = 1000
"""So many lines of a log are kept."""


@dataclass
class Batch:
    """Many pictures to be done in one go.

    Attributes
    ----------
    order : dict
        See `scaling.attended`.
    stage : str
        A batch that is stopped or has failed goes on where it was.
    done, total : int
        Progress; the total is 0 where it is not known.
    text : str
        What is being done, or what came of it.
    log : list of str
        All that was said.
    """

    order: dict[str, Any]
    stage: Stage = "waiting"
    done: int = 0
    total: int = 0
    text: str = "waiting"
    log: list[str] = field(default_factory=list)
    _since: tuple[float, int] | None = None

    @property
    def name(self) -> str:
        """Its pictures, in a few words."""
        source = Path(self.order["source"])
        # Of a pattern the last part says little.
        return "/".join(source.parts[-2:]) if "*" in source.name else source.name or str(source)

    def start(self) -> None:
        """Begin, or go on."""
        self.stage, self.text, self._since = "running", "starting", None

    def report(self, done: int, total: int, text: str, now: float) -> None:
        """Note progress at a time, in seconds."""
        if self._since is None:
            self._since = now, done
        if text != self.text:
            self.say(text)
        self.done, self.total, self.text = done, total, text

    def say(self, text: str) -> None:
        """Add a line to the log."""
        self.log = [*self.log[1 - LINES :], text]

    def finish(self, result: dict[str, Any]) -> None:
        """Note what came of it."""
        for picture in result["pictures"]:
            for sentence in (picture["error"], *picture["failed"]):
                if sentence is not None:
                    self.say(f"{picture['picture']}: {sentence}")
        self.stage = "failed" if result["failed"] else "done"
        self.done = self.total = max(self.total, 1)
        objects = "" if result["table"] is None else f", {result['objects']} objects"
        failed = f", {result['failed']} failed" if result["failed"] else ""
        self.text = f"{result['done']} pictures{failed}{objects}"
        self.say(f"{self.text}, in {result['seconds']:.0f} s")

    def stop(self, stage: Stage, text: str) -> None:
        """Note that it is not being worked on any more."""
        self.stage, self.text = stage, text
        self.say(text)

    def seconds_left(self, now: float) -> float | None:
        """How long it will take from now on, by how long it has taken; None while nobody knows."""
        if self.stage != "running" or self._since is None or self.total == 0:
            return None
        started, done = self._since
        if self.done <= done or now <= started:
            return None
        return (now - started) * (self.total - self.done) / (self.done - done)


def shown_time(seconds: float | None) -> str:
    """A time for people: seconds up to a minute, then minutes, then hours and minutes.

    >>> [shown_time(s) for s in (None, 8, 95, 7300)]
    ['', '8 s', '2 min', '2 h 2 min']
    """
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _place() -> Path:
    return data_folder() / "batches.json"


def save(batches: Iterable[Batch]) -> None:
    """Write the list down."""
    path = _place()
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing_text(path, True) as file:
        json.dump([asdict(batch) for batch in batches], file)


def saved() -> list[Batch]:
    """Read the list; what was being worked on is stopped, and a list that cannot be read is empty."""
    batches: list[Batch] = []
    with suppress(OSError, ValueError, TypeError):
        for values in json.loads(_place().read_text(encoding="utf-8")):
            batch = Batch(**{**values, "_since": None})
            if batch.stage in ("running", "waiting"):
                batch.stop("stopped", "stopped when napari ended")
            batches.append(batch)
    return batches
