"""A model in a process of its own, seen from the docks; the other end is `serving`."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
import weakref
from collections.abc import Hashable
from contextlib import suppress
from itertools import count
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from napari_samscape.errors import InputError
from napari_samscape.model.process import LOWER_PRIORITY
from napari_samscape.model.progress import Progress
from napari_samscape.widgets.engine import LocalEngine
from napari_samscape.widgets.worker import child_environment

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_samscape.prediction.options import EdgeOptions, EverythingOptions
    from napari_samscape.prediction.phrase import Phrase
    from napari_samscape.prediction.types import Instance, Instances, Masks, Prompts
    from napari_samscape.scaling.propagate import Found
    from napari_samscape.widgets.drawn import Rectangles
    from napari_samscape.widgets.lesson import Learnt, Lesson

HEARTBEAT = 0.1
"""Seconds between looks at whether an answer is still wanted."""
ENDED = (
    "The model's process has ended, perhaps because memory ran out; the next prompt or run starts it again. "
    "A smaller model or picture needs less."
)


class Remote:
    """Something in a process of its own, at low priority, so that the window never waits for it.

    The process starts with the first question and ends with this object, or with this process.

    Parameters
    ----------
    what : str
        Module and class over there, as ``package.module:Class``.
    arguments : str
        What it is made of.
    """

    def __init__(self, what: str, *arguments: str) -> None:
        self._command = [sys.executable, "-m", "napari_samscape.widgets.serving", what, *arguments]
        self._numbers = count()
        self._asking = threading.Lock()
        self._worker: _Worker | None = None

    def close(self) -> None:
        """End the process, whatever it does."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.end()

    def _ask(self, method: str, progress: Progress, *arguments: Any) -> Any:
        with self._asking:
            worker = self._worker
            if worker is None or not worker.alive:
                self._before_start()
                progress(0, 0, "Starting the model's process…")
                worker = self._worker = _Worker(self._command)
                # Whoever forgets an engine, or dies, ends its process too.
                weakref.finalize(self, worker.end)
            return worker.ask(next(self._numbers), method, arguments, progress)

    def _before_start(self) -> None:
        """Forget what the last process knew."""


class ProcessEngine(Remote):
    """An Engine whose model is in a process of its own.

    Parameters
    ----------
    model : str
        What ``load_model`` takes: a known name or a path.
    engine : str
        Module and class of the engine over there, which is made of the model's name.
    """

    def __init__(
        self, model: str = "nano", engine: str = "napari_samscape.widgets.engine:LocalEngine"
    ) -> None:
        super().__init__(engine, model)
        self.model = model
        self._pictures: dict[Hashable, NDArray[np.uint8]] = {}
        self._dense: bool | None = LocalEngine(model).has_dense

    # --- what the GUI thread asks: answered here ---

    def knows(self, key: Hashable) -> bool:
        """Whether the picture of this key has been embedded."""
        return key in self._pictures and self._worker is not None and self._worker.alive

    def picture(self, key: Hashable) -> NDArray[np.uint8]:
        """What the model saw, (y, x, 3); a large picture is thinned out."""
        return self._pictures[key]

    @property
    def has_dense(self) -> bool | None:
        """Whether the model has a dense head; None where that shows only when it is loaded."""
        return self._dense

    def close(self) -> None:
        """End the process, whatever it does."""
        super().close()
        self._pictures.clear()

    # --- what takes its time ---

    def embed(self, key: Hashable, pixels: NDArray, progress: Progress) -> None:
        """Look at a picture, (y, x) or (y, x, c), and remember it under the key."""
        picture = self._ask("embed", progress, key, pixels)
        known = set(self._ask("known", progress, [key, *self._pictures]))
        self._pictures = {k: v for k, v in {**self._pictures, key: picture}.items() if k in known}

    def predict(self, key: Hashable, prompts: Prompts, multimask: bool) -> Masks:
        """Answer prompts about a picture that has been embedded, with three masks or with one."""
        masks: Masks = self._ask("predict", _silent, key, prompts, multimask)
        return masks

    def glance(self, key: Hashable, prompts: Prompts, multimask: bool) -> Instance:
        """The best mask that `predict` would give without looking closer; of no area where there is none."""
        found: Instance = self._ask("glance", _silent, key, prompts, multimask)
        return found

    def follow(self, key: Hashable, prompts: Prompts, before: Found | None, progress: Progress) -> Found:
        """The object of prompts in one plane of many; ``before`` is what was projected onto it, if any."""
        found: Found = self._ask("follow", progress, key, prompts, before)
        return found

    def load(self, progress: Progress) -> None:
        """Load the model if it is not loaded yet."""
        self._dense = self._ask("load", progress)

    def everything(self, pixels: NDArray, options: EverythingOptions, progress: Progress) -> Instances:
        """Find all objects in a picture, (y, x) or (y, x, c)."""
        found: Instances = self._ask("everything", progress, pixels, options)
        return found

    def edges(self, pixels: NDArray, options: EdgeOptions, progress: Progress) -> NDArray[np.float32]:
        """Draw the edges of a picture, from 0 to 1, (y, x)."""
        drawn: NDArray[np.float32] = self._ask("edges", progress, pixels, options)
        return drawn

    def boxes(self, pixels: NDArray, found: Rectangles, progress: Progress) -> Instances:
        """Find the object in each box; one without area where there is none."""
        objects: Instances = self._ask("boxes", progress, pixels, found)
        return objects

    def text(self, pixels: NDArray, phrase: Phrase, mode: str, progress: Progress) -> Instances:
        """Find what looks like a phrase: in the mode "text" by ranking everything, in "prompts" at once."""
        found: Instances = self._ask("text", progress, pixels, phrase, mode)
        return found

    def tune(self, lesson: Lesson, progress: Progress) -> Learnt:
        """Write a checkpoint of a model that has learnt from labelled pictures; this one stays as it is."""
        learnt: Learnt = self._ask("tune", progress, lesson)
        return learnt

    def _before_start(self) -> None:
        self._pictures = {}


