"""Fixtures for every test; nothing here imports torch or napari before a test asks for it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from napari_samscape.model.sam import Sam

ROOT = Path(__file__).resolve().parents[1]

# Before torch is imported: two threads are as fast as many at these sizes, and leave a shared machine usable;
# one where tests run side by side (pytest -n), which is what uses the cores then. Workers inherit the number
# of the process that starts them, so they replace it: threads without a core of their own wait by spinning.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"
else:
    os.environ.setdefault("OMP_NUM_THREADS", "2")


def pytest_configure(config: pytest.Config) -> None:
    """Keep napari's and Qt's settings, and our downloads and caches, away from the user's home.

    This must happen before the first import of napari, which reads its settings then, so it is no fixture.
    """
    folder = tempfile.TemporaryDirectory(prefix="samscape-tests-", ignore_cleanup_errors=True)
    config.add_cleanup(folder.cleanup)
    home = Path(folder.name)
    for variable, name in [
        ("XDG_CONFIG_HOME", "config"),
        ("XDG_CACHE_HOME", "cache"),
        ("XDG_DATA_HOME", "data"),
        ("XDG_STATE_HOME", "state"),
    ]:
        (home / name).mkdir()
        os.environ[variable] = str(home / name)
    os.environ["NAPARI_CONFIG"] = str(home / "config" / "napari.yaml")


@pytest.fixture(scope="session")
def root() -> Path:
    """The top folder of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The optional folder with reference data next to the checkout; tests that need it skip without."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("there is no folder ../shared with reference data next to the checkout")
    return folder


@pytest.fixture(scope="session")
def nano() -> Sam:
    """The bundled model on the CPU; shared by all tests, so leave it as it is."""
    from napari_samscape import load_model

    return load_model("nano", device="cpu")
