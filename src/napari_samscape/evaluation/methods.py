"""What is measured: a `Method` looks at a picture once and is then asked for objects.

Models are one method, the baselines without learning are others; all are asked and judged alike.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from napari_samscape.errors import InputError
from napari_samscape.prediction.automatic import EverythingOptions, everything
from napari_samscape.prediction.edges import edges
from napari_samscape.prediction.enlarge import Enlarger
from napari_samscape.prediction.instances import instances_from_labels
from napari_samscape.prediction.predict import decode
from napari_samscape.prediction.types import FloatArray, Instance, Instances, Prompts
from napari_samscape.prediction.views import LARGE, WHOLE, Views
from napari_samscape.scaling.batch import segment

if TYPE_CHECKING:
    from napari_samscape.model.sam import Sam

VIEWS = ("auto", "whole", "window")
BATCH = 16  # prompts decoded at once; larger batches are no faster on a CPU


@dataclass(frozen=True, eq=False)
class Answer:
    """What a method says to one prompt.

    Attributes
    ----------
    masks : tuple of Instance
        One or more candidates, in the picture's coordinates; without area where nothing was found.
    iou : ndarray of float32, shape (n,)
        Predicted; NaN by a method that does not know.
    memory : Any
        What the method wants back when the same object is asked for with more clicks.
    """

    masks: tuple[Instance, ...]
    iou: NDArray[np.float32]
    memory: Any = None

    @property
    def best(self) -> Instance:
        """The candidate with the highest predicted IoU."""
        return self.masks[int(self.iou.argmax())]


class Look(Protocol):
    """One picture, as a method has seen it."""

    def ask(self, prompts: Sequence[Prompts], previous: Sequence[Answer] | None = None) -> list[Answer]:
        """Answer one prompt for each of many objects.

        With ``previous``, the prompts hold all clicks so far, and the answers to all but the last of them.
        """
        ...

    def everything(self) -> Instances:
        """Find all objects; they may overlap."""
        ...


@runtime_checkable
class Method(Protocol):
    """Something that segments."""

    @property
    def name(self) -> str:
        """What to call it."""
        ...

    def look(self, pixels: NDArray[Any]) -> Look:
        """See a picture (y, x) or (y, x, c)."""
        ...


@runtime_checkable
class EdgeMethod(Protocol):
    """Something that draws edges."""

    @property
    def name(self) -> str:
        """What to call it."""
        ...

    def edges(self, pixels: NDArray[Any]) -> FloatArray:
        """Edge map (y, x), from 0 to 1, of a picture (y, x) or (y, x, c)."""
        ...


@dataclass(frozen=True)
class ModelMethod:
    """A model of the family.

    Attributes
    ----------
    model : Sam
    view : str
        "whole": every picture is shown in one piece. "window": of a picture clearly larger than the model's
        size, the window that shows the prompt best, or the whole if the object is large. "auto": the same for
        boxes; a click, which does not say how large its object is, is asked in both, and the answer of
        higher predicted IoU is kept.
    options : EverythingOptions, optional
        How to look for everything; the model's defaults where left out.

    Raises
    ------
    InputError
        If there is no such view.
    """

    model: Sam
    view: str = "auto"
    options: EverythingOptions | None = None

    def __post_init__(self) -> None:
        if self.view not in VIEWS:
            raise InputError(f"There is no view '{self.view}'; there are {', '.join(VIEWS)}.")

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model.name

    def look(self, pixels: NDArray[Any]) -> Look:
        """See a picture; the embedding is made when first needed."""
        return _ModelLook(self, pixels)

    def edges(self, pixels: NDArray[Any]) -> FloatArray:
        """Draw edges with the paper's options; the picture is shown in one piece."""
        return edges(self.model, pixels)


@dataclass(frozen=True, eq=False)
class _Memory:
    view: int
    logits: NDArray[np.float32]  # (h, w) of the best mask


