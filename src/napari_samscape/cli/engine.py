"""``samscape engine``: the data engine, a folder that one goes on with from command to command."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_samscape.cli.app import AsJson, Commands, Device, Model, app, print_json, progress_bar

if TYPE_CHECKING:
    from napari_samscape.annotation.project import Project
    from napari_samscape.model.sam import Sam

engine = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    help="Label pictures while the model learns from them: a project over a folder, in three stages.",
)
app.add_typer(engine, name="engine")

Folder = Annotated[Path, typer.Argument(metavar="PROJECT", help="The project's folder.")]
Sure = Annotated[
    float, typer.Option("--confidence", min=0, max=1, help="Predicted IoU from which a mask is filled in.")
]
By = Annotated[str, typer.Option("--by", help="Who accepts.")]
SURE = 0.8


@engine.command()
def init(
    folder: Folder,
    pictures: Annotated[str, typer.Argument(help="A folder, a pattern, a list, or an OME-Zarr plate.")],
    model: Model = "nano",
    every: Annotated[
        int, typer.Option(min=1, help="New objects that bring a new version of the model.")
    ] = 50,
    fill: Annotated[
        bool, typer.Option("--fill", help="Fill in what the model is sure of from the start.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Begin a project.

    At first every object is made by hand or with clicks; from the second version of the model on, or from the
    start with `--fill`, the masks that it is sure of are there already.

        samscape engine init project/ pictures/ --every 100
    """
    from napari_samscape.annotation.project import Project
    from napari_samscape.model.weights import find_checkpoint

    find_checkpoint(model)
    _tell(Project.create(folder, pictures, model, every=every, fills=fill), as_json)


@engine.command()
def status(folder: Folder, as_json: AsJson = False) -> None:
    """Say how far a project is."""
    from napari_samscape.annotation.project import Project

    _tell(Project.open(folder), as_json)


@engine.command(name="next")
def next_(
    folder: Folder,
    proposal: Annotated[
        Path | None, typer.Option(metavar="LABELS", help="Write what is there and what is filled in.")
    ] = None,
    confidence: Sure = SURE,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Say which picture comes next: the one the model is least sure of; and fill in what it is sure of.

    Correct LABELS in napari or anywhere, and give them back:

        samscape engine next project/ --proposal next.tif

        samscape engine accept project/ NAME next.tif
    """
    from napari_samscape.annotation.loop import next_picture
    from napari_samscape.annotation.project import Project
    from napari_samscape.annotation.stages import Confidence
    from napari_samscape.io import write_labels
    from napari_samscape.prediction.instances import labels_from_instances
    from napari_samscape.prediction.types import Instances

    project = Project.open(folder)
    with progress_bar() as progress:
        found = next_picture(project, _model(project, device), Confidence(confidence), progress)
    if found is None:
        print_json({"picture": None}) if as_json else typer.echo("All pictures are done.")
        return
    entry, filled = found
    there = [one.item for one in project.accepted(entry.name)]
    if proposal is not None:
        items = Instances((*there, *filled.filled), entry.read().shape[:2])
        write_labels(proposal, labels_from_instances(items), overwrite=True)
    said = {
        "picture": entry.name,
        "path": entry.path,
        "t": entry.t,
        "z": entry.z,
        "accepted": len(there),
        "filled": len(filled.filled),
        "uncertainty": filled.uncertainty,
        "version": project.newest.number,
    }
    if as_json:
        print_json(said)
        return
    typer.echo(f"{entry.name}  {entry.path}\n{len(there)} accepted, {len(filled.filled)} filled in")


@engine.command()
def accept(
    folder: Folder,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The picture, as `next` names it.")],
    labels: Annotated[Path, typer.Argument(metavar="LABELS", help="A label image of it.")],
    by: By = "",
    begun: Annotated[bool, typer.Option("--begun", help="There is more to do in this picture.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take the objects of a label image; after enough new ones the model learns, in the background."""
    from napari_samscape.annotation.loop import accept_labels, train_in_background
    from napari_samscape.annotation.project import Project
    from napari_samscape.io import open_image

    project = Project.open(folder)
    accept_labels(project, name, open_image(labels).plane(), by, not begun)
    learning = train_in_background(project)
    _tell(project, as_json, learning=learning)


@engine.command()
def train(
    folder: Folder,
    minutes: Annotated[float, typer.Option(help="Time to learn, at most.")] = 5.0,
    give_way: Annotated[bool, typer.Option(help="Run only when nothing else wants the processor.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fine-tune on all finished pictures now, and wait for it."""
    from napari_samscape.annotation.loop import train as learn
    from napari_samscape.annotation.project import Project
    from napari_samscape.model import process

    if give_way:
        process.give_way()
    project = Project.open(folder)
    with progress_bar() as progress:
        learn(project, progress, minutes=minutes)
    _tell(project, as_json)


@engine.command()
def finish(
    folder: Folder,
    confidence: Sure = SURE,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """The last stage: the newest model does all pictures that are left, by itself."""
    from napari_samscape.annotation.loop import finish_automatically
    from napari_samscape.annotation.project import Project
    from napari_samscape.annotation.stages import Confidence

    project = Project.open(folder)
    with progress_bar() as progress:
        finish_automatically(project, _model(project, device), Confidence(confidence), progress)
    _tell(project, as_json)


@engine.command()
def export(
    folder: Folder,
    out: Annotated[Path, typer.Argument(metavar="FOLDER", help="For NAME.json and NAME.ome.zarr.")],
    as_json: AsJson = False,
) -> None:
    """Write all objects as COCO and SA-1B JSON, and as OME-Zarr labels."""
    from napari_samscape.annotation.loop import export as write
    from napari_samscape.annotation.project import Project

    written = [str(path) for path in write(Project.open(folder), out)]
    print_json({"written": written}) if as_json else typer.echo("\n".join(written))


def _model(project: Project, device: str) -> Sam:
    from napari_samscape.model.weights import load_model

    return load_model(project.model_path(project.newest), device)


def _tell(project: Project, as_json: bool, **more: Any) -> None:
    """Say how far the project is."""
    names = [entry.name for entry in project.state.pictures]
    objects = [one for name in names for one in project.accepted(name)]
    how = Counter(one.how for one in objects)
    said = {
        "pictures": len(names),
        "done": len(names) - len(project.left()),
        "objects": len(objects),
        "how": dict(how),
        "version": project.newest.number,
        "stage": project.stage,
        "due": project.is_due(),
        **more,
    }
    if as_json:
        print_json(said)
        return
    ways = ", ".join(f"{count} {way}" for way, count in how.items()) or "none"
    typer.echo(
        f"{said['done']} of {said['pictures']} pictures done; objects: {ways}; "
        f"model version {said['version']}, stage: {said['stage']}"
    )
    if more.get("learning"):
        typer.echo("The model is learning in the background.")
