"""Labelled pictures in memory, and random crops of them as the model is shown pictures.

Coordinates of prompts made here are (x, y) in pixels of the crop, as `model` takes them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from napari_samscape.errors import InputError
from napari_samscape.io.labelled import IGNORE, checked_labels, labelled_pictures
from napari_samscape.prediction.image import to_rgb
from napari_samscape.prediction.views import LARGE


@dataclass(frozen=True, eq=False)
class Picture:
    """One labelled picture.

    Attributes
    ----------
    levels : tuple of ndarray of uint8, shapes (y, x, 1) or (y, x, 3)
        The picture, halved again and again, so that shrinking does not alias.
    labels : ndarray of uint16, shape (y, x)
        0 is background, 65535 to be ignored.
    boxes : ndarray of int64, shape (n, 5)
        id, y0, x0, y1, x1 of every object, half open.
    complete : bool
        Whether every object is labelled, so that background means background.
    name : str
    """

    levels: tuple[NDArray[np.uint8], ...]
    labels: NDArray[np.uint16]
    boxes: NDArray[np.int64]
    complete: bool
    name: str


def make_picture(pixels: NDArray[Any], labels: NDArray[Any], name: str, complete: bool = True) -> Picture:
    """Bring one picture and its labels into the form that crops are taken from.

    Raises
    ------
    InputError
        If the labels have another size than the picture, or are no whole numbers.
    """
    rgb = to_rgb(pixels)
    labels = checked_labels(labels, rgb.shape[:2], name)
    if (rgb == rgb[..., :1]).all():
        rgb = rgb[..., :1]
    levels = [rgb]
    while min(levels[-1].shape[:2]) >= 256 and len(levels) < 3:
        levels.append(_halved(levels[-1]))
    labels = labels.astype(np.uint16)
    return Picture(tuple(levels), labels, object_boxes(labels), complete, name)


def _halved(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    h, w = pixels.shape[0] // 2, pixels.shape[1] // 2
    blocks = pixels[: 2 * h, : 2 * w].reshape(h, 2, w, 2, -1).astype(np.uint16)
    return ((blocks.sum(axis=(1, 3)) + 2) // 4).astype(np.uint8)


def object_boxes(labels: NDArray[Any]) -> NDArray[np.int64]:
    """Id and half-open bounding box of every object, ``(n, 5)``, ignored regions left out."""
    from scipy.ndimage import find_objects

    found = find_objects(np.where(labels == IGNORE, 0, labels))
    rows = [
        (i + 1, s[0].start, s[1].start, s[0].stop, s[1].stop) for i, s in enumerate(found) if s is not None
    ]
    return np.array(rows, np.int64).reshape(-1, 5)


def read_volume(folder: Path, complete: bool = True) -> Iterator[Picture]:
    """The slices of ``raw.tif`` and ``labels.tif`` (z, y, x) that hold objects.

    Raises
    ------
    InputError
        If a file is missing or unreadable.
    """
    try:
        raw, labels = tifffile.imread(folder / "raw.tif"), tifffile.imread(folder / "labels.tif")
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} is no readable volume with labels: {error}.") from None
    raw = to_rgb(raw.reshape(-1, raw.shape[-1]))[..., 0].reshape(raw.shape)  # limits of the whole volume
    for z in range(len(raw)):
        if labels[z].any():
            yield make_picture(raw[z], labels[z], f"{folder.name}/{z}", complete)


def read_source(path: Path, complete: bool = True) -> list[Picture]:
    """Read a data set that `io.labelled` knows, or a folder with a volume.

    Raises
    ------
    InputError
        If it is neither, is damaged, or has labels that do not fit its pictures.
    """
    if (path / "raw.tif").exists():
        return list(read_volume(path, complete))
    found = labelled_pictures(path)
    return [make_picture(*picture.read(), f"{path.name}/{picture.name}", complete) for picture in found]


def chances_by_kind(pictures: Sequence[Picture]) -> NDArray[np.float64]:
    """How often each picture of a data set is drawn, ``(n,)``: rare kinds more often than by their number.

    Pictures of one size and as many channels come from one instrument, as a rule, and are taken for one kind.
    A kind is drawn by the square root of the number of its pictures.
    """
    kinds = [picture.levels[0].shape for picture in pictures]
    numbers = Counter(kinds)
    chances = np.array([numbers[kind] ** -0.5 for kind in kinds])
    return chances / chances.sum()


@dataclass(frozen=True, eq=False)
class Crop:
    """A part of a picture as it is shown to the model."""

    pixels: torch.Tensor  # (3, s, s), 0..255, NaN outside the picture
    labels: NDArray[np.int64]  # (s, s)
    complete: bool


def random_crop(picture: Picture, size: int, image_size: int, rng: np.random.Generator) -> Crop:
    """Cut a rotated, flipped, scaled square out of a picture, with a random object in it.

    Most crops show the picture about as large as a user's would be shown: with its longest side at
    ``image_size``, or a large one through windows of that size. The rest bring the object to a random
    size, so that no scale of objects is foreign to the model, and small ones can be looked at closer.
    """
    height, width = picture.labels.shape
    natural = image_size / max(height, width)
    if max(height, width) > LARGE * image_size and rng.random() < 0.6:
        natural = 1.0
    centre = np.array([rng.uniform(0, height), rng.uniform(0, width)])
    scale = natural * np.exp(rng.uniform(-0.3, 0.4))
    if len(picture.boxes):
        _, y0, x0, y1, x1 = picture.boxes[rng.integers(len(picture.boxes))]
        extent = max(4.0, float(np.sqrt((y1 - y0) * (x1 - x0))))
        if rng.random() < 0.45:
            scale = np.exp(rng.uniform(np.log(18), np.log(0.6 * size))) / extent
            scale = float(np.clip(scale, 0.4 * natural, 4.0))
        margin = 0.4 * size / scale
        centre = np.array([(y0 + y1) / 2, (x0 + x1) / 2]) + rng.uniform(-margin, margin, 2)
    if rng.random() < 0.8:  # mostly without looking over the picture's edge
        half = np.minimum(size / 2 / scale, np.array([height, width]) / 2)
        centre = np.clip(centre, half, np.array([height, width]) - half)
    angle = rng.uniform(0, 2 * np.pi) if rng.random() < 0.5 else rng.integers(4) * np.pi / 2
    flip = rng.choice([-1.0, 1.0])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * [1, flip]
    return cut(picture, size, centre, turn / scale)


def cut(picture: Picture, size: int, centre: NDArray[Any], steps: NDArray[Any]) -> Crop:
    """Sample a square of ``size`` pixels round ``centre`` (y, x); ``steps`` maps its axes to the picture."""
    axis = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
    offsets = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1)  # (s, s, 2)
    where = offsets @ torch.tensor(steps.T, dtype=torch.float32) + torch.tensor(centre, dtype=torch.float32)
    stride = float(np.sqrt(abs(np.linalg.det(steps))))  # picture pixels per crop pixel
    level = int(np.clip(np.floor(np.log2(max(stride, 1e-6) / 0.7)), 0, len(picture.levels) - 1))
    factor = 2**level
    pixels = _sample(picture.levels[level], (where + 0.5) / factor - 0.5, "bilinear")
    labels = _sample(picture.labels[..., None], where, "nearest")[0].round().numpy().astype(np.int64)
    shape = torch.tensor(picture.labels.shape)
    outside = ((where < -0.5) | (where > shape - 0.5)).any(-1)
    pixels = pixels.expand(3, -1, -1).clone()
    pixels[:, outside] = float("nan")
    labels[outside.numpy()] = 0
    return Crop(pixels, labels, picture.complete)


def _sample(pixels: NDArray[Any], where: torch.Tensor, mode: str) -> torch.Tensor:
    """Values of (y, x, c) at positions ``(s, s, 2)``: ``(c, s, s)``; only what is needed is converted."""
    low = (where.amin((0, 1)).floor().int() - 1).tolist()
    high = (where.amax((0, 1)).ceil().int() + 2).tolist()
    y0, x0 = (int(np.clip(v, 0, n - 1)) for v, n in zip(low, pixels.shape, strict=False))
    y1, x1 = (int(np.clip(v, a + 1, n)) for v, a, n in zip(high, (y0, x0), pixels.shape, strict=False))
    part = torch.from_numpy(pixels[y0:y1, x0:x1].astype(np.float32)).permute(2, 0, 1)[None]
    sizes = torch.tensor([y1 - y0, x1 - x0])
    unit = ((where - torch.tensor([y0, x0]) + 0.5) / sizes * 2 - 1).flip(-1)
    return F.grid_sample(part, unit[None], mode=mode, padding_mode="border", align_corners=False)[0]


def recolour(pixels: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Change colours, contrast, sharpness and noise of ``(3, s, s)``, 0..255; NaN stays NaN."""
    x = pixels / 255
    outside = x.isnan()
    x = x.nan_to_num(0.5)
    if rng.random() < 0.15:
        x = x.mean(0, keepdim=True).expand(3, -1, -1)
    if rng.random() < 0.15:  # mix the channels
        mix = torch.tensor(np.eye(3) + rng.normal(0, 0.2, (3, 3)), dtype=torch.float32)
        x = torch.einsum("dc,chw->dhw", mix / mix.sum(1, keepdim=True).clamp(min=0.5), x)
    if rng.random() < 0.12:
        x = 1 - x
    if rng.random() < 0.5:
        x = x.clamp(0, 1) ** float(np.exp(rng.uniform(-0.5, 0.5)))
        x = (x - 0.5) * float(rng.uniform(0.7, 1.2)) + 0.5 + float(rng.uniform(-0.1, 0.1))
    if rng.random() < 0.15:
        x = _blurred(x, float(rng.uniform(0.4, 1.4)))
    if rng.random() < 0.25:
        x = x + torch.from_numpy(rng.normal(0, rng.uniform(0.01, 0.06), tuple(x.shape)).astype(np.float32))
    x = x.clamp(0, 1) * 255
    return x.masked_fill(outside, float("nan"))


def _blurred(x: torch.Tensor, sigma: float) -> torch.Tensor:
    offsets = torch.arange(-4, 5)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = (kernel / kernel.sum()).expand(3, 1, -1)
    x = F.pad(x[None], (4, 4, 4, 4), mode="reflect")
    x = F.conv2d(x, kernel.unsqueeze(2), groups=3)
    return F.conv2d(x, kernel.unsqueeze(3), groups=3)[0]
