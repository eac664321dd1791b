"""Objects by a phrase, with any model: everything in the picture, ranked by how CLIP likens it to the words.

Models that have learnt to take text as a prompt are asked directly instead, by ``Prompts(text=...)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_samscape.model.progress import Progress
from napari_samscape.prediction.automatic import everything
from napari_samscape.prediction.clip import BATCH, Clip, square_crop
from napari_samscape.prediction.image import to_rgb
from napari_samscape.prediction.phrase import THRESHOLD, Phrase
from napari_samscape.prediction.types import Instance, Instances

if TYPE_CHECKING:
    from napari_samscape.model.sam import Sam
    from napari_samscape.prediction.options import EverythingOptions

AROUND = 1.5  # times an object's box: what lies round it is seen, too


def segment_text(  # noqa: PLR0913  (as everything, and two that say what)
    model: Sam,
    pixels: NDArray[Any],
    phrase: Phrase,
    clip: Clip,
    options: EverythingOptions | Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Instances:
    """Find the objects of a picture that look like a phrase.

    Parameters
    ----------
    model : Sam
    pixels : ndarray, shape (y, x) or (y, x, c)
        Any real dtype.
    phrase : Phrase
    clip : Clip
    options : EverythingOptions or mapping, optional
        See `napari_samscape.prediction.automatic.everything`.
    progress : callable, optional
        Called as ``progress(done, total, text)``. Raise from it to cancel.

    Returns
    -------
    Instances
        The likeliest first, with how likely as ``score`` and the phrase as ``category``; none where nothing
        is as likely as the phrase's threshold.

    Raises
    ------
    InputError
        As `everything`.
    """
    rgb = to_rgb(pixels)
    found = everything(model, rgb, options, progress)
    scores = likeness(rgb, found, phrase, clip, progress)
    least = THRESHOLD if phrase.threshold is None else phrase.threshold
    order = [int(index) for index in np.argsort(-scores, kind="stable") if scores[index] >= least]
    kept = [replace(found[i], score=float(scores[i]), category=phrase.text) for i in order[: phrase.top]]
    return Instances(tuple(kept), found.shape)


@torch.inference_mode()
def likeness(
    rgb: NDArray[np.uint8],
    items: Instances,
    phrase: Phrase,
    clip: Clip,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """How likely each object is the phrase rather than one of its distractors.

    Parameters
    ----------
    rgb : ndarray of uint8, shape (y, x, 3)
    items : Instances, length n
    phrase : Phrase
    clip : Clip
    progress : callable, optional

    Returns
    -------
    ndarray of float32, shape (n,)
        From 0 to 1; 1 for all where there is no distractor. Of each object two crops are looked at, with
        and without what lies round it.
    """
    if len(items) == 0:
        return np.zeros(0, np.float32)
    words = clip.phrases([phrase.text, *phrase.distractors])
    picture = clip.normalised(torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1))
    seen = []
    for start in range(0, len(items), BATCH):
        if progress is not None:
            progress(start, len(items), "comparing with the text")
        part = items[start : start + BATCH]
        views = [
            clip.pictures(torch.stack(_crops(picture, part, clip.size, alone))) for alone in (True, False)
        ]
        seen.append(torch.nn.functional.normalize(views[0] + views[1], dim=1))
    chances = (clip.scale * torch.cat(seen) @ words.T).softmax(1)
    return np.asarray(chances[:, 0].numpy(), np.float32)


def _crops(picture: torch.Tensor, items: tuple[Instance, ...], size: int, alone: bool) -> list[torch.Tensor]:
    if alone:
        return [square_crop(picture, item.box, size, inside=item.mask) for item in items]
    return [square_crop(picture, item.box, size, AROUND) for item in items]
