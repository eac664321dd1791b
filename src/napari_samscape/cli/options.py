"""Options that commands share: those of `EverythingOptions`, by the same name, of links, and of texts."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from napari_samscape.cli.app import STACKS
from napari_samscape.errors import InputError
from napari_samscape.prediction.options import DENSE_DEFAULTS, PROMPT_SOURCES, EverythingOptions

if TYPE_CHECKING:
    from napari_samscape.prediction.phrase import Phrase
    from napari_samscape.scaling.link import LinkOptions

PANEL = "How everything-mode looks"
WORDS = "Words"

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
    "crop_where_small": "Only crops in which most things are small; the rest comes from the wider look.",
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

#: How objects are followed through a stack: the option, its type, what ``--help`` shows and says.
LINK: dict[str, tuple[Any, str | None, str]] = {
    "link": (bool, None, "Follow objects through the slices of a stack; each of the others implies it."),
    "link_axes": (str | None, "z|t|zt", "Along which axes. [default: all there are]"),
    "link_iou": (float | None, None, "How alike an object is in two slices, at least. [default: 0.25]"),
    "link_gap": (int | None, None, "How many slices in a row may miss it. [default: 1]"),
    "link_extent": (int | None, None, "In how many slices it must be, else it is dropped. [default: 2]"),
}
_LINK_NAMES = {"link_axes": "axes", "link_iou": "min_iou", "link_gap": "max_gap", "link_extent": "min_extent"}

#: What to look for in words, likewise.
TEXT: dict[str, tuple[Any, str | None, str]] = {
    "text": (str | None, '"…"', "What to look for."),
    "clip": (str | None, "NAME|DIR", "The CLIP that knows what words look like (extra text)."),
    "distractors": (
        str | None,
        '"…;…"',
        "What else things may be. [default: something else; the background; a texture]",
    ),
    "text_thresh": (
        float | None,
        None,
        "How likely a thing has to be it, 0 to 1. [default: 0.5; of a detector's scores 0.1]",
    ),
    "top": (int | None, "N", "No more things than this, the likeliest."),
}
_TEXT_NAMES = {"text_thresh": "threshold"}


def takes_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command these options; its last arguments are a `Job`'s ``options``, ``link`` and ``phrase``."""

    @wraps(command)
    def taking(**values: Any) -> None:
        chosen = {name: values.pop(name) for name in HELP}
        link = {name: values.pop(name) for name in LINK}
        text = {name: values.pop(name) for name in TEXT}
        command(**values, options=read_options(chosen), link=read_link(link), phrase=read_phrase(text))

    signature = inspect.signature(command, eval_str=True)
    own = [one for name, one in signature.parameters.items() if name not in ("options", "link", "phrase")]
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
        from napari_samscape.io import read_json

        path = given["point_grids"]
        given["point_grids"] = read_json(path, f"The file {path} of --point-grids")
    return given


def read_link(values: dict[str, Any]) -> LinkOptions | None:
    """Make options of what is set; each is enough, without any nothing is linked.

    Raises
    ------
    InputError
        If a value is out of range.
    """
    from napari_samscape.scaling.link import LinkOptions

    given = {name: values[option] for option, name in _LINK_NAMES.items() if values[option] is not None}
    return LinkOptions(**given) if values["link"] or given else None


def read_phrase(values: dict[str, Any]) -> Phrase | None:
    """Make a phrase of what is set; nothing is looked for without a text.

    Raises
    ------
    InputError
        If something is said of a text that is not there, or is wrong.
    """
    from napari_samscape.prediction.phrase import Phrase

    given = {_TEXT_NAMES.get(name, name): value for name, value in values.items() if value is not None}
    if given and "text" not in given:
        option = next(name for name, value in values.items() if value is not None)
        raise InputError(f"--{option.replace('_', '-')} belongs to a --text, which is missing.")
    if "distractors" in given:
        given["distractors"] = [part.strip() for part in given["distractors"].split(";") if part.strip()]
    return Phrase(**given) if given else None


def _parameters() -> list[inspect.Parameter]:
    hints = get_type_hints(EverythingOptions)
    kinds = {bool: bool, int: int, float: float, float | None: float}
    groups = [
        _parameter(
            name,
            kind,
            typer.Option(f"--{name.replace('_', '-')}", metavar=shown, help=text, rich_help_panel=panel),
        )
        for panel, group in ((WORDS, TEXT), (STACKS, LINK))
        for name, (kind, shown, text) in group.items()
    ]
    looks = [
        _parameter(
            name,
            kinds.get(hints[name], str) | None,
            typer.Option(help=f"{text} {_default(name)}", metavar=_METAVARS.get(name), rich_help_panel=PANEL),
        )
        for name, text in HELP.items()
    ]
    return [*groups, *looks]


def _parameter(name: str, kind: Any, option: Any) -> inspect.Parameter:
    default = False if kind is bool else None
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option]
    )


def _default(name: str) -> str:
    """What is taken where nothing is given, by models without and with a dense head."""
    usual, dense = (
        "none" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)
        for value in (getattr(EverythingOptions(), name), getattr(DENSE_DEFAULTS, name))
    )
    return f"[default: {usual}]" if usual == dense else f"[default: {usual}; with a dense head {dense}]"
