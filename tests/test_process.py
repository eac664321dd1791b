"""What is asked of the system, in a process of its own, so that nothing else changes its memory."""

import subprocess
import sys

import pytest

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


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc has the call")
def test_memory_freed_between_what_is_held_is_given_back():
    done = subprocess.run([sys.executable, "-c", GAPS], capture_output=True, text=True, check=True)
    kept, given, megabytes = done.stdout.split()
    assert (kept, given) == ("True", "True") and int(megabytes) > 80
