"""``samscape batch``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_samscape.cli.app import (
    AsJson,
    CacheFolder,
    Channels,
    Device,
    Halo,
    Level,
    Model,
    ObjectSize,
    Plane,
    Precision,
    Scheduler,
    Tile,
    Workers,
    app,
    print_json,
    progress_bar,
    read_channels,
    say_what_failed,
)
from napari_samscape.cli.options import takes_options
from napari_samscape.cli.segment import Nested

if TYPE_CHECKING:
    from napari_samscape.scaling.many import BatchResult


class PromptFreeMode(StrEnum):
    """What is looked for in pictures of which nothing is known beforehand."""

    everything = "everything"
    boxes = "boxes"
    edges = "edges"
    text = "text"


@app.command()
@takes_options
def batch(  # noqa: PLR0913  (a command's options are its parameters)
    pictures: Annotated[
        str,
        typer.Argument(
            metavar="MANIFEST|FOLDER|GLOB",
            help="A .txt with one path a line, a .csv with a column picture, a folder, an OME-Zarr plate, "
            "or a pattern.",
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A folder for outputs and tables.")],
    model: Model = "nano",
    mode: Annotated[
        PromptFreeMode | None,
        typer.Option(help="Where left out: boxes with a detector, text with a text, else everything."),
    ] = None,
    detector: Annotated[
        str | None, typer.Option(metavar="NAME", help="Finds the boxes, as in `samscape segment`.")
    ] = None,
    nested: Annotated[
        Nested, typer.Option(help="Of masks within masks in everything-mode: all, only parts, or wholes.")
    ] = Nested.all,
    device: Device = "auto",
    ending: Annotated[str, typer.Option(help="Of the outputs: .ome.zarr, .tif or .png.")] = ".ome.zarr",
    table: Annotated[
        str, typer.Option(help="Name of the table of all objects, .csv or .parquet.")
    ] = "objects.csv",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make everything anew.")] = False,
    thin: Annotated[
        bool, typer.Option("--thin/--soft", help="Edges as lines of one pixel, or bands.")
    ] = True,
    tile: Tile = None,
    halo: Halo = None,
    object_size: ObjectSize = None,
    plane: Plane = "xy",
    level: Level = 0,
    channels: Channels = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    cache: CacheFolder = None,
    precision: Precision = "float32",
    as_json: AsJson = False,
    *,
    options: dict[str, Any],
    link: Any,
    phrase: Any,
) -> None:
    """Find objects in many pictures with the same settings, and list them in one table.

    Outputs are named after the pictures. A picture that fails is reported and the others go on; the exit code
    is 1 then. What was stopped or killed goes on where it was when it is started again, and failing pictures
    are tried again.

        samscape batch plate/ labels/

        samscape batch "slides/**/*.ome.zarr" cells/ --object-size 60 --table cells.parquet

        samscape batch pictures.csv labels/ --ending .tif --json

        samscape batch "volumes/*.tif" nuclei/ --link --pred-iou-thresh 0.6
    """
    from napari_samscape.scaling.cluster import connected
    from napari_samscape.scaling.many import run_many
    from napari_samscape.scaling.pictures import find_pictures

    settings = {
        "model": model,
        "mode": str(mode or _mode(detector is not None, phrase is not None)),
        "detector": detector,
        "nested": str(nested),
        "device": device,
        "overwrite": overwrite,
        "thin": thin,
        "tile": tile,
        "halo": halo,
        "object_size": object_size,
        "options": options,
        "link": link,
        "phrase": phrase,
        "plane": plane,
        "level": level,
        "channels": read_channels(channels),
        "cache": cache,
        "precision": precision,
    }
    found = find_pictures(pictures, out)
    with connected(workers, scheduler) as cluster, progress_bar() as progress:
        result = run_many(
            found, out, settings, ending=ending, table=table, progress=progress, cluster=cluster
        )
    print_json(result.to_json()) if as_json else print_result(result)
    say_what_failed(result.sentences)


def _mode(has_detector: bool, has_text: bool) -> PromptFreeMode:
    if has_detector:
        return PromptFreeMode.boxes
    return PromptFreeMode.text if has_text else PromptFreeMode.everything


def print_result(result: BatchResult) -> None:
    """Say what a batch has done, for people."""
    counts = result.to_json()
    what = "edges" if result.table is None else f"{result.objects} object(s)"
    typer.echo(f"{what} in {counts['done']} picture(s), {counts['failed']} failed, in {result.seconds:.1f} s")
    for kind, where in (("outputs", result.folder), ("table", result.table)):
        if where:
            typer.echo(f"{kind}: {where}")