class _Worker:
    """One process; asked by one thread at a time."""

    def __init__(self, command: list[str]) -> None:
        # Threads that wait leave the processor to the window.
        environment = {"OMP_WAIT_POLICY": "PASSIVE", **child_environment()}
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            bufsize=0,
            creationflags=LOWER_PRIORITY,
        )
        self._answers: SimpleQueue[tuple[int | None, str, Any]] = SimpleQueue()
        threading.Thread(
            target=_collect, args=(self._process.stdout, self._answers), name="samscape answers", daemon=True
        ).start()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, number: int, method: str, arguments: tuple[Any, ...], progress: Progress) -> Any:
        """Send a question and wait for its answer; what was asked before, and given up, is passed over."""
        self._send(number, method, arguments)
        last = (0, 0, "")
        while True:
            try:
                answered, kind, content = self._answers.get(timeout=HEARTBEAT)
                if answered is None:
                    self.end()
                    raise InputError(ENDED)
                if answered != number:
                    continue
            except Empty:
                kind, content = "progress", last
            if kind == "done":
                return content
            if kind == "failed":
                raise _error(*content)
            last = content
            try:
                progress(*last)
            except BaseException:
                self._send(number, None, ())
                raise

    def _send(self, *message: Any) -> None:
        assert self._process.stdin is not None
        try:
            pickled = memoryview(pickle.dumps(message, protocol=5))
            while pickled:  # without a buffer, a pipe takes what it has room for
                pickled = pickled[self._process.stdin.write(pickled) or 0 :]
        except (OSError, ValueError):  # the latter where we have closed it
            self.end()
            raise InputError(ENDED) from None

    def end(self) -> None:
        """End it without waiting for what it does."""
        with suppress(OSError):
            self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()


def _collect(pipe: Any, answers: SimpleQueue[Any]) -> None:
    """Take in answers as they come, so that the process never waits for us; this is a thread's work."""
    import io

    with suppress(Exception), io.BufferedReader(pipe, 1 << 20) as stream:
        while True:
            answers.put(pickle.load(stream))
    answers.put((None, "", None))


def _error(text: str, pickled: bytes | None) -> Exception:
    """The exception that was raised over there, or one that says the same."""
    with suppress(Exception):
        error = pickle.loads(pickled or b"")
        if isinstance(error, Exception):
            return error
    return RuntimeError(text)


def _silent(done: int, total: int, text: str) -> None:
    """Progress of what is too fast to have any."""
