"""CLIP, which puts pictures and phrases into one space, and the crops of objects that it is shown.

Radford et al. 2021. An extra, `pip install "napari-samscape[text]"`; no weights come with the package.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from napari_samscape.errors import InputError
from napari_samscape.model.weights import choose_device
from napari_samscape.prediction.pretrained import load_pretrained

BATCH = 64  # crops or phrases looked at together


class Clip:
    """A dual encoder of pictures and phrases, as `transformers` stores CLIP and its kin.

    Parameters
    ----------
    source : str
        A folder as the library's `save_pretrained` leaves it, with its tokenizer; or a name in the library's
        store, such as "openai/clip-vit-base-patch32", from where it is downloaded.
    device : str
        See `napari_samscape.model.weights.choose_device`.

    Attributes
    ----------
    source : str
    width : int
        Of its embeddings.
    size : int
        Side in pixels of the squares that it looks at.
    scale : float
        By which similarities are multiplied before they are compared as logits.

    Raises
    ------
    InputError
        If the library is not installed, or this is no such model.
    """

    def __init__(self, source: str, device: str = "auto") -> None:
        what = f"The CLIP {source}"
        kinds: dict[str, dict[str, Any]] = {
            "AutoModel": {"use_safetensors": True},  # pickles can run code
            "AutoTokenizer": {},
            "AutoImageProcessor": {},
        }
        model, self._tokenizer, processor = load_pretrained(what, "text", source, kinds)
        if not (hasattr(model, "get_text_features") and hasattr(model, "get_image_features")):
            raise InputError(
                f"{what} is none: a {type(model).__name__} does not compare pictures and phrases."
            )
        self.source = source
        self._model = model.to(choose_device(device)).eval()
        self.size = int(model.config.vision_config.image_size)
        self.scale = float(model.logit_scale.detach().exp())
        self._longest = int(model.config.text_config.max_position_embeddings)
        self._mean, self._std = (
            255 * torch.tensor(values, dtype=torch.float32).reshape(3, 1, 1)
            for values in (processor.image_mean, processor.image_std)
        )
        self.width = self.phrases([""]).shape[1]

    @torch.inference_mode()
    def phrases(self, texts: Sequence[str]) -> Tensor:
        """Embed phrases: ``(n, width)``, each of length 1."""
        given = self._tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=self._longest, return_tensors="pt"
        )
        return self._unit(self._model.get_text_features(**given.to(self._model.device)))

    @torch.inference_mode()
    def pictures(self, crops: Tensor) -> Tensor:
        """Embed normalised squares ``(n, 3, size, size)``: ``(n, width)``, each of length 1."""
        found = [
            self._unit(self._model.get_image_features(pixel_values=part.to(self._model.device)))
            for part in crops.split(BATCH)
        ]
        return torch.cat(found) if found else torch.zeros(0, self.width)

    def normalised(self, pixels: Tensor) -> Tensor:
        """Pixels 0..255 ``(3, y, x)`` as it wants them; 0 where they are NaN, which is a mean grey."""
        return ((pixels.float() - self._mean) / self._std).nan_to_num(0.0)

    @staticmethod
    def _unit(answer: Any) -> Tensor:
        return F.normalize(getattr(answer, "pooler_output", answer).float(), dim=-1).cpu()


@lru_cache(maxsize=2)
def load_clip(source: str, device: str = "auto") -> Clip:
    """Give a CLIP that is loaded once, whoever asks for it; see `Clip`."""
    return Clip(source, device)


def square_crop(
    picture: Tensor,
    box: Sequence[int],
    size: int,
    factor: float = 1.0,
    inside: NDArray[np.bool_] | None = None,
) -> Tensor:
    """Cut out a square round an object and bring it to CLIP's size.

    Parameters
    ----------
    picture : Tensor, shape (3, y, x)
        Normalised, see `Clip.normalised`.
    box : sequence of int
        (y0, x0, y1, x1) of the object, half open.
    size : int
        Side of the result in pixels.
    factor : float
        How much the longer side of the box is enlarged, from 1 to 2 in the paper.
    inside : ndarray of bool, shape (y1 - y0, x1 - x0), optional
        The object's mask; all else is 0 then.

    Returns
    -------
    Tensor, shape (3, size, size)
        0 where the square reaches out of the picture.

    Notes
    -----
    SAM paper, appendix D.5.
    """
    y0, x0, y1, x1 = (int(value) for value in box)
    side = max(1, round(factor * max(y1 - y0, x1 - x0)))
    top, left = (y0 + y1 - side) // 2, (x0 + x1 - side) // 2
    if inside is not None:
        held = picture[:, y0:y1, x0:x1] * torch.from_numpy(inside).to(picture.dtype)
        square = F.pad(held, (x0 - left, left + side - x1, y0 - top, top + side - y1))
    else:
        bottom, right = min(top + side, picture.shape[1]), min(left + side, picture.shape[2])
        held = picture[:, max(top, 0) : bottom, max(left, 0) : right]
        square = F.pad(held, (max(-left, 0), left + side - right, max(-top, 0), top + side - bottom))
    resized = F.interpolate(square[None], (size, size), mode="bilinear", align_corners=False, antialias=True)
    return resized[0]
