"""What is measured: a `Method` looks at a picture once and is then asked for objects.

Models are one method, the baselines without learning are others; all are asked and judged alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from napari_samscape.errors import InputError
from napari_samscape.prediction.ask import Answer, ask, go_on
from napari_samscape.prediction.automatic import EverythingOptions, everything
from napari_samscape.prediction.edges import edges
from napari_samscape.prediction.instances import instances_from_labels
from napari_samscape.prediction.types import FloatArray, Instances, Prompts
from napari_samscape.prediction.views import LARGE, Views
from napari_samscape.scaling.batch import segment

if TYPE_CHECKING:
    from napari_samscape.model.sam import Sam

VIEWS = ("auto", "whole")


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
        "auto": what is small is looked at closer, see `napari_samscape.prediction.ask.ask`. "whole": every
        picture is shown in one piece.
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


class _ModelLook:
    def __init__(self, method: ModelMethod, pixels: NDArray[Any]) -> None:
        self.method, self.pixels = method, pixels
        self.views = Views(method.model, pixels, closer=method.view == "auto")

    def everything(self) -> Instances:
        model, options = self.method.model, self.method.options
        if max(self.pixels.shape[:2]) <= LARGE * model.tile_size:
            return everything(model, self.pixels, options)
        # As `samscape segment` does it: in tiles.
        return instances_from_labels(segment(self.pixels, model=model, mode="everything", options=options))

    def ask(self, prompts: Sequence[Prompts], previous: Sequence[Answer] | None = None) -> list[Answer]:
        if previous is not None:
            prompts = [go_on(prompt, answer) for prompt, answer in zip(prompts, previous, strict=True)]
        return ask(self.views, prompts)
