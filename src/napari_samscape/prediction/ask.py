"""Prompts answered in the view that shows their object best.

What a click means has no size before it is answered. So it is asked in the whole picture first, and what
turns out to be small there is asked once more through a window.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_samscape.errors import InputError
from napari_samscape.prediction.enlarge import Enlarger
from napari_samscape.prediction.predict import decode, parts_of
from napari_samscape.prediction.types import FloatArray, Instance, Prompts

if TYPE_CHECKING:
    from napari_samscape.prediction.views import Box, View, Views

BATCH = 16  # prompts decoded at once; larger batches are no faster on a CPU


@dataclass(frozen=True, eq=False)
class Answer:
    """What is said to one prompt.

    Attributes
    ----------
    masks : sequence of Instance
        One or more candidates, in the picture's coordinates; without area where nothing was found. By a
        model, each is enlarged when it is first asked for.
    iou : ndarray of float32, shape (n,)
        Predicted; NaN by a method that does not know.
    logits : ndarray of float32, shape (n, h, w)
        At low resolution; the next prompt's mask, with ``view`` as its ``mask_view``. Empty by a method that
        has none.
    view : tuple of int
        The box (y0, x0, y1, x1) of the part of the picture that was looked at.
    """

    masks: Sequence[Instance]
    iou: NDArray[np.float32]
    logits: FloatArray = field(default_factory=lambda: np.zeros((0, 0, 0), np.float32))
    view: Box = (0, 0, 0, 0)

    @property
    def best(self) -> Instance:
        """The candidate with the highest predicted IoU."""
        return self.masks[int(self.iou.argmax())]

    @property
    def best_logits(self) -> FloatArray:
        """Its logits, (h, w)."""
        return np.asarray(self.logits[int(self.iou.argmax())])


class _Candidates(Sequence[Instance]):
    """Masks of one answer; most are never looked at, so each is enlarged when it is."""

    def __init__(
        self, logits: FloatArray, iou: NDArray[np.float32], enlarge: Callable[..., Instance], view: View
    ) -> None:
        self._logits, self._iou, self._enlarge, self._view = logits, iou, enlarge, view
        self._known: dict[int, Instance] = {}

    def __len__(self) -> int:
        return len(self._logits)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        index = range(len(self))[index]
        if index not in self._known:
            self._known[index] = self._enlarge(
                self._logits[index], origin=self._view.origin, predicted_iou=float(self._iou[index])
            )
        return self._known[index]


def ask(
    views: Views,
    prompts: Sequence[Prompts],
    *,
    multimask: bool | None = None,
    look: bool = True,
    place: Box | None = None,
) -> list[Answer]:
    """Answer one prompt for each of many objects.

    Parameters
    ----------
    views : Views
        Of the picture.
    prompts : sequence of Prompts
        In pixels of the picture. A mask of logits is left out where a point lies outside of the view that it
        belongs to.
    multimask : bool, optional
        Three masks or one; three for a single click or a text where left out, which may mean a part or a
        whole (SAM paper, section 3).
    look : bool
        Whether new views may be embedded; without, only those are used that have been, and the whole picture.
    place : tuple of int, optional
        The box (y0, x0, y1, x1) of the view to answer in; chosen for each prompt where left out.

    Returns
    -------
    list of Answer

    Raises
    ------
    InputError
        If a prompt lies outside the picture, or a mask prompt has the wrong size.
    """
    for prompt in prompts:
        prompt.check_inside(views.shape)
        _check_mask(prompt, views)

    def usable(place: Box) -> Box:
        return place if look or place in views else views.whole

    prompts = [_with_box_of_mask(_without_mask_elsewhere(prompt)) for prompt in prompts]
    if place is not None:
        return _answers(views, prompts, [place] * len(prompts), multimask)
    places = [usable(_place(views, prompt)) for prompt in prompts]
    answers = _answers(views, prompts, places, multimask)
    again = []
    for index, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        has_size = prompt.box is not None or prompt.mask is not None
        # A click's size shows only now; a text might mean something else in a window.
        if not has_size and prompt.text is None and answer.best.area:
            size = float(np.sqrt(np.prod(answer.best.shape)))
            places[index] = usable(views.choose(extent_of(prompt), size))
            again += [index] if places[index] != views.whole else []
    closer = _answers(
        views, [prompts[index] for index in again], [places[index] for index in again], multimask
    )
    for index, answer in zip(again, closer, strict=True):
        answers[index] = answer if answer.best.area else answers[index]
    return answers


def go_on(prompt: Prompts, answer: Answer) -> Prompts:
    """A prompt with further clicks, and the best mask of an earlier answer as its mask."""
    return replace(prompt, mask=answer.best_logits, mask_view=answer.view)


def extent_of(prompt: Prompts) -> NDArray[np.float64]:
    """The box (y0, x0, y1, x1) of all that a prompt says, from middle to middle of pixels."""
    corners = [*prompt.points]
    if prompt.box is not None:
        corners += [prompt.box[:2], prompt.box[2:]]
    elif prompt.mask is not None:
        rows, columns = np.nonzero(prompt.mask)
        corners += [(rows.min(), columns.min()), (rows.max(), columns.max())]
    where = np.array(corners, np.float64)
    return np.concatenate([where.min(axis=0), where.max(axis=0)])


def _check_mask(prompt: Prompts, views: Views) -> None:
    if prompt.mask is not None and prompt.mask.dtype == bool and prompt.mask.shape != views.shape:
        raise InputError(f"The mask prompt has the shape {prompt.mask.shape}, but the picture {views.shape}.")


def _with_box_of_mask(prompt: Prompts) -> Prompts:
    """Add the box of a drawn mask that comes alone, which models say little to."""
    alone = len(prompt.points) == 0 and prompt.box is None and prompt.text is None
    if not alone or prompt.mask is None or prompt.mask.dtype != bool:
        return prompt
    return replace(prompt, box=extent_of(prompt) + (-0.5, -0.5, 0.5, 0.5))


def _without_mask_elsewhere(prompt: Prompts) -> Prompts:
    if prompt.mask_view is None or len(prompt.points) == 0:
        return prompt
    y0, x0, y1, x1 = prompt.mask_view
    inside = ((prompt.points >= (y0 - 0.5, x0 - 0.5)) & (prompt.points <= (y1 - 0.5, x1 - 0.5))).all()
    return prompt if inside else replace(prompt, mask=None, mask_view=None)


def _place(views: Views, prompt: Prompts) -> Box:
    """The view of a prompt that tells one, by its object's size or its mask; else the whole picture."""
    if prompt.mask is not None and prompt.mask.dtype != bool:
        return prompt.mask_view or views.whole
    has_size = (prompt.box is not None or prompt.mask is not None) and prompt.text is None
    return views.choose(extent_of(prompt)) if has_size else views.whole


