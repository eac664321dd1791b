"""How long a model takes on this machine: medians of repeated runs, for the report."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_samscape.evaluation.datasets import open_dataset
from napari_samscape.prediction.automatic import everything
from napari_samscape.prediction.predict import decode_points, embed, predict
from napari_samscape.prediction.types import Prompts

if TYPE_CHECKING:
    from napari_samscape.model.sam import Sam

BATCH = 16  # prompts, as everything-mode asks nano
NUCLEI = 100  # objects in the picture for everything-mode; the nearest to that is taken


def median_ms(work: Callable[[], Any], runs: int) -> float:
    """Milliseconds of the median run, after one that does not count."""
    work()
    taken = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        taken.append(1000 * (time.perf_counter() - start))
    return float(np.median(taken))


def discs(side: int) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """A picture (side, side, 3) of 8 x 8 bright discs on a dim ground, and their centres (64, 2), shuffled.

    Objects are small in it, as in most pictures; nano takes longer for what spans the picture.
    """
    centres = (np.stack(np.mgrid[:8, :8], axis=-1).reshape(-1, 2) + 0.5) * (side / 8)
    y, x = np.mgrid[:side, :side] % (side / 8) - side / 16
    pixels = np.where(y**2 + x**2 < (side / 32) ** 2, 200, 20).astype(np.uint8)
    return np.repeat(pixels[..., None], 3, axis=2), np.random.default_rng(1).permutation(centres)


def speed_table(model: Sam, data: Path, runs: int = 7) -> list[str]:
    """Lines of Markdown: encoding, decoding and everything-mode.

    Parameters
    ----------
    model : Sam
    data : Path
        The folder of data sets; a picture of BBBC039 (520 x 696) with about 100 nuclei is taken from it.
    runs : int
    """
    pixels, points = discs(512)
    embedding = embed(model, pixels)
    one = Prompts(points=points[:1])
    noise = embed(model, np.random.default_rng(0).integers(0, 255, (512, 512, 3), np.uint8))
    samples = [read() for read in open_dataset(data / "bbbc039" / "val.zip").readers]
    sample = min(samples, key=lambda s: abs(len(s.objects) - NUCLEI))
    rows = [
        ("encode 512 x 512", median_ms(lambda: embed(model, pixels), runs)),
        (
            "decode one click, three masks of 512 x 512",
            median_ms(lambda: predict(model, embedding, one), runs),
        ),
        (
            "the same in noise, where masks span the picture",
            median_ms(lambda: predict(model, noise, one), runs),
        ),
        (
            f"decode a click in batches of {BATCH}, low resolution",
            median_ms(lambda: decode_points(model, embedding, points[:BATCH]), runs) / BATCH,
        ),
        (
            f"everything, {sample.shape[0]} x {sample.shape[1]} with {len(sample.objects)} nuclei",
            median_ms(lambda: everything(model, sample.pixels), max(3, runs // 2)),
        ),
    ]
    return ["| what | median, ms |", "|---|---:|", *(f"| {what} | {taken:.1f} |" for what, taken in rows)]
