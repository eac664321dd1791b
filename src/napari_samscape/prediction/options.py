"""What can be chosen in everything-mode and for edges, and what is chosen where nobody says.

Needs no torch, so that a command line can show its help at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np

from napari_samscape.errors import InputError

AnyOptions = TypeVar("AnyOptions", "EverythingOptions", "EdgeOptions")

PROMPT_SOURCES = ("auto", "grid", "dense")

#: Smallest and largest value of each number, and whether it must be a whole one.
_RANGES: dict[str, tuple[float, float, bool]] = {
    "points_per_side": (1, 1024, True),
    "points_per_batch": (1, math.inf, True),
    "pred_iou_thresh": (-math.inf, 1, False),
    "stability_score_thresh": (-math.inf, 1, False),
    "stability_score_offset": (0, math.inf, False),
    "box_nms_thresh": (0, 1, False),
    "crop_n_layers": (0, 6, True),
    "crop_nms_thresh": (0, 1, False),
    "crop_overlap_ratio": (0, 0.9, False),
    "crop_n_points_downscale_factor": (1, math.inf, True),
    "min_mask_region_area": (0, math.inf, True),
    "mask_nms_thresh": (0, 1, False),
    "dense_inside_thresh": (0, 1, False),
    "dense_centre_thresh": (0, 1, False),
    "dense_min_distance": (1, math.inf, True),
    "dense_rounds": (1, 100, True),
    "dense_max_points": (1, math.inf, True),
    "threshold": (0, 1, False),
    "top": (1, math.inf, True),
}


@dataclass(frozen=True)
class EverythingOptions:
    """How to look for everything in a picture; the values given here are the reference's, for SAM's models.

    Parameters
    ----------
    points_per_side : int
        The grid has this many points along each side of the picture.
    points_per_batch : int
        Points decoded at once; more is faster on a GPU and takes more memory.
    pred_iou_thresh : float
        Masks whose predicted IoU is not above this go; 0 or less lets all pass.
    stability_score_thresh : float
        Masks whose stability score is below this go; 0 or less lets all pass.
    stability_score_offset : float
        How far the mask's threshold is moved for the stability score, in logits.
    box_nms_thresh : float
        Of masks whose boxes' IoU is above this, the one with the best predicted IoU stays.
    crop_n_layers : int
        The picture is looked at again in 2 x 2 crops, 4 x 4 crops, and so on, this many times.
    crop_nms_thresh : float
        As `box_nms_thresh`, between crops; the mask from the smallest crop stays.
    crop_overlap_ratio : float
        How much the crops of the first layer overlap, as a fraction of the picture's shorter side.
    crop_n_points_downscale_factor : int
        The grid is sparser by this factor from layer to layer.
    crop_where_small : bool
        Only crops are looked at in which most of what the layer before found is small, and none in which a
        pixel would be shown more than two pixels wide; what is not small is taken from the wider look.
    point_grids : sequence of array_like, each of shape (n, 2), optional
        Grids of one's own instead of `points_per_side`, one for the picture and one for each layer of crops;
        (y, x) as fractions of height and width.
    min_mask_region_area : int
        Holes and islands of fewer pixels are removed; 0 leaves masks as they are.
    mask_nms_thresh : float, optional
        As `box_nms_thresh`, with the IoU of the masks instead of their boxes, which spares objects that
        touch; not done where left out.
    prompt_source : {"auto", "grid", "dense"}
        Where the points come from: the grid, or the model's dense head, which tells inside and centre of
        objects. "auto" takes the dense head where the model has one and no points of one's own are given.
    dense_inside_thresh, dense_centre_thresh : float
        Probabilities from which a cell of the dense head counts as inside an object, and as a centre.
    dense_min_distance : int
        Two points lie further apart than this many cells of the dense head.
    dense_rounds : int
        After the centres, points are laid where it is 'inside' but no mask was found, up to this many
        rounds in all.
    dense_max_points : int
        No more points than this, over all rounds of a picture or crop; the likeliest are asked first.

    Raises
    ------
    InputError
        If a value is out of range.

    Notes
    -----
    Names and meaning are those of the reference's automatic mask generator (SAM paper, appendix B);
    `crop_where_small` and those from `mask_nms_thresh` on are ours.
    """

    points_per_side: int = 32
    points_per_batch: int = 64
    pred_iou_thresh: float = 0.88
    stability_score_thresh: float = 0.95
    stability_score_offset: float = 1.0
    box_nms_thresh: float = 0.7
    crop_n_layers: int = 0
    crop_nms_thresh: float = 0.7
    crop_overlap_ratio: float = 512 / 1500
    crop_n_points_downscale_factor: int = 1
    crop_where_small: bool = False
    point_grids: Any = None
    min_mask_region_area: int = 0
    mask_nms_thresh: float | None = None
    prompt_source: str = "auto"
    dense_inside_thresh: float = 0.5
    dense_centre_thresh: float = 0.3
    dense_min_distance: int = 2
    dense_rounds: int = 3
    dense_max_points: int = 10_000

    def __post_init__(self) -> None:
        for name in (name for name in _RANGES if hasattr(self, name)):
            check_number(name, getattr(self, name))
        if self.prompt_source not in PROMPT_SOURCES:
            choices = ", ".join(f"'{source}'" for source in PROMPT_SOURCES)
            raise InputError(
                f"The option prompt_source must be one of {choices}; it is {self.prompt_source!r}."
            )
        if not isinstance(self.crop_where_small, bool):
            raise InputError(
                f"The option crop_where_small must be True or False; it is {self.crop_where_small!r}."
            )
        if self.point_grids is not None:
            # Nested tuples, so that options can be compared and written down.
            object.__setattr__(self, "point_grids", _checked_grids(self.point_grids, self.crop_n_layers))


@dataclass(frozen=True)
class EdgeOptions:
    """How to look for edges; the values given here are the paper's.

    Parameters
    ----------
    points_per_side : int
        The grid has this many points along each side of the picture, each with three masks.
    box_nms_thresh : float
        Of masks whose boxes' IoU is above this, the one with the best predicted IoU stays.
    pred_iou_thresh : float
        Masks whose predicted IoU is not above this go; 0 or less lets all pass.
    thin : bool
        Lines of one pixel; otherwise bands, as wide as the masks are unlike.

    Raises
    ------
    InputError
        If a value is out of range.
    """

    points_per_side: int = 16
    box_nms_thresh: float = 0.7
    pred_iou_thresh: float = 0.0
    thin: bool = True

    def __post_init__(self) -> None:
        for name in ("points_per_side", "box_nms_thresh", "pred_iou_thresh"):
            check_number(name, getattr(self, name))
        if not isinstance(self.thin, bool):
            raise InputError(f"The option thin must be True or False; it is {self.thin!r}.")


def check_number(name: str, value: Any) -> None:
    """Raise InputError if an option that is a number is none, or out of range."""
    low, high, whole = _RANGES[name]
    if name == "mask_nms_thresh" and value is None:
        return
    is_number = isinstance(value, Integral if whole else Real) and not isinstance(value, bool)
    if is_number and math.isfinite(value) and low <= value <= high:
        return
    number = "a whole number" if whole else "a number"
    if math.isinf(low):
        span = f"of at most {high:g}"
    elif math.isinf(high):
        span = f"of at least {low:g}"
    else:
        span = f"from {low:g} to {high:g}"
    raise InputError(f"The option {name} must be {number} {span}; it is {value!r}.")


def _checked_grids(grids: Any, layers: int) -> tuple[tuple[tuple[float, float], ...], ...]:
    if not hasattr(grids, "__len__") or isinstance(grids, str):
        raise InputError("The point_grids must be a list of grids, each a list of points (y, x).")
    if len(grids) != layers + 1:
        raise InputError(
            f"The option point_grids must hold {layers + 1} grids, one for the picture and one for each "
            f"of the {layers} layers of crops; it holds {len(grids)}."
        )
    checked = []
    for grid in grids:
        try:
            points = np.asarray(grid, dtype=np.float64)
        except (TypeError, ValueError):
            points = np.zeros(0)
        if points.ndim != 2 or points.shape[1] != 2 or len(points) == 0:
            raise InputError("Each of the point_grids must have the shape (n, 2), each point (y, x).")
        if not ((points >= 0) & (points <= 1)).all():
            raise InputError("The point_grids must hold fractions of height and width, from 0 to 1.")
        checked.append(tuple((float(y), float(x)) for y, x in points))
    return tuple(checked)


#: For models with a dense head (`nano`). Its prompts are one per object, so there are few doubles, and cells
#: that touch must not be taken for doubles because their boxes overlap. Its fine masks take much memory each
#: while they are drawn, and larger batches, of which a CPU decodes parts (`window.CELLS_AT_ONCE`), are no
#: faster; with 16 a process grew more from tile to tile (``benchmarks/scale.py``).
DENSE_DEFAULTS = EverythingOptions(
    points_per_batch=8,
    pred_iou_thresh=0.65,
    stability_score_thresh=0.6,
    box_nms_thresh=1.0,
    mask_nms_thresh=0.3,
    crop_n_layers=3,
    crop_nms_thresh=0.7,
    crop_overlap_ratio=0.15,
    crop_where_small=True,
    min_mask_region_area=10,
)


def default_options(has_dense: bool) -> EverythingOptions:
    """What is taken where no options are given, for models with or without a dense head."""
    return DENSE_DEFAULTS if has_dense else EverythingOptions()


def limits(name: str) -> tuple[float, float, bool]:
    """Smallest and largest value of an option that is a number, and whether it must be a whole one."""
    return _RANGES[name]


def changed(defaults: AnyOptions, changes: AnyOptions | Mapping[str, Any] | None) -> AnyOptions:
    """Options of which some are changed.

    Parameters
    ----------
    defaults : EverythingOptions or EdgeOptions
    changes : the same, mapping or None
        All of them; or values by name, and the defaults for the rest.

    Raises
    ------
    InputError
        If there is no option of a name, or its value is out of range.
    """
    if changes is None or isinstance(changes, type(defaults)):
        return changes or defaults
    names = option_names(type(defaults))
    if not isinstance(changes, Mapping):
        raise InputError(f"Options are {type(defaults).__name__} or values by name; these are {changes!r}.")
    for name in changes:
        if name not in names:
            raise InputError(f"There is no option '{name}' here; there are {', '.join(names)}.")
    grids = changes.get("point_grids")
    if grids is not None and hasattr(grids, "__len__"):  # one for each layer
        changes = {"crop_n_layers": max(0, len(grids) - 1), **changes}
    return replace(defaults, **changes)


def option_names(kind: type[EverythingOptions] | type[EdgeOptions]) -> tuple[str, ...]:
    """Names of all options, in order."""
    return tuple(field.name for field in fields(kind))
