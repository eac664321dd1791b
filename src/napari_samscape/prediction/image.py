"""Any two-dimensional picture to the model's input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_samscape.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from napari_samscape.model.sam import Sam

Limits = tuple[Any, Any]  # low and high, numbers or one per channel

#: Percentiles of the pixels that become black and white; a few hot pixels must not dim the rest.
PERCENTILES = (0.1, 99.9)


def to_rgb(pixels: NDArray[Any], limits: Limits | None = None) -> NDArray[np.uint8]:
    """Make an 8-bit RGB picture, as the models were trained on, of any picture.

    A uint8 picture of three or four channels is taken as RGB(A) and stays as it is. Of anything else
    each channel is stretched between its limits; one channel becomes grey, two become red and green,
    and of more the first three are taken.

    Parameters
    ----------
    pixels : ndarray, shape (y, x) or (y, x, c)
        Any real dtype.
    limits : pair, optional
        Intensities that become 0 and 255, numbers or one per channel; see `image_limits`. Give those
        of the whole picture when `pixels` is a part of it.

    Returns
    -------
    ndarray of uint8, shape (y, x, 3)

    Raises
    ------
    InputError
        If the picture has another number of dimensions, no pixels, or values that are not finite.
    """
    pixels = checked(pixels)
    if pixels.dtype == np.uint8 and pixels.shape[2] in (3, 4):
        return np.ascontiguousarray(pixels[..., :3])
    pixels = pixels[..., :3]
    low, high = image_limits(pixels) if limits is None else limits
    low, high = (np.asarray(v, np.float32).reshape(-1)[: pixels.shape[2]] for v in (low, high))
    span = np.where(high > low, high - low, np.inf)  # a constant channel becomes black
    grey = np.clip((pixels.astype(np.float32) - low) / span * 255 + 0.5, 0, 255).astype(np.uint8)
    if grey.shape[2] == 1:
        return np.repeat(grey, 3, axis=2)
    rgb = np.zeros((*grey.shape[:2], 3), np.uint8)
    rgb[..., : grey.shape[2]] = grey
    return rgb


def image_limits(pixels: NDArray[Any]) -> Limits:
    """Intensities of each channel, from which `to_rgb` stretches (0.1 and 99.9 percentiles).

    Parameters
    ----------
    pixels : ndarray, shape (y, x) or (y, x, c)

    Returns
    -------
    low, high : ndarray of float64, shape (c,)
    """
    pixels = checked(pixels)
    values = pixels.reshape(-1, pixels.shape[2])
    low, high = np.percentile(values, PERCENTILES, axis=0)
    flat = high <= low  # sparse bright objects on black: fall back to the full range
    return np.where(flat, values.min(0), low), np.where(flat, values.max(0), high)


def checked(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return the picture as (y, x, c), or raise InputError with what is wrong with it."""
    pixels = np.asarray(pixels)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3:
        raise InputError(
            f"A picture must have the axes (y, x) or (y, x, c); this has the shape {pixels.shape}."
        )
    if 0 in pixels.shape:
        raise InputError(f"The picture has no pixels: its shape is {pixels.shape}.")
    if pixels.dtype.kind not in "buif":
        raise InputError(f"A picture must hold real numbers; this holds {pixels.dtype}.")
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        bad = int((~np.isfinite(pixels)).any(axis=2).sum())
        raise InputError(f"The picture holds values that are not finite (NaN or infinite) in {bad} pixels.")
    if pixels.dtype == bool:
        return pixels.astype(np.uint8) * 255  # three of them are taken as RGB, so True must be bright
    return pixels


def shown_shape(shape: tuple[int, int], image_size: int) -> tuple[int, int]:
    """(h, w) at which a picture of ``shape`` is shown: its longest side becomes ``image_size``."""
    scale = image_size / max(shape)
    return max(1, int(shape[0] * scale + 0.5)), max(1, int(shape[1] * scale + 0.5))


def to_input(rgb: NDArray[np.uint8], model: Sam) -> tuple[Tensor, tuple[int, int]]:
    """Resize, normalise and pad: the encoder's input ``(1, 3, h, w)`` and the shape without padding.

    The resizing is Pillow's bilinear filter, as the reference uses, so that a uint8 RGB picture gives
    the reference's embedding.
    """
    import torch  # not above: who only stretches pixels does without

    h, w = shown_shape(rgb.shape[:2], model.image_size)
    resized = np.array(Image.fromarray(rgb).resize((w, h), Image.Resampling.BILINEAR))
    tensor = torch.from_numpy(resized).permute(2, 0, 1)[None].to(model.device, torch.float32)
    return model.normalise(tensor), (h, w)
