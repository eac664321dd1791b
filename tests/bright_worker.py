"""Preloaded by dask's workers in tests: the stand-in for a model, slow if asked to be; loadings are noted."""

import os
import time
from pathlib import Path

import bright
import pytest

TIME_FOR_A_TILE = float(os.environ.get("BRIGHT_SECONDS", "0"))


def everything(*arguments, **options):
    time.sleep(TIME_FOR_A_TILE)
    return bright.everything(*arguments, **options)


def load_model(name="nano", device=None, precision="float32"):
    with Path(os.environ["BRIGHT_LOG"]).open("a") as log:
        log.write(f"{os.getpid()}\n")
    return bright.load_model(name, device)


def dask_setup(worker):
    patch = pytest.MonkeyPatch()
    bright.install(patch)
    patch.setattr("napari_samscape.prediction.automatic.everything", everything)
    patch.setattr("napari_samscape.model.weights.load_model", load_model)
