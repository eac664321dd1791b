"""What is asked of the system: memory that is kept or given back, and to come last."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress

LARGEST = 32 * 2**20  # bytes; glibc takes no more for what comes from its heap
KEPT = 128 * 2**20  # bytes of free heap that are kept
#: How glibc's malloc is told, as environment variable and by number in <malloc.h>; and what.
MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": (-3, LARGEST),
    "MALLOC_TRIM_THRESHOLD_": (-1, KEPT),
    "MALLOC_ARENA_MAX": (-8, 1),
}
#: For a process that is yet to start.
ENVIRONMENT = {name: str(value) for name, (_, value) in MALLOC.items()}
LOWEST = 19  # Unix's niceness
#: `subprocess.Popen`'s ``creationflags`` for a process that leaves Windows' processor to the people at the
#: computer; on other systems `give_way` does so from inside.
LOWER_PRIORITY = getattr(subprocess, "BELOW_NORMAL_PRIORITY_CLASS", 0)


def keep_freed_memory() -> bool:
    """Have this process keep up to `KEPT` bytes of freed memory; false where the system has no such switch.

    A decoder frees and takes maps of some megabytes with every prompt. glibc gives these back to the system,
    which then clears every page of the next one: a fifth of the time of a prompt of SAM's ViT-B, see
    ``benchmarks/compare_reference.py``. And all threads share one heap: glibc gives each its own, which grow
    from tile to tile of a large picture (``benchmarks/scale.py``), and whose size is not under these rules.
    Call it before there are threads, as a thread stays with the heap that it has, or start the process with
    `ENVIRONMENT`. For programs of ours; a library leaves its user's process alone.
    """
    mallopt = _of_glibc("mallopt")
    if mallopt is None:
        return False
    return all([mallopt(number, value) for number, value in MALLOC.values()])


def give_back_memory() -> bool:
    """Give all freed memory back to the system; false where there was none, or no such call.

    What is freed lies in gaps between what is not. From tile to tile the gaps are other ones, and a process
    grows slowly though it holds no more than before, see ``benchmarks/scale.py``.
    """
    trim = _of_glibc("malloc_trim")
    return trim is not None and bool(trim(ctypes.c_size_t(0)))


def _of_glibc(name: str) -> Callable[..., int] | None:
    """A function that other libraries than glibc do not have."""
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), name, None)


def give_way() -> None:
    """Let this process, and what it starts, have the processor when the people at the computer leave it free.

    A window whose model looks at a picture draws its frames in about the time of an idle one then;
    niceness alone makes them half as long again (``benchmarks/frames.py``). There is no way back. On Windows
    whoever starts a process says so, see `LOWER_PRIORITY`.
    """
    if hasattr(os, "SCHED_IDLE"):
        with suppress(OSError):  # some containers forbid it
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            return
    if hasattr(os, "nice"):
        os.nice(LOWEST)