def _answers(
    views: Views, prompts: Sequence[Prompts], places: Sequence[Box], multimask: bool | None
) -> list[Answer]:
    """Answers in given views; prompts of a view that are alike are decoded together."""
    groups: dict[Any, list[int]] = defaultdict(list)
    for index, (prompt, place) in enumerate(zip(prompts, places, strict=True)):
        groups[place, parts_of(prompt)].append(index)
    answers: dict[int, Answer] = {}
    for (place, *_), members in groups.items():
        for start in range(0, len(members), BATCH):
            part = members[start : start + BATCH]
            found = _decoded(views, [prompts[index] for index in part], place, multimask)
            answers |= zip(part, found, strict=True)
    return [answers[index] for index in range(len(prompts))]


def _decoded(views: Views, prompts: Sequence[Prompts], place: Box, multimask: bool | None) -> list[Answer]:
    view = views.view(place)
    shifted = [moved(prompt, place) for prompt in prompts]
    if multimask is None:
        points, *others = parts_of(prompts[0])
        has_text = others.pop()
        multimask = points + has_text == 1 and not any(others)
    logits, iou = decode(views.model, view.embedding, shifted, multimask=multimask)
    low, guessed = logits.float().cpu().numpy(), iou.float().cpu().numpy()
    enlarge = Enlarger(views.model, view.embedding, low.shape[-2:]).instance
    return [
        Answer(_Candidates(masks, said, enlarge, view), said, masks, place)
        for masks, said in zip(low, guessed, strict=True)
    ]


def moved(prompt: Prompts, box: Box) -> Prompts:
    """A prompt in the coordinates of the view of a box (y0, x0, y1, x1); a mask of bool is cut."""
    y0, x0, y1, x1 = box
    own = None if prompt.box is None else prompt.box - np.array([y0, x0, y0, x0])
    mask = prompt.mask
    if mask is not None and mask.dtype == bool:
        mask = mask[y0:y1, x0:x1]
    return replace(prompt, points=prompt.points - (y0, x0), box=own, mask=mask)
