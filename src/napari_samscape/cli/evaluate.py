"""``samscape evaluate``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from napari_samscape.cli.app import AsJson, app, print_json, progress_bar


class Protocol(StrEnum):
    """How a model is asked."""

    point = "point"
    box = "box"
    everything = "everything"


class View(StrEnum):
    """Which part of a large picture the model is shown."""

    auto = "auto"
    whole = "whole"
    window = "window"


@app.command()
def evaluate(  # noqa: PLR0913  (a command's options are its parameters)
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="Zip or folder of pictures and labels, or COCO JSON.")
    ],
    model: Annotated[str, typer.Option(help="A name of `samscape models`, or a checkpoint's path.")] = "nano",
    protocol: Annotated[Protocol, typer.Option(help="How the model is asked.")] = Protocol.point,
    limit: Annotated[int | None, typer.Option(min=1, help="The first so many pictures only.")] = None,
    clicks: Annotated[int, typer.Option(min=1, max=9, help="Most clicks on an object.")] = 9,
    view: Annotated[View, typer.Option(help="What is shown of a large picture.")] = View.auto,
    baseline: Annotated[bool, typer.Option(help="Measure the method without learning, too.")] = True,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Measure a model on pictures whose objects are known.

    DATA is a zip with `index.json`, `images/` and `labels/`; a folder with `images/` and `labels/`, or with
    `NAME.png` next to `NAME_labels.png`; or a COCO file of instances. In labels 0 is background, 65535 is
    ignored.

    One click on each object's middle, then corrections; or its box; or everything without prompts:

        samscape evaluate cells.zip

        samscape evaluate cells.zip --protocol box --json

        samscape evaluate annotations.json --protocol everything --model vit_b
    """
    from napari_samscape.evaluation.baselines import Baseline
    from napari_samscape.evaluation.datasets import open_dataset
    from napari_samscape.evaluation.methods import Method, ModelMethod
    from napari_samscape.evaluation.report import print_table
    from napari_samscape.evaluation.run import evaluate as measure
    from napari_samscape.model.weights import load_model

    dataset = open_dataset(data).first(limit)
    method = ModelMethod(load_model(model, device), str(view))
    methods: list[Method] = [method, Baseline()] if baseline else [method]
    rows = []
    with progress_bar() as progress:
        for one in methods:
            rows.append(measure(dataset, one, str(protocol), clicks=clicks, progress=progress))
    if as_json:
        print_json(rows[0] | ({"baseline": rows[1]} if baseline else {}))
    else:
        print_table(rows)
