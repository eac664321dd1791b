"""What a step of fine-tuning learns from: crops of labelled pictures, encoded anew or out of what was kept.

Where the encoder is frozen, it sees each of a few augmented views once. A view is as large as the model's
input: a whole picture, or a part of it in which small things are shown larger, as `prediction.views` shows
them, turned, flipped, scaled and recoloured. A step cuts windows out of what the encoder gave, as
`model.window` does when `nano` answers; SAM's own decoder is always asked about all of a view.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_samscape.io.labelled import IGNORE
from napari_samscape.model.nano import STRIDE
from napari_samscape.model.progress import Progress
from napari_samscape.model.sam import Sam
from napari_samscape.model.window import CELLS
from napari_samscape.training.data import Crop, Picture, random_crop, recolour
from napari_samscape.training.prompts import Asked, Batch, ask, collate, shown_to

WIDE = 0.15  # share of nano's batches with a quarter of the crops, twice as wide, for what fits no window
TRIES = 5  # for each crop that is wanted, before a batch is smaller


@dataclass(frozen=True)
class Manner:
    """How a model is asked while it learns.

    Attributes
    ----------
    view : int
        Side in pixels of what the encoder sees of a picture.
    window : int
        Side in pixels of what the decoder is asked about.
    crops : int
        Windows in a batch.
    objects : int
        Asked for in each.
    """

    view: int
    window: int
    crops: int
    objects: int = 6

    @classmethod
    def of(cls, model: Sam, crops: int) -> Manner:
        """As a model is asked by users; `nano` in windows."""
        if model.magnifies > 1:
            return cls(model.image_size, min(CELLS * STRIDE, model.image_size), crops)
        return cls(model.image_size, model.image_size, 1)

    def drawn(self, rng: np.random.Generator) -> Manner:
        """For one batch: now and then wider."""
        if self.window == self.view or rng.random() >= WIDE:
            return self
        return replace(self, window=min(2 * self.window, self.view), crops=max(1, self.crops // 4))


@dataclass(frozen=True, eq=False)
class View:
    """A view, as the frozen part of the encoder gave it.

    Attributes
    ----------
    trunk : tuple of Tensor, each (1, c, h, w)
        See `Sam.trunk`; in bfloat16.
    labels : ndarray of int64, shape (s, s)
    outside : Tensor of bool, shape (s, s)
        What is not of the picture.
    complete : bool
        Whether what has no label is background.
    """

    trunk: tuple[Tensor, ...]
    labels: NDArray[np.int64]
    outside: Tensor
    complete: bool

    @cached_property
    def ids(self) -> NDArray[np.int64]:
        """Of the objects in it."""
        ids = np.unique(self.labels)
        return ids[(ids > 0) & (ids != IGNORE)]


@torch.no_grad()
def keep_views(
    model: Sam,
    pictures: Sequence[Picture],
    number: int,
    rng: np.random.Generator,
    *,
    coloured: bool = True,
    progress: Progress | None = None,
) -> list[View]:
    """Show views of pictures to the frozen part of an encoder, once.

    Parameters
    ----------
    model : Sam
    pictures : sequence of Picture
    number : int
        Of views in all; each picture gets as many as the others, give or take one.
    rng : numpy.random.Generator
    coloured : bool
        Whether colours, contrast and sharpness are changed.
    progress : callable, optional
        Called as ``progress(done, total, text)``; raise from it to stop.

    Returns
    -------
    list of View
    """
    views = []
    for index in range(number if pictures else 0):
        if progress is not None:
            progress(index, number, "Looking at the pictures")
        crop = random_crop(pictures[index % len(pictures)], model.image_size, model.image_size, rng)
        pixels = recolour(crop.pixels, rng) if coloured else crop.pixels
        with torch.autocast(model.device.type, torch.bfloat16):
            trunk = model.trunk(shown_to(model, pixels[None].to(model.device)))
        kept = tuple(part.to("cpu", torch.bfloat16) for part in trunk)
        views.append(View(kept, crop.labels, crop.pixels[0].isnan(), crop.complete))
    return views


def batch_of_views(
    views: Sequence[View], manner: Manner, rng: np.random.Generator, kind: float | None = None
) -> Batch | None:
    """Ask for objects in windows of some of the views; None where nothing was found to ask for.

    Parameters
    ----------
    views : sequence of View
    manner : Manner
    rng : numpy.random.Generator
    kind : float, optional
        Of all prompts, see `first_prompt`; drawn where left out. They are all of one kind.

    Returns
    -------
    Batch or None
        Its ``trunk`` is set, and its pixels say only what lies outside of pictures.
    """
    windows: list[tuple[Tensor, ...]] = []

    def crop() -> Crop:
        part, trunk = _window(views[int(rng.integers(len(views)))], manner.window, rng)
        windows.append(trunk)
        return part

    asked = _asked(crop, manner, rng, kind)
    if not asked:
        return None
    chosen = [windows[index] for index, _ in asked]
    parts = tuple(torch.cat(same) for same in zip(*chosen, strict=True))
    return replace(collate([question for _, question in asked]), trunk=parts)


def batch_of_crops(
    pictures: Sequence[Picture],
    manner: Manner,
    rng: np.random.Generator,
    kind: float | None = None,
    *,
    coloured: bool = True,
) -> Batch | None:
    """As `batch_of_views`, of fresh crops, for an encoder that learns as well; with all of their pixels."""

    def crop() -> Crop:
        part = random_crop(pictures[int(rng.integers(len(pictures)))], manner.window, manner.view, rng)
        return replace(part, pixels=recolour(part.pixels, rng)) if coloured else part

    asked = _asked(crop, manner, rng, kind)
    return collate([question for _, question in asked]) if asked else None


def _asked(
    crop: Callable[[], Crop], manner: Manner, rng: np.random.Generator, kind: float | None
) -> list[tuple[int, Asked]]:
    """Questions about crops, each with the number of the crop, as many as are wanted if they can be had."""
    kind = float(rng.random()) if kind is None else kind
    asked: list[tuple[int, Asked]] = []
    for number in range(TRIES * manner.crops):
        question = ask(crop(), manner.objects, rng, kind=kind)
        if question is not None:
            asked.append((number, question))
        if len(asked) == manner.crops:
            break
    return asked


def _window(view: View, size: int, rng: np.random.Generator) -> tuple[Crop, tuple[Tensor, ...]]:
    """A window of a view, which begins at a whole cell, with a part of a random object near its middle."""
    whole = len(view.labels)
    y, x = rng.integers(0, whole, 2)
    if len(view.ids):
        places = np.argwhere(view.labels == rng.choice(view.ids))
        y, x = places[rng.integers(len(places))] + rng.integers(-size // 4, size // 4 + 1, 2)
    last = (whole - size) // STRIDE
    top, left = (int(np.clip(round((v - size / 2) / STRIDE), 0, last)) * STRIDE for v in (y, x))
    here = (slice(top, top + size), slice(left, left + size))
    pixels = torch.zeros(1, size, size).masked_fill(view.outside[here], float("nan"))
    return Crop(pixels, view.labels[here], view.complete), tuple(_part(p, whole, here) for p in view.trunk)


def _part(kept: Tensor, whole: int, here: tuple[slice, slice]) -> Tensor:
    """A window, in pixels of the view, of a map ``(1, c, h, w)`` of all of it."""
    stride = whole // kept.shape[3]
    rows, columns = (slice(s.start // stride, s.stop // stride) for s in here)
    return kept[:, :, rows, columns]
