"""What a text prompt stands for in training: CLIP's embedding of the object's own picture.

CLIP puts pictures and phrases that belong together into about the same place, so what learns to find an
object by the one finds it by the other, and no caption is needed (SAM paper, section 7.5 and appendix D.5).
How far apart they may lie is learnt from noise: a model that only ever saw embeddings of pictures takes what
tells them from those of phrases for a part of the question (Nukrai, Mokady and Globerson 2022, for captions).
And a phrase is of a kind of thing, not of this one: so a model is also asked by the pictures of other things
that CLIP takes for alike (as Sheynin et al. 2022 have it for drawing from phrases).
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
SWAPPED = 0.7  # share of objects that are asked for by the picture of another one, where there are some


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
    others : Tensor, shape (m, d), optional
        Embeddings of other objects, of length 1.
    nearest : int
        Of them one of so many nearest ones is often given instead of an object's own; at most m.
    """

    clip: Clip
    smallest: int
    noise: float = 0.0
    others: Tensor | None = None
    nearest: int = 0

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
        if self.others is not None:
            seen = self._swapped(seen, self.others, rng)
        if not self.noise:
            return seen
        away = torch.from_numpy(rng.standard_normal(seen.shape)).to(seen.dtype)
        return F.normalize(seen + self.noise / seen.shape[1] ** 0.5 * away, dim=-1)

    def _swapped(self, seen: Tensor, others: Tensor, rng: np.random.Generator) -> Tensor:
        """Most embeddings ``(n, d)`` in exchange for one of the nearest others."""
        near = (seen @ others.T).topk(self.nearest).indices
        drawn = torch.from_numpy(rng.integers(self.nearest, size=(len(seen), 1)))
        swapped = torch.from_numpy(rng.random((len(seen), 1)) < SWAPPED)
        chosen = near.gather(1, drawn.to(near.device))[:, 0]
        return torch.where(swapped.to(seen.device), others[chosen], seen)
