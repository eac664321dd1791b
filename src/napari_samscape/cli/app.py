"""What every command needs: the application, its errors, JSON and progress."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from napari_samscape.errors import InputError
from napari_samscape.model.process import keep_freed_memory

BAD_INPUT = 2
NOT_ALL = 1  # something could not be read; the rest is there


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


Model = Annotated[str, typer.Option(help="A name of `samscape models`, or a checkpoint's path.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
TILES, STACKS = "Large pictures", "Stacks"  # groups of --help
Tile = Annotated[
    int | None,
    typer.Option(
        help="Longest side of a tile, in pixels. [default: what the model sees]", rich_help_panel=TILES
    ),
]
Halo = Annotated[
    int | None, typer.Option(help="How far tiles overlap into each other.", rich_help_panel=TILES)
]
ObjectSize = Annotated[
    int | None,
    typer.Option(help="Longest side of usual objects; the halo follows from it.", rich_help_panel=TILES),
]
Precision = Annotated[
    str,
    typer.Option(
        metavar="float32|bfloat16",
        help="Of the model's products; bfloat16 is faster on processors that have it; masks hardly differ.",
    ),
]
Plane = Annotated[
    str,
    typer.Option(
        metavar="xy|xz|yz",
        help="Which slices of a volume are looked at; labels have the picture's axes.",
        rich_help_panel=STACKS,
    ),
]
Level = Annotated[
    int,
    typer.Option(
        min=0, metavar="N", help="Of a pyramid, the level to look at; 0 is the finest.", rich_help_panel=TILES
    ),
]
Channels = Annotated[
    str | None,
    typer.Option(
        metavar="C,…", help="Which channels are red, green and blue, from 0 on. [default: the first three]"
    ),
]
Workers = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Look at tiles in so many processes (extra dask).")
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        metavar="tcp://…", help="Look at tiles on the workers of a dask scheduler; see docs/cluster.md."
    ),
]
CacheFolder = Annotated[
    str | None,
    typer.Option(
        "--cache",
        metavar="DIR",
        help="Keep embeddings there, in half precision, and find those of before; auto is the user's own.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


def main() -> None:
    """Entry point of the command `samscape`."""
    keep_freed_memory()
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

    Exit codes: 0 fine, 2 bad input (one sentence on standard error says which), 1 anything unexpected, or a
    part of a picture that could not be read.
    """


def read_channels(text: str | None) -> tuple[int, ...]:
    """Read the text of ``--channels``; none where it is left out.

    Raises
    ------
    InputError
        If it is not one to three whole numbers.
    """
    parts = [] if text is None else text.split(",")
    if text is not None and not (len(parts) <= 3 and all(part.strip().isdecimal() for part in parts)):
        raise InputError(f'--channels \'{text}\' cannot be read; it should look like "2" or "2,0,1".')
    return tuple(map(int, parts))


def say_what_failed(sentences: Sequence[str]) -> None:
    """Print what could not be done; the exit code tells, too."""
    for sentence in sentences:
        typer.echo(f"samscape: {sentence}", err=True)
    if sentences:
        raise typer.Exit(NOT_ALL)


def print_json(values: dict[str, Any]) -> None:
    """Print one JSON object on standard output, and nothing else."""
    typer.echo(json.dumps(values))


@contextmanager
def progress_bar(in_bytes: bool = False) -> Iterator[Callable[[int, int, str], None]]:
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
