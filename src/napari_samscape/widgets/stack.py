"""Planes of an image that follow one another along an axis, as an engine is asked about them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_samscape.scaling.picture import SAMPLED_PLANES, is_constant
from napari_samscape.scaling.propagate import Found, PropagateOptions, SliceMask, steps
from napari_samscape.widgets.layers import Plane, data_shape, levels, read_plane, thickness
from napari_samscape.widgets.turns import same

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_samscape.model.progress import Progress
    from napari_samscape.prediction.types import Prompts
    from napari_samscape.widgets.engine import Engine

KEPT = 4
"""So many answers for each plane are kept, so that what a correction leaves as it was is not asked again."""
SAMPLED = 256
"""So many pixels along each side are looked at of a plane for the limits of intensities."""


@dataclass(frozen=True, eq=False)
class Request:
    """What is to be followed.

    Attributes
    ----------
    prompts : mapping of int to Prompts
        By plane, each `is_start`.
    known : mapping of int to Found
        What is the answer to some of them.
    options : PropagateOptions
    """

    prompts: Mapping[int, Prompts]
    known: Mapping[int, Found]
    options: PropagateOptions


class Stack:
    """All planes that lie as one does, along an axis; `scaling.propagate.Slices` while they are followed.

    It remembers what it was answered: each answer follows from the one before, so what lies between an
    object's start and a correction stays as it is, and is given at once.

    Parameters
    ----------
    image : napari.layers.Image
        The image.
    plane : Plane
        One of the planes, or a window of it.
    axis : int
        The axis of the image's data along which they follow one another.
    key : Hashable
        Changes with the image's content.
    """

    def __init__(self, image: Image, plane: Plane, axis: int, key: Hashable) -> None:
        self.image, self.plane, self.axis = image, plane, axis
        self.shape = plane.shape
        name = str(image.axis_labels[axis])
        self.name = name if name.isalpha() else "plane"  # napari's own, "axis -3" or "-3", say nothing
        self.thickness = thickness(image, plane, axis)
        self._arrays = levels(image)
        self._count = data_shape(image)[axis]
        self._key = key
        self._limits: Any = None
        self._answers: OrderedDict[Hashable, Found | None] = OrderedDict()
        self._starts: dict[int, tuple[Prompts, Found | None]] = {}

    def __len__(self) -> int:
        return self._count

    def at(self, index: int) -> Plane:
        """The plane at a place along the axis."""
        position = list(self.plane.position)
        position[self.axis] = index
        return replace(self.plane, position=tuple(position))

    def holds(self, places: NDArray) -> NDArray[np.bool_]:
        """Whether each of the image's data coordinates, shape (n, ndim), lies on any of the planes."""
        return self.plane.holds(places, self.axis)

    def follow(self, engine: Engine, request: Request, steps_: list[SliceMask], progress: Progress) -> None:
        """Follow the object, and append what is found to ``steps_``; called off the GUI thread."""
        slices = _Asked(self, engine, request, progress)
        for step in steps(slices, request.prompts, request.options):
            steps_.append(step)
            slices.done.add(step.index)
            slices.tell()


class _Asked:
    """The planes of a stack while an engine is asked about them."""

    def __init__(self, stack: Stack, engine: Engine, request: Request, progress: Progress) -> None:
        self._stack, self._engine, self._request, self._progress = stack, engine, request, progress
        self.shape, self.thickness = stack.shape, stack.thickness
        self.done: set[int] = set()
        self._index = min(request.prompts)
        first, last, ways = min(request.prompts), max(request.prompts), request.options.ways
        low, high = 0 if -1 in ways else first, len(stack) if 1 in ways else last + 1
        self._total = high - low

    def __len__(self) -> int:
        return len(self._stack)

    def tell(self, *_: object) -> None:
        """Report how many planes have been done, whatever the engine reports meanwhile."""
        self._progress(
            len(self.done), self._total, f"Following the object: {self._stack.name} {self._index}…"
        )

    def answer(self, index: int, wanted: Prompts, before: Found | None) -> Found | None:
        """Ask in one plane, unless it is known what the answer is."""
        stack, self._index = self._stack, index
        if before is None:
            if index in self._request.known:
                return self._request.known[index]
            asked = stack._starts.get(index)
            if asked is None or not same(asked[0], wanted):
                asked = stack._starts[index] = wanted, self._ask(index, wanted, None)
            return asked[1]
        answers = stack._answers
        if (index, before) not in answers:
            answers[index, before] = self._ask(index, wanted, before)
        answers.move_to_end((index, before))
        while len(answers) > KEPT * len(stack):
            answers.popitem(last=False)
        return answers[index, before]

    def _ask(self, index: int, wanted: Prompts, before: Found | None) -> Found | None:
        stack, engine = self._stack, self._engine
        self.tell()
        key = (stack._key, stack.at(index), "stretched alike")
        if not engine.knows(key):
            pixels = read_plane(stack._arrays, stack.at(index))
            if is_constant(pixels):
                return None
            engine.embed(key, self._stretched(pixels), self.tell)
        return engine.follow(key, wanted, before, self.tell)

    def _stretched(self, pixels: NDArray[Any]) -> NDArray[np.uint8]:
        """8-bit RGB with the same intensities on all planes; a picture of 8-bit RGB stays as it is."""
        from napari_samscape.prediction.image import image_limits, to_rgb

        stack = self._stack
        if pixels.dtype == np.uint8 and pixels.ndim == 3:
            return to_rgb(pixels)
        if stack._limits is None:
            stack._limits = image_limits(self._samples())
        return to_rgb(pixels, stack._limits)

    def _samples(self) -> NDArray[Any]:
        stack = self._stack
        thinner = [-(-side // SAMPLED) for side in stack.shape]
        places = np.unique(np.linspace(0, len(stack) - 1, SAMPLED_PLANES).round().astype(int))
        samples = []
        for place in places:
            self.tell()
            samples.append(read_plane(stack._arrays, stack.at(int(place)))[:: thinner[0], :: thinner[1]])
        return np.concatenate(samples)
