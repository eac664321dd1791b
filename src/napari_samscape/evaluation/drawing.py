"""Curves as an SVG picture, for reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#777777")
MARGIN = 50  # pixels, below and on the left
LEGEND = 200  # pixels, on the right


@dataclass(frozen=True)
class Axis:
    """What an axis shows; 0 is its beginning and 1 its end.

    Attributes
    ----------
    title : str
    ticks : mapping of str to float
        Where each text stands.
    """

    title: str
    ticks: Mapping[str, float]


def curves_svg(
    curves: Mapping[str, Sequence[tuple[float, float, str]]],
    across: Axis,
    up: Axis,
    side: int = 360,
    diagonal: bool = False,
) -> str:
    """Draw curves in a square, each with its name in its colour on the right.

    Parameters
    ----------
    curves : mapping
        By name, points (x, y, text); from 0 to 1 along the axes. The text is shown under the mouse.
    across, up : Axis
    side : int
        Of the square, in pixels.
    diagonal : bool
        Whether a line shows where x and y are the same.

    Returns
    -------
    str
    """
    parts = _frame(across, up, side)
    if diagonal:
        ends = f"{_place(0, 0, side)} {_place(1, 1, side)}"
        parts.append(f'<polyline points="{ends}" fill="none" stroke="#bbb" stroke-dasharray="4"/>')
    for index, (name, points) in enumerate(curves.items()):
        colour = COLOURS[index % len(COLOURS)]
        line = " ".join(_place(x, y, side) for x, y, _ in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for x, y, text in points:
            left, top = _place(x, y, side).split(",")
            said = f"<title>{_escaped(text)}</title>"
            parts.append(f'<circle cx="{left}" cy="{top}" r="3" fill="{colour}">{said}</circle>')
        below = MARGIN + 15 + 18 * index
        parts.append(f'<text x="{side + MARGIN + 12}" y="{below}" fill="{colour}">{_escaped(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _frame(across: Axis, up: Axis, side: int) -> list[str]:
    width, height, middle = side + MARGIN + LEGEND, side + 2 * MARGIN, MARGIN + side / 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<rect x="{MARGIN}" y="{MARGIN}" width="{side}" height="{side}" fill="none" stroke="#999"/>',
        f'<text x="{middle}" y="{side + MARGIN + 30}" text-anchor="middle">{_escaped(across.title)}</text>',
        f'<text transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">'
        f"{_escaped(up.title)}</text>",
    ]
    for text, where in across.ticks.items():
        x = _place(where, 0, side).split(",")[0]
        parts.append(f'<text x="{x}" y="{side + MARGIN + 15}" text-anchor="middle">{_escaped(text)}</text>')
    for text, where in up.ticks.items():
        y = _place(0, where, side).split(",")[1]
        parts.append(f'<text x="{MARGIN - 5}" y="{y}" text-anchor="end">{_escaped(text)}</text>')
    return parts


def _place(x: float, y: float, side: int) -> str:
    return f"{MARGIN + x * side:.1f},{MARGIN + (1 - y) * side:.1f}"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
