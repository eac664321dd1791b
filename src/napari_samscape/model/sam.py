"""The whole model: image encoder, prompt encoder and mask decoder, of any member of the family."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from napari_samscape.model.config import Shapes, decoder_config, text_width, vit_config
from napari_samscape.model.image_encoder import ImageEncoder
from napari_samscape.model.mask_decoder import MaskDecoder
from napari_samscape.model.nano import (
    PAD_MULTIPLE,
    DrawnPromptEncoder,
    NanoConfig,
    NanoEncoder,
    NanoMaskDecoder,
    nano_config,
)
from napari_samscape.model.prompt_encoder import PromptEncoder, join_prompts
from napari_samscape.model.tiny_vit import TinyViT, tiny_vit_config
from napari_samscape.model.window import decode_in_windows, is_worth_it

#: Mean and standard deviation of ImageNet's channels, by which all published weights were trained.
PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)

SINGLE = slice(0, 1)  # the mask for an unambiguous prompt
MULTI = slice(1, 4)  # the three masks for an ambiguous one
BYTES_AT_ONCE = 16 * 2**20  # of image tokens of all prompts decoded together on a CPU, for its cache


@dataclass(frozen=True, eq=False)
class Encoded:
    """What an image encoder gives for a batch of pictures."""

    features: Tensor  # (b, c, h, w)
    skips: tuple[Tensor, ...] = ()  # finer, each (b, c_i, h_i, w_i)
    dense: Tensor | None = None  # (b, n, h', w') of a dense head, see `NanoEncoder`


@dataclass(frozen=True, eq=False)
class PromptTensors:
    """One prompt per item of a batch, in (x, y) pixels of the shown picture."""

    points: Tensor  # (b, n, 2)
    labels: Tensor  # (b, n)
    boxes: Tensor | None = None  # (b, 4)
    masks: Tensor | None = None  # (b, 1, h, w) logits
    texts: Tensor | None = None  # (b, d), see `PromptEncoder.embed_texts`

    def __getitem__(self, some: slice | list[int]) -> PromptTensors:
        """Some of the prompts."""
        boxes, masks, texts = (None if t is None else t[some] for t in (self.boxes, self.masks, self.texts))
        return PromptTensors(self.points[some], self.labels[some], boxes, masks, texts)


#: Gives what an encoder makes of a picture (y, x, 3) of uint8: as it was kept, or by calling it.
Recall = Callable[[Any, Callable[[], Encoded]], Encoded]


class Sam(nn.Module):
    """A Segment Anything model.

    Attributes
    ----------
    image_size : int
        Longest side, in pixels, of the picture as it is shown to the model.
    pad_multiple : int
        The shown picture is padded on the right and below to a multiple of this.
    name : str
        As the user asked for it.
    digest : str
        SHA-256 of the weights' file; empty for a model that was not read from one.
    precision : torch.dtype
        Of the products in the image encoder and the mask decoder: float32 or bfloat16. Positions are always
        encoded in float32, and what comes out is float32.
    magnifies : float
        How many pixels wide a picture's pixel may be shown to look closer. Above 1 for `nano` only, which was
        trained so; for others it has not been measured, and their encoders take seconds.
    recall : callable or None
        Asked for the encoding of each picture, so that it need not be made twice; see `Recall`.
    """

    def __init__(
        self, image_encoder: nn.Module, prompt_encoder: PromptEncoder, mask_decoder: MaskDecoder, pad: int
    ) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.prompt_encoder = prompt_encoder
        self.mask_decoder = mask_decoder
        self.image_size = prompt_encoder.image_size
        self.pad_multiple = pad
        self.name = ""
        self.digest = ""
        self.precision = torch.float32
        self.magnifies = 2.0 if self.is_nano else 1.0
        self.recall: Recall | None = None

    @property
    def is_nano(self) -> bool:
        """Whether it is this project's own small model, which a laptop trains as a whole."""
        return isinstance(self.image_encoder, NanoEncoder)

    @property
    def tile_size(self) -> int:
        """Longest side, in pixels, of a picture that is looked at as a whole, and closer where need be."""
        return round(self.image_size * self.magnifies)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.prompt_encoder.no_mask_embed.weight.device

    def normalise(self, rgb: Tensor) -> Tensor:
        """Pixels 0..255 ``(b, 3, h, w)`` to the encoder's input, zero padded right and below."""
        mean, std = (rgb.new_tensor(v).reshape(3, 1, 1) for v in (PIXEL_MEAN, PIXEL_STD))
        h, w = rgb.shape[2:]
        padding = (0, -w % self.pad_multiple, 0, -h % self.pad_multiple)
        return nn.functional.pad((rgb - mean) / std, padding)

    def encode(self, images: Tensor) -> Encoded:
        """Run the image encoder on normalised pictures ``(b, 3, h, w)``."""
        with self._multiplying():
            return self._encoded(self.image_encoder(images))

    def trunk(self, images: Tensor) -> tuple[Tensor, ...]:
        """The dear part of `encode`, which fine-tuning leaves as it is; `encode_kept` does the rest.

        Of `nano` all below the neck, of the others everything.
        """
        with self._multiplying():
            encoder = self.image_encoder
            return encoder.trunk(images) if isinstance(encoder, NanoEncoder) else (encoder(images),)

    def encode_kept(self, trunk: tuple[Tensor, ...]) -> Encoded:
        """What `encode` gives, from what `trunk` gave."""
        with self._multiplying():
            encoder = self.image_encoder
            return self._encoded(encoder.finish(*trunk) if isinstance(encoder, NanoEncoder) else trunk[0])

    def _encoded(self, out: Any) -> Encoded:
        if not isinstance(out, tuple):
            return Encoded(self._result(out))
        features, skips, dense = out
        return Encoded(self._result(features), tuple(map(self._result, skips)), self._result(dense))

    def _multiplying(self) -> AbstractContextManager[None]:
        """Where products have the model's precision; float32 leaves everything as it is."""
        if self.precision == torch.float32:
            return nullcontext()
        # Every weight is used once, so none is kept in half precision: that would be half the model again.
        return torch.autocast(self.device.type, self.precision, cache_enabled=False)

    def _result(self, tensor: Tensor) -> Tensor:
        """In float32, unless the caller asked for another precision by a context of its own."""
        return tensor if self.precision == torch.float32 else tensor.float()

    def decode(self, encoded: Encoded, prompt: PromptTensors, which: slice = MULTI) -> tuple[Tensor, Tensor]:
        """Masks for a batch of prompts, all on one picture or each on its own.

        `nano` looks only at a window around the prompt where that is enough, see `model.window`.

        Parameters
        ----------
        encoded : Encoded
            Of one picture, or of as many as there are prompts.
        prompt : PromptTensors
            b prompts.
        which : slice
            `SINGLE`, `MULTI`, or all four with ``slice(0, 4)``.

        Returns
        -------
        logits : Tensor, shape (b, n, h, w)
            At low resolution; above 0 is inside.
        iou : Tensor, shape (b, n)
            Predicted.
        """
        # A text may mean anything in the picture, so there is no window for it.
        if len(prompt.points) and prompt.texts is None and is_worth_it(encoded):
            return decode_in_windows(self.decode_whole, encoded, prompt, which)
        return self.decode_whole(encoded, prompt, which)

    def decode_above(
        self, encoded: Encoded, prompt: PromptTensors, least: float, which: slice = MULTI
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `decode`, but only the masks whose predicted IoU is above ``least``.

        Where the IoU is known before the mask is drawn, the others are not drawn at all.

        Returns
        -------
        rows : Tensor of int, shape (k,)
            Which of the b * n masks.
        logits : Tensor, shape (k, h, w)
        iou : Tensor, shape (k,)
        """
        if not self.mask_decoder.judges_first:
            return masks_above(*self.decode(encoded, prompt, which), least)
        rows, logits, ious, seen = [], [], [], 0
        for some, _ in self._portions(encoded, prompt):
            attended = self._attend(encoded, some)
            iou = attended.iou[:, which]
            good = iou > least
            hit = good.any(1)
            if bool(hit.any()):
                logits.append(self._draw(attended.only(hit), which)[good[hit]])
            rows.append(good.flatten().nonzero()[:, 0] + seen)
            ious.append(iou[good])
            seen += iou.numel()
        h, w = (4 * side for side in encoded.features.shape[2:])
        none = encoded.features.new_zeros(0, h, w)
        return torch.cat(rows), torch.cat(logits) if logits else none, torch.cat(ious)

    def decode_whole(
        self, encoded: Encoded, prompt: PromptTensors, which: slice = MULTI, origin: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """As `decode`, on all cells of the embedding.

        ``origin``, shape (b, 2), is (x, y) in cells where each embedding starts inside a larger one: in a
        window, and in training, which is done on crops.
        """
        done = []
        for some, start in self._portions(encoded, prompt, origin):
            attended = self._attend(encoded, some, start)
            logits = self._draw(attended, which)
            done.append((logits, self.mask_decoder.estimate(attended.iou[:, which], logits)))
        if len(done) == 1:
            return done[0]
        logits, iou = (torch.cat(parts) for parts in zip(*done, strict=True))
        return logits, iou

    def _portions(
        self, encoded: Encoded, prompt: PromptTensors, origin: Tensor | None = None
    ) -> Iterator[tuple[PromptTensors, Tensor | None]]:
        """As many prompts at once as stay in a CPU's cache; all of them elsewhere, or on a picture each."""
        pictures, *one = encoded.features.shape
        most = max(1, BYTES_AT_ONCE // (math.prod(one) * self.precision.itemsize))
        if encoded.features.device.type != "cpu" or pictures > 1 or len(prompt.points) <= most:
            yield prompt, origin
            return
        for first in range(0, len(prompt.points), most):
            some = slice(first, first + most)
            yield prompt[some], None if origin is None else origin[some]

    def _attend(self, encoded: Encoded, prompt: PromptTensors, origin: Tensor | None = None) -> _Attended:
        """All but the drawing; the image's part in the model's precision, that of the tokens in float32."""
        grid = (encoded.features.shape[2], encoded.features.shape[3])
        points, labels = join_prompts(prompt.points, prompt.labels, prompt.boxes)
        sparse, dense, fine = self.prompt_encoder(points, labels, prompt.masks, grid, origin, encoded.dense)
        if prompt.texts is not None:
            sparse = torch.cat([sparse, self.prompt_encoder.embed_texts(prompt.texts)], dim=1)
        pe = self.prompt_encoder.dense_pe(grid, origin)
        # What an outer autocast made of the features is left as it is.
        features = (
            encoded.features if self.precision == torch.float32 else encoded.features.to(self.precision)
        )
        tokens, image, iou = self.mask_decoder.decode(features, pe, sparse, dense)
        return _Attended(tokens, image, self._result(iou), grid, encoded.skips, fine)

    def _draw(self, attended: _Attended, which: slice) -> Tensor:
        """Logits (b, n, h, w)."""
        decoder, grid = self.mask_decoder, attended.grid
        pixels = decoder.upscale(attended.image, grid, attended.skips, attended.fine)
        return self._result(decoder.draw(attended.tokens, pixels, grid, which))


def masks_above(logits: Tensor, iou: Tensor, least: float) -> tuple[Tensor, Tensor, Tensor]:
    """What `Sam.decode_above` gives, of masks (b, n, h, w) that are drawn already."""
    rows = (iou.flatten() > least).nonzero()[:, 0]
    return rows, logits.flatten(0, 1)[rows], iou.flatten()[rows]


@dataclass(frozen=True, eq=False)
class _Attended:
    """Where the decoder stands before it draws b prompts' masks."""

    tokens: Tensor  # (b, 4, c)
    image: Tensor  # (b, h*w, c)
    iou: Tensor  # (b, 4)
    grid: tuple[int, int]  # (h, w)
    skips: tuple[Tensor, ...]
    fine: tuple[Tensor, ...]

    def only(self, hit: Tensor) -> _Attended:
        """Some of the prompts, all on one picture, by a mask (b,)."""
        if bool(hit.all()):
            return self
        return replace(self, tokens=self.tokens[hit], image=self.image[hit], iou=self.iou[hit])


def build_nano(config: NanoConfig | None = None) -> Sam:
    """A fresh `nano` with random weights."""
    config = config or NanoConfig()
    prompt_encoder = DrawnPromptEncoder(config)
    return Sam(NanoEncoder(config), prompt_encoder, NanoMaskDecoder(config), pad=PAD_MULTIPLE)


def build_model(shapes: Shapes) -> Sam:
    """Build the model whose checkpoint has these names and shapes, with random weights.

    Raises
    ------
    KeyError, IndexError, ValueError
        If the names and shapes are not those of any known architecture.
    """
    model = _build_wordless(shapes)
    if text_width(shapes):
        model.prompt_encoder.add_text(text_width(shapes))
    return model


def _build_wordless(shapes: Shapes) -> Sam:
    decoder = decoder_config(shapes)
    if "image_encoder.downs.0.0.weight" in shapes:
        return build_nano(nano_config(shapes, decoder))
    encoder: nn.Module
    if "image_encoder.pos_embed" in shapes:
        vit = vit_config(shapes)
        encoder, size, grid = ImageEncoder(vit), vit.image_size, vit.image_size // vit.patch_size
    else:
        tiny = tiny_vit_config(shapes)
        encoder, size = TinyViT(tiny), tiny.image_size
        grid = size // 16
    mask_channels = shapes["prompt_encoder.mask_downscaling.3.weight"][0]
    prompt_encoder = PromptEncoder(decoder.width, size, grid, mask_channels)
    return Sam(encoder, prompt_encoder, MaskDecoder(decoder), pad=size)
