"""``samscape segment``."""

from __future__ import annotations

from enum import StrEnum
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
from napari_samscape.errors import InputError

if TYPE_CHECKING:
    from napari_samscape.io import BoxList
    from napari_samscape.prediction.types import Prompts
    from napari_samscape.scaling.job import Result


class Mode(StrEnum):
    """What is looked for."""

    everything = "everything"
    prompts = "prompts"
    boxes = "boxes"
    edges = "edges"
    text = "text"


class Nested(StrEnum):
    """Which of masks within masks are kept."""

    all = "all"
    parts = "parts"
    wholes = "wholes"


PROMPTS, OUTPUTS = "What to look for", "Outputs"  # groups of --help


@app.command()
@takes_options
def segment(  # noqa: PLR0913  (a command's options are its parameters)
    image: Annotated[
        str, typer.Argument(metavar="IMAGE", help="PNG, JPEG, TIFF, OME-TIFF, Zarr or OME-Zarr.")
    ],
    out: Annotated[
        str, typer.Argument(metavar="OUT", help="Labels or edges: .ome.zarr, .zarr, .tif or .png (16 bits).")
    ],
    model: Model = "nano",
    mode: Annotated[
        Mode | None,
        typer.Option(
            help="Where left out: prompts if there are any, text if there is one, else everything.",
            rich_help_panel=PROMPTS,
        ),
    ] = None,
    points: Annotated[
        str | None,
        typer.Option(metavar="Y,X;…", help="Clicks on one object, in pixels.", rich_help_panel=PROMPTS),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="1,0,…",
            help="1 inside, 0 outside; one per point. [default: all 1]",
            rich_help_panel=PROMPTS,
        ),
    ] = None,
    boxes: Annotated[
        str | None,
        typer.Option(
            metavar="Y0,X0,Y1,X1;…|FILE",
            help="One object per box, in pixels; or a file: .json (COCO), .csv (y0,x0,y1,x1) or .geojson.",
            rich_help_panel=PROMPTS,
        ),
    ] = None,
    detector: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Finds the boxes: blobs, otsu, transformers:MODEL, or an installed one.",
            rich_help_panel=PROMPTS,
        ),
    ] = None,
    nested: Annotated[
        Nested,
        typer.Option(
            help="Of masks within masks in everything-mode: all, only parts, or wholes.",
            rich_help_panel=PROMPTS,
        ),
    ] = Nested.all,
    device: Device = "auto",
    overlay: Annotated[
        str | None,
        typer.Option(metavar="PNG", help="Draw the outlines into a picture.", rich_help_panel=OUTPUTS),
    ] = None,
    objects: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Objects one by one, overlaps and all: .json (COCO), .csv (table) or .geojson (outlines).",
            rich_help_panel=OUTPUTS,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace outputs that exist.", rich_help_panel=OUTPUTS)
    ] = False,
    table: Annotated[
        str | None,
        typer.Option(metavar="CSV", help="List the labels of a picture of any size: id, box, area, scores."),
    ] = None,
    thin: Annotated[
        bool,
        typer.Option("--thin/--soft", help="Edges as lines of one pixel, or bands.", rich_help_panel=OUTPUTS),
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
    """Find objects in a picture and write them as labels.

    A large picture is cut into tiles and put together again, in memory that does not grow with it. A run that
    was stopped or killed goes on where it was when it is started again.

    Everything in the picture, with the bundled model:

        samscape segment cells.tif cells_labels.ome.zarr --overlay cells.png

    The same with a grid of points, asked again in crops for small objects, and less strict:

        samscape segment cells.tif out.tif --prompt-source grid --crop-n-layers 1 --pred-iou-thresh 0.6

    The object under a click, but not what is under another one:

        samscape segment scene.jpg cup.png --points "120,340;90,300" --labels "1,0"

    An object in each box, with a larger model:

        samscape segment cells.ome.zarr out.tif --model vit_b --boxes "10,10,60,80;70,15,120,90"

    A whole slide, in tiles, with cells of about 60 pixels:

        samscape segment slide.ome.zarr cells.ome.zarr --object-size 60

    Nuclei in the third channel of it, in pixels four times as large:

        samscape segment slide.ome.zarr nuclei.ome.zarr --channels 2 --level 2

    A volume, or a time series, whose objects have one id in all slices (each of --link-... implies --link):

        samscape segment volume.tif nuclei.ome.zarr --link --link-extent 3

    An object in each box of a detector, with its score and class beside the labels; and the edges:

        samscape segment street.jpg cars.tif --mode boxes --boxes detections.json --objects cars.json

        samscape segment cells.tif out.tif --mode boxes --detector otsu --objects cells.geojson

        samscape segment scene.jpg edges.tif --mode edges

    What looks like a phrase; or what a detector finds that is asked by words (docs/text.md):

        samscape segment scene.jpg cups.tif --text "a cup" --clip openai/clip-vit-base-patch32

        samscape segment scene.jpg cups.tif --detector transformers:google/owlv2-base-patch16 --text "a cup"
    """
    from napari_samscape.io import BoxList
    from napari_samscape.scaling.batch import run
    from napari_samscape.scaling.cluster import connected
    from napari_samscape.scaling.job import Job

    given = BoxList([])
    prompts: tuple[Prompts, ...] = ()
    if mode == Mode.boxes or detector is not None:
        if points is not None or labels is not None or (boxes is None) == (detector is None):
            raise InputError(
                "The mode 'boxes' needs --boxes or --detector, and takes neither --points nor --labels."
            )
        given = given if boxes is None else _read_boxes(boxes, image)
        mode = mode or Mode.boxes
    else:
        prompts = read_prompts(points, labels, boxes, image)
    chosen = mode or (Mode.prompts if prompts else Mode.text if phrase else Mode.everything)
    job = Job(
        *(image, out, model, str(chosen), prompts, device, overlay, overwrite, given.boxes, thin),
        scores=given.scores or (),
        classes=given.classes or (),
        detector=detector,
        nested=str(nested),
        objects=objects,
        tile=tile,
        halo=halo,
        object_size=object_size,
        options=options,
        link=link,
        phrase=phrase,
        plane=plane,
        level=level,
        channels=read_channels(channels),
        cache=cache,
        precision=precision,
        table=table,
    )
    with connected(workers, scheduler) as cluster, progress_bar() as progress:
        result = run(job, progress, cluster=cluster)
    if as_json:
        print_json(result.to_json())
    else:
        print_result(result)
    say_what_failed(result.failed)


def print_result(result: Result) -> None:
    """Say what a job has done, for people."""
    what = "edges" if result.objects is None else f"{result.objects} object(s)"
    typer.echo(f"{what} in {result.seconds:.1f} s on {result.device}")
    kind = "edges" if result.objects is None else "labels"
    files = (
        (kind, result.output),
        ("objects", result.objects_file),
        ("table", result.table),
        ("overlay", result.overlay),
    )
    for what, where in (*files, ("note", result.note)):
        if where:
            typer.echo(f"{what}: {where}")


def read_prompts(
    points: str | None, labels: str | None, boxes: str | None, picture: str = ""
) -> tuple[Prompts, ...]:
    """Make prompts of the texts of ``--points``, ``--labels`` and ``--boxes``.

    All points belong to one object, together with at most one box; several boxes are several objects.

    Raises
    ------
    InputError
        If a text cannot be read, or the parts do not go together.
    """
    from napari_samscape.prediction.types import Prompts

    if points is None and labels is not None:
        raise InputError("--labels says what the --points mean; there are no --points.")
    corners = None if boxes is None else _read_boxes(boxes, picture).boxes
    if points is None:
        return tuple(Prompts(box=box) for box in corners or ())
    if corners is not None and len(corners) != 1:
        raise InputError(
            f"--points belong to one object, so one box goes with them; there are {len(corners)}."
        )
    kinds = None if labels is None else sum(_numbers(labels, None, "--labels"), [])
    box = None if corners is None else corners[0]
    return (Prompts(points=_numbers(points, 2, "--points"), labels=kinds, box=box),)


def _read_boxes(text: str, picture: str) -> BoxList:
    from napari_samscape.io import BOX_ENDINGS, BoxList, read_boxes

    is_file = text.strip().lower().endswith(BOX_ENDINGS)
    given = read_boxes(text, picture) if is_file else BoxList(_numbers(text, 4, "--boxes"))
    if not given.boxes:
        raise InputError("The prompt is empty: --boxes holds no box.")
    return given


def _numbers(text: str, width: int | None, option: str) -> list[list[float]]:
    """Read rows of ``width`` numbers (None: of any): commas within a row, semicolons between rows."""
    rows = [row.split(",") for row in text.split(";") if row.strip()]
    try:
        values = [[float(number) for number in row] for row in rows]
        wrong = width is not None and any(len(row) != width for row in values)
    except ValueError:
        wrong = True
    if wrong:
        example = {None: "1,0,1", 2: "12,40;30.5,8", 4: "10,10,60,80;70,15,120,90"}[width]
        raise InputError(f"{option} '{text}' cannot be read; it should look like \"{example}\".")
    return values
