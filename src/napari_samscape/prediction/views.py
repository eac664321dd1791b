"""A picture seen as a whole, and closer through windows, in which small things are shown larger.

A model shows itself a picture with its longest side at ``model.image_size`` pixels. A nucleus is then a dozen
pixels wide, and no mask is finer than that. So there are levels of windows, each half as wide as those
before; a window is embedded when something small in it is asked for.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_samscape.prediction.image import Limits, to_rgb
from napari_samscape.prediction.predict import embed

if TYPE_CHECKING:
    from napari_samscape.model.sam import Sam
    from napari_samscape.prediction.types import Embedding

Box = tuple[int, int, int, int]  # (y0, x0, y1, x1), half open

LARGE = 1.5  # a window is of use where the view before it is more than so many times as wide
SMALL = 1 / 16  # of the model's size; what is shown smaller is worth a closer look (docs/performance.md)
FILLS = 0.6  # of a window's side; what is larger is not looked at through it


@dataclass(frozen=True, eq=False)
class View:
    """A part of a picture as the model has seen it.

    Attributes
    ----------
    embedding : Embedding
    box : tuple of int
        (y0, x0, y1, x1), half open, of the part. Subtract its corner from a prompt, add it to a mask.
    """

    embedding: Embedding
    box: Box

    @property
    def origin(self) -> tuple[int, int]:
        """(y, x) of the first pixel."""
        return self.box[:2]


class Views:
    """All views of one picture.

    Parameters
    ----------
    model : Sam
    pixels : ndarray, shape (y, x) or (y, x, c)
        Any real dtype.
    limits : pair, optional
        Intensities that become black and white in all views; those of the picture where left out.
    keep : int
        At most so many embeddings are held; the one that was not used for longest goes first.
    closer : bool
        Whether there are windows.

    Attributes
    ----------
    model : Sam
    shape : tuple of int
        (y, x) of the picture.
    whole : tuple of int
        The box of the view that shows all.
    """

    def __init__(
        self,
        model: Sam,
        pixels: NDArray[Any],
        limits: Limits | None = None,
        *,
        keep: int = 32,
        closer: bool = True,
    ) -> None:
        self.model = model
        self._rgb = to_rgb(pixels, limits)
        self._keep = keep
        self._seen: OrderedDict[Box, Embedding] = OrderedDict()
        self.shape = (self._rgb.shape[0], self._rgb.shape[1])
        self.whole: Box = (0, 0, *self.shape)
        least = round(model.image_size / model.magnifies)
        self._sides = window_sides(max(self.shape), least) if closer else ()

    def choose(self, prompt: ArrayLike, extent: float | None = None) -> Box:
        """Choose the view for something at a point (y, x) or in a box (y0, x0, y1, x1).

        Parameters
        ----------
        prompt : array_like, shape (2,) or (4,)
            In pixels of the picture; the view has it as near to its middle as may be.
        extent : float, optional
            How large it is, in pixels; the root of the box's area where left out.

        Returns
        -------
        tuple of int
            The widest view in which it is not small; else the closest there is. The whole picture for what
            has no extent, or fills more than 0.6 of a window, or reaches out of it.
        """
        flat = np.asarray(prompt, dtype=np.float64).reshape(-1)
        start, end = flat[:2], flat[-2:]
        if extent is None:
            extent = float(np.sqrt(np.prod(end - start)))
        best, side = self.whole, max(self.shape)
        for closer in self._sides:
            if extent == 0 or not is_small(extent, side):
                break
            window = self._window((start + end) / 2, closer)
            inside = (start >= np.array(window[:2]) - 0.5).all() and (end <= np.array(window[2:]) - 0.5).all()
            if not inside or max(*(end - start), extent) > FILLS * closer:
                break
            best, side = window, closer
        return best

    def view(self, box: Box) -> View:
        """Look at a part of the picture; the first time is dear."""
        y0, x0, y1, x1 = box
        if box not in self._seen:
            self._seen[box] = embed(self.model, np.ascontiguousarray(self._rgb[y0:y1, x0:x1]))
            if len(self._seen) > self._keep:
                self._seen.popitem(last=False)
        self._seen.move_to_end(box)
        return View(self._seen[box], box)

    def __contains__(self, box: Box) -> bool:
        """Whether a part has been looked at already."""
        return box in self._seen

    @property
    def nbytes(self) -> int:
        """Bytes that the picture takes, with all embeddings that are held."""
        return self._rgb.nbytes + sum(embedding.nbytes for embedding in self._seen.values())

    def _window(self, middle: NDArray[np.float64], side: int) -> Box:
        """The window of this side in whose middle a place lies most nearly; they overlap by half."""
        starts = []
        for at, length in zip(middle, self.shape, strict=True):
            steps = -(-max(0, length - side) // (side // 2))
            grid = np.linspace(0, max(0, length - side), steps + 1).round()
            starts.append(int(grid[np.abs(grid + (min(side, length) - 1) / 2 - at).argmin()]))
        y, x = starts
        return y, x, min(y + side, self.shape[0]), min(x + side, self.shape[1])


def is_small(extent: float, side: int) -> bool:
    """Whether a thing of this extent in a view whose longest side is this is worth a closer look."""
    return extent < SMALL * side


def window_sides(longest: int, least: int) -> tuple[int, ...]:
    """Sides of windows, from wide to close, of a picture whose longest side is ``longest`` pixels."""
    sides, side = [], longest
    while side > LARGE * least:
        side = max(-(-side // 2), least)
        sides.append(side)
    return tuple(sides)
