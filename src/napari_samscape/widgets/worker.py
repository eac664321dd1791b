"""Background work: one thread per dock, so that at most one piece of work is ever under way.

The function is called in that thread; what it returns, raises or reports is delivered in the GUI thread.
Nothing is delivered of work that was cancelled. A function that reports its progress can be stopped there;
one that does not runs to its end, unheard.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from threading import Event
from typing import Any

from qtpy.QtCore import QObject, Signal

from napari_samscape.model.progress import Progress

Work = Callable[[Progress], Any]


def child_environment() -> dict[str, str]:
    """What a Python process of ours runs in: it finds what this one finds, as those of multiprocessing do."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


class Cancelled(Exception):
    """Raised from a progress callback to stop the work that called it."""


@dataclass(eq=False)
class _Job:
    work: Work
    done: Callable[[Any], None]
    failed: Callable[[Exception | None], None]
    reported: Progress
    cancelled: Event


class Jobs(QObject):
    """Runs one function at a time off the GUI thread."""

    _ended = Signal(object, object, object)
    _reported = Signal(object, int, int, str)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._job: _Job | None = None
        # One thread for good, not one per job: torch keeps a pool of its own for every thread that calls it.
        self._thread = ThreadPoolExecutor(1, "samscape", initializer=_step_back)
        self._ended.connect(self._on_ended)
        self._reported.connect(self._on_reported)

    @property
    def busy(self) -> bool:
        """Whether work is under way, cancelled work that has not stopped yet included."""
        return self._job is not None

    def start(
        self,
        work: Work,
        done: Callable[[Any], None],
        failed: Callable[[Exception | None], None],
        reported: Progress,
    ) -> None:
        """Call ``work(progress)`` in the thread; only while not busy.

        Parameters
        ----------
        work : callable
            Takes a progress callback; its result goes to ``done``.
        done : callable
            Called in the GUI thread with the result.
        failed : callable
            Called in the GUI thread with the exception, or with None after a cancellation.
        reported : callable
            Called in the GUI thread with every progress report.
        """
        if self.busy:
            raise RuntimeError("Work is under way already; cancel it and wait for its end.")
        self._job = _Job(work, done, failed, reported, Event())
        self._thread.submit(self._run, self._job)

    def cancel(self) -> None:
        """Ask the work under way to stop; ``failed(None)`` follows when it has."""
        if self._job is not None:
            self._job.cancelled.set()

    def close(self) -> None:
        """Stop for good, without waiting; nothing is delivered any more."""
        self.cancel()
        self._job = None
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _run(self, job: _Job) -> None:
        def progress(done: int, total: int, text: str) -> None:
            if job.cancelled.is_set():
                raise Cancelled
            self._deliver(self._reported, job, done, total, text)

        result: Any = None
        error: Exception | None = None
        try:
            progress(0, 0, "")
            result = job.work(progress)
        except Exception as problem:
            error = problem
        self._deliver(self._ended, job, result, error)

    @staticmethod
    def _deliver(signal: Any, *values: Any) -> None:
        # The window may be gone by now, and its Qt objects with it; there is nobody left to tell.
        with suppress(RuntimeError):
            signal.emit(*values)

    def _on_reported(self, job: _Job, done: int, total: int, text: str) -> None:
        if job is self._job and not job.cancelled.is_set():
            job.reported(done, total, text)

    def _on_ended(self, job: _Job, result: Any, error: Exception | None) -> None:
        if job is not self._job:
            return
        self._job = None
        if job.cancelled.is_set() or isinstance(error, Cancelled):
            job.failed(None)
        elif error is not None:
            job.failed(error)
        else:
            job.done(result)


def _step_back() -> None:
    """Let the canvas go first: Linux gives single threads a priority, and torch's threads inherit it."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.nice(5)
