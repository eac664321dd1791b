"""The options of everything-mode on the command line: each of `EverythingOptions`, by the same name."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from napari_samscape.errors import InputError
from napari_samscape.prediction.options import DENSE_DEFAULTS, PROMPT_SOURCES, EverythingOptions

PANEL = "How everything-mode looks"

#: What each means, in the order of ``--help``.
HELP = {
    "prompt_source": "Where points come from: the grid, or places where the model's dense head sees objects.",
    "points_per_side": "The grid, where it is asked, has this many points along each side. Of edges, too.",
    "points_per_batch": "Points decoded at once.",
    "pred_iou_thresh": "Predicted IoU that a mask has to exceed. Of edges, too.",
    "stability_score_thresh": "Least stability score of a mask.",
    "stability_score_offset": "How far the cut is moved for the stability score, in logits.",
    "box_nms_thresh": "Of masks whose boxes overlap more (IoU), the best stays; 1 keeps all. Of edges, too.",
    "mask_nms_thresh": "The same for the masks themselves, which spares objects that touch; 1 keeps all.",
    "crop_n_layers": "Look again in 2 x 2 crops, then 4 x 4, and so on, this many times.",
    "crop_nms_thresh": "As box NMS, between crops.",
    "crop_overlap_ratio": "Overlap of the first layer's crops, as a fraction of the picture's shorter side.",
    "crop_where_small": "Only crops in which something small was seen; the rest comes from the wider look.",
    "crop_n_points_downscale_factor": "The grid is sparser by this factor from layer to layer.",
    "min_mask_region_area": "Holes and islands of fewer pixels are removed.",
    "point_grids": "Points instead: for the picture, and for each layer of crops, a list of [y, x] as "
    "fractions of height and width.",
    "dense_inside_thresh": "Probability from which the dense head sees the inside of an object.",
    "dense_centre_thresh": "Probability from which the dense head sees the centre of an object.",
    "dense_min_distance": "Cells of the dense head between two points.",
    "dense_rounds": "Rounds of points where the head sees objects but no mask was found.",
    "dense_max_points": "No more points than this from the dense head; the likeliest are asked first.",
}
_METAVARS = {"prompt_source": "|".join(PROMPT_SOURCES), "point_grids": "FILE.json"}


def takes_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command these options; it gets those that the user has set, by name, as its last argument."""

    @wraps(command)
    def taking(**values: Any) -> None:
        chosen = {name: values.pop(name) for name in HELP}
        command(**values, options=read_options(chosen))

    signature = inspect.signature(command, eval_str=True)
    own = [one for name, one in signature.parameters.items() if name != "options"]
    parameters = [*own, *_parameters()]
    # Typer reads both.
    taking.__dict__["__signature__"] = signature.replace(parameters=parameters)
    taking.__annotations__ = {one.name: one.annotation for one in parameters}
    return taking


def read_options(values: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is not set, and read the file of points.

    Raises
    ------
    InputError
        If that file cannot be read; whether the values are possible is seen when the job is made.
    """
    given = {name: value for name, value in values.items() if value is not None}
    if "point_grids" in given:
        path = Path(given["point_grids"])
        try:
            given["point_grids"] = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"The file {path} of --point-grids cannot be read: {error.strerror}.") from error
        except ValueError as error:
            raise InputError(f"The file {path} of --point-grids is no JSON: {error}.") from error
    return given


def _parameters() -> list[inspect.Parameter]:
    hints = get_type_hints(EverythingOptions)
    kinds = {bool: bool, int: int, float: float, float | None: float}
    return [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                kinds.get(hints[name], str) | None,
                typer.Option(
                    help=f"{text} {_default(name)}", metavar=_METAVARS.get(name), rich_help_panel=PANEL
                ),
            ],
        )
        for name, text in HELP.items()
    ]


def _default(name: str) -> str:
    """What is taken where nothing is given, by models without and with a dense head."""
    usual, dense = (
        "none" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)
        for value in (getattr(EverythingOptions(), name), getattr(DENSE_DEFAULTS, name))
    )
    return f"[default: {usual}]" if usual == dense else f"[default: {usual}; with a dense head {dense}]"
