"""``samscape embed``, ``samscape cache list`` and ``samscape cache prune``."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_samscape.cli.app import (
    AsJson,
    Channels,
    Device,
    Halo,
    Level,
    Model,
    ObjectSize,
    Plane,
    Precision,
    Tile,
    app,
    print_json,
    progress_bar,
    read_channels,
    say_what_failed,
)
from napari_samscape.errors import InputError

if TYPE_CHECKING:
    from napari_samscape.scaling.cache import Entry

Folder = Annotated[
    str, typer.Option("--cache", metavar="DIR", help="The folder; auto is in the user's own cache.")
]
DAY = 86400
GIGABYTE = 10**9

cache = typer.Typer(no_args_is_help=True, help="List and prune embeddings that are kept on disk.")
app.add_typer(cache, name="cache")


@app.command()
def embed(  # noqa: PLR0913  (a command's options are its parameters)
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="As of `samscape segment`.")],
    folder: Folder = "auto",
    model: Model = "nano",
    device: Device = "auto",
    tile: Tile = None,
    halo: Halo = None,
    object_size: ObjectSize = None,
    plane: Plane = "xy",
    level: Level = 0,
    channels: Channels = None,
    precision: Precision = "float32",
    as_json: AsJson = False,
) -> None:
    """Run the image encoder on a picture, tile by tile, and keep what it gives.

    `samscape segment IMAGE OUT --cache DIR` then finds it: in everything-mode and for edges with the same
    tiles, so give --tile and the like to both; with prompts and boxes where the picture is one tile. What was
    embedded before is left as it is.

        samscape embed slide.ome.zarr --model vit_b --cache embeddings

        samscape segment slide.ome.zarr cells.ome.zarr --model vit_b --cache embeddings
    """
    from napari_samscape.io import open_image
    from napari_samscape.model.weights import choose_device, load_model
    from napari_samscape.scaling.ahead import embed_ahead
    from napari_samscape.scaling.tiles import TileOptions

    tiles = TileOptions(tile, halo, object_size)
    picture = open_image(image, level=level, channels=read_channels(channels))
    with progress_bar() as progress:
        loaded = load_model(model, choose_device(device), precision)
        done = embed_ahead(picture, model=loaded, cache=folder, tiles=tiles, plane=plane, progress=progress)
    if as_json:
        print_json(done.to_json())
    else:
        typer.echo(f"{done.made} new and {done.found} known embedding(s) in {done.seconds:.1f} s")
        typer.echo(f"cache: {done.cache}")
    say_what_failed(done.failed)


@cache.command("list")
def list_entries(folder: Folder = "auto", as_json: AsJson = False) -> None:
    """List pictures and models of which embeddings are kept, those not used for longest first.

    samscape cache list

    samscape cache list --cache embeddings --json
    """
    from napari_samscape.scaling.cache import Cache

    kept = Cache(folder, make=False)
    rows = _summed(kept.entries(), kept.pictures_in_use())
    if as_json:
        print_json({"cache": str(kept.folder), "bytes": sum(row["bytes"] for row in rows), "entries": rows})
        return
    for row in rows:
        used = "in use" if row["in_use"] else f"used {row['days']:.1f} day(s) ago"
        typer.echo(f"{row['bytes'] / GIGABYTE:8.3f} GB  {row['embeddings']:6}  {used}  {row['model']}")
        typer.echo(f"             of {row['picture']}")
    typer.echo(f"{sum(row['bytes'] for row in rows) / GIGABYTE:8.3f} GB in {kept.folder}")


@cache.command()
def prune(  # noqa: PLR0913  (a command's options are its parameters)
    folder: Folder = "auto",
    older_than: Annotated[
        float | None, typer.Option(min=0, metavar="DAYS", help="What was not used for so long.")
    ] = None,
    max_size: Annotated[
        float | None,
        typer.Option(min=0, metavar="GB", help="What was not used for longest, until so much is left."),
    ] = None,
    picture: Annotated[
        str | None, typer.Option(metavar="PATH|NAME", help="What is of this picture only.")
    ] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="What is of this model only.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that is not in use.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove embeddings: those to which all the given conditions apply. Pictures of running jobs keep theirs.

    samscape cache prune --older-than 30

    samscape cache prune --max-size 20 --cache embeddings

    samscape cache prune --picture slide.ome.zarr --model vit_b
    """
    from napari_samscape.scaling.cache import Cache

    conditions = (older_than, max_size, picture, model)
    if everything == any(one is not None for one in conditions):
        raise InputError("Say what to remove: --older-than, --max-size, --picture or --model; or --all.")
    gone = Cache(folder, make=False).prune(
        picture=picture,
        model=model,
        older_than=None if older_than is None else older_than * DAY,
        at_most=None if max_size is None else int(max_size * GIGABYTE),
    )
    size = sum(entry.size for entry in gone)
    if as_json:
        print_json({"removed": len(gone), "bytes": size})
    else:
        typer.echo(f"{len(gone)} embedding(s) removed, {size / GIGABYTE:.3f} GB")


def _summed(entries: Iterable[Entry], in_use: set[str]) -> list[dict[str, Any]]:
    """One row for each picture and model."""
    groups: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[entry.picture, entry.model].append(entry)
    rows = [
        {
            "picture": picture,
            "model": model,
            "embeddings": len(group),
            "bytes": sum(entry.size for entry in group),
            "days": round((time.time() - max(entry.used for entry in group)) / DAY, 3),
            "in_use": picture in in_use,
        }
        for (picture, model), group in groups.items()
    ]
    return sorted(rows, key=lambda row: (-row["days"], row["picture"], row["model"]))
