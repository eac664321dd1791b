"""Memory that is freed and taken again at once need not go back to the system in between."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's <malloc.h>
LARGEST = 32 * 2**20  # bytes; glibc takes no more for what comes from its heap
KEPT = 128 * 2**20  # bytes of free heap that are kept


def keep_freed_memory() -> bool:
    """Have this process keep up to `KEPT` bytes of freed memory; false where the system has no such switch.

    A decoder frees and takes maps of some megabytes with every prompt. glibc gives these back to the system,
    which then clears every page of the next one: a fifth of the time of a prompt of SAM's ViT-B, see
    ``benchmarks/compare_reference.py``. For programs of ours; a library leaves its user's process alone.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other libraries than glibc have none
    if mallopt is None:
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST) and mallopt(M_TRIM_THRESHOLD, KEPT))
