"""``samscape evaluate``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_samscape.cli.app import AsJson, Device, Model, Precision, app, print_json, progress_bar

if TYPE_CHECKING:
    from napari_samscape.evaluation.methods import EdgeMethod, Method


class Protocol(StrEnum):
    """How a model is asked."""

    point = "point"
    box = "box"
    everything = "everything"
    edges = "edges"


class View(StrEnum):
    """What the model is shown of a picture."""

    auto = "auto"
    whole = "whole"


@app.command()
def evaluate(  # noqa: PLR0913  (a command's options are its parameters)
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="Zip or folder of pictures and labels, or COCO JSON.")
    ],
    model: Model = "nano",
    protocol: Annotated[Protocol, typer.Option(help="How the model is asked.")] = Protocol.point,
    limit: Annotated[int | None, typer.Option(min=1, help="The first so many pictures only.")] = None,
    clicks: Annotated[int, typer.Option(min=1, max=9, help="Most clicks on an object.")] = 9,
    view: Annotated[
        View, typer.Option(help="Whether small things are shown closer (auto), or the picture in one piece.")
    ] = View.auto,
    thresholds: Annotated[int, typer.Option(min=1, help="Cuts of an edge map; BSDS500 has 99.")] = 99,
    baseline: Annotated[bool, typer.Option(help="Measure what takes no learning, too.")] = True,
    device: Device = "auto",
    precision: Precision = "float32",
    as_json: AsJson = False,
) -> None:
    """Measure a model on pictures whose objects are known.

    DATA is a zip with `index.json`, `images/` and `labels/`; a folder with `images/` and `labels/`, or with
    `NAME.png` next to `NAME_labels.png`; or a COCO file of instances. In labels 0 is background, 65535 is
    ignored. For edges, DATA is BSDS500's folder, or a zip or folder with `images/` and `gt/NAME.npz`.

    One click on each object's middle, then corrections; or its box; or everything without prompts:

        samscape evaluate cells.zip

        samscape evaluate cells.zip --protocol box --json

        samscape evaluate annotations.json --protocol everything --model vit_b

    An edge map, against the boundaries that humans drew, beside Sobel and Canny:

        samscape evaluate BSDS500 --protocol edges --json
    """
    from napari_samscape.evaluation.datasets import open_dataset
    from napari_samscape.evaluation.methods import ModelMethod
    from napari_samscape.evaluation.report import print_table
    from napari_samscape.evaluation.run import evaluate as measure
    from napari_samscape.model.weights import load_model

    dataset = open_dataset(data).first(limit)
    method = ModelMethod(load_model(model, device, precision), str(view))
    methods = [method, *(_baselines(protocol) if baseline else ())]
    rows = []
    with progress_bar() as progress:
        for one in methods:
            rows.append(
                measure(dataset, one, str(protocol), clicks=clicks, levels=thresholds, progress=progress)
            )
    if not as_json:
        print_table(rows)
    elif protocol == Protocol.edges:
        print_json(rows[0] | ({"baselines": {row["model"]: row for row in rows[1:]}} if baseline else {}))
    else:
        print_json(rows[0] | ({"baseline": rows[1]} if baseline else {}))


def _baselines(protocol: Protocol) -> list[Method | EdgeMethod]:
    if protocol == Protocol.edges:
        from napari_samscape.evaluation.edge_baselines import Canny, Sobel

        return [Sobel(), Canny()]
    from napari_samscape.evaluation.baselines import Baseline

    return [Baseline()]
