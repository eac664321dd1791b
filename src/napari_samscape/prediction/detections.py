"""What a detector is, and what it gives.

Needs no torch, so that a detector of one's own need not either.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_samscape.errors import InputError


class Detector(Protocol):
    """Finds the boxes of objects in a picture; any function will do that takes and gives what is said here.

    It takes the pixels, shape (y, x) or (y, x, c); from `samscape segment` one plane, as 8-bit RGB, with the
    intensity limits of the whole picture. It gives boxes, shape (n, 4), each (y0, x0, y1, x1) in
    pixels; or a tuple of boxes, scores (n,) and, if it likes, classes; or `Detections`.
    """

    def __call__(self, pixels: NDArray[Any], /) -> Any:
        """Find the boxes."""
        ...


@dataclass(frozen=True, eq=False)
class Detections:
    """What a detector has found in one picture.

    Parameters
    ----------
    boxes : array_like, shape (n, 4)
        (y0, x0, y1, x1) in pixels; reversed corners are put right.
    scores : array_like, shape (n,), optional
        How sure the detector is; NaN where left out.
    classes : sequence of int, str or None, length n, optional
        What it is; None where unknown, or left out.

    Raises
    ------
    InputError
        If a shape is wrong, a number is not finite, or a class is neither a whole number nor a text.
    """

    boxes: Any
    scores: Any = None
    classes: Any = None

    def __post_init__(self) -> None:
        boxes = _checked_boxes(self.boxes)
        object.__setattr__(self, "boxes", boxes)
        object.__setattr__(self, "scores", _checked_scores(self.scores, len(boxes)))
        object.__setattr__(self, "classes", _checked_classes(self.classes, len(boxes)))

    def __len__(self) -> int:
        return len(self.boxes)


def detector_name(detector: Detector) -> str:
    """What to call a detector in messages."""
    name = getattr(detector, "name", None) or getattr(detector, "__name__", None)
    return str(name or type(detector).__name__)


def detect(detector: Detector, pixels: NDArray[Any]) -> Detections:
    """Ask a detector.

    Parameters
    ----------
    detector : callable
        See `Detector`.
    pixels : ndarray, shape (y, x) or (y, x, c)

    Returns
    -------
    Detections

    Raises
    ------
    InputError
        If the detector raises, or what it gives is not as `Detector` says; the sentence names it.
    """
    name = detector_name(detector)
    try:
        answer = detector(pixels)
    except InputError as error:
        raise InputError(f"The detector {name} failed: {error}") from error
    except Exception as error:  # a stranger's code may fail in any way
        raise InputError(f"The detector {name} failed: {type(error).__name__}: {error}.") from error
    if isinstance(answer, Detections):
        return answer
    parts = answer if isinstance(answer, tuple) else (answer,)
    if not 1 <= len(parts) <= 3:
        raise InputError(
            f"The detector {name} gave a tuple of {len(parts)}; boxes, scores and classes are 3."
        )
    try:
        return Detections(*parts)
    except InputError as error:
        raise InputError(f"The detector {name} gave what is no detection: {error}") from error


def _checked_boxes(boxes: Any) -> NDArray[np.float64]:
    array = _numbers(boxes, "boxes")
    if array.size == 0:
        array = array.reshape(0, 4)
    if array.ndim != 2 or array.shape[1] != 4:
        raise InputError(
            f"Boxes must have the shape (n, 4), each (y0, x0, y1, x1); these have {array.shape}."
        )
    _check_finite(array, "box")
    corners = array.reshape(-1, 2, 2)
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)


def _checked_scores(scores: Any, count: int) -> NDArray[np.float64]:
    if scores is None:
        return np.full(count, np.nan)
    array = _numbers(scores, "scores").reshape(-1)
    if len(array) != count:
        raise InputError(f"There are {count} boxes but {len(array)} scores; give one score per box.")
    if not np.isnan(array).all():  # of no box is anything known: as if they were left out
        _check_finite(array, "score")
    return array


def _checked_classes(classes: Any, count: int) -> tuple[int | str | None, ...]:
    if classes is None:
        return (None,) * count
    try:
        values = list(classes.tolist() if hasattr(classes, "tolist") else classes)
    except TypeError:
        raise InputError(f"The classes must be a list, one per box; {classes!r} is none.") from None
    if len(values) != count:
        raise InputError(f"There are {count} boxes but {len(values)} classes; give one class per box.")
    for value in values:
        if value is not None and not isinstance(value, (Integral, str)):
            raise InputError(f"A class must be a whole number or a text; {value!r} is neither.")
    return tuple(values)


def _check_finite(array: NDArray[np.float64], what: str) -> None:
    wrong = np.argwhere(~np.isfinite(array))
    if len(wrong):
        values = np.array2string(array[wrong[0, 0]], separator=", ")
        raise InputError(f"The {what} number {wrong[0, 0] + 1} is not finite: {values}.")


def _numbers(values: Any, what: str) -> NDArray[np.float64]:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"The {what} must be numbers in a regular array; these are not.") from None
