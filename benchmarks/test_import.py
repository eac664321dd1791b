"""How long a fresh Python takes to import the package, which must not wait for torch."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture


@pytest.mark.parametrize("code", ["pass", "import napari_samscape"])
def test_import(benchmark: BenchmarkFixture, code: str) -> None:
    """The difference to "pass", Python's own start, is what counts: under 0.3 s."""
    command = [sys.executable, "-c", code]
    benchmark.pedantic(subprocess.run, (command,), {"check": True}, rounds=5, warmup_rounds=1)
