"""Everything-mode by the number of prompts: a blind grid beside points from the model's dense head.

python benchmarks/prompt_counts.py [--limit 12] [--model nano] [--sets bbbc039/val.zip ...]

Prints a table and draws it in prompts_ap50.svg and prompts_recall50.svg; report.py puts all into REPORT.md.
All thresholds are the same.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_samscape import load_model
from napari_samscape.evaluation.datasets import Dataset, open_dataset
from napari_samscape.evaluation.drawing import Axis, curves_svg
from napari_samscape.evaluation.methods import ModelMethod
from napari_samscape.evaluation.run import evaluate
from napari_samscape.prediction.options import DENSE_DEFAULTS, EverythingOptions

if TYPE_CHECKING:
    from napari_samscape.model.sam import Sam

HERE = Path(__file__).resolve().parent
SETS = ("bbbc039/val.zip", "dsb2018/val.zip")
GRIDS = (4, 8, 16, 32)  # points per side
LIMITS = (16, 64, 256, DENSE_DEFAULTS.dense_max_points)  # points from the dense head
FIGURES = {"ap50": "AP50", "recall50": "recall at IoU 0.5"}
MOST = 2048  # prompts at the right end of the picture
HEAD = ("data set", "points from", "at most", "prompts / picture", "AP50", "recall", "s / picture")


def settings() -> Iterator[tuple[str, str, EverythingOptions]]:
    """Where points come from, how many at most, and the options that say so."""
    for side in GRIDS:
        yield "grid", f"{side} x {side}", replace(DENSE_DEFAULTS, prompt_source="grid", points_per_side=side)
    for most in LIMITS:
        told = str(most) if most < LIMITS[-1] else "no limit"
        yield "dense head", told, replace(DENSE_DEFAULTS, prompt_source="dense", dense_max_points=most)


@contextmanager
def counted(model: Sam) -> Iterator[list[int]]:
    """Note how many prompts the model answers, batch by batch."""
    seen: list[int] = []
    decode = model.decode

    def counting(encoded: Any, prompt: Any, *rest: Any) -> Any:
        seen.append(len(prompt.points))
        return decode(encoded, prompt, *rest)

    model.__dict__["decode"] = counting
    try:
        yield seen
    finally:
        del model.__dict__["decode"]


def measure(
    model: Sam, datasets: Sequence[Dataset], tell: Callable[[list[dict[str, Any]]], None]
) -> list[dict[str, Any]]:
    """A row of figures for each data set and setting; ``tell`` is given those so far after each."""
    rows: list[dict[str, Any]] = []
    for dataset in datasets:
        for source, most, options in settings():
            print(f"prompts: {dataset.name}, {source}, {most}", file=sys.stderr, flush=True)
            with counted(model) as seen:
                figures = evaluate(dataset, ModelMethod(model, options=options), "everything")
            asked = {"source": source, "most": most, "prompts": sum(seen) / len(dataset)}
            rows.append(figures | asked)
            tell(rows)
    return rows


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Lines of Markdown."""
    cells = [
        (
            *(row["dataset"], row["source"], row["most"], f"{row['prompts']:.0f}"),
            *(f"{row['ap50']:.3f}", f"{row['recall50']:.3f}", f"{row['seconds_per_image']:.2f}"),
        )
        for row in rows
    ]
    marks = ("---",) * 3 + ("---:",) * 4
    return ["| " + " | ".join(line) + " |" for line in (HEAD, marks, *cells)]


def draw(rows: Sequence[dict[str, Any]], folder: Path) -> list[str]:
    """Write a picture for each of the figures; gives their names."""
    names = [f"prompts_{figure}.svg" for figure in FIGURES]
    for name, figure in zip(names, FIGURES, strict=True):
        (folder / name).write_text(picture(rows, figure))
    return names


def picture(rows: Sequence[dict[str, Any]], figure: str) -> str:
    """A figure by the number of prompts as SVG, a curve for each data set and source."""
    curves: dict[str, list[tuple[float, float, str]]] = {}
    for row in sorted(rows, key=lambda row: row["prompts"]):
        text = f"{row['prompts']:.0f} prompts: {row[figure]:.3f}"
        place = (_across(row["prompts"]), row[figure], text)
        curves.setdefault(f"{row['dataset']}, {row['source']}", []).append(place)
    across = {str(count): _across(count) for count in (4, 16, 64, 256, 1024)}
    up = {f"{value:g}": value for value in (0, 0.25, 0.5, 0.75, 1)}
    return curves_svg(curves, Axis("prompts for each picture", across), Axis(FIGURES[figure], up))


def _across(prompts: float) -> float:
    return math.log(min(max(prompts, 1), MOST)) / math.log(MOST)


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--limit", type=int, default=12, help="pictures of each data set")
    parser.add_argument("--sets", nargs="+", default=list(SETS), help="below --data")
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data")
    parser.add_argument("--out", type=Path, default=HERE, help="folder for the pictures")
    options = parser.parse_args()
    datasets = [open_dataset(options.data / name).first(options.limit) for name in options.sets]
    rows = measure(load_model(options.model), datasets, lambda rows: draw(rows, options.out))
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
