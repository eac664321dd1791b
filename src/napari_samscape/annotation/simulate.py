"""A scripted annotator, who clicks as the evaluation protocol does, to count what the loop spares."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from numpy.typing import NDArray

from napari_samscape.annotation.loop import next_picture, train
from napari_samscape.annotation.project import Accepted, Project
from napari_samscape.evaluation.metrics import iou_matrix
from napari_samscape.evaluation.protocols import next_click
from napari_samscape.model.sam import Sam
from napari_samscape.model.weights import load_model
from napari_samscape.prediction.ask import Answer, ask, go_on
from napari_samscape.prediction.instances import interior_point, mask_iou
from napari_samscape.prediction.types import Instance, Prompts
from napari_samscape.prediction.views import Views
from napari_samscape.training.finetune import Settings

TARGET = 0.85  # IoU at which an object is accepted
NEAR = 0.5  # IoU above which a mask that is there is corrected, not removed
MOST = 9  # clicks on an object; what is not right then is drawn by hand


@dataclass(frozen=True)
class Effort:
    """What one picture took.

    Attributes
    ----------
    picture : str
    objects : int
    clicks : int
        On objects, and one for each mask that was filled in wrongly and had to go.
    filled : int
        Objects that needed no click.
    unreached : int
        Objects that were not right after the last click.
    version : int
        Of the model that helped.
    """

    picture: str
    objects: int
    clicks: int
    filled: int
    unreached: int
    version: int


def annotate(
    model: Sam,
    pixels: NDArray,
    objects: Sequence[Instance],
    filled: Sequence[Instance] = (),
    version: int = 0,
) -> tuple[list[Accepted], int]:
    """Click on every object until it is right.

    Parameters
    ----------
    model : Sam
    pixels : ndarray, shape (y, x) or (y, x, c)
    objects : sequence of Instance
        The truth.
    filled : sequence of Instance
        What is there before the first click.
    version : int
        Of the model, for the record.

    Returns
    -------
    accepted : list of Accepted
        One for each object, in their order.
    wrong : int
        Filled masks that had to go, a click each.
    """
    near, wrong = _matched(objects, filled)
    accepted: dict[int, Accepted] = {}
    for index, item in list(near.items()):
        if mask_iou(objects[index], item) >= TARGET:
            accepted[index] = Accepted(near.pop(index), "filled", "script", version)
    views = Views(model, pixels)
    open_ = [index for index in range(len(objects)) if index not in accepted]
    first = {index: _first_click(objects[index], near.get(index)) for index in open_}
    points = {index: [first[index][0]] for index in open_}
    labels = {index: [first[index][1]] for index in open_}
    answers: dict[int, Answer] = {}
    for count in range(1, MOST + 1):
        if not open_:
            break
        asked = [_prompt(points[k], labels[k], answers.get(k) or near.get(k), views) for k in open_]
        answers |= zip(open_, ask(views, asked), strict=True)
        for index in list(open_):
            mask = answers[index].best
            click = next_click(objects[index], mask)
            if click is None or mask_iou(objects[index], mask) >= TARGET:
                accepted[index] = Accepted(mask, "clicked", "script", version, count)
                open_.remove(index)
            else:
                points[index].append(click[0])
                labels[index].append(click[1])
    for index in open_:
        accepted[index] = Accepted(objects[index], "drawn", "script", version, MOST)
    return [accepted[index] for index in range(len(objects))], wrong


def simulate(
    project: Project,
    truth: Mapping[str, Sequence[Instance]],
    *,
    learns: bool = True,
    steps: int = Settings.steps,
    report: Callable[[Effort], None] = lambda effort: None,
) -> list[Effort]:
    """Do all pictures of a project, as a person would.

    Parameters
    ----------
    project : Project
        Fresh.
    truth : mapping
        The objects of each picture, by its name.
    learns : bool
        Whether the model does, as soon as that is due.
    steps : int
        Of learning, at most; in any time, so that the same run gives the same efforts.
    report : callable
        Gets each picture's effort as it is done.

    Returns
    -------
    list of Effort
        In the order in which the pictures were done.
    """
    model = load_model(project.model_path(project.newest))
    efforts: list[Effort] = []
    while (chosen := next_picture(project, model)) is not None:
        entry, proposal = chosen
        version, objects = project.newest.number, truth[entry.name]
        accepted, wrong = annotate(model, entry.read(), objects, proposal.filled, version)
        project.put(entry.name, accepted, done=True)
        efforts.append(
            Effort(
                entry.name,
                len(objects),
                sum(one.clicks for one in accepted) + wrong,
                sum(one.how == "filled" for one in accepted),
                sum(one.how == "drawn" for one in accepted),
                version,
            )
        )
        report(efforts[-1])
        if learns and project.is_due() and project.left() and train(project, steps=steps) is not None:
            model = load_model(project.model_path(project.newest))
    return efforts


def _matched(objects: Sequence[Instance], filled: Sequence[Instance]) -> tuple[dict[int, Instance], int]:
    """The best mask of each object that has one about right, and how many masks are not wanted."""
    iou = iou_matrix(objects, filled)
    near: dict[int, Instance] = {}
    for index in range(len(objects) if len(filled) else 0):
        column = int(iou[index].argmax())
        if iou[index, column] > NEAR:  # no other object has as much of it
            near[index] = filled[column]
    return near, len(filled) - len(near)


def _first_click(true: Instance, there: Instance | None) -> tuple[tuple[float, float], int]:
    """In the middle of an object, or of the largest error of the mask that is there."""
    correction = None if there is None else next_click(true, there)
    return correction or (interior_point(true), 1)


def _prompt(
    points: list[tuple[float, float]], labels: list[int], before: Answer | Instance | None, views: Views
) -> Prompts:
    """All clicks on an object, and its mask before the last of them."""
    if isinstance(before, Instance):
        return Prompts(points=points, labels=labels, mask=before.within(views.shape))
    prompt = Prompts(points=points, labels=labels)
    return prompt if before is None else go_on(prompt, before)
