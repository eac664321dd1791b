"""One object through a volume, from prompts in one slice or a few: slice after slice, both ways.

What was found in a slice is projected onto the next: its mask and the mask's box are the prompt there. Each
slice with prompts of its own starts from these, and from each start the object is followed up and down, one
slice on every side at a time, until it ends or meets what is done already. So slices between two starts go to
the nearer one, unless that one lost the object on the way.

An object ends where the model is too unsure of it, where it has too little in common with itself in the
slice before, or where a click in its middle finds nothing like it: told where and what to look for, a model
finds it long after it has ended. Background points alone are no start: they correct the mask that is
projected onto their slice.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_samscape.errors import InputError
from napari_samscape.io import Image, open_image
from napari_samscape.prediction.types import NOTHING, Instance, Prompts
from napari_samscape.scaling.picture import PlaneOf, is_constant, look_over

if TYPE_CHECKING:
    from napari_samscape.model.sam import Sam
    from napari_samscape.prediction.image import Limits
    from napari_samscape.prediction.views import Box, Views

#: However thick slices are, an object has this much in common with itself.
LEAST_OVERLAP = 0.1


@dataclass(frozen=True)
class PropagateOptions:
    """Which way an object is followed, and when it ends.

    Attributes
    ----------
    min_iou : float
        It ends where the model's predicted IoU is lower.
    min_overlap : float
        It ends where the IoU with its mask in the slice before is lower. That is for slices as thick as
        pixels are wide; of slices k times as thick, the k-th power is enough, as shapes change more from one
        to the next, but never less than 0.1.
    min_agreement : float
        It ends where none of the masks of a click in its middle has so high an IoU with it.
    ways : tuple of int
        1 for towards higher slices, -1 for towards lower ones; both by default.

    Raises
    ------
    InputError
        If one of the thresholds is not between 0 and 1, or there is no such way.
    """

    min_iou: float = 0.5
    min_overlap: float = 0.5
    min_agreement: float = 0.7
    ways: tuple[int, ...] = (-1, 1)

    def __post_init__(self) -> None:
        for name, value in {
            "predicted IoU": self.min_iou,
            "overlap": self.min_overlap,
            "agreement": self.min_agreement,
        }.items():
            if not 0 <= value <= 1:
                raise InputError(f"The least {name} must be between 0 and 1, not {value}.")
        if not self.ways or not set(self.ways) <= {-1, 1}:
            raise InputError(f"An object is followed up (1), down (-1) or both ways, not {self.ways}.")

    def least_overlap(self, thickness: float) -> float:
        """What is enough between slices so many times as thick as pixels are wide."""
        return min(self.min_overlap, max(LEAST_OVERLAP, self.min_overlap ** max(thickness, 1.0)))


@dataclass(frozen=True, eq=False)
class Found:
    """An answer in one slice, with what the next one can go on from.

    Attributes
    ----------
    item : Instance
        The object.
    view : tuple of int
        The box (y0, x0, y1, x1) of the part of the slice that was looked at for it.
    logits : ndarray of float32, shape (h, w)
        Its mask at low resolution, in the view.
    agreement : float
        The highest IoU with it that the masks of a click in its middle have; 1 where it was not projected.
    """

    item: Instance
    view: Box
    logits: NDArray[np.float32]
    agreement: float = 1.0


@dataclass(frozen=True, eq=False)
class SliceMask:
    """The object in one slice.

    Attributes
    ----------
    index : int
        Of the slice.
    item : Instance
        Box, mask inside it, and predicted IoU; of no area where the object ends.
    start : int
        The slice with the prompts that led here.
    overlap : float
        IoU with the mask in the slice before; NaN in a start.
    stopped : str or None
        Why the object ends here: this slice is not part of it, unless it is reached from another start later.
    found : Found or None
        What a correction can go on from; None where the object ends.
    """

    index: int
    item: Instance
    start: int
    overlap: float = float("nan")
    stopped: str | None = None
    found: Found | None = None


class Slices(Protocol):
    """A volume in which an object is followed, slice by slice."""

    def __len__(self) -> int:
        """Number of slices."""

    @property
    def shape(self) -> tuple[int, int]:
        """(y, x) of each."""

    @property
    def thickness(self) -> float:
        """How thick slices are, in sides of pixels; 1 where it is not known."""

    def answer(self, index: int, wanted: Prompts, before: Found | None) -> Found | None:
        """Ask in one slice; ``before`` is what was projected onto it. None if there is nothing to see."""


def propagate(  # noqa: PLR0913  (a public face: two for what, the others to override)
    volume: Image | str | os.PathLike[str] | ArrayLike,
    prompts: Mapping[int, Prompts],
    *,
    model: Sam | str | Path = "nano",
    axis: str | None = None,
    at: int = 0,
    options: PropagateOptions | None = None,
    seen: MutableMapping[int, Views] | None = None,
) -> Iterator[SliceMask]:
    """Follow one object through a volume, or through time.

    Parameters
    ----------
    volume : Image, path or array_like
        See `napari_samscape.open_image`. One slice after another is read.
    prompts : mapping of int to Prompts
        By slice; points, a box, a bool mask. More of them correct the result: their slices start from them.
    model : Sam, str or path
        What `napari_samscape.load_model` gives, or what it takes; give a loaded one to more than one call.
    axis : {"z", "t"}, optional
        Along which to go; z where there is one, else t.
    at : int
        Which plane along the other axis, where there are both.
    options : PropagateOptions, optional
    seen : mutable mapping, optional
        Keeps what the model has seen of each slice; given again with the same volume, model, axis and
        ``at``, no slice is embedded twice. It may forget; a dict keeps everything. Where left out, nothing is
        kept.

    Yields
    ------
    SliceMask
        First those of the slices that start, in their order, then on both sides of them, nearest first. Each
        slice once, unless the object is lost there and found again from another start. To cancel, stop
        iterating.

    Raises
    ------
    InputError
        If there is no such axis or slice, no prompt says what the object is, or one does not fit the picture;
        while iterating, if a slice cannot be read.

    Examples
    --------
    >>> steps = propagate(volume, {12: Prompts(points=[(40, 52)])}, model=model)  # doctest: +SKIP
    >>> for step in steps:  # doctest: +SKIP
    ...     y0, x0, y1, x1 = step.item.box
    ...     labels[step.index, y0:y1, x0:x1][step.item.mask] = 1
    """
    from napari_samscape.model.weights import given_model

    image, model = open_image(volume), given_model(model)
    axis = axis or ("z" if "z" in image.stacked else "t")
    _check(image, axis, at, prompts)
    slices = _Slices(image, axis, at, model, look_over(image).limits, {} if seen is None else seen)
    slices.keeps = seen is not None
    return steps(slices, prompts, options or PropagateOptions())


def _check(image: Image, axis: str, at: int, prompts: Mapping[int, Prompts]) -> None:
    if axis not in image.stacked:
        raise InputError(
            f"{image} has no axis {axis} to follow an object along; its axes are '{image.axes}'."
        )
    rest = [other for other in image.stacked if other != axis]
    size = image.sizes[rest[0]] if rest else 1
    if not 0 <= at < size:
        raise InputError(f"{image} has {size} plane(s) beside the axis {axis}; there is no plane {at}.")
    for index, prompt in prompts.items():
        if not 0 <= index < image.sizes[axis]:
            raise InputError(
                f"{image} has no slice {axis}={index}; they go from 0 to {image.sizes[axis] - 1}."
            )
        shape = image.sizes["y"], image.sizes["x"]
        prompt.check_inside(shape)
        if prompt.mask is not None and (prompt.mask.dtype != bool or prompt.mask.shape != shape):
            raise InputError(f"A mask prompt in a volume must be bool and of a slice's shape {shape}.")
    if not any(is_start(prompt) for prompt in prompts.values()):
        raise InputError(
            "No prompt says what the object is: give a foreground point, a box or a mask in a slice."
        )


def is_start(prompt: Prompts) -> bool:
    """Whether prompts say what the object is; background points alone do not."""
    return prompt.box is not None or prompt.mask is not None or bool((prompt.labels == 1).any())


@dataclass(eq=False)
class _Slices:
    """A volume's slices as the model sees them."""

    image: Image
    axis: str
    at: int
    model: Sam
    limits: Limits | None
    seen: MutableMapping[int, Views]
    keeps: bool = True

    def __len__(self) -> int:
        return self.image.sizes[self.axis]

    @property
    def shape(self) -> tuple[int, int]:
        return self.image.sizes["y"], self.image.sizes["x"]

    @property
    def thickness(self) -> float:
        """Of slices, in pixels' sides; 1 where it is not known to be a length in the same unit."""
        of_axis = dict(
            zip(self.image.axes, zip(self.image.scale, self.image.units, strict=True), strict=True)
        )
        (along, unit), (side, side_unit) = of_axis[self.axis], of_axis["y"]
        return along / side if self.axis == "z" and unit == side_unit and side > 0 < along else 1.0

    def views(self, index: int) -> Views | None:
        """What the model may look at in a slice; None if all its pixels are equal."""
        from napari_samscape.prediction.views import Views

        if index not in self.seen:
            place = {other: index if other == self.axis else self.at for other in self.image.stacked}
            pixels = PlaneOf(self.image, place)[slice(None), slice(None)]
            if is_constant(pixels):
                return None
            if not self.keeps:
                self.seen.clear()
            self.seen[index] = Views(self.model, pixels, self.limits)
        return self.seen[index]

    def answer(self, index: int, wanted: Prompts, before: Found | None) -> Found | None:
        views = self.views(index)
        return None if views is None else answer(views, wanted, before)


