"""What a text prompt stands for in training: CLIP's embedding of the object's own picture.

CLIP puts pictures and phrases that belong together into about the same place, so what learns to find an
object by the one finds it by the other, and no caption is needed (SAM paper, section 7.5 and appendix D.5).
How far apart they may lie is learnt from noise: a model that only ever saw embeddings of pictures takes what
tells them from those of phrases for a part of the question (Nukrai, Mokady and Globerson 2022, for captions).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from napari_samscape.prediction.clip import square_crop
from napari_samscape.training.data import object_boxes

if TYPE_CHECKING:
    from napari_samscape.prediction.clip import Clip
    from napari_samscape.training.data import Crop

ENLARGED = (1.0, 2.0)  # times the object's box
ALONE = 0.5  # share of objects that are shown with nothing round them


@dataclass(frozen=True, eq=False)
class Describe:
    """Shows objects to CLIP.

    Attributes
    ----------
    clip : Clip
    smallest : int
        Pixels of a crop; a smaller object is not described, since CLIP would see too little of it.
    noise : float
        Length, about, of what is added to embeddings, in a random direction; they have a length of 1, before
        and after.
    """

    clip: Clip
    smallest: int
    noise: float = 0.0

    def __call__(self, crop: Crop, ids: Sequence[int], rng: np.random.Generator) -> Tensor:
        """Embeddings ``(n, d)`` of the objects of these ids, each seen in a square round it."""
        picture = self.clip.normalised(crop.pixels)
        boxes = {int(row[0]): row[1:].tolist() for row in object_boxes(crop.labels)}
        squares = []
        for identity in map(int, ids):
            y0, x0, y1, x1 = boxes[identity]
            alone = crop.labels[y0:y1, x0:x1] == identity if rng.random() < ALONE else None
            factor = float(rng.uniform(*ENLARGED))
            squares.append(square_crop(picture, (y0, x0, y1, x1), self.clip.size, factor, alone))
        seen = self.clip.pictures(torch.stack(squares))
        if not self.noise:
            return seen
        away = torch.from_numpy(rng.standard_normal(seen.shape)).to(seen.dtype)
        return F.normalize(seen + self.noise / seen.shape[1] ** 0.5 * away, dim=-1)
