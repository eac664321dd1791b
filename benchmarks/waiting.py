"""The window in benchmarks: it works until something holds."""

import time
from collections.abc import Callable

from qtpy.QtWidgets import QApplication


def wait_for(condition: Callable[[], bool], seconds: float = 300) -> None:
    """Let the window work until the condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("The window did not get ready in time.")
        QApplication.processEvents()
        time.sleep(0.001)  # else this loop takes the processor from the model
