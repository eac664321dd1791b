"""A model in a process of its own, from inside: ``python -m napari_samscape.widgets.serving CLASS [MODEL]``.

torch beside the window's own thread slows it, however low its priority: both want Python's lock. So the
docks' engines live here. Requests come as pickles on standard input, ``(number, method, arguments)`` or
``(number, None, ())`` to cancel one; answers go to standard output, ``(number, kind, content)`` of the kinds
"progress", "done" and "failed" (with a text, and the exception as a pickle or None). The process ends with
its input, and so with whoever started it, however that one ends.
"""

from __future__ import annotations

import os
import pickle
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from queue import SimpleQueue
from typing import Any, BinaryIO

from napari_samscape.model.process import give_way, keep_freed_memory


class Cancelled(Exception):
    """Raised in an engine whose answer is not wanted any more."""


def serve(engine: Any, requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests, one after the other, until there are no more."""
    waiting: SimpleQueue[tuple[int, str, tuple[Any, ...]]] = SimpleQueue()
    cancelled: set[int] = set()
    threading.Thread(target=_listen, args=(requests, waiting, cancelled), daemon=True).start()
    while True:
        number, method, arguments = waiting.get()

        def send(kind: str, content: Any, number: int = number) -> None:
            answers.write(pickle.dumps((number, kind, content), protocol=5))
            answers.flush()

        def progress(done: int, total: int, text: str, number: int = number, send: Any = send) -> None:
            if number in cancelled:
                raise Cancelled
            send("progress", (done, total, text))

        kind, content = _answer(engine, method, arguments, progress)
        cancelled.discard(number)
        send(kind, content)


def _answer(engine: Any, method: str, arguments: tuple[Any, ...], progress: Callable[..., None]) -> Any:
    try:
        return "done", getattr(_Served(engine), method)(progress, *arguments)
    except Exception as error:
        pickled = None
        with suppress(Exception):
            pickled = pickle.dumps(error)  # apart, as it may be one that cannot be read over there
        return "failed", (f"{type(error).__name__}: {error}", pickled)


class _Served:
    """What can be asked of an engine: whatever it has, with the progress first, and what it remembers."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def embed(self, progress: Callable[..., None], key: Any, pixels: Any) -> Any:
        self._engine.embed(key, pixels, progress)
        return self._engine.picture(key)

    def known(self, progress: Callable[..., None], keys: list[Any]) -> list[Any]:
        return [key for key in keys if self._engine.knows(key)]

    def load(self, progress: Callable[..., None]) -> Any:
        self._engine.load(progress)
        return self._engine.has_dense

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._engine, name)
        if name in ("predict", "glance"):
            return lambda progress, *arguments: method(*arguments)
        return lambda progress, *arguments: method(*arguments, progress)


def _listen(requests: BinaryIO, waiting: SimpleQueue[Any], cancelled: set[int]) -> None:
    while True:
        try:
            number, method, arguments = pickle.load(requests)
        except Exception:  # the other end is gone, perhaps in the middle of a word
            os._exit(0)  # whatever is under way
        if method is None:
            cancelled.add(number)
        else:
            waiting.put((number, method, arguments))


def named(name: str) -> Any:
    """The object of a name such as ``package.module:Class``."""
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)


def main() -> None:
    """Serve on standard input and output."""
    give_way()
    keep_freed_memory()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what anybody prints must not come between
    serve(named(sys.argv[1])(*sys.argv[2:]), sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
