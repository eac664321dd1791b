"""Figures as a table: the same columns in the terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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
    colours = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#777777")
    margin = 40

    def place(x: float, y: float) -> str:
        return f"{margin + x * side:.1f},{margin + (1 - y) * side:.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{side + margin + 200}" height="{side + 2 * margin}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<rect x="{margin}" y="{margin}" width="{side}" height="{side}" fill="none" stroke="#999"/>',
        f'<polyline points="{place(0, 0)} {place(1, 1)}" fill="none" stroke="#bbb" stroke-dasharray="4"/>',
        f'<text x="{margin + side / 2}" y="{side + margin + 30}" text-anchor="middle">predicted IoU</text>',
        f'<text transform="translate(14 {margin + side / 2}) rotate(-90)" text-anchor="middle">'
        "true IoU</text>",
    ]
    for tick in (0, 0.5, 1):
        x, y = place(tick, tick).split(",")
        parts.append(f'<text x="{x}" y="{side + margin + 15}" text-anchor="middle">{tick:g}</text>')
        parts.append(f'<text x="{margin - 5}" y="{y}" text-anchor="end">{tick:g}</text>')
    for index, (name, bins) in enumerate(curves.items()):
        colour = colours[index % len(colours)]
        places = [place(one["predicted"], one["true"]) for one in bins]
        parts.append(
            f'<polyline points="{" ".join(places)}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        parts += [
            f'<circle cx="{where.split(",")[0]}" cy="{where.split(",")[1]}" r="3" fill="{colour}">'
            f"<title>{one['n']} objects</title></circle>"
            for where, one in zip(places, bins, strict=True)
        ]
        y = f"{margin + 15 + 18 * index}"
        parts.append(f'<text x="{side + margin + 12}" y="{y}" fill="{colour}">{_escaped(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


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


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