@dataclass(frozen=True, eq=False)
class _Front:
    """Where the object is being followed: from which slice, which way, and what it is there."""

    index: int
    way: int
    start: int
    found: Found


def steps(slices: Slices, prompts: Mapping[int, Prompts], options: PropagateOptions) -> Iterator[SliceMask]:
    """Follow one object as `propagate` does, in slices of whatever kind.

    Parameters
    ----------
    slices : Slices
    prompts : mapping of int to Prompts
        By slice; at least one `is_start`.
    options : PropagateOptions

    Yields
    ------
    SliceMask
    """
    prompts = dict(sorted(prompts.items()))
    done: set[int] = set()
    fronts: deque[_Front] = deque()
    for index, prompt in prompts.items():
        if not is_start(prompt):
            continue
        found = slices.answer(index, prompt, None)
        done.add(index)
        if found is None or found.item.area == 0:
            yield SliceMask(index, NOTHING, index, stopped="nothing was found at the prompts")
            continue
        fronts += [_Front(index, way, index, found) for way in sorted(options.ways)]
        yield SliceMask(index, found.item, index, found=found)
    while fronts:
        front = fronts.popleft()
        index = front.index + front.way
        if index in done or not 0 <= index < len(slices):
            continue
        wanted = _projected(front.found.item, prompts.get(index), slices.shape)
        found = slices.answer(index, wanted, front.found)
        step = _judged(index, front, found, options, slices.thickness)
        if step.found is not None:
            done.add(index)
            fronts.append(_Front(index, front.way, front.start, step.found))
        yield step


