"""``samscape train``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from napari_samscape.cli.app import app


@app.command()
def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="What to train on, and how.")],
    minutes: Annotated[
        float | None, typer.Option(help="Time to train in all, earlier sittings counted in.")
    ] = None,
    start: Annotated[
        Path | None, typer.Option(metavar="WEIGHTS", help="Begin with these weights instead of fresh ones.")
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            metavar="CLIP",
            help="Teach the model to find objects by words: a CLIP's folder or name (extra text).",
        ),
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Processor threads.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.")] = None,
) -> None:
    """Train a model on labelled pictures; a stopped run goes on where it was.

    The output folder of the configuration gets `nano.safetensors` (the weights, loaded by path like any
    checkpoint), `state.pt` (all that is needed to go on), `log.jsonl` and `curve.png`; where
    data sets to validate on are named, also `samples.png`: the truth in green, the answer in magenta.

        samscape train training/nano.toml --minutes 60

    With `--text` and `--start` the image encoder stays as it is; the rest learns to take embeddings of CLIP
    as prompts: of the objects' pictures in training, of phrases afterwards.

        samscape train words.toml --start vit_b.pth --text clip-vit-large-patch14
    """
    from napari_samscape.training.train import read_config
    from napari_samscape.training.train import train as run

    settings = read_config(config)
    settings = replace(
        settings,
        minutes=settings.minutes if minutes is None else minutes,
        start=settings.start if start is None else str(start.resolve()),
        text=settings.text if text is None else str(Path(text).resolve()) if Path(text).exists() else text,
        threads=threads or settings.threads,
        device=device or settings.device,
    )
    try:
        path = run(settings, report=lambda line: typer.echo(line, err=True))
    except KeyboardInterrupt:
        typer.echo("Stopped; the same command goes on from the last checkpoint.", err=True)
        raise typer.Exit(130) from None
    typer.echo(f"The weights are in {path}")
