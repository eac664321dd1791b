"""Count the clicks that the data engine spares a scripted annotator, and draw the curve.

    python benchmarks/engine.py --model nano_without.safetensors

Training pictures only. Each object is clicked on, as the evaluation protocol does, until its mask has an IoU
of 0.85 with the truth, nine times at most. A mask that was filled in is corrected by clicks where it is about
right, and costs a click to remove where it is not. Writes its section of
REPORT.md, and engine.svg.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from sections import Report  # beside this file

from napari_samscape.annotation.project import Project
from napari_samscape.annotation.simulate import MOST, TARGET, Effort, simulate
from napari_samscape.evaluation.datasets import open_dataset
from napari_samscape.evaluation.drawing import Axis, curves_svg
from napari_samscape.prediction.types import Instance
from napari_samscape.training.finetune import Settings

HERE = Path(__file__).resolve().parent
TITLE = "Clicks of a scripted annotator"
PICTURE = "engine.svg"


@dataclass(frozen=True)
class Arm:
    """How the annotator is helped."""

    name: str
    fills: bool
    learns: bool


ARMS = (
    Arm("clicks alone", False, False),
    Arm("filled in", True, False),
    Arm("filled in, learning", True, True),
)
HEAD = (
    "data",
    "arm",
    "pictures",
    "objects",
    "clicks",
    "per object",
    "filled in rightly",
    "not reached",
    "versions",
)


def lay_out(folder: Path, dataset: str, data: Path, number: int) -> dict[str, Sequence[Instance]]:
    """Put pictures of a training set into a folder; gives the truth by their names."""
    readers = open_dataset(data / dataset / "train.zip").readers
    chosen = np.random.default_rng(0).choice(len(readers), number, replace=False)
    truth = {}
    for place, index in enumerate(chosen.tolist()):
        sample = readers[index]()
        Image.fromarray(sample.pixels).save(folder / f"{place:03}.png")
        truth[f"{place:03}"] = sample.objects
    return truth


def row(dataset: str, arm: Arm, efforts: Sequence[Effort]) -> list[str]:
    """A line of the table."""
    objects, clicks = (sum(getattr(effort, name) for effort in efforts) for name in ("objects", "clicks"))
    filled, unreached = (sum(getattr(effort, name) for effort in efforts) for name in ("filled", "unreached"))
    versions = max(effort.version for effort in efforts)
    told = [len(efforts), objects, clicks, f"{clicks / objects:.2f}", filled, unreached, versions]
    return [dataset, arm.name, *map(str, told)]


def curve(efforts: Sequence[Effort]) -> list[tuple[float, float, str]]:
    """Objects done and clicks per object so far, on axes from 0 to all objects and from 0 to nine clicks."""
    objects = np.cumsum([effort.objects for effort in efforts])
    clicks = np.cumsum([effort.clicks for effort in efforts])
    return [
        (float(n / objects[-1]), float(k / n / MOST), f"{k} clicks, {n} objects")
        for n, k in zip(objects, clicks, strict=True)
    ]


def main() -> None:
    """Simulate, and write as it goes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--sets", nargs="+", default=["dsb2018", "usiigaci_phase"])
    parser.add_argument("--pictures", nargs="+", type=int, default=[24, 8], help="of each set")
    parser.add_argument("--every", type=int, default=100, help="objects between two versions")
    parser.add_argument("--steps", type=int, default=Settings.steps)
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data")
    parser.add_argument("--out", type=Path, default=HERE / "REPORT.md")
    options = parser.parse_args()
    command = " ".join(["python benchmarks/engine.py", *sys.argv[1:]])
    report = Report(options.out)
    rows: list[list[str]] = []
    curves: dict[str, list[tuple[float, float, str]]] = {}
    for dataset, number in zip(options.sets, options.pictures, strict=True):
        for arm in ARMS:
            with tempfile.TemporaryDirectory() as folder:
                (Path(folder) / "pictures").mkdir()
                truth = lay_out(Path(folder) / "pictures", dataset, options.data, number)
                project = Project.create(
                    Path(folder) / "project",
                    str(Path(folder) / "pictures"),
                    options.model,
                    every=options.every,
                    fills=arm.fills,
                )
                efforts = simulate(
                    project,
                    truth,
                    learns=arm.learns,
                    steps=options.steps,
                    report=lambda effort: print(effort, file=sys.stderr, flush=True),
                )
            rows.append(row(dataset, arm, efforts))
            curves[f"{dataset}, {arm.name}"] = curve(efforts)
            objects, clicks = (
                Axis("share of objects done", {"0": 0.0, "1": 1.0}),
                Axis("clicks per object so far", {str(k): k / MOST for k in range(0, MOST + 1, 3)}),
            )
            options.out.with_name(PICTURE).write_text(curves_svg(curves, objects, clicks))
            table = [HEAD, ["---"] * 2 + ["---:"] * (len(HEAD) - 2), *rows]
            report.put(
                TITLE,
                [
                    f"Until an IoU of {TARGET}, at most {MOST} clicks; a new version after {options.every} "
                    "objects.",
                    "",
                    *("| " + " | ".join(line) + " |" for line in table),
                    "",
                    f"![Clicks per object]({PICTURE})",
                ],
                command,
            )
    print(options.out)


if __name__ == "__main__":
    main()
