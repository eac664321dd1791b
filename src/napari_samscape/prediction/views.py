"""A large picture seen as a whole, and through windows in which small things are not shrunk.

A model shows itself a picture with its longest side at ``model.image_size`` pixels. What was small before is
then smaller still. So a picture clearly larger than that is also cut into overlapping windows of that size,
each embedded when it is first needed.
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

LARGE = 1.5  # times the model's size; a picture with a longer side than that has windows
FILLS = 0.6  # of a window's side; an object larger than that is looked at in the whole picture
WHOLE = 0  # number of the view that shows the whole picture


@dataclass(frozen=True, eq=False)
class View:
    """A part of a picture as the model has seen it.

    Attributes
    ----------
    embedding : Embedding
    origin : tuple of int
        (y, x) of its first pixel in the picture; subtract it from a prompt, add it to a mask.
    """

    embedding: Embedding
    origin: tuple[int, int]


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

    Attributes
    ----------
    boxes : ndarray of int64, shape (n, 4)
        (y0, x0, y1, x1), half open, of each view; the first is the whole picture.
    """

    def __init__(
        self, model: Sam, pixels: NDArray[Any], limits: Limits | None = None, *, keep: int = 32
    ) -> None:
        self._model = model
        self._rgb = to_rgb(pixels, limits)
        self._keep = keep
        self._seen: OrderedDict[int, Embedding] = OrderedDict()
        shape = (self._rgb.shape[0], self._rgb.shape[1])
        self.boxes = np.array([(0, 0, *shape), *_windows(shape, model.image_size)], dtype=np.int64)

    def choose(self, prompt: ArrayLike) -> int:
        """Number of the view that shows a point (y, x) or a box (y0, x0, y1, x1) best.

        That is the window in whose middle it lies most nearly; the whole picture where there are no windows,
        or the box fills more than 0.6 of a window's side or reaches out of it.
        """
        flat = np.asarray(prompt, dtype=np.float64).reshape(-1)
        start, end = flat[:2], flat[-2:]
        windows = self.boxes[1:]
        if len(windows) == 0:
            return WHOLE
        sides = windows[:, 2:] - windows[:, :2]
        away = np.abs((windows[:, :2] + windows[:, 2:] - 1) / 2 - (start + end) / 2) / sides
        best = int(away.max(axis=1).argmin())
        fits = (start >= windows[best, :2] - 0.5).all() and (end <= windows[best, 2:] - 0.5).all()
        small = ((end - start) <= FILLS * sides[best]).all()
        return 1 + best if fits and small else WHOLE

    def view(self, number: int) -> View:
        """Look at the view of this number; the first time is dear."""
        y0, x0, y1, x1 = (int(edge) for edge in self.boxes[number])
        if number not in self._seen:
            part = np.ascontiguousarray(self._rgb[y0:y1, x0:x1])
            self._seen[number] = embed(self._model, part)
            if len(self._seen) > self._keep:
                self._seen.popitem(last=False)
        self._seen.move_to_end(number)
        return View(self._seen[number], (y0, x0))

    def best(self, prompt: ArrayLike) -> View:
        """Look at the view that shows a point (y, x) or a box (y0, x0, y1, x1) best."""
        return self.view(self.choose(prompt))


def _windows(shape: tuple[int, int], size: int) -> list[tuple[int, int, int, int]]:
    """Boxes of windows of ``size`` pixels that overlap by half at least; none for a small picture."""
    if max(shape) <= LARGE * size:
        return []
    rows, columns = (_starts(side, size) for side in shape)
    return [(y, x, min(y + size, shape[0]), min(x + size, shape[1])) for y in rows for x in columns]


def _starts(side: int, size: int) -> list[int]:
    steps = max(0, -(-(side - size) // (size // 2)))
    return [int(start) for start in np.linspace(0, max(0, side - size), steps + 1).round()]
