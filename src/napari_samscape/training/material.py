"""Labelled pictures to fine-tune on, from wherever users have them, and the objects held out to judge by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_samscape.errors import InputError
from napari_samscape.evaluation.datasets import Dataset, Sample, open_dataset, sample_from_labels
from napari_samscape.io.labelled import IGNORE, checked_labels, paired_pictures
from napari_samscape.prediction.instances import labels_from_instances
from napari_samscape.prediction.types import Instances
from napari_samscape.training.data import Picture, make_picture

SMALLEST = 10  # pixels; what is smaller is neither learned nor held against the model
HELD_OUT = 0.2  # of the objects


@dataclass(frozen=True, eq=False)
class Material:
    """What to learn from, and what to judge by.

    Attributes
    ----------
    learn : tuple of Picture
        In which the objects held out are regions that nothing is said about.
    check : tuple of Picture
        The same pictures, the other way round; those with no object held out are left out.
    objects, held : int
        Numbers of objects to learn from, and held out.
    too_small : int
        Objects of fewer than 10 pixels, which are left out.
    """

    learn: tuple[Picture, ...]
    check: tuple[Picture, ...]
    objects: int
    held: int
    too_small: int = 0

    @property
    def samples(self) -> tuple[Sample, ...]:
        """The objects held out, to measure a model on."""
        return tuple(sample_from_labels(p.name, _rgb(p), p.labels) for p in self.check)


def read_labelled(images: Path | str, labels: Path | str | None = None) -> Dataset:
    """Open labelled pictures.

    Parameters
    ----------
    images : path
        Without ``labels``, a data set that `open_dataset` knows: a folder, a zip, an OME-Zarr with labels
        inside, a COCO file. Otherwise a picture, or a folder of pictures.
    labels : path, optional
        A label image, or a folder with one for each picture under its name or that with ``_labels``
        behind; or a COCO file.

    Returns
    -------
    Dataset

    Raises
    ------
    InputError
        If something is missing or does not fit.
    """
    if labels is None:
        return open_dataset(images)
    if Path(labels).suffix.lower() == ".json":
        from napari_samscape.evaluation.coco import coco_samples

        return Dataset(Path(labels).stem, tuple(coco_samples(Path(labels), Path(images))))
    pairs = paired_pictures(Path(images), Path(labels))
    readers = [lambda pair=pair: sample_from_labels(pair.name, *pair.read()) for pair in pairs]
    return Dataset(Path(images).name, tuple(readers))


def labelled(name: str, pixels: NDArray[Any], labels: NDArray[Any]) -> Sample:
    """Arrays as a labelled picture: pixels (y, x) or (y, x, c), labels (y, x).

    Raises
    ------
    InputError
        If the labels do not fit the picture.
    """
    return sample_from_labels(name, pixels, checked_labels(labels, pixels.shape[:2], name))


def hold_out(
    samples: Iterable[Sample], *, complete: bool = True, held_out: float = HELD_OUT, seed: int = 0
) -> Material:
    """Hold a part of the objects out.

    Parameters
    ----------
    samples : iterable of Sample
    complete : bool
        Whether every object of the pictures is labelled, so that the rest is background.
    held_out : float
        Share of all objects; none where there are fewer than five.
    seed : int

    Returns
    -------
    Material

    Raises
    ------
    InputError
        If there is no object, or all are too small.
    """
    labelled = [(sample, _labels(sample)) for sample in samples]
    sizes = [np.bincount(labels.ravel()) for _, labels in labelled]
    known = [(k, int(i)) for k, area in enumerate(sizes) for i in np.flatnonzero(area[:IGNORE]) if i]
    usable = [(k, i) for k, i in known if sizes[k][i] >= SMALLEST]
    if not known:
        raise InputError("The pictures have no labelled object to learn from.")
    if not usable:
        most = max(int(sizes[k][i]) for k, i in known)
        raise InputError(
            f"The labelled objects are too small to learn from: the largest has {most} pixels, and at least "
            f"{SMALLEST} are needed."
        )
    order = np.random.default_rng(seed).permutation(len(usable))
    number = max(1, round(held_out * len(usable))) if held_out > 0 and len(usable) >= 5 else 0
    held = {usable[index] for index in order[:number].tolist()}
    learned = set(usable) - held
    learn: list[Picture] = []
    check: list[Picture] = []
    for k, (sample, labels) in enumerate(labelled):
        for chosen, pictures, whole in ((learned, learn, complete), (held, check, False)):
            own = _without_others(labels, [i for place, i in chosen if place == k])
            if chosen is learned or (own[own != IGNORE] > 0).any():
                pictures.append(make_picture(sample.pixels, own, sample.name, whole))
    return Material(tuple(learn), tuple(check), len(learned), len(held), len(known) - len(usable))


def _labels(sample: Sample) -> NDArray[Any]:
    """A sample's label image (y, x), in which 65535 marks what is to be ignored."""
    labels = labels_from_instances(Instances(sample.objects, sample.shape))
    return labels if sample.ignore is None else np.where(sample.ignore, IGNORE, labels)


def _without_others(labels: NDArray[Any], ids: Sequence[int]) -> NDArray[Any]:
    """Labels in which all objects but these are regions to ignore."""
    return np.where((labels == 0) | np.isin(labels, ids), labels, IGNORE)


def _rgb(picture: Picture) -> NDArray[np.uint8]:
    """Its pixels, as they are shown to models."""
    return np.broadcast_to(picture.levels[0], (*picture.labels.shape, 3))
