"""Fine-tune nano on a few pictures of a kind that it has not seen, and measure what it gains and forgets.

    python benchmarks/finetune.py --model nano_without.safetensors [--cases axon_sem] [--seeds 0 1 2]

The model comes from training/nano_without.toml, which leaves phase contrast and axons out. For each seed some
training pictures are drawn and learned from; validation pictures, whole splits, only judge. Each run is a row
of finetune.json, and all rows there are a section of REPORT.md, written anew after each.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sections import Figures, Report, origin  # beside this file

from napari_samscape import load_model
from napari_samscape.evaluation.datasets import Dataset, open_dataset
from napari_samscape.evaluation.methods import ModelMethod
from napari_samscape.evaluation.run import evaluate
from napari_samscape.io.labelled import labelled_pictures
from napari_samscape.model.sam import Sam
from napari_samscape.training.finetune import METHODS, Settings, finetune
from napari_samscape.training.material import hold_out

HERE = Path(__file__).resolve().parent
OTHER = "dsb2018"  # what must not be forgotten
TITLE = "Fine-tuned on a few pictures"
SAMPLES = ("4ee5850b63549794", "610f32e2d9d270d7")  # of its val, by the parent's answers rehearsed: no judges
CASES = {"usiigaci_phase": 5, "axon_sem": 2}  # kinds that the model has not seen, and how many pictures are
HEAD = (
    *("learned from", "pictures", "method", "seed", "its val, before", "after", "gain"),
    *(f"{OTHER} val, before", "after", "change", "judged by", "steps kept", "CPU s", "peak MB"),
)


def point_iou(model: Sam, dataset: Dataset) -> float:
    """Mean IoU of one click on each object."""
    return float(evaluate(dataset, ModelMethod(model), "point", clicks=1)["mean_iou"])


def judges(path: Path) -> Dataset:
    """A validation split without the pictures that come with the package."""
    dataset, pictures = open_dataset(path), labelled_pictures(path)
    pairs = zip(dataset.readers, pictures, strict=True)
    return Dataset(dataset.name, tuple(read for read, one in pairs if not one.name.startswith(SAMPLES)))


def measure(
    parent: Sam, case: str, settings: Settings, train: Dataset, vals: dict[str, Dataset]
) -> dict[str, Any]:
    """Fine-tune on pictures drawn by the seed, and judge the child; CPU seconds are of all cores."""
    rng = np.random.default_rng(settings.seed)
    chosen = rng.choice(len(train), CASES[case], replace=False)
    begun = time.process_time()
    material = hold_out([train.readers[index]() for index in chosen.tolist()], seed=settings.seed)
    tuned = finetune(parent, material, settings)
    return {
        "case": case,
        "pictures": len(chosen),
        "method": settings.method,
        "seed": settings.seed,
        "cpu": time.process_time() - begun,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "steps": tuned.steps,
        "kept": tuned.kept,
        "judges": {name: len(val) for name, val in vals.items()},
        "after": {name: point_iou(tuned.model, val) for name, val in vals.items()},
    }


def cells(row: dict[str, Any]) -> list[str]:
    """A run as the table has it."""
    pairs = [(row["before"][name], row["after"][name]) for name in (row["case"], OTHER)]
    figures = [f"{value:.3f}" for old, new in pairs for value in (old, new, new - old)]
    judges = " and ".join(str(row["judges"][name]) for name in (row["case"], OTHER))
    told = [row["case"], row["pictures"], row["method"], row["seed"], *figures, judges]
    return [*map(str, told), f"{row['kept']} of {row['steps']}", f"{row['cpu']:.0f}", f"{row['peak']:.0f}"]


def summary(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Mean and spread over seeds, a line for each kind and method."""
    lines = []
    for case, method in dict.fromkeys((row["case"], row["method"]) for row in rows):
        same = [row for row in rows if (row["case"], row["method"]) == (case, method)]
        gain, loss = (
            100 * np.array([row["after"][name] - row["before"][name] for row in same])
            for name in (case, OTHER)
        )
        lines.append(
            f"- {case}, {method}, {len(same)} seeds: {gain.mean():+.1f} points on its val "
            f"({gain.min():+.1f} to {gain.max():+.1f}), {loss.mean():+.1f} on {OTHER} val "
            f"({loss.min():+.1f} to {loss.max():+.1f})."
        )
    return lines


def section(rows: Sequence[dict[str, Any]]) -> list[str]:
    """All runs that there are."""
    table = [HEAD, ["---"] + ["---:"] * (len(HEAD) - 1), *(cells(row) for row in rows)]
    return [
        "Mean IoU of one click, by a nano that has seen neither kind (training/nano_without.toml); the "
        "pictures learned from are drawn anew for each seed. Judged by so many validation pictures of the "
        f"kind and of {OTHER}.",
        "",
        *("| " + " | ".join(line) + " |" for line in table),
        "",
        *summary(rows),
    ]


def main() -> None:
    """Measure, and write as it goes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--method", default="decoder", choices=METHODS)
    parser.add_argument("--steps", type=int, default=Settings.steps)
    parser.add_argument("--limit", type=int, default=None, help="pictures of each validation split")
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data")
    parser.add_argument("--out", type=Path, default=HERE / "REPORT.md")
    options = parser.parse_args()
    command = " ".join(["python benchmarks/finetune.py", *sys.argv[1:]])
    report, figures = Report(options.out), Figures(options.out.with_name("finetune.json"))
    parent = load_model(options.model)
    other = judges(options.data / OTHER / "val.zip").first(options.limit)
    before = {OTHER: point_iou(parent, other)}
    for case in options.cases:
        train, val = (open_dataset(options.data / case / f"{part}.zip") for part in ("train", "val"))
        vals = {case: val.first(options.limit), OTHER: other}
        before[case] = point_iou(parent, vals[case])
        for seed in options.seeds:
            settings = Settings(method=options.method, steps=options.steps, seed=seed)
            row = measure(parent, case, settings, train, vals)
            row |= {"before": {name: before[name] for name in vals}, "origin": origin(command)}
            figures.put(f"{case}, {options.method}, seed {seed}", row)
            rows = list(figures.get().values())
            print(*cells(row), file=sys.stderr, flush=True)
            report.put(TITLE, section(rows), command)
    print(options.out)


if __name__ == "__main__":
    main()