def _judged(
    index: int, front: _Front, found: Found | None, options: PropagateOptions, thickness: float
) -> SliceMask:
    """Decide whether what was found in the next slice is still the object."""
    from napari_samscape.prediction.instances import mask_iou

    overlap, stopped = 0.0, None
    if found is None or found.item.area == 0:
        stopped = "nothing was found" if found is not None else "all pixels are equal"
        return SliceMask(index, NOTHING, front.start, overlap, stopped)
    overlap = mask_iou(front.found.item, found.item)
    least = options.least_overlap(thickness)
    if found.item.predicted_iou < options.min_iou:
        stopped = f"predicted IoU {found.item.predicted_iou:.2f} is below {options.min_iou:g}"
    elif overlap < least:
        stopped = f"overlap {overlap:.2f} with slice {front.index} is below {least:.2g}"
    elif found.agreement < options.min_agreement:
        stopped = f"a click finds something else (IoU {found.agreement:.2f}, below {options.min_agreement:g})"
    if stopped:
        return SliceMask(index, NOTHING, front.start, overlap, stopped)
    return SliceMask(index, found.item, front.start, overlap, found=found)


def answer(views: Views, wanted: Prompts, before: Found | None = None) -> Found:
    """Ask in one slice that the model may look at; ``before`` is what was projected onto it."""
    from napari_samscape.prediction.ask import ask, extent_of
    from napari_samscape.prediction.instances import interior_point, mask_iou

    if before is not None and before.view == views.choose(extent_of(wanted)):
        # Finer than the mask that was made of them.
        wanted = replace(wanted, mask=before.logits, mask_view=before.view)
    answered = ask(views, [wanted])[0]
    found = Found(answered.best, answered.view, answered.best_logits)
    if before is None or found.item.area == 0:
        return found
    click = Prompts(points=[interior_point(found.item)])
    others = ask(views, [click], place=found.view)[0].masks
    return replace(found, agreement=max(mask_iou(found.item, other) for other in others))


def _projected(item: Instance, corrections: Prompts | None, shape: tuple[int, int]) -> Prompts:
    """A mask and its box as the next slice's prompt, with the points that are there already."""
    from napari_samscape.prediction.instances import prompt_box

    prompt = Prompts(box=prompt_box(item), mask=item.within(shape))
    return (
        prompt
        if corrections is None
        else replace(prompt, points=corrections.points, labels=corrections.labels)
    )
