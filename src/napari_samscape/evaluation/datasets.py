"""Pictures whose objects are known, from a zip, a folder or a COCO file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_samscape.errors import InputError
from napari_samscape.io.boundaries import BoundaryPicture, boundary_pictures
from napari_samscape.io.labelled import IGNORE, LabelledPicture, labelled_pictures
from napari_samscape.prediction.instances import instances_from_labels
from napari_samscape.prediction.types import BoolArray, Instance


@dataclass(frozen=True, eq=False)
class Sample:
    """A picture and what is in it.

    Attributes
    ----------
    name : str
    pixels : ndarray, shape (y, x) or (y, x, c)
    objects : tuple of Instance
        They may overlap, where they come from a COCO file.
    ignore : ndarray of bool, shape (y, x), or None
        Where nothing is known; never on an object.
    boundaries : ndarray of bool, shape (k, y, x), or None
        As each of k humans drew them; such a sample has no objects.
    """

    name: str
    pixels: NDArray[Any]
    objects: tuple[Instance, ...]
    ignore: BoolArray | None = None
    boundaries: BoolArray | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(y, x)."""
        return self.pixels.shape[0], self.pixels.shape[1]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples that are read when asked for.

    Attributes
    ----------
    name : str
    readers : tuple of callable
        Each gives a `Sample`, or raises InputError.
    """

    name: str
    readers: tuple[Callable[[], Sample], ...]

    def __len__(self) -> int:
        return len(self.readers)

    def first(self, limit: int | None) -> Dataset:
        """Of all samples, the first ``limit``."""
        return Dataset(self.name, self.readers[:limit])


def open_dataset(path: Path | str) -> Dataset:
    """Open a data set; its pictures are read later.

    Parameters
    ----------
    path : Path or str
        A zip or a folder as `napari_samscape.io.labelled.labelled_pictures` describes them, or a COCO file
        of instances (``.json``, see `napari_samscape.evaluation.coco.coco_samples`), or boundaries by humans
        (`napari_samscape.io.boundaries.boundary_pictures`).

    Returns
    -------
    Dataset

    Raises
    ------
    InputError
        If it is none of these, is damaged, or lacks labels.
    """
    path = Path(path)
    if path.suffix.lower() == ".json":
        from napari_samscape.evaluation.coco import coco_samples

        readers = coco_samples(path)
    elif path.exists() and (drawn := boundary_pictures(path)):
        readers = [_boundary_reader(picture) for picture in drawn]
    else:
        readers = [_reader(picture) for picture in labelled_pictures(path)]
    if not readers:
        raise InputError(f"The data set {path} holds no pictures.")
    folder = path.resolve().parent.name
    # Splits are called train or val everywhere; the folder says of what.
    return Dataset(f"{folder}/{path.stem}" if folder else path.stem, tuple(readers))


def sample_from_labels(name: str, pixels: NDArray[Any], labels: NDArray[Any]) -> Sample:
    """Take apart a label image (y, x), in which 65535 marks what is to be ignored."""
    ignore = labels == IGNORE
    objects = instances_from_labels(np.where(ignore, 0, labels))
    return Sample(name, pixels, objects.items, ignore if ignore.any() else None)


def _reader(picture: LabelledPicture) -> Callable[[], Sample]:
    return lambda: sample_from_labels(picture.name, *picture.read())


def _boundary_reader(picture: BoundaryPicture) -> Callable[[], Sample]:
    def read() -> Sample:
        pixels, boundaries = picture.read()
        return Sample(picture.name, pixels, (), boundaries=boundaries)

    return read
