"""The two calls everything is built from: `embed` is dear, `predict` is cheap."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from napari_samscape.errors import InputError
from napari_samscape.model.mask_decoder import MASK_TOKENS
from napari_samscape.model.prompt_encoder import FOREGROUND
from napari_samscape.model.sam import MULTI, SINGLE, Encoded, PromptTensors
from napari_samscape.prediction.image import Limits, shown_shape, to_input, to_rgb
from napari_samscape.prediction.types import Embedding, Masks, Prompts

if TYPE_CHECKING:
    from torch import Tensor

    from napari_samscape.model.sam import Sam

#: Logit that stands for 'surely inside' where a mask prompt is given as a picture of True and False.
MASK_LOGIT = 6.0


@torch.inference_mode()
def embed(model: Sam, pixels: NDArray[Any], *, limits: Limits | None = None) -> Embedding:
    """Run the image encoder on a picture.

    Parameters
    ----------
    model : Sam
    pixels : ndarray, shape (y, x) or (y, x, c)
        Any real dtype; see `napari_samscape.prediction.image.to_rgb`.
    limits : pair, optional
        Intensities that become black and white; those of the pixels where left out.

    Returns
    -------
    Embedding

    Raises
    ------
    InputError
        If this is no two-dimensional picture.
    """
    rgb = to_rgb(pixels, limits)
    image_shape = (rgb.shape[0], rgb.shape[1])
    input_shape = shown_shape(image_shape, model.image_size)
    encode = partial(_encode, model, rgb)
    encoded = encode() if model.recall is None else model.recall(rgb, encode)
    return Embedding(encoded.features, image_shape, input_shape, encoded.skips, encoded.dense)


@torch.inference_mode()
def predict(model: Sam, embedding: Embedding, prompts: Prompts, *, multimask: bool = True) -> Masks:
    """Masks for one object.

    Parameters
    ----------
    model : Sam
        The model that made the embedding.
    embedding : Embedding
    prompts : Prompts
        In pixels of the picture.
    multimask : bool
        Three masks for an ambiguous prompt (a single click), or one for a clear one.

    Returns
    -------
    Masks

    Raises
    ------
    InputError
        If a prompt lies outside the picture, or a mask prompt has the wrong size.
    """
    prompts.check_inside(embedding.image_shape)
    tensors = _prompt_tensors(model, embedding, prompts)
    logits, iou = model.decode(_encoded(embedding), tensors, MULTI if multimask else SINGLE)
    masks = upscale(logits, embedding, model)[0] > 0
    return Masks(masks.cpu().numpy(), _numpy(iou[0]), _numpy(logits[0]))


@torch.inference_mode()
def decode_points(
    model: Sam, embedding: Embedding, points: NDArray[Any], labels: NDArray[Any] | None = None
) -> tuple[Tensor, Tensor]:
    """Three masks for each of many objects, one click each.

    Parameters
    ----------
    model : Sam
    embedding : Embedding
    points : ndarray, shape (b, 2)
        (y, x) in pixels of the picture.
    labels : ndarray, shape (b,), optional
        All foreground where left out.

    Returns
    -------
    logits : Tensor, shape (b, 3, h, w)
        At low resolution; see `upscale`.
    iou : Tensor, shape (b, 3)
        Predicted.
    """
    return model.decode(_encoded(embedding), _clicks(model, embedding, points, labels), MULTI)


@torch.inference_mode()
def decode_good_points(
    model: Sam, embedding: Embedding, points: NDArray[Any], least: float
) -> tuple[NDArray[np.int64], Tensor, Tensor]:
    """As `decode_points`, but only the masks whose predicted IoU is above ``least``; the rest cost less.

    Returns
    -------
    index : ndarray, shape (k,)
        Which point each mask belongs to.
    logits : Tensor, shape (k, h, w)
    iou : Tensor, shape (k,)
    """
    clicks = _clicks(model, embedding, points)
    rows, logits, iou = model.decode_above(_encoded(embedding), clicks, least, MULTI)
    return rows.cpu().numpy() // len(range(*MULTI.indices(MASK_TOKENS))), logits, iou


def _clicks(
    model: Sam, embedding: Embedding, points: NDArray[Any], labels: NDArray[Any] | None = None
) -> PromptTensors:
    """One click (y, x) for each of b objects."""
    shown = _to_shown(np.asarray(points, np.float64).reshape(-1, 2), embedding)
    where = torch.as_tensor(shown[:, None, ::-1].copy(), dtype=torch.float32, device=model.device)
    kinds = np.full(len(shown), FOREGROUND) if labels is None else np.asarray(labels)
    given = torch.as_tensor(kinds.reshape(-1, 1), dtype=torch.int64, device=model.device)
    return PromptTensors(where, given)


@torch.inference_mode()
def decode(
    model: Sam, embedding: Embedding, prompts: Sequence[Prompts], *, multimask: bool = True
) -> tuple[Tensor, Tensor]:
    """Masks for many objects at once, whose prompts have the same parts.

    Parameters
    ----------
    model : Sam
    embedding : Embedding
    prompts : sequence of Prompts, length b, not empty
        In pixels of the picture; all alike in `parts_of`.
    multimask : bool
        Three masks for each object, or one.

    Returns
    -------
    logits : Tensor, shape (b, n, h, w)
        At low resolution; see `upscale`, and `prediction.enlarge` where masks are small.
    iou : Tensor, shape (b, n)
        Predicted.

    Raises
    ------
    InputError
        If the prompts differ in their parts, one lies outside the picture, or a mask has the wrong size.
    """
    if len({parts_of(prompt) for prompt in prompts}) != 1:
        raise InputError(
            "Prompts decoded together must be alike: as many points, and all or none with box, mask or text."
        )
    for prompt in prompts:
        prompt.check_inside(embedding.image_shape)
    each = [_prompt_tensors(model, embedding, prompt) for prompt in prompts]
    together = PromptTensors(
        torch.cat([one.points for one in each]),
        torch.cat([one.labels for one in each]),
        _joined([one.boxes for one in each]),
        _joined([one.masks for one in each]),
        _joined([one.texts for one in each]),
    )
    return model.decode(_encoded(embedding), together, MULTI if multimask else SINGLE)


def parts_of(prompt: Prompts) -> tuple[int, bool, bool, bool]:
    """How many points a prompt has, and whether a box, a mask and a text."""
    return len(prompt.points), prompt.box is not None, prompt.mask is not None, prompt.text is not None


def _joined(tensors: Sequence[Tensor | None]) -> Tensor | None:
    given = [tensor for tensor in tensors if tensor is not None]
    return torch.cat(given) if given else None


def upscale(logits: Tensor, embedding: Embedding, model: Sam) -> Tensor:
    """Logits at low resolution ``(b, n, h, w)`` to the picture's size ``(b, n, y, x)``.

    First to the shown size with padding, which is cut off, then to the picture, as in the reference.
    """
    h, w = embedding.input_shape
    padded = (h + -h % model.pad_multiple, w + -w % model.pad_multiple)
    # As pictures of one channel each: those of three, torch copies there and back to channels-last.
    each = logits.float().flatten(0, 1)[:, None]
    shown = F.interpolate(each, padded, mode="bilinear", align_corners=False)[..., :h, :w]
    if embedding.image_shape != embedding.input_shape:
        shown = F.interpolate(shown, embedding.image_shape, mode="bilinear", align_corners=False)
    return shown.unflatten(0, logits.shape[:2])[:, :, 0]


def _encode(model: Sam, rgb: NDArray[np.uint8]) -> Encoded:
    return model.encode(to_input(rgb, model)[0])


def _encoded(embedding: Embedding) -> Encoded:
    return Encoded(embedding.features, embedding.skips, embedding.dense)


def _to_shown(coordinates: NDArray[np.float64], embedding: Embedding) -> NDArray[np.float64]:
    """Scale (y, x) pairs, ``(n, 2)``, from the picture's pixels to the shown picture's."""
    return coordinates * (np.array(embedding.input_shape) / np.array(embedding.image_shape))


def _prompt_tensors(model: Sam, embedding: Embedding, prompts: Prompts) -> PromptTensors:
    """One object's prompts as a batch of one, in SAM's (x, y)."""

    def tensor(values: NDArray[Any]) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(values), dtype=torch.float32, device=model.device)

    points = tensor(_to_shown(prompts.points, embedding)[None, :, ::-1])
    labels = torch.as_tensor(prompts.labels[None], device=model.device)
    boxes = masks = None
    if prompts.box is not None:
        boxes = tensor(_to_shown(prompts.box.reshape(2, 2), embedding)[:, ::-1].reshape(1, 4))
    if prompts.mask is not None:
        masks = _mask_prompt(
            model, embedding, tensor(prompts.mask.astype(np.float32)), prompts.mask.dtype == bool
        )
    texts = None if prompts.text is None else tensor(prompts.text[None])
    return PromptTensors(points, labels, boxes, masks, texts)


def _mask_prompt(model: Sam, embedding: Embedding, mask: Tensor, is_picture: bool) -> Tensor:
    """A mask prompt ``(1, 1, h, w)`` of the size that the model takes."""
    grid = (embedding.features.shape[2], embedding.features.shape[3])
    size = model.prompt_encoder.mask_prompt_size(grid)
    shape = tuple(mask.shape)
    if not is_picture:
        if shape != size:
            raise InputError(
                f"The mask prompt has the shape {shape}; this embedding takes logits of {size}, "
                f"or a bool mask of the picture's shape {embedding.image_shape}."
            )
        return mask[None, None]
    if shape != embedding.image_shape:
        raise InputError(f"The mask prompt has the shape {shape}, but the picture {embedding.image_shape}.")
    h, w = embedding.input_shape
    shown = F.interpolate(mask[None, None], (h, w), mode="bilinear", align_corners=False, antialias=True)
    shown = F.pad(shown, (0, -w % model.pad_multiple, 0, -h % model.pad_multiple))
    return (2 * F.adaptive_avg_pool2d(shown, size) - 1) * MASK_LOGIT


def _numpy(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.float().cpu().numpy()
