"""Many pictures for another program: ``python -m napari_samscape.scaling.attended``, in a process of its own.

One line of JSON comes on standard input, with ``source``, ``folder``, ``settings`` (of a `Job`, but for the
paths), ``ending`` and ``table``. Standard output has lines of JSON, ``{"progress": [done, total, text]}`` and
at the end ``{"result": ...}`` (see `BatchResult.to_json`) or ``{"error": text}``. The process ends with its
input, and so with whoever started it; what it was about goes on where it was when it is asked for again.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

from napari_samscape.errors import InputError
from napari_samscape.model.process import give_way

PARTS = 1000
"""Steps of the progress of one picture."""
INTERVAL = 0.1
"""Seconds between reports of the progress."""


def attend(order: Mapping[str, Any], say: Callable[[dict[str, Any]], None]) -> None:
    """Do what an order says, and say how it goes."""
    from napari_samscape.scaling.link import LinkOptions
    from napari_samscape.scaling.many import run_many
    from napari_samscape.scaling.pictures import find_pictures

    last = 0.0

    def progress(done: int, total: int, text: str) -> None:
        nonlocal last
        if time.monotonic() - last >= INTERVAL or done == total:
            last = time.monotonic()
            say({"progress": [done, total, text]})

    try:
        folder, settings = Path(order["folder"]), dict(order["settings"])
        if settings.get("link") is not None:
            settings["link"] = LinkOptions(**settings["link"])
        result = run_many(
            find_pictures(order["source"], folder),
            folder,
            settings,
            ending=order["ending"],
            table=order["table"],
            progress=progress,
            parts=PARTS,
        )
        say({"result": result.to_json()})
    except InputError as error:
        say({"error": str(error)})


def main() -> None:
    """Attend to one order on standard input."""
    give_way()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what anybody prints must not come between

    def say(what: dict[str, Any]) -> None:
        answers.write(json.dumps(what) + "\n")
        answers.flush()

    order = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with, args=(sys.stdin,), daemon=True).start()
    attend(order, say)


def _end_with(requests: TextIO) -> None:
    requests.read()
    os._exit(1)


if __name__ == "__main__":
    main()
