"""Words that are asked for, and what they are measured against.

Needs no torch, so that a command line can check them at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from napari_samscape.errors import InputError
from napari_samscape.prediction.options import check_number

#: What an object is likened to besides the phrase, where nobody says: without rivals, all is like it.
DISTRACTORS = ("something else", "the background", "a texture")
THRESHOLD = 0.5
DETECTED = 0.1  # the same for a detector's scores, which are no shares


@dataclass(frozen=True)
class Phrase:
    """What to look for, in words.

    Parameters
    ----------
    text : str
        "a red blood cell", say.
    clip : str, optional
        A CLIP's folder, or its name in the store of `transformers`; see `napari_samscape.prediction.clip`.
        Detectors that take words do without.
    distractors : sequence of str
        What else things in the picture may be.
    threshold : float, optional
        How likely, from 0 to 1, an object has to be the phrase rather than a distractor, 0.5 where left out;
        of a detector the least score, 0.1 where left out; of a model that is asked itself the least predicted
        IoU, any where left out.
    top : int, optional
        No more objects than this of a picture, the likeliest.

    Raises
    ------
    InputError
        If a text is empty, or a number is out of range.
    """

    text: str
    clip: str | None = None
    distractors: Sequence[str] = DISTRACTORS
    threshold: float | None = None
    top: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "distractors", tuple(self.distractors))
        for what, text in (("text", self.text), *(("distractor", other) for other in self.distractors)):
            if not isinstance(text, str) or not text.strip():
                raise InputError(f"A {what} must be some words; {text!r} is none.")
        if self.text in self.distractors:
            raise InputError(f"The text '{self.text}' is among its own distractors.")
        for name in ("threshold", "top"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name))
