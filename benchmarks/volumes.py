"""Measure volumes: everything-mode linked through z, and objects propagated from one click.

    python benchmarks/volumes.py [--model nano] [--limit 5] [--slices 8] [--agreement 0.7] [--data DATA]

Writes its section of REPORT.md. For each volume of which all objects are labelled slice by slice:

- linked: each slice is segmented by itself, then objects are linked (`segment(..., link=LinkOptions())`).
  AP50 is TP / (TP + FP + FN) of whole 3D objects at an IoU of 0.5; recall counts only the true ones, which is
  what is left to judge where but one kind of object is labelled.
- truth linked: the same AP50 of the true labels, cut into slices with ids of their own and linked again. What
  is missing to 1 is the linking's part.
- propagated: each object from one click, on the pixel farthest from its border in its middle slice. The mean
  3D IoU, beside the mean IoU of that click's own mask in its slice.

``--agreement 0`` shows what `PropagateOptions.min_agreement` is good for.
``--limit 3 --slices 6`` is enough to see that it works.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sections import Report

from napari_samscape import InputError, LinkOptions, Prompts, load_model, open_image, propagate, segment
from napari_samscape.evaluation.metrics import count_matches, precision
from napari_samscape.prediction.instances import instance_from_mask, interior_point, mask_iou
from napari_samscape.scaling.link import overlaps
from napari_samscape.scaling.propagate import PropagateOptions
from napari_samscape.scaling.stack import link_labels

HERE = Path(__file__).resolve().parent
VOLUMES = (
    "volumes_3d/embryo_8_cell_stage",
    "volumes_3d/membrane_cells",
    "volumes_3d/synthetic_nuclei",
    "em_chloroplasts",
)
PARTLY_LABELLED = {"em_chloroplasts": "only chloroplasts are labelled"}
Volume = NDArray[Any]


def read_volume(folder: Path, slices: int | None) -> tuple[Volume, Volume]:
    """Pixels and labels (z, y, x); of a limited number, the middle slices."""
    pixels, labels = (np.asarray(open_image(folder / f"{name}.tif").data[...]) for name in ("raw", "labels"))
    start = 0 if slices is None else max(0, (len(labels) - slices) // 2)
    part = slice(start, None if slices is None else start + slices)
    return pixels[part], labels[part].astype(np.int32)


def matched(truth: Volume, found: Volume) -> tuple[int, int, int]:
    """How many 3D objects of both are the same at an IoU of 0.5, and how many there are of each."""
    (true_ids, true), (found_ids, answers) = (np.unique(each, return_inverse=True) for each in (truth, found))
    true, answers = true.ravel() + (true_ids[0] != 0), answers.ravel() + (found_ids[0] != 0)
    areas = np.bincount(true), np.bincount(answers)
    rows = overlaps(true, answers)
    iou = np.zeros((len(areas[0]), len(areas[1])))
    iou[rows[:, 0], rows[:, 1]] = rows[:, 2] / (areas[0][rows[:, 0]] + areas[1][rows[:, 1]] - rows[:, 2])
    return int(count_matches(iou[1:, 1:], 0.5)[0]), len(areas[0]) - 1, len(areas[1]) - 1


def ap50(truth: Volume, found: Volume) -> float:
    """TP / (TP + FP + FN) of 3D objects."""
    return float(precision(*matched(truth, found)))


def relinked(truth: Volume) -> Volume:
    """The true labels with ids of each slice's own, linked."""
    apart = np.stack(
        [np.where(plane > 0, plane + 100_000 * z, 0) for z, plane in enumerate(truth.astype(int))]
    )
    link_labels(apart, apart, LinkOptions())
    return apart


def measure_linked(model: Any, pixels: Volume, truth: Volume, say: Callable[[str], None]) -> dict[str, Any]:
    """Everything-mode, linked."""
    say(f"everything in {len(pixels)} slices")
    start = time.perf_counter()
    found = segment(pixels, model=model, mode="everything", link=LinkOptions())
    seconds = time.perf_counter() - start
    hits, true, answers = matched(truth, found)
    return {
        "true": true,
        "found": answers,
        "ap50": float(precision(hits, true, answers)),
        "recall": hits / max(true, 1),
        "truth_linked": ap50(truth, relinked(truth)),
        "seconds_per_slice": seconds / len(pixels),
    }