class _ModelLook:
    def __init__(self, method: ModelMethod, pixels: NDArray[Any]) -> None:
        self.model, self.pixels, self.view = method.model, pixels, method.view
        self.options = method.options
        self.views = Views(method.model, pixels)
        self._enlargers: dict[int, Enlarger] = {}

    def everything(self) -> Instances:
        if max(self.pixels.shape[:2]) <= LARGE * self.model.image_size:
            return everything(self.model, self.pixels, self.options)
        # As `samscape segment` does it: in tiles.
        found = segment(self.pixels, model=self.model, mode="everything", options=self.options)
        return instances_from_labels(found)

    def ask(self, prompts: Sequence[Prompts], previous: Sequence[Answer] | None = None) -> list[Answer]:
        if previous is not None:
            return self._corrected(prompts, [answer.memory for answer in previous])
        asked = [(index, place) for index, prompt in enumerate(prompts) for place in self._places(prompt)]
        answers = self._answers([prompts[index] for index, _ in asked], [place for _, place in asked])
        best: dict[int, Answer] = {}
        for (index, _), answer in zip(asked, answers, strict=True):
            if index not in best or answer.iou.max() > best[index].iou.max():
                best[index] = answer
        return [best[index] for index in range(len(prompts))]

    def _places(self, prompt: Prompts) -> tuple[int, ...]:
        """Views to ask in."""
        if self.view == "whole":
            return (WHOLE,)
        chosen = self.views.choose(prompt.points[0] if prompt.box is None else prompt.box)
        return (WHOLE, chosen) if self.view == "auto" and prompt.box is None and chosen else (chosen,)

    def _corrected(self, prompts: Sequence[Prompts], memories: Sequence[_Memory]) -> list[Answer]:
        """More clicks in the view of the last answer, or in the whole where they lie beside that view."""
        places, asked = [], []
        for prompt, memory in zip(prompts, memories, strict=True):
            y0, x0, y1, x1 = self.views.boxes[memory.view]
            inside = (prompt.points >= (y0, x0)).all() and (prompt.points < (y1, x1)).all()
            places.append(memory.view if inside else WHOLE)
            asked.append(replace(prompt, mask=memory.logits) if inside else prompt)
        return self._answers(asked, places)

    def _answers(self, prompts: Sequence[Prompts], places: Sequence[int]) -> list[Answer]:
        groups: dict[tuple[int, bool], list[int]] = defaultdict(list)
        for index, (prompt, place) in enumerate(zip(prompts, places, strict=True)):
            groups[place, prompt.mask is None].append(index)
        answers: dict[int, Answer] = {}
        for (place, _), members in groups.items():
            for start in range(0, len(members), BATCH):
                part = members[start : start + BATCH]
                found = self._decoded([prompts[index] for index in part], place)
                answers |= zip(part, found, strict=True)
        return [answers[index] for index in range(len(prompts))]

    def _decoded(self, prompts: Sequence[Prompts], place: int) -> list[Answer]:
        view = self.views.view(place)
        shifted = [_moved(prompt, view.origin) for prompt in prompts]
        # A single click may mean a part or a whole, so three masks; the rest is clear (SAM paper, section 3).
        ambiguous = len(prompts[0].points) == 1 and prompts[0].box is None
        logits, iou = decode(self.model, view.embedding, shifted, multimask=ambiguous)
        low, guessed = logits.float().cpu().numpy(), iou.float().cpu().numpy()
        if place not in self._enlargers:
            self._enlargers[place] = Enlarger(self.model, view.embedding, low.shape[-2:])
        enlarge = self._enlargers[place].instance
        return [
            Answer(
                tuple(
                    enlarge(mask, origin=view.origin, predicted_iou=float(value))
                    for mask, value in zip(masks, said, strict=True)
                ),
                said,
                _Memory(place, masks[int(said.argmax())].copy()),
            )
            for masks, said in zip(low, guessed, strict=True)
        ]


def _moved(prompt: Prompts, origin: tuple[int, int]) -> Prompts:
    """A prompt in the coordinates of a view that begins at ``origin`` (y, x)."""
    box = None if prompt.box is None else prompt.box - np.tile(origin, 2)
    return replace(prompt, points=prompt.points - origin, box=box)
