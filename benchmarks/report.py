"""Measure a model on the validation splits and write REPORT.md; nothing in it is typed by hand.

python benchmarks/report.py [--model nano] [--limit 12] [--clicks 3] [--data ../shared/data]
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from speed import speed_table  # beside this file

from napari_samscape import load_model
from napari_samscape.evaluation.baselines import Baseline
from napari_samscape.evaluation.datasets import open_dataset
from napari_samscape.evaluation.edge_baselines import Canny, Sobel
from napari_samscape.evaluation.methods import ModelMethod
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
}


def processor() -> str:
    """The processor's name, where the system tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def heading(command: str) -> list[str]:
    """Where, when and from what the figures come."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True, check=False
    )
    return [
        "# Measured",
        "",
        f"- Command: `{command}`",
        f"- Date: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC; commit {commit.stdout.strip() or 'unknown'}",
        f"- Machine: {processor()}, {torch.get_num_threads()} threads; Python {platform.python_version()}, "
        f"torch {torch.__version__}",
        "- Validation splits. `baseline` needs no learning: Otsu and a distance-transform watershed for",
        "  everything, the filled box for boxes, a flood by local threshold for points. Times on a shared",
        "  machine are rough.",
        "",
    ]


def measure(
    options: argparse.Namespace, model: ModelMethod
) -> tuple[list[str], dict[str, list[dict[str, Any]]]]:
    """Tables of all protocols, and the model's figures for each."""
    lines: list[str] = []
    kept: dict[str, list[dict[str, Any]]] = {}
    for protocol in (name for name in TITLES if name in options.protocols):
        title, rows = TITLES[protocol], []
        for split in SPLITS:
            dataset = open_dataset(options.data / split).first(options.limit)
            for method in (model, Baseline()):
                print(f"{protocol}: {split}, {method.name}", file=sys.stderr, flush=True)
                rows.append(evaluate(dataset, method, protocol, clicks=options.clicks))
        kept[protocol] = rows[::2]
        lines += [f"## {title}", "", markdown(rows), ""]
    return lines, kept


def measure_edges(options: argparse.Namespace, model: ModelMethod) -> list[str]:
    """The table of edge maps against humans' boundaries; nothing was ever tuned on these pictures."""
    dataset = open_dataset(options.data / BOUNDARIES).first(options.edge_limit or options.limit)
    rows = []
    for method in (model, Sobel(), Canny()):
        print(f"edges: {BOUNDARIES}, {method.name}", file=sys.stderr, flush=True)
        rows.append(evaluate(dataset, method, "edges", levels=options.thresholds))
    said = f"BSDS500's measure at {options.thresholds} thresholds; scikit-image's defaults, nothing tuned."
    return ["## Edges, against boundaries that humans drew", "", said, "", markdown(rows), ""]


def main() -> None:
    """Measure, then write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--limit", type=int, default=None, help="pictures of each split")
    parser.add_argument("--edge-limit", type=int, default=None, help="pictures for edges, else --limit")
    parser.add_argument("--clicks", type=int, default=9)
    parser.add_argument("--thresholds", type=int, default=99, help="at which edge maps are cut")
    protocols = [*TITLES, "edges"]
    parser.add_argument("--protocols", nargs="+", default=protocols, choices=protocols)
    parser.add_argument("--view", default="auto", choices=("auto", "whole", "window"))
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data")
    parser.add_argument("--out", type=Path, default=HERE / "REPORT.md")
    options = parser.parse_args()
    model = ModelMethod(load_model(options.model), options.view)
    speed = ["## Time", "", *speed_table(model.model, options.data), ""]
    lines, kept = measure(options, model)
    if "edges" in options.protocols:
        lines += measure_edges(options, model)
    if "point" in kept:
        picture = options.out.with_name("calibration.svg")
        picture.write_text(calibration_svg({row["dataset"]: row["calibration"] for row in kept["point"]}))
        lines += ["## Predicted against true IoU, one click", "", f"![Calibration]({picture.name})", ""]
    command = " ".join(["python benchmarks/report.py", *sys.argv[1:]])
    options.out.write_text("\n".join(heading(command) + lines + speed))
    print(options.out)


if __name__ == "__main__":
    main()
