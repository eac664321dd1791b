"""The command line: parse, build a `Job`, call. Heavy imports wait inside the commands, so help is quick.

A further command is a function with ``@app.command()`` here, or in a module of its own that is imported at
the end of this one. It raises `InputError` for bad input and leaves the rest to `Commands`.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from napari_samscape.errors import InputError

if TYPE_CHECKING:
    from napari_samscape.prediction.types import Prompts

BAD_INPUT = 2
PACKAGES = ("torch", "numpy", "zarr", "tifffile", "napari")


class Commands(TyperGroup):
    """All commands; what is wrong with the input is said in one sentence, with exit code 2."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except InputError as error:
            typer.echo(f"samscape: {error}", err=True)
            raise typer.Exit(BAD_INPUT) from error


app = typer.Typer(
    name="samscape",
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Mode(StrEnum):
    """What is looked for."""

    everything = "everything"
    prompts = "prompts"


AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


def main() -> None:
    """Entry point of the command `samscape`."""
    app()


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"samscape {version('napari-samscape')}")
        raise typer.Exit


@app.callback()
def samscape(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Segment Anything for pictures of any size.

    Exit codes: 0 fine, 2 bad input (one sentence on standard error says which), 1 anything unexpected.
    """


@app.command()
def segment(  # noqa: PLR0913  (a command's options are its parameters)
    image: Annotated[
        str, typer.Argument(metavar="IMAGE", help="PNG, JPEG, TIFF, OME-TIFF, Zarr or OME-Zarr.")
    ],
    out: Annotated[
        str, typer.Argument(metavar="OUT", help="Labels: .ome.zarr, .zarr, .tif or .png (16 bits).")
    ],
    model: Annotated[str, typer.Option(help="A name of `samscape models`, or a checkpoint's path.")] = "nano",
    mode: Annotated[
        Mode | None, typer.Option(help="Where left out: prompts if there are any, else everything.")
    ] = None,
    points: Annotated[
        str | None, typer.Option(metavar="Y,X;…", help="Clicks on one object, in pixels.")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(metavar="1,0,…", help="1 inside, 0 outside; one per point. [default: all 1]")
    ] = None,
    boxes: Annotated[
        str | None, typer.Option(metavar="Y0,X0,Y1,X1;…|FILE.json", help="One object per box, in pixels.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    overlay: Annotated[
        str | None, typer.Option(metavar="PNG", help="Draw the outlines into a picture.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")] = False,
    as_json: AsJson = False,
) -> None:
    """Find objects in a picture and write them as labels.

    Everything in the picture, with the bundled model:

        samscape segment cells.tif cells_labels.ome.zarr --overlay cells.png

    The object under a click, but not what is under another one:

        samscape segment scene.jpg cup.png --points "120,340;90,300" --labels "1,0"

    An object in each box, with a larger model:

        samscape segment cells.ome.zarr out.tif --model vit_b --boxes "10,10,60,80;70,15,120,90"
    """
    from napari_samscape.scaling.batch import Job, run

    prompts = read_prompts(points, labels, boxes)
    chosen = mode or (Mode.prompts if prompts else Mode.everything)
    job = Job(image, out, model, str(chosen), prompts, device, overlay, overwrite)
    with _progress_bar() as progress:
        result = run(job, progress)
    if as_json:
        _print_json(result.to_json())
        return
    typer.echo(f"{result.objects} object(s) in {result.seconds:.1f} s on {result.device}")
    for what, where in (("labels", result.output), ("overlay", result.overlay), ("note", result.note)):
        if where:
            typer.echo(f"{what}: {where}")


@app.command()
def models(
    download: Annotated[str | None, typer.Option(metavar="NAME", help="Fetch this one.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the known models, or download one.

    samscape models

    samscape models --download vit_b
    """
    from napari_samscape.model import registry

    if download is not None:
        with _progress_bar(in_bytes=True) as progress:
            fetched = registry.download(download, progress=progress)
        if as_json:
            _print_json({"name": download, "path": str(fetched)})
        else:
            typer.echo(f"{download}: {fetched}")
        return
    rows = []
    for known in registry.KNOWN.values():
        path = registry.local_path(known.name)
        size = path.stat().st_size if path else known.size_bytes
        rows.append(
            {
                "name": known.name,
                "here": path is not None,
                "path": str(path) if path else None,
                "size_bytes": size,
                "licence": known.licence,
                "url": known.url,
                "sha256": known.sha256,
                "about": known.about,
            }
        )
    if as_json:
        _print_json({"models": rows})
    else:
        _print_models(rows)


@app.command()
def info(
    image: Annotated[
        str | None, typer.Argument(metavar="[IMAGE]", help="A picture to describe, too.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what runs here, and what a picture holds.

    samscape info

    samscape info cells.ome.zarr --json
    """
    facts: dict[str, Any] = {}
    if image is not None:
        facts["image"] = _image_facts(image)
    else:
        facts |= _machine_facts()
    if as_json:
        _print_json(facts)
        return
    for name, value in facts.get("image", facts).items():
        typer.echo(f"{name + ':':10} {value if not isinstance(value, list) else ', '.join(map(str, value))}")


def read_prompts(points: str | None, labels: str | None, boxes: str | None) -> tuple[Prompts, ...]:
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
    corners = None if boxes is None else _read_boxes(boxes)
    if points is None:
        return tuple(Prompts(box=box) for box in corners or ())
    if corners is not None and len(corners) != 1:
        raise InputError(
            f"--points belong to one object, so one box goes with them; there are {len(corners)}."
        )
    kinds = None if labels is None else sum(_numbers(labels, None, "--labels"), [])
    box = None if corners is None else corners[0]
    return (Prompts(points=_numbers(points, 2, "--points"), labels=kinds, box=box),)


def _read_boxes(text: str) -> list[list[float]]:
    if not text.strip().lower().endswith(".json"):
        boxes: Any = _numbers(text, 4, "--boxes")
    else:
        try:
            boxes = json.loads(Path(text).read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"The boxes in {text} cannot be read: {error.strerror}.") from error
        except ValueError as error:
            raise InputError(f"{text} is no JSON file: {error}.") from error
        boxes = boxes.get("boxes") if isinstance(boxes, dict) else boxes
        if not isinstance(boxes, list) or not all(isinstance(box, list) for box in boxes):
            raise InputError(f"{text} must hold a list of boxes [y0, x0, y1, x1].")
    if not boxes:
        raise InputError("The prompt is empty: --boxes holds no box.")
    return boxes


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


def _image_facts(path: str) -> dict[str, Any]:
    from napari_samscape.io import open_image

    image = open_image(path)
    return {
        "path": str(image),
        "axes": image.axes,
        "shape": list(image.shape),
        "dtype": str(image.dtype),
        "scale": list(image.scale),
        "units": list(image.units),
        "levels": [list(map(int, level.shape)) for level in image.levels],
    }


def _machine_facts() -> dict[str, Any]:
    import torch

    from napari_samscape.model import registry
    from napari_samscape.model.weights import choose_device

    facts: dict[str, Any] = {"samscape": version("napari-samscape"), "python": platform.python_version()}
    for name in PACKAGES:
        try:
            facts[name] = version(name)
        except PackageNotFoundError:
            facts[name] = None
    device = choose_device("auto")
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
    here = [name for name in registry.KNOWN if registry.local_path(name)]
    return facts | {
        "system": platform.platform(),
        "device": str(device),
        "threads": torch.get_num_threads(),
        "cache": str(registry.cache_dir()),
        "models": here,
    }


def _print_models(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "here", "size", "licence", "about", box=None, pad_edge=False)
    for row in rows:
        size = f"{row['size_bytes'] / 1e6:.0f} MB" if row["size_bytes"] else "?"
        table.add_row(row["name"], "yes" if row["here"] else "no", size, row["licence"], row["about"])
    Console().print(table)


def _print_json(values: dict[str, Any]) -> None:
    typer.echo(json.dumps(values))


@contextmanager
def _progress_bar(in_bytes: bool = False) -> Iterator[Callable[[int, int, str], None]]:
    """Show long work on standard error; standard output is for results."""
    from rich import progress as bars
    from rich.console import Console

    amount = bars.DownloadColumn() if in_bytes else bars.MofNCompleteColumn()
    columns = (bars.TextColumn("{task.description}"), bars.BarColumn(), amount, bars.TimeRemainingColumn())
    console = Console(stderr=True)
    # A log file wants no bar: what it would hold is control characters.
    hidden = not console.is_interactive
    with bars.Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task("starting", total=None)

        def show(done: int, total: int, text: str) -> None:
            bar.update(task, completed=done, total=total or None, description=text)

        yield show


if __name__ == "__main__":
    main()
