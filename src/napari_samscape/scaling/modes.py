"""What can be done with one plane or tile: one function per mode, in a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_samscape.errors import InputError
from napari_samscape.model.progress import Progress
from napari_samscape.prediction.detections import Detections, Detector
from napari_samscape.prediction.detectors import check_detector, load_detector
from napari_samscape.prediction.hierarchy import NESTED, check_nested, choose_nested
from napari_samscape.prediction.options import EdgeOptions, EverythingOptions, changed, option_names
from napari_samscape.prediction.phrase import Phrase
from napari_samscape.prediction.types import NOTHING, Instances, Prompts
from napari_samscape.scaling.pieces import Map

if TYPE_CHECKING:
    from napari_samscape.model.sam import Sam

#: What looks at one plane or tile, given as 8-bit RGB: finds objects, or draws a map.
Find = Callable[[NDArray[np.uint8], Progress | None], Instances | Map]
Boxes = Sequence[Sequence[float]]
#: Of everything-mode or edges: all of them, or by name those that are not the defaults.
Options = EverythingOptions | EdgeOptions | Mapping[str, Any]


@dataclass(frozen=True)
class Asked:
    """What a mode may be told.

    Attributes
    ----------
    prompts : tuple of Prompts
        One object each.
    boxes : sequence of (y0, x0, y1, x1)
        One object each, for the mode "boxes".
    thin : bool
        Whether edges are lines of one pixel.
    scores, classes : sequence
        Of the boxes, one each, or empty.
    detector : str, callable or None
        What finds the boxes instead, plane by plane; a name, or a function.
    nested : str
        Which of masks within masks the mode "everything" keeps.
    options : EverythingOptions, EdgeOptions, mapping or None
        How these modes look; what is not named in a mapping is as by default for the model.
    phrase : Phrase or None
        What the mode "text" ranks everything by, what a detector is to find, or what a model that takes text
        is asked in the mode "prompts".
    device : str
        Where a CLIP runs.
    """

    prompts: tuple[Prompts, ...] = ()
    boxes: Boxes = ()
    thin: bool = True
    scores: Sequence[float] = ()
    classes: Sequence[int | str | None] = ()
    detector: str | Detector | None = None
    nested: str = NESTED[0]
    options: Options | None = None
    phrase: Phrase | None = None
    device: str = "auto"

    @property
    def clip(self) -> str:
        """The CLIP that knows the phrase; `check_mode` sees that there is one."""
        return str(self.phrase and self.phrase.clip)


@dataclass(frozen=True)
class Mode:
    """How a mode's function is made, the part of `Asked` it cannot do without, and what it gives."""

    make: Callable[[Sam, Asked], Find]
    needs: str | None = None
    gives_map: bool = False
    options: type[EverythingOptions] | type[EdgeOptions] | None = None

    @property
    def option_names(self) -> tuple[str, ...]:
        """What the options are called, if there are any."""
        return () if self.options is None else option_names(self.options)

    @property
    def is_tiled(self) -> bool:
        """Whether large planes are looked at tile by tile; prompts are asked of the whole plane."""
        return self.needs in (None, "phrase")


def _everything(model: Sam, asked: Asked) -> Find:
    from napari_samscape.prediction.automatic import everything

    options: Any = asked.options  # checked by `check_mode`
    return lambda rgb, progress: choose_nested(everything(model, rgb, options, progress), asked.nested)


def _prompted(model: Sam, asked: Asked) -> Find:
    from napari_samscape.prediction.ask import ask
    from napari_samscape.prediction.views import Views

    prompts, least, words = asked.prompts, -np.inf, None
    if asked.phrase is not None:
        from napari_samscape.prediction.clip import load_clip

        least, words = asked.phrase.threshold or least, asked.phrase.text
        (text,) = load_clip(asked.clip, asked.device).phrases([words]).numpy()
        model.prompt_encoder.projection_for(len(text))
        prompts = tuple(replace(prompt, text=text) for prompt in prompts) or (Prompts(text=text),)

    def find(rgb: NDArray[np.uint8], progress: Progress | None) -> Instances:
        views, items = Views(model, rgb), []
        for number, prompt in enumerate(prompts):
            if progress is not None:
                progress(number, len(prompts), "objects")
            # An answer without a pixel keeps its place, so that ids stay those of the prompts.
            best = replace(ask(views, [prompt])[0].best, category=words)
            items.append(NOTHING if best.predicted_iou < least else best)
        return Instances(tuple(items), views.shape)

    return find


def _boxed(model: Sam, asked: Asked) -> Find:
    from napari_samscape.prediction.boxes import segment_boxes, segment_detected

    if asked.detector is not None:
        detector: Any = asked.detector
        if isinstance(detector, str):
            detector = load_detector(detector, asked.phrase)
        return lambda rgb, progress: segment_detected(model, rgb, detector, progress)
    scores, classes = asked.scores or None, asked.classes or None
    return lambda rgb, progress: segment_boxes(model, rgb, asked.boxes, scores, classes, progress)


