"""Figures as a table: the same columns in the terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from napari_samscape.evaluation.drawing import Axis, curves_svg

Figures = Mapping[str, Any]

# Key of `run.evaluate`'s figures, and what stands over the column.
_COLUMNS = {
    "point": {"mean_iou": "mean IoU", "ci95": "95 %", "oracle_iou": "best of 3"},
    "box": {"mean_iou": "mean IoU", "ci95": "95 %", "jittered_iou": "jittered"},
    "everything": {
        "ap50": "AP50",
        "ci95": "95 %",
        "ap75": "AP75",
        "ap": "AP",
        "ap50_per_picture": "AP50 per picture",
        "coco_ap": "COCO AP",
        "aji": "AJI",
        "count_error": "count error",
    },
    "edges": {"ods": "ODS", "ci95": "95 %", "ois": "OIS", "ap": "AP", "r50": "R50"},
}
_FIRST = {"dataset": "data set", "model": "model", "pictures": "pictures", "n": "objects"}
_LAST = {"rank_correlation": "rank corr.", "seconds_per_image": "s / picture", "peak_mb": "peak MB"}


def table(rows: Sequence[Figures]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells for figures of one protocol, a row for each."""
    protocol = rows[0]["protocol"]
    columns = {**_FIRST, **_COLUMNS[protocol]}
    if protocol == "point":
        columns |= {
            f"iou_clicks.{count}": f"{count} clicks" for count in rows[0]["iou_clicks"] if count != "1"
        }
    columns |= _LAST
    if protocol in ("everything", "edges"):
        del columns["rank_correlation"]
    if protocol == "edges":
        columns["n"] = "drawings"
    return list(columns.values()), [[_cell(row, key) for key in columns] for row in rows]


def markdown(rows: Sequence[Figures]) -> str:
    """The table of figures of one protocol in Markdown."""
    head, cells = table(rows)
    marks = ["---" if index < 2 else "---:" for index in range(len(head))]
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, marks, *cells])


def print_table(rows: Sequence[Figures]) -> None:
    """Print figures of one protocol on standard output, side by side, since there are few rows."""
    from rich.console import Console
    from rich.table import Table

    head, cells = table(rows)
    shown = Table(box=None, pad_edge=False, show_header=False)
    shown.add_column()
    for _ in rows:
        shown.add_column(justify="right")
    shown.add_row("protocol", *[row["protocol"] for row in rows])
    for index, name in enumerate(head):
        shown.add_row(name, *[line[index] for line in cells])
    Console().print(shown)


def calibration_svg(curves: Mapping[str, Sequence[Figures]], side: int = 360) -> str:
    """Predicted against true IoU as an SVG picture, a curve for each data set; on the diagonal all is well.

    Parameters
    ----------
    curves : mapping
        ``calibration`` of `run.evaluate`'s figures, by the name of the data set.
    side : int
        Of the square, in pixels; the legend is on its right.
    """
    places = {
        name: [(one["predicted"], one["true"], f"{one['n']} objects") for one in bins]
        for name, bins in curves.items()
    }
    ticks = {"0": 0.0, "0.5": 0.5, "1": 1.0}
    return curves_svg(places, Axis("predicted IoU", ticks), Axis("true IoU", ticks), side, diagonal=True)


def _cell(row: Figures, key: str) -> str:
    value: Any = row
    for part in key.split("."):
        value = value.get(part) if value is not None else None
    if value is None:
        return "–"
    if key == "ci95":
        return f"{value[0]:.3f} to {value[1]:.3f}"
    if key == "peak_mb":
        return f"{value:.0f}"
    if key in ("seconds_per_image", "count_error"):
        return f"{value:.2f}"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
