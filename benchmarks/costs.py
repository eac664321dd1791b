"""What large things would cost, from measured figures; `scale.py --costs` writes docs/scaling.md."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from sections import origin

from napari_samscape.prediction.views import LARGE
from napari_samscape.scaling.pieces import written_whole
from napari_samscape.scaling.tiles import TileOptions, tile_plane

PAGE = Path(__file__).resolve().parents[1] / "docs" / "scaling.md"
NANO_TILE = 1024  # its tile_size
GIGABYTE = 1e9


@dataclass(frozen=True)
class Scenario:
    """So many pictures of one size."""

    name: str
    pictures: int
    shape: tuple[int, int]

    @property
    def tiles(self) -> int:
        """Of all pictures."""
        return self.pictures * len(tile_plane(self.shape, NANO_TILE, LARGE, TileOptions()))

    @property
    def megapixels(self) -> float:
        """Of all pictures."""
        return self.pictures * prod(self.shape) / 1e6


SCENARIOS = (
    Scenario("a slide of 100,000 x 100,000", 1, (100_000, 100_000)),
    Scenario("a plate of 10,000 pictures of 2,048 x 2,048", 10_000, (2048, 2048)),
    Scenario("SA-1B, 11,000,000 pictures of 1,500 x 2,250", 11_000_000, (1500, 2250)),
)


def write(figures: dict[str, Any], command: str) -> Path:
    """Write the page.

    Raises
    ------
    SystemExit
        If a side or the simulated tiles have not been measured yet.
    """
    if not figures.get("sides") or "tiles" not in figures:
        raise SystemExit("Measure --side 4096 (or another) and --tiles first.")
    side = figures["sides"][max(figures["sides"], key=int)]
    with written_whole(PAGE) as file:
        file.write("\n".join([*page(side, figures["tiles"], command), ""]).encode())
    return PAGE


def page(side: dict[str, Any], tile: dict[str, Any], command: str) -> list[str]:
    """Markdown, of figures of the largest side that was measured and of simulated tiles."""
    costs = [(scenario, *cost(scenario, side, tile)) for scenario in SCENARIOS]
    cores = per_tile(side) / tile["dask"]
    million = tile["number_bytes"] * 1e6 / GIGABYTE
    return [
        "# What large things cost",
        "",
        f"*{origin(command)}*",
        "",
        f"Computed from what a picture of {side['side']} x {side['side']} pixels with {side['true']} nuclei",
        f"took with `nano` on one core ({side['cpu_per_megapixel']:.2f} s a megapixel), and from what",
        f"{tile['tiles']:,} tiles without pixels did; [REPORT.md](../benchmarks/REPORT.md) says on which",
        "machines. With twice as many objects it is nearly twice as much, with other models more: measure",
        "`scale.py --model NAME --side 2048` first.",
        "",
        "| | tasks | core-hours | labels, GB | kept until done, GB | files | one process alone, hours |",
        "|---|---:|---:|---:|---:|---:|---:|",
        *(
            f"| {one.name} | {one.tiles:,} | {c['hours']:,.1f} | {c['labels']:,.1f} | {c['kept']:,.1f} "
            f"| {c['files']:,.0f} | {c['alone']:,.2f} |"
            for one, c, _ in costs
        ),
        "",
        "Tasks are tiles: what a worker looks at at a time. The last column is what the process that was",
        "started does by itself: scheduling, putting objects together, writing. Labels are compressed;",
        "what is kept until a picture is done lies beside its output, and of a batch only that of the",
        "pictures under way at a time.",
        "",
        "## Where it would break first",
        "",
        *(f"- **{one.name[0].upper()}{one.name[1:]}**: {text}" for one, _, text in costs),
        "",
        f"Dask's scheduler hands out {1 / tile['dask']:,.0f} tiles a second, however many workers there",
        f"are; a tile takes {per_tile(side):.1f} s of a core, so it keeps {cores:,.0f} cores busy. Its",
        "memory does not grow: 1,000 tiles are with it at a time. Objects are numbered in one process,",
        f"which holds {tile['number_bytes'] / 1e3:.1f} kB a tile: {million:.1f} GB for a plane of a million",
        "tiles.",
    ]


def per_tile(side: dict[str, Any]) -> float:
    """Core-seconds of a tile, but for writing."""
    return float(side["cpu"] - side["write_seconds"]) / side["tiles"]


def cost(scenario: Scenario, side: dict[str, Any], tile: dict[str, Any]) -> tuple[dict[str, float], str]:
    """Figures by name, and what would break first."""
    writing = side["write_seconds"] / side["tiles"]
    alone = scenario.tiles * (writing + tile["dask"]) + scenario.pictures * tile["picture"]
    look = scenario.tiles * per_tile(side)
    at_a_time = min(scenario.pictures, 32) / scenario.pictures
    figures = {
        "hours": (look + alone) / 3600,
        "labels": scenario.megapixels * 1e6 * side["output_bytes"] / side["side"] ** 2 / GIGABYTE,
        "kept": scenario.tiles * side["pieces_bytes"] / side["tiles"] * at_a_time / GIGABYTE,
        "files": scenario.pictures * tile["picture_files"]
        + scenario.tiles * side["output_files"] / side["tiles"],
        "alone": alone / 3600,
    }
    return figures, weakest(scenario, figures, look / alone, tile)


def weakest(scenario: Scenario, figures: dict[str, float], most: float, tile: dict[str, Any]) -> str:
    """Say what gives way first."""
    said = (
        f"with more than {most:,.0f} cores the process that was started is what all wait for "
        f"({figures['alone']:,.2f} hours)"
    )
    if scenario.pictures > 1_000_000:
        plan = scenario.pictures * tile["plan_bytes"] / GIGABYTE
        said = (
            f"the list of pictures and of what became of them takes {plan:,.0f} GB of memory, and "
            f"{figures['files']:,.0f} files are more than many disks take; {said}. Cut the manifest into "
            "parts "
            "of 100,000 pictures, one `samscape batch` each, into folders of their own"
        )
    return f"{said}."