def _told(model: Sam, asked: Asked) -> Find:
    from napari_samscape.prediction.clip import load_clip
    from napari_samscape.prediction.text import segment_text

    phrase: Any = asked.phrase
    options: Any = asked.options  # both checked by `check_mode`
    clip = load_clip(asked.clip, asked.device)

    def find(rgb: NDArray[np.uint8], progress: Progress | None) -> Instances:
        found = segment_text(model, rgb, phrase, clip, options, progress)
        return choose_nested(found, asked.nested)

    return find


def _edges(model: Sam, asked: Asked) -> Find:
    from napari_samscape.prediction.edges import drawn_edges

    given: Any = asked.options  # checked by `check_mode`
    options = changed(EdgeOptions(thin=asked.thin), given)
    return lambda rgb, progress: Map(*drawn_edges(model, rgb, options, progress))


MODES = {
    "everything": Mode(_everything, options=EverythingOptions),
    "prompts": Mode(_prompted, needs="prompts"),
    "boxes": Mode(_boxed, needs="boxes"),
    "edges": Mode(_edges, gives_map=True, options=EdgeOptions),
    "text": Mode(_told, needs="phrase", options=EverythingOptions),
}


def check_mode(mode: str, asked: Asked) -> None:
    """Raise InputError if there is no such mode, or it is told too little or too much."""
    if mode not in MODES:
        names = list(MODES)
        raise InputError(f"There is no mode '{mode}'; there are {', '.join(names[:-1])} and {names[-1]}.")
    needs = MODES[mode].needs
    _check_phrase(mode, asked)
    if needs == "prompts" and not asked.prompts and asked.phrase is None:
        raise InputError("The mode 'prompts' needs at least one prompt: points or boxes.")
    if needs == "boxes" and not len(asked.boxes) and asked.detector is None:
        raise InputError("The mode 'boxes' needs at least one box, or a detector that finds them.")
    if needs != "prompts" and asked.prompts:
        raise InputError(f"The mode '{mode}' takes no prompts; use the mode 'prompts'.")
    if needs != "boxes" and (len(asked.boxes) or asked.detector is not None):
        raise InputError(f"The mode '{mode}' takes no boxes and no detector; use the mode 'boxes'.")
    if len(asked.boxes) and asked.detector is not None:
        raise InputError("Boxes are given and a detector as well; use one of them.")
    Detections(asked.boxes, asked.scores or None, asked.classes or None)  # says what is wrong with them
    if isinstance(asked.detector, str):
        check_detector(asked.detector, asked.phrase)
    check_options(mode, asked.options)
    check_nested(asked.nested)
    if asked.nested != NESTED[0] and MODES[mode].options is not EverythingOptions:
        raise InputError(f"The mode '{mode}' keeps all masks; only 'everything' chooses among nested ones.")


def _check_phrase(mode: str, asked: Asked) -> None:
    """Raise InputError if words are missing, or not taken, or have no CLIP that knows them."""
    phrase = asked.phrase
    if phrase is None:
        if MODES[mode].needs == "phrase":
            raise InputError(f"The mode '{mode}' needs a text to look for.")
        return
    if mode not in ("text", "prompts", "boxes"):
        raise InputError(f"The mode '{mode}' takes no text; use the mode 'text'.")
    if mode == "boxes":
        if asked.detector is None:
            raise InputError(
                "Boxes are given and a text as well; a text is for a detector, or the mode 'text'."
            )
        if not isinstance(asked.detector, str):
            raise InputError("A function that finds boxes takes no text; leave the phrase out.")
    elif phrase.clip is None:
        raise InputError(
            f"The mode '{mode}' needs a CLIP that knows what a text looks like: a folder or a name."
        )
    if mode == "prompts" and len(asked.prompts) > 1:
        raise InputError(f"A text asks for one object, but there are prompts for {len(asked.prompts)}.")


def check_options(mode: str, options: Options | None) -> dict[str, Any]:
    """Options by name, as values that can be compared.

    Raises
    ------
    InputError
        If the mode has none of that name, or a value is out of range.
    """
    kind = MODES[mode].options
    if kind is None and options:
        names = f", so no {' and no '.join(options)}" if isinstance(options, Mapping) else ""
        raise InputError(f"The mode '{mode}' takes no options of 'everything'{names}.")
    if kind is None or options is None:
        return {}
    given: Any = options
    checked = changed(kind(), given)
    return {name: getattr(checked, name) for name in (given if isinstance(given, Mapping) else vars(checked))}
