"""The values that travel between modules, all frozen.

Axis convention, stated here once and valid everywhere outside ``model/``: coordinates are (y, x) and
boxes (y0, x0, y1, x1), in pixels of the picture; a pixel's centre lies at its integer index. Boxes given
as prompts are continuous coordinates; an instance's own bounding box is half open and integer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_samscape.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Prompts:
    """What is asked about one object; every part is optional, at least one is given.

    Parameters
    ----------
    points : array_like, shape (n, 2), optional
        Clicks (y, x) in pixels.
    labels : array_like, shape (n,), optional
        1 for foreground, 0 for background, one per point; all foreground where left out.
    box : array_like, shape (4,), optional
        (y0, x0, y1, x1) in pixels; reversed corners are put right.
    mask : array_like, optional
        Either bool, shape (y, x), at the picture's size; or float logits, shape (h, w), at low
        resolution, as ``Masks.logits`` gives them.
    mask_view : tuple of int, optional
        ``Masks.view`` that the logits belong to; the whole picture where left out.
    text : array_like, shape (d,), optional
        CLIP's embedding of a phrase, see `napari_samscape.prediction.clip.Clip.phrases`; for models that
        have learnt to take one.

    Raises
    ------
    InputError
        If nothing is given, a shape is wrong, a label is neither 0 nor 1, a coordinate is not finite,
        or the box has no area.
    """

    points: Any = None
    labels: Any = None
    box: Any = None
    mask: Any = None
    mask_view: tuple[int, int, int, int] | None = None
    text: Any = None

    def __post_init__(self) -> None:
        points, labels = _checked_points(self.points, self.labels)
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "box", None if self.box is None else _checked_box(self.box))
        object.__setattr__(self, "mask", None if self.mask is None else _checked_mask(self.mask))
        object.__setattr__(self, "text", None if self.text is None else _checked_text(self.text))
        if len(points) == 0 and self.box is None and self.mask is None and self.text is None:
            raise InputError("The prompt is empty: give at least one point, a box, a mask or a text.")

    def check_inside(self, shape: tuple[int, int]) -> None:
        """Raise InputError if a point lies outside a picture of ``shape`` (y, x), or the box misses it."""
        height, width = shape
        for y, x in self.points:
            if not (-0.5 <= y <= height - 0.5 and -0.5 <= x <= width - 0.5):
                raise InputError(
                    f"The point (y={y:g}, x={x:g}) lies outside the picture of {height} x {width} pixels."
                )
        if self.box is not None:
            y0, x0, y1, x1 = self.box
            if y1 <= 0 or x1 <= 0 or y0 >= height or x0 >= width:
                raise InputError(
                    f"The box ({y0:g}, {x0:g}, {y1:g}, {x1:g}) lies outside the picture of "
                    f"{height} x {width} pixels."
                )


def _checked_points(points: ArrayLike | None, labels: ArrayLike | None) -> tuple[NDArray, NDArray]:
    array = np.zeros((0, 2)) if points is None else _as_float(points, "points")
    if array.size == 0:
        array = array.reshape(0, 2)
    if array.ndim != 2 or array.shape[1] != 2:
        raise InputError(f"Points must have the shape (n, 2), each (y, x); this has {array.shape}.")
    if not np.isfinite(array).all():
        raise InputError("A point has a coordinate that is not a finite number.")
    kinds = np.ones(len(array)) if labels is None else _as_float(labels, "labels").reshape(-1)
    if len(kinds) != len(array):
        raise InputError(f"There are {len(array)} points but {len(kinds)} labels; give one label per point.")
    if not np.isin(kinds, (0, 1)).all():
        wrong = kinds[~np.isin(kinds, (0, 1))][0]
        raise InputError(f"Labels must be 1 (foreground) or 0 (background); {wrong:g} is neither.")
    return array, kinds.astype(np.int64)


def _checked_box(box: ArrayLike) -> NDArray:
    array = _as_float(box, "box").reshape(-1)
    if array.shape != (4,) or not np.isfinite(array).all():
        raise InputError("A box must be four finite numbers (y0, x0, y1, x1).")
    y0, x0, y1, x1 = array
    array = np.array([min(y0, y1), min(x0, x1), max(y0, y1), max(x0, x1)])
    if array[0] == array[2] or array[1] == array[3]:
        raise InputError(f"The box ({y0:g}, {x0:g}, {y1:g}, {x1:g}) has no area.")
    return array


def _checked_mask(mask: ArrayLike) -> NDArray:
    array = np.asarray(mask)
    if array.ndim != 2 or 0 in array.shape:
        raise InputError(f"A mask prompt must be two-dimensional; this has the shape {array.shape}.")
    if array.dtype == bool:
        if not array.any():
            raise InputError("The mask prompt is empty: it covers no pixel.")
        return array
    array = _as_float(array, "mask").astype(np.float32)
    if not np.isfinite(array).all():
        raise InputError("The mask prompt holds values that are not finite numbers.")
    return array


def _checked_text(text: ArrayLike) -> NDArray[np.float32]:
    if isinstance(text, str):
        raise InputError(
            "A prompt's text is CLIP's embedding of it, an array; "
            "napari_samscape.prediction.clip.load_clip(NAME).phrases([...]) makes one."
        )
    array = _as_float(text, "text").reshape(-1).astype(np.float32)
    length = float(np.linalg.norm(array))
    if not np.isfinite(length) or length == 0:
        raise InputError("A prompt's text must be finite numbers that are not all 0.")
    return array / length


def _as_float(values: ArrayLike, what: str) -> NDArray[np.float64]:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"The {what} must be numbers in a regular array; this is not.") from None


@dataclass(frozen=True, eq=False)
class Embedding:
    """What the image encoder has seen in one picture; dear to make, cheap to ask.

    Attributes
    ----------
    features : torch.Tensor, shape (1, c, h, w)
        The image embedding.
    skips : tuple of torch.Tensor
        Finer features for the decoder's upscaling, coarse to fine, each (1, c_i, h_i, w_i); empty for
        SAM's own models.
    dense : torch.Tensor or None, shape (1, 2, h', w')
        Logits of 'inside an object' and 'near an object's centre'; None for models without that head.
    image_shape : tuple of int
        (y, x) of the picture.
    input_shape : tuple of int
        (h, w) of the picture as it was shown to the model, without padding.
    """

    features: Tensor
    image_shape: tuple[int, int]
    input_shape: tuple[int, int]
    skips: tuple[Tensor, ...] = ()
    dense: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        dense = () if self.dense is None else (self.dense,)
        return sum(part.nbytes for part in (self.features, *self.skips, *dense))


@dataclass(frozen=True, eq=False)
class Masks:
    """Answers to one prompt, best predicted IoU not necessarily first (the model's own order).

    Attributes
    ----------
    masks : ndarray of bool, shape (n, y, x)
        At the picture's size.
    iou : ndarray of float32, shape (n,)
        Predicted intersection over union with the object meant.
    logits : ndarray of float32, shape (n, h, w)
        At low resolution; any one of them can be ``Prompts.mask``.
    view : tuple of int or None
        The box (y0, x0, y1, x1) of the part of the picture that was looked at for them; None for all of it.
    """

    masks: BoolArray
    iou: FloatArray
    logits: FloatArray
    view: tuple[int, int, int, int] | None = None

    @property
    def best(self) -> int:
        """Index of the mask with the highest predicted IoU."""
        return int(self.iou.argmax())


@dataclass(frozen=True, eq=False)
class Instance:
    """One object: a bounding box and the mask inside it, never an array of the picture's size.

    Attributes
    ----------
    box : tuple of int
        (y0, x0, y1, x1), half open.
    bits : ndarray of uint8
        The mask inside the box, flattened in C order and packed eight pixels a byte.
    predicted_iou, stability : float
        The model's own estimate, and SAM's stability score; NaN where unknown.
    point : tuple of float or None
        The (y, x) click that found it.
    score : float
        A detector's, for objects in boxes; NaN where there is none.
    category : int, str or None
        The detector's class of it.
    """

    box: tuple[int, int, int, int]
    bits: NDArray[np.uint8] = field(repr=False)
    predicted_iou: float = float("nan")
    stability: float = float("nan")
    point: tuple[float, float] | None = None
    score: float = float("nan")
    category: int | str | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of the box."""
        y0, x0, y1, x1 = self.box
        return y1 - y0, x1 - x0

    @property
    def mask(self) -> BoolArray:
        """The mask inside the box, bool, shape ``self.shape``."""
        height, width = self.shape
        return np.unpackbits(self.bits, count=height * width).reshape(height, width).astype(bool)

    def within(self, shape: tuple[int, int]) -> BoolArray:
        """The mask in a picture of ``shape`` (y, x)."""
        y0, x0, y1, x1 = self.box
        whole = np.zeros(shape, bool)
        whole[y0:y1, x0:x1] = self.mask
        return whole

    @property
    def area(self) -> int:
        """Number of pixels."""
        return int(np.unpackbits(self.bits).sum())


#: What stands for a mask without a pixel.
NOTHING = Instance(box=(0, 0, 0, 0), bits=np.zeros(0, np.uint8))


@dataclass(frozen=True, eq=False)
class Instances(Sequence[Instance]):
    """Objects found in one picture of ``shape`` (y, x), in the order of their ids (1, 2, ...)."""

    items: tuple[Instance, ...]
    shape: tuple[int, int]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: Any) -> Any:
        return self.items[index]

    def __iter__(self) -> Iterator[Instance]:
        return iter(self.items)
