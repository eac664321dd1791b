"""Detectors by name: two for cells, object-detection models of `transformers`, and those of other packages.

A package brings a detector by naming it in its own `pyproject.toml`, after which every command knows it:

    [project.entry-points."samscape.detectors"]
    stardist = "my_package.detect:find_boxes"

where `find_boxes` is a function as `napari_samscape.prediction.detections.Detector` says. Nothing of a
detector is imported before it is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from numpy.typing import NDArray

from napari_samscape.errors import InputError
from napari_samscape.prediction.detections import Detector
from napari_samscape.prediction.phrase import Phrase

GROUP = "samscape.detectors"
BUILT_IN = ("blobs", "otsu")
#: Followed by the name or the folder of a model.
TRANSFORMERS = "transformers:"


@dataclass(frozen=True)
class NamedDetector:
    """A detector that messages call by the name under which it was asked for."""

    name: str
    find: Detector

    def __call__(self, pixels: NDArray[Any], /) -> Any:
        """Find the boxes; see `Detector`."""
        return self.find(pixels)


def detector_names() -> list[str]:
    """Names of all detectors: those built in, then those of other packages."""
    return [*BUILT_IN, *sorted(set(_entry_points()) - set(BUILT_IN))]


def check_detector(name: str, phrase: Phrase | None = None) -> None:
    """Raise InputError if there is no detector of this name, or none that takes words; nothing is loaded."""
    if phrase is not None and not name.startswith(TRANSFORMERS):
        raise InputError(
            f"The detector '{name}' takes no text; {TRANSFORMERS}MODEL of a zero-shot detector does."
        )
    if name.startswith(TRANSFORMERS):
        if name == TRANSFORMERS:
            raise InputError(f"The detector '{TRANSFORMERS}' needs a model's name or folder after the colon.")
    elif name not in detector_names():
        raise InputError(
            f"There is no detector '{name}'; there are {', '.join(detector_names())} and {TRANSFORMERS}MODEL."
        )


def load_detector(name: str, phrase: Phrase | None = None) -> NamedDetector:
    """Import the detector of a name.

    Parameters
    ----------
    name : str
        One of `detector_names`, or "transformers:" followed by the folder of an object-detection model of
        that library, or by its name in the library's own store, from where it is downloaded.
    phrase : Phrase, optional
        What it is to find, by a model of that library for zero-shot detection.

    Returns
    -------
    NamedDetector
        A function of the pixels; see `napari_samscape.prediction.detections.Detector`.

    Raises
    ------
    InputError
        If there is no such detector, or it cannot be loaded.

    Examples
    --------
    >>> find = load_detector("otsu")
    >>> find(pixels)  # doctest: +SKIP
    """
    check_detector(name, phrase)
    if name.startswith(TRANSFORMERS):
        from napari_samscape.prediction.transformers_boxes import TransformersDetector

        return NamedDetector(name, TransformersDetector(name.removeprefix(TRANSFORMERS), phrase=phrase))
    if name in BUILT_IN:
        from napari_samscape.prediction import cells

        return NamedDetector(name, getattr(cells, name))
    entry = _entry_points()[name]
    try:
        find = entry.load()
    except Exception as error:  # a stranger's code may fail in any way
        raise InputError(
            f"The detector {name} ({entry.value}) cannot be loaded: {type(error).__name__}: {error}."
        ) from error
    if not callable(find):
        raise InputError(f"The detector {name} ({entry.value}) is no function of a picture.")
    return NamedDetector(name, find)


def _entry_points() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}
