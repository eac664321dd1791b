"""Compare settings of everything-mode on pictures the model was TRAINED on, so that no test data choose them.

python benchmarks/tune_everything.py [--pictures 8] [--vary pred_iou_thresh=0.4,0.6] [--vary ...]

Prints AP50 (TP / (TP + FP + FN)) per data set, for the defaults and for each variation by itself.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from napari_samscape import load_model
from napari_samscape.evaluation.datasets import Dataset, open_dataset
from napari_samscape.evaluation.methods import ModelMethod
from napari_samscape.evaluation.run import evaluate
from napari_samscape.prediction.options import DENSE_DEFAULTS, EverythingOptions

SOURCES = ("dsb2018/train.zip", "bbbc039/train.zip", "usiigaci_phase/train.zip", "axon_sem/train.zip")


def spread(dataset: Dataset, number: int) -> Dataset:
    """Some pictures, evenly spread over the data set."""
    chosen = np.unique(np.linspace(0, len(dataset) - 1, number).round().astype(int))
    return Dataset(dataset.name, tuple(dataset.readers[i] for i in chosen))


def variations(texts: list[str]) -> Iterator[tuple[str, EverythingOptions]]:
    """The defaults, then each ``name=value,value`` by itself."""
    yield "defaults", DENSE_DEFAULTS
    for text in texts:
        name, values = text.split("=")
        for value in values.split(","):
            number = None if value == "none" else float(value) if "." in value else int(value)
            yield f"{name}={value}", replace(DENSE_DEFAULTS, **{name: number})


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--pictures", type=int, default=8, help="of each data set")
    parser.add_argument("--vary", action="append", default=[], metavar="NAME=VALUE,...")
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    options = parser.parse_args()
    model = load_model(options.model)
    datasets = [spread(open_dataset(options.data / source), options.pictures) for source in SOURCES]
    print(f"{'':28}" + "".join(f"{d.name:>22}" for d in datasets) + f"{'mean':>8}")
    for name, chosen in variations(options.vary):
        rows = [evaluate(d, ModelMethod(model, options=chosen), "everything") for d in datasets]
        figures = [row["ap50"] for row in rows]
        print(f"{name:28}" + "".join(f"{v:22.3f}" for v in figures) + f"{np.mean(figures):8.3f}", flush=True)


if __name__ == "__main__":
    main()
