"""``samscape finetune``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_samscape.cli.app import AsJson, Device, Model, app, print_json, progress_bar

if TYPE_CHECKING:
    from napari_samscape.training.tuning import Outcome


class Method(StrEnum):
    """What learns."""

    decoder = "decoder"
    lora = "lora"
    full = "full"


@app.command()
def finetune(  # noqa: PLR0913  (a command's options are its parameters)
    images: Annotated[
        Path, typer.Option(help="A picture, a folder of pictures, or a data set with its labels.")
    ],
    labels: Annotated[
        Path | None, typer.Option(help="Their labels: a file, a folder of the same names, or COCO JSON.")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="WEIGHTS", help="The checkpoint, .safetensors.")] = Path(
        "tuned.safetensors"
    ),
    model: Model = "nano",
    method: Annotated[
        Method,
        typer.Option(help="What learns: all but the encoder; low-rank changes to its attention, too; all."),
    ] = Method.decoder,
    minutes: Annotated[float, typer.Option(help="Time to learn, at most.")] = 2.0,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps, at most.")] = None,
    rate: Annotated[float | None, typer.Option(help="Rate of learning.")] = None,
    held_out: Annotated[float, typer.Option(min=0, max=0.9, help="Share of the objects to judge by.")] = 0.2,
    partial: Annotated[
        bool, typer.Option("--partial", help="Not every object is labelled: the rest is no background.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of all that is drawn by chance.")] = 0,
    device: Device = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace WEIGHTS.")] = False,
    as_json: AsJson = False,
) -> None:
    """Teach a model your objects, from a few labelled pictures, in minutes on a laptop.

    WEIGHTS is a checkpoint like any other: `--model WEIGHTS` takes it in every command. Beside it lie its
    card (.md) and a picture of before and after (.png). In labels 0 is background, 65535 is ignored.

        samscape finetune --images pictures/ --labels masks/ --out mine.safetensors

        samscape finetune --images cells.ome.zarr --model vit_b --method lora --device cuda

        samscape finetune --images photos/ --labels annotations.json
    """
    from napari_samscape.model.weights import load_model
    from napari_samscape.training.finetune import Settings
    from napari_samscape.training.material import hold_out, read_labelled
    from napari_samscape.training.tuning import tune

    given: dict[str, Any] = {"steps": steps, "rate": rate}
    settings = Settings(
        method=str(method), minutes=minutes, seed=seed, **{k: v for k, v in given.items() if v is not None}
    )
    samples = (read() for read in read_labelled(images, labels).readers)
    material = hold_out(samples, complete=not partial, held_out=held_out, seed=seed)
    with progress_bar() as progress:
        outcome = tune(
            load_model(model, device), material, out, settings, overwrite=overwrite, progress=progress
        )
    if as_json:
        print_json(_plain(outcome))
        return
    for row in outcome.rows() if outcome.before else ():
        typer.echo(f"{row[0]:42}{row[1]:>8}{row[2]:>8}{row[3]:>8}")
    typer.echo(str(outcome.path))


def _plain(outcome: Outcome) -> dict[str, object]:
    tuned = outcome.tuned
    return {
        "out": str(outcome.path),
        "before": outcome.before,
        "after": outcome.after,
        "steps": tuned.steps,
        "kept": tuned.kept,
        "seconds": tuned.seconds,
        "course": tuned.course,
    }
