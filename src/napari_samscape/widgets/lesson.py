"""What a model is to learn, and what came of it, as one process tells another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Lesson:
    """Labelled pictures, and how to learn from them.

    Attributes
    ----------
    pictures : sequence of tuple
        Name, pixels (y, x) or (y, x, c) and labels (y, x) of each.
    complete : bool
        Whether all objects are labelled.
    out : Path
        Where the new checkpoint goes.
    settings : mapping
        See `training.finetune.Settings`.
    """

    pictures: Sequence[tuple[str, NDArray[Any], NDArray[Any]]]
    complete: bool
    out: Path
    settings: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Learnt:
    """Where the new checkpoint is, and the table of before and after, empty where nothing was held out."""

    path: Path
    rows: Sequence[Sequence[str]]
