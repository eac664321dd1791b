"""What takes no learning; a model that is not better than these is of no use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.filters import gaussian, threshold_local, threshold_otsu
from skimage.segmentation import watershed

from napari_samscape.prediction.ask import Answer
from napari_samscape.prediction.image import to_rgb
from napari_samscape.prediction.instances import instance_from_mask, instances_from_labels
from napari_samscape.prediction.types import NOTHING, BoolArray, Instance, Instances, Prompts

NEIGHBOURHOOD = 8  # the local threshold looks round a pixel as far as a picture's side over this
PEAK_DISTANCE = 7  # pixels between centres, for the watershed


class Baseline:
    """A filled box for a box, a local threshold's flood for clicks, Otsu and watershed for everything."""

    name = "baseline"

    def look(self, pixels: NDArray[Any]) -> BaselineLook:
        """See a picture (y, x) or (y, x, c) in grey."""
        return BaselineLook(to_rgb(pixels).mean(axis=2))


class BaselineLook:
    """A grey picture (y, x)."""

    def __init__(self, grey: NDArray[np.float64]) -> None:
        self.grey = grey
        self._flooded: tuple[NDArray[Any], BoolArray, list[Any]] | None = None

    def ask(self, prompts: Sequence[Prompts], previous: Sequence[Answer] | None = None) -> list[Answer]:
        """Answer each prompt by itself; former answers do not matter."""
        unknown = np.array([np.nan], dtype=np.float32)
        found = [self._flood(p) if p.box is None else self._fill(p) for p in prompts]
        return [Answer((item,), unknown) for item in found]

    def everything(self) -> Instances:
        """Otsu's threshold, then a watershed from the peaks of the distance to the background."""
        return instances_from_labels(otsu_watershed(self.grey))

    def _fill(self, prompt: Prompts) -> Instance:
        last = np.array(self.grey.shape) - 1
        y0, x0 = np.clip(np.ceil(prompt.box[:2]), 0, last).astype(int)
        y1, x1 = np.clip(np.floor(prompt.box[2:]), (y0, x0), last).astype(int)
        return instance_from_mask(np.ones((y1 - y0 + 1, x1 - x0 + 1), dtype=bool), offset=(int(y0), int(x0)))

    def _flood(self, prompt: Prompts) -> Instance:
        """The first click's region, and others on its side of the threshold, without those clicked away."""
        regions, bright, boxes = self._regions()
        last = np.array(self.grey.shape) - 1
        where = np.clip(np.rint(prompt.points).astype(int), 0, last)
        ids = regions[where[:, 0], where[:, 1]]
        if not (prompt.labels == 1).any():
            return NOTHING
        alike = bright[where[:, 0], where[:, 1]] == bright[tuple(where[0])]
        first = {ids[prompt.labels == 1][0]}
        chosen = sorted(set(ids[alike & (prompt.labels == 1)]) - set(ids[prompt.labels == 0]) | first)
        edges = np.array([[(s.start, s.stop) for s in boxes[number - 1]] for number in chosen])
        (y0, x0), (y1, x1) = edges[..., 0].min(axis=0), edges[..., 1].max(axis=0)
        mask = np.isin(regions[y0:y1, x0:x1], chosen)
        return instance_from_mask(ndimage.binary_fill_holes(mask), offset=(int(y0), int(x0)))

    def _regions(self) -> tuple[NDArray[Any], BoolArray, list[Any]]:
        """Connected regions brighter, and darker, than their surroundings: ids from 1, which, and boxes."""
        if self._flooded is None:
            block = 2 * (max(self.grey.shape) // NEIGHBOURHOOD // 2) + 1
            bright: BoolArray = self.grey > threshold_local(self.grey, max(3, block))
            regions, count = ndimage.label(bright)
            dark, _ = ndimage.label(~bright)
            regions = np.where(bright, regions, dark + count)
            self._flooded = regions, bright, ndimage.find_objects(regions)
        return self._flooded


def otsu_watershed(grey: NDArray[np.float64]) -> NDArray[np.int32]:
    """Label image (y, x) of what lies on the smaller side of Otsu's threshold, divided by a watershed."""
    if np.ptp(grey) == 0:
        return np.zeros(grey.shape, np.int32)
    inside: BoolArray = grey > threshold_otsu(grey)
    if inside.mean() > 0.5:  # dark objects on a bright ground
        inside = ~inside
    depth = gaussian(ndimage.distance_transform_edt(inside), sigma=1)
    regions, _ = ndimage.label(inside)
    peaks = peak_local_max(depth, min_distance=PEAK_DISTANCE, labels=regions, exclude_border=False)
    seeds = np.zeros(grey.shape, np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    labels: NDArray[np.int32] = watershed(-depth, seeds, mask=inside)
    return labels
