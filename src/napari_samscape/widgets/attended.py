"""A batch in a process of its own, seen from the dock; the other end is `scaling.attended`."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Any

from qtpy.QtCore import QObject, Signal

from napari_samscape.model.process import LOWER_PRIORITY
from napari_samscape.widgets.worker import child_environment


class Attended(QObject):
    """One process; it ends with this one.

    Parameters
    ----------
    order : dict
        What it is to do.
    """

    said = Signal(object)
    """What it says, one of its lines of JSON."""
    ended = Signal(object)
    """It has ended; with this object."""

    def __init__(self, order: dict[str, Any]) -> None:
        super().__init__()
        command = [sys.executable, "-m", "napari_samscape.scaling.attended"]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=child_environment(),
            text=True,
            encoding="utf-8",
            creationflags=LOWER_PRIORITY,
        )
        assert self._process.stdin is not None
        with suppress(OSError):  # it has ended already, which is told below
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        threading.Thread(target=self._listen, name="samscape batch", daemon=True).start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with suppress(RuntimeError):  # the window may be gone, and there is nobody left to tell
            for line in self._process.stdout:
                self.said.emit(json.loads(line))
            self._process.wait()
            self.ended.emit(self)

    def end(self) -> None:
        """End it at once, whatever it does: what it has done so far is kept."""
        with suppress(OSError):
            self._process.kill()
        self._process.wait()
        with suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
