"""What is asked of the system, in a process of its own, so that nothing else changes its memory."""

import os
import subprocess
import sys

import pytest

from napari_samscape.model.process import ENVIRONMENT

GAPS = """
from pathlib import Path
from napari_samscape.model.process import give_back_memory, keep_freed_memory

def resident():
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in line]
    return int(line.split()[1]) // 1024

kept = keep_freed_memory()
blocks = [bytearray(100_000) for _ in range(1000)]
last = blocks[-1]  # on top of the heap: what lies under it, glibc does not give back by itself
del blocks
before = resident()
given = give_back_memory()
print(kept, given, before - resident())
"""

HEAPS = """
import ctypes, sys, threading
from napari_samscape.model.process import keep_freed_memory

if "early" in sys.argv:
    keep_freed_memory()

def take():
    with open("/proc/self/maps") as maps:
        heaps = [line.split()[0].split("-") for line in maps if line.rstrip().endswith("[heap]")]
    block = malloc(1000)
    print(any(int(first, 16) <= block < int(last, 16) for first, last in heaps))

malloc = ctypes.CDLL(None).malloc
malloc.restype = ctypes.c_void_p
thread = threading.Thread(target=take)
thread.start()
thread.join()
"""
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc has the call")


def printed(code: str, *arguments: str, **environment: str) -> str:
    """What a process of its own prints."""
    command = [sys.executable, "-c", code, *arguments]
    plain = {name: value for name, value in os.environ.items() if name not in ENVIRONMENT}  # dask leaves its
    done = subprocess.run(command, env=plain | environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@linux
def test_threads_have_the_heap_of_the_process():
    assert printed(HEAPS) == "False", "what glibc does by itself"
    assert printed(HEAPS, "early") == "True"
    assert printed(HEAPS, **ENVIRONMENT) == "True"


@linux
def test_memory_freed_between_what_is_held_is_given_back():
    kept, given, megabytes = printed(GAPS).split()
    assert (kept, given) == ("True", "True") and int(megabytes) > 80
