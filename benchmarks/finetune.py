"""Fine-tune nano on a few pictures of a kind that it has not seen, and measure what it gains and forgets.

    python benchmarks/finetune.py --model nano_without.safetensors

The model comes from training/nano_without.toml, which leaves phase contrast and axons out. For each seed some
training pictures are drawn and learned from; validation pictures, whole splits, only judge. Writes
FINETUNE.md, anew after each row.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from report import Report, heading  # beside this file

from napari_samscape import load_model
from napari_samscape.evaluation.datasets import Dataset, open_dataset
from napari_samscape.evaluation.methods import ModelMethod
from napari_samscape.evaluation.run import evaluate
from napari_samscape.model.sam import Sam
from napari_samscape.training.finetune import METHODS, Settings, Tuned, finetune
from napari_samscape.training.material import hold_out

HERE = Path(__file__).resolve().parent
OTHER = "dsb2018"  # what must not be forgotten
TITLE = "Fine-tuned on a few pictures"


@dataclass(frozen=True)
class Case:
    """A kind of pictures that the model has not seen."""

    name: str
    pictures: int


CASES = (Case("usiigaci_phase", 5), Case("axon_sem", 2))


@dataclass(frozen=True)
class Row:
    """One fine-tuning, and what the child reaches on validation pictures; IoU of one click."""

    case: str
    seed: int
    own: tuple[float, float]  # before, after
    other: tuple[float, float]
    tuned: Tuned
    cpu: float
    peak: float

    def cells(self) -> list[str]:
        """As the table has them."""
        figures = [f"{value:.3f}" for value in (*self.own, self.own[1] - self.own[0])]
        figures += [f"{value:.3f}" for value in (*self.other, self.other[1] - self.other[0])]
        work = [f"{self.tuned.kept} of {self.tuned.steps}", f"{self.cpu:.0f}", f"{self.peak:.0f}"]
        return [self.case, str(self.seed), *figures, *work]


HEAD = (
    *("learned from", "seed", "its val, before", "after", "gain"),
    *(f"{OTHER} val, before", "after", "change", "steps kept", "CPU s", "peak MB"),
)


def point_iou(model: Sam, dataset: Dataset) -> float:
    """Mean IoU of one click on each object."""
    return float(evaluate(dataset, ModelMethod(model), "point", clicks=1)["mean_iou"])


def learn(parent: Sam, case: Case, settings: Settings, data: Path) -> tuple[Tuned, float]:
    """Fine-tune on pictures drawn by the seed; also gives the processor's seconds, of all cores."""
    readers = open_dataset(data / case.name / "train.zip").readers
    chosen = np.random.default_rng(settings.seed).choice(len(readers), case.pictures, replace=False)
    begun = time.process_time()
    material = hold_out([readers[index]() for index in chosen.tolist()], seed=settings.seed)
    tuned = finetune(parent, material, settings)
    return tuned, time.process_time() - begun


def summary(rows: Sequence[Row]) -> list[str]:
    """Mean and spread over seeds, a line for each case."""
    lines = []
    for name in dict.fromkeys(row.case for row in rows):
        own, other = (
            np.array([pair[1] - pair[0] for pair in pairs]) * 100
            for pairs in zip(*[(row.own, row.other) for row in rows if row.case == name], strict=True)
        )
        lines.append(
            f"- {name}, {len(own)} seeds: {own.mean():+.1f} points on its val ({own.min():+.1f} to "
            f"{own.max():+.1f}), {other.mean():+.1f} on {OTHER} val "
            f"({other.min():+.1f} to {other.max():+.1f})."
        )
    return lines


def main() -> None:
    """Measure, and write as it goes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--method", default="decoder", choices=METHODS)
    parser.add_argument("--steps", type=int, default=Settings.steps)
    parser.add_argument("--limit", type=int, default=None, help="pictures of each validation split")
    parser.add_argument("--other-limit", type=int, default=None, help=f"pictures of {OTHER}'s, else --limit")
    parser.add_argument("--cases", nargs="+", default=[case.name for case in CASES])
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data")
    parser.add_argument("--out", type=Path, default=HERE / "FINETUNE.md")
    options = parser.parse_args()
    report = Report(
        options.out, heading(" ".join(["python benchmarks/finetune.py", *sys.argv[1:]])), (TITLE,)
    )
    parent = load_model(options.model)
    vals = {
        name: open_dataset(options.data / name / "val.zip").first(
            options.other_limit or options.limit if name == OTHER else options.limit
        )
        for name in (OTHER, *options.cases)
    }
    before = {name: point_iou(parent, dataset) for name, dataset in vals.items()}
    rows: list[Row] = []
    for seed in range(options.seeds):
        for case in (case for case in CASES if case.name in options.cases):
            settings = Settings(method=options.method, steps=options.steps, seed=seed)
            tuned, cpu = learn(parent, case, settings, options.data)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            after = {name: point_iou(tuned.model, vals[name]) for name in (case.name, OTHER)}
            own, other = ((before[name], after[name]) for name in (case.name, OTHER))
            rows.append(Row(case.name, seed, own, other, tuned, cpu, peak))
            print(*rows[-1].cells(), file=sys.stderr, flush=True)
            numbers = ", ".join(f"{one.pictures} of {one.name}" for one in CASES if one.name in vals)
            table = [HEAD, ["---"] + ["---:"] * (len(HEAD) - 1), *(row.cells() for row in rows)]
            report.put(
                TITLE,
                [
                    f"Mean IoU of one click, by a model that has seen neither kind; learned from {numbers}, "
                    f"drawn anew for each seed; method {options.method}. Judged by "
                    f"{', '.join(f'{len(val)} pictures of {name}' for name, val in vals.items())}.",
                    "",
                    *("| " + " | ".join(line) + " |" for line in table),
                    "",
                    *summary(rows),
                ],
            )
    print(options.out)


if __name__ == "__main__":
    main()