def measure_propagated(
    model: Any, pixels: Volume, truth: Volume, options: argparse.Namespace, say: Callable[[str], None]
) -> dict[str, Any]:
    """Each object, or the first few, from one click in its middle slice."""
    rule = PropagateOptions(min_agreement=options.agreement)
    ids = np.unique(truth)
    ids = ids[ids > 0][: options.limit]
    seen: dict[int, Any] = {}
    volume_iou, slice_iou = [], []
    start = time.perf_counter()
    for number, label in enumerate(ids, start=1):
        say(f"object {number} of {len(ids)}")
        mask = truth == label
        with_it = np.flatnonzero(mask.any(axis=(1, 2)))
        middle = int(with_it[len(with_it) // 2])
        item = instance_from_mask(mask[middle])
        found = np.zeros_like(mask)
        click = Prompts(points=[interior_point(item)])
        for step in propagate(pixels, {middle: click}, model=model, options=rule, seen=seen):
            y0, x0, y1, x1 = step.item.box
            found[step.index, y0:y1, x0:x1] |= step.item.mask
            if step.index == middle:
                slice_iou.append(mask_iou(item, step.item) if step.item.area else 0.0)
        volume_iou.append(np.count_nonzero(mask & found) / np.count_nonzero(mask | found))
    seconds = time.perf_counter() - start
    return {
        "propagated": len(ids),
        "iou": float(np.mean(volume_iou)),
        "click_iou": float(np.mean(slice_iou)),
        "seconds_per_object": seconds / max(len(ids), 1),
    }


def measure(name: str, model: Any, options: argparse.Namespace) -> dict[str, Any]:
    """All figures of one volume."""
    pixels, truth = read_volume(options.data / name, options.slices)

    def say(text: str) -> None:
        print(f"{name}: {text}", file=sys.stderr, flush=True)

    row = {"volume": Path(name).name, "shape": " x ".join(map(str, truth.shape))}
    row |= measure_linked(model, pixels, truth, say)
    row |= measure_propagated(model, pixels, truth, options, say)
    return row


def table(rows: list[dict[str, Any]]) -> list[str]:
    """A Markdown table."""
    lines = [
        "| volume | z x y x x | objects | found | AP50 | recall | truth linked | s / slice "
        "| propagated | mean IoU | click's IoU | s / object |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    form = (
        "| {volume} | {shape} | {true} | {found} | {ap50:.3f} | {recall:.3f} | {truth_linked:.3f} "
        "| {seconds_per_slice:.2f} | {propagated} | {iou:.3f} | {click_iou:.3f} | {seconds_per_object:.2f} |"
    )
    return lines + [form.format(**row) for row in rows]


def put(rows: list[dict[str, Any]], out: Path) -> None:
    """Write what was measured so far."""
    said = [
        "AP50 and mean IoU are of whole 3D objects; `benchmarks/volumes.py` says how they are measured.",
        "`nano` was trained on slices of these volumes, so its figures are not those of unseen data.",
        *(
            f"Of {name}, {what}: there AP50 says little, and recall more."
            for name, what in PARTLY_LABELLED.items()
        ),
    ]
    command = " ".join(["python benchmarks/volumes.py", *sys.argv[1:]])
    Report(out).put("Volumes", [*said, "", *table(rows)], command)


def main() -> None:
    """Measure, and write after each volume."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--volumes", nargs="+", default=list(VOLUMES), choices=VOLUMES, metavar="NAME")
    parser.add_argument("--limit", type=int, default=None, help="objects to propagate, of each volume")
    parser.add_argument("--slices", type=int, default=None, help="middle slices to measure, of each volume")
    parser.add_argument("--agreement", type=float, default=PropagateOptions.min_agreement)
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data")
    parser.add_argument("--out", type=Path, default=HERE / "REPORT.md")
    options = parser.parse_args()
    rows = []
    try:
        model = load_model(options.model)
        for name in options.volumes:
            rows.append(measure(name, model, options))
            put(rows, options.out)
    except InputError as error:
        raise SystemExit(str(error)) from error
    print(options.out)


if __name__ == "__main__":
    main()
