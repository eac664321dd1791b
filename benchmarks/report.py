"""Measure a model on the validation splits and write REPORT.md; nothing in it is typed by hand.

python benchmarks/report.py [--model nano] [--limit 12] [--clicks 3] [--workers 2]

Sections are written anew after each row; those that were not asked for stay as they are. Rows that are
missing, as the run was stopped, are said to be so.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import prompt_counts  # beside this file, as sections and speed
import torch
from sections import Report
from speed import speed_table

from napari_samscape import load_model
from napari_samscape.evaluation.baselines import Baseline
from napari_samscape.evaluation.datasets import open_dataset
from napari_samscape.evaluation.edge_baselines import Canny, Sobel
from napari_samscape.evaluation.methods import EdgeMethod, Method, ModelMethod
from napari_samscape.evaluation.report import calibration_svg, markdown
from napari_samscape.evaluation.run import evaluate

HERE = Path(__file__).resolve().parent
SPLITS = (
    "dsb2018/val.zip",
    "bbbc039/val.zip",
    "usiigaci_phase/val.zip",
    "axon_sem/val.zip",
    "gravel/val.zip",
    "coco_mini/permissive_val.zip",
)
BOUNDARIES = "bsds500/test_100.zip"
TITLES = {
    "point": "One click on each object's middle",
    "box": "Each object's box",
    "everything": "Everything, without prompts",
    "edges": "Edges, against boundaries that humans drew",
}
PROMPTS = "Everything, by the number of prompts"
CALIBRATION = "Predicted against true IoU, one click"
TIME = "Time"
MISSING = "not measured"
EXPLAINED = (
    "`baseline` needs no learning: Otsu and a distance-transform watershed for everything, the filled box "
    "for boxes, a flood by local threshold for points, Sobel's and Canny's filters for edges.",
    "",
)
Put = Callable[[str, Sequence[str]], None]


def measure(
    options: argparse.Namespace,
    put: Put,
    protocol: str,
    splits: Sequence[str],
    methods: Sequence[Method | EdgeMethod],
) -> list[dict[str, Any]]:
    """Fill a table row by row; gives its rows."""
    limit = (options.edge_limit if protocol == "edges" else None) or options.limit
    said = []
    if protocol == "edges":
        cuts = f"BSDS500's measure at {options.thresholds} thresholds"
        said = [f"{cuts}; scikit-image's defaults; nothing was ever tuned on these pictures.", ""]
    asked = [(split, method) for split in splits for method in methods]
    rows: list[dict[str, Any]] = [
        {
            "protocol": protocol,
            "dataset": split.removesuffix(".zip"),
            "model": method.name,
            "pictures": MISSING,
        }
        for split, method in asked
    ]
    ask = partial(measure_row, protocol, options, limit)
    for number, row in rows_of(ask, asked, options.workers):
        print(f"{protocol}: {row['dataset']}, {row['model']}", file=sys.stderr, flush=True)
        rows[number] = row
        put(TITLES[protocol], [*said, *EXPLAINED, markdown(rows)])
    return rows


def measure_row(
    protocol: str, options: argparse.Namespace, limit: int | None, asked: tuple[str, Method | EdgeMethod]
) -> dict[str, Any]:
    """Ask one method about one data set."""
    split, method = asked
    dataset = open_dataset(options.data / split).first(limit)
    return evaluate(dataset, method, protocol, clicks=options.clicks, levels=options.thresholds)


def rows_of(
    ask: Callable[[Any], dict[str, Any]], asked: Sequence[Any], workers: int
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows with their numbers, made one after the other or by several processes, in the order asked."""
    if workers == 1:
        yield from enumerate(map(ask, asked))
        return
    single = {"initializer": torch.set_num_threads, "initargs": (1,)}
    with ProcessPoolExecutor(workers, get_context("spawn"), **single) as pool:
        yield from enumerate(pool.map(ask, asked))


def measure_prompts(options: argparse.Namespace, put: Put, model: ModelMethod) -> None:
    """Grid beside learned prompts, in a table and pictures."""

    def tell(rows: list[dict[str, Any]]) -> None:
        drawn = [f"![{name}]({name})" for name in prompt_counts.draw(rows, options.out.parent)]
        put(PROMPTS, [*prompt_counts.table(rows), "", *drawn])

    datasets = [open_dataset(options.data / name).first(options.limit) for name in prompt_counts.SETS]
    prompt_counts.measure(model.model, datasets, tell)


def draw_calibration(options: argparse.Namespace, put: Put, rows: Sequence[dict[str, Any]]) -> None:
    """Draw the model's predicted against true IoU, a curve for each data set."""
    picture = options.out.with_name("calibration.svg")
    picture.write_text(calibration_svg({row["dataset"]: row["calibration"] for row in rows}))
    put(CALIBRATION, [f"![Calibration]({picture.name})"])


def main() -> None:
    """Measure, and write as it goes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--limit", type=int, default=None, help="pictures of each split")
    parser.add_argument("--edge-limit", type=int, default=None, help="pictures for edges, else --limit")
    parser.add_argument("--clicks", type=int, default=9)
    parser.add_argument("--thresholds", type=int, default=99, help="at which edge maps are cut")
    known = ["time", *TITLES, "prompts"]
    parser.add_argument("--protocols", nargs="+", default=known, choices=known)
    parser.add_argument("--workers", type=int, default=1, help="processes; with more, times say less")
    parser.add_argument("--view", default="auto", choices=("auto", "whole"))
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data")
    parser.add_argument("--out", type=Path, default=HERE / "REPORT.md")
    options = parser.parse_args()
    model = ModelMethod(load_model(options.model), options.view)
    command = " ".join(["python benchmarks/report.py", *sys.argv[1:]])
    put = partial(Report(options.out).put, command=command)
    if "time" in options.protocols:
        put(TIME, speed_table(model.model, options.data))
    for protocol in (name for name in TITLES if name in options.protocols):
        if protocol == "edges":
            measure(options, put, protocol, [BOUNDARIES], [model, Sobel(), Canny()])
            continue
        rows = measure(options, put, protocol, SPLITS, [model, Baseline()])
        if protocol == "point":
            draw_calibration(options, put, rows[::2])
    if "prompts" in options.protocols:
        measure_prompts(options, put, model)
    print(options.out)


if __name__ == "__main__":
    main()
