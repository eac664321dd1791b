"""How an object is asked for, turn by turn, so that it can be asked for again. No napari, no Qt, no torch."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_samscape.prediction.types import Prompts

if TYPE_CHECKING:
    from napari_samscape.prediction.types import Masks
    from napari_samscape.widgets.engine import Engine


class Turn(NamedTuple):
    """One question about an object, as part of all its prompts, and which mask of the answer was taken.

    Each turn after the first adds points, and corrects the mask that was taken before.
    """

    points: int
    """How many of the object's points there were by then."""
    choice: int | None = None
    """The mask that the user chose; None for the one with the highest predicted IoU."""


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked.

    Attributes
    ----------
    prompts : Prompts
        All that the user says.
    turns : tuple of Turn
        How it came to that.
    asked : Prompts or None
        The prompts with the mask that they correct; None where that has to be asked for first, turn by turn.
    """

    prompts: Prompts
    turns: tuple[Turn, ...]
    asked: Prompts | None = None


def answered(engine: Engine, key: Hashable, question: Question) -> tuple[Masks, Any]:
    """Ask about the picture of this key; gives the masks and the picture. Called off the GUI thread."""
    if question.asked is not None:
        return _predict(engine, key, question.asked), engine.picture(key)
    prompts = question.prompts
    mask: dict[str, Any] = {}
    for turn in question.turns:
        asked = prompts
        if turn.points < len(prompts.points):
            points, labels = prompts.points[: turn.points], prompts.labels[: turn.points]
            asked = replace(prompts, points=points, labels=labels)
        masks = _predict(engine, key, replace(asked, **mask))
        choice = within(turn.choice, masks)
        mask = _as_prompt(masks, masks.best if choice is None else choice)
    return masks, engine.picture(key)


def _predict(engine: Engine, key: Hashable, prompts: Prompts) -> Masks:
    return engine.predict(key, prompts, multimask=is_ambiguous(prompts))


def is_ambiguous(prompts: Prompts) -> bool:
    """Whether there are three answers.

    One click may mean several things; a second prompt says which, and the models are trained accordingly.
    """
    return len(prompts.points) + (prompts.box is not None) + (prompts.mask is not None) == 1


def _as_prompt(masks: Masks, index: int) -> dict[str, Any]:
    """What a mask of an answer is as a part of the next prompts."""
    return {"mask": masks.logits[index], "mask_view": masks.view}


def within(choice: int | None, masks: Masks) -> int | None:
    """The choice where there is such a mask, else None."""
    return choice if choice is not None and 0 <= choice < len(masks.iou) else None


def fit(turns: Sequence[Turn], prompts: Prompts) -> bool:
    """Whether turns can have led to an answer to these prompts; a drawn outline takes but one."""
    counts = [turn.points for turn in turns]
    drawn = prompts.mask is not None
    return (
        bool(counts)
        and counts == sorted(set(counts))
        and counts[-1] == len(prompts.points)
        and (counts[0] > 0 or prompts.box is not None or drawn)
        and (len(counts) == 1 or not drawn)
    )


def with_point(prompts: Prompts | None, place: tuple[float, float], label: int) -> Prompts:
    """Return the prompts with one more point."""
    if prompts is None:
        return Prompts(points=[place], labels=[label])
    points = np.concatenate([prompts.points.reshape(-1, 2), [place]])
    return replace(prompts, points=points, labels=np.append(prompts.labels, label))


def corrected(new: Prompts, old: Prompts | None, masks: Masks, chosen: int) -> Prompts:
    """Return the new prompts with the chosen mask as one more, if they are the old ones and further points.

    Points that are added correct the mask that is shown; it goes to the model as low-resolution logits.
    Where an outline was drawn, that is the mask prompt, and anything else is a new question.
    """
    if old is None or new.mask is not None or old.mask is not None:
        return new
    count = len(old.points)
    further = (
        len(new.points) > count
        and np.array_equal(new.points[:count], old.points)
        and np.array_equal(new.labels[:count], old.labels)
        and np.array_equal(new.box, old.box)
    )
    return replace(new, **_as_prompt(masks, chosen)) if further else new


def same(one: Prompts, other: Prompts) -> bool:
    """Whether two prompts say the same."""
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("points", "labels", "box", "mask")
    )
