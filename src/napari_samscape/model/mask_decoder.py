"""SAM's mask decoder: a two-way transformer, upscaling, and a mask and an IoU per output token.

Kirillov et al. 2023, appendix A ("Lightweight mask decoder").
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_samscape.model.config import DecoderConfig
from napari_samscape.model.layers import LayerNorm2d, MLPBlock

MASK_TOKENS = 4  # the single mask, then the three of an ambiguous prompt


class Attention(nn.Module):
    """Attention whose inner width may be smaller than its tokens' width.

    A decoder has a handful of tokens on one side and thousands of image cells on the other. What is
    projected is then cheaper on the small side: ``q . (W k) = (W' q) . k``, and a weighted mean of projected
    values is the projected mean. So an image cell is multiplied with ``heads * n`` vectors made of n tokens
    instead of with ``inner`` rows of a matrix and then with n keys. The result is the same up to rounding.
    """

    def __init__(self, width: int, inner: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, inner)
        self.k_proj = nn.Linear(width, inner)
        self.v_proj = nn.Linear(width, inner)
        self.out_proj = nn.Linear(inner, width)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """``(b, n, width)`` queries to ``(b, m, width)`` keys and values: ``(b, n, width)``.

        The side of the image, where it is the longer one, may have a batch of 1 that stands for all.
        """
        fewest = self.heads * min(q.shape[1], k.shape[1])
        if q.shape[1] == k.shape[1] or fewest > self.q_proj.out_features:
            return self._plain(q, k, v)
        return self._few_queries(q, k, v) if q.shape[1] < k.shape[1] else self._few_keys(q, k, v)

    def _plain(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (self._split(f(t)) for f, t in ((self.q_proj, q), (self.k_proj, k), (self.v_proj, v)))
        # Plain products: with a handful of tokens on one side they beat the fused kernel on a CPU.
        weights = (q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])).softmax(-1)
        return self.out_proj((weights @ v).transpose(1, 2).flatten(2))

    def _few_queries(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        asked = self._split(self.q_proj(q))  # (b, heads, n, d)
        scale = 1 / math.sqrt(asked.shape[-1])
        # The keys' bias adds the same to all keys of a query, which softmax does not see.
        asked = (scale * asked) @ self.k_proj.weight.unflatten(0, (self.heads, -1))  # (b, heads, n, width)
        weights = (asked.flatten(1, 2) @ k.transpose(1, 2)).softmax(-1)  # (b, heads*n, m)
        means = (weights @ v).unflatten(1, (self.heads, -1))  # (b, heads, n, width)
        values = means @ self.v_proj.weight.unflatten(0, (self.heads, -1)).transpose(1, 2)
        return self.out_proj(values.transpose(1, 2).flatten(2) + self.v_proj.bias)

    def _few_keys(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        keys, values = self._split(self.k_proj(k)), self._split(self.v_proj(v))  # (b, heads, n, d)
        keys = keys / math.sqrt(keys.shape[-1])
        vectors = keys @ self.q_proj.weight.unflatten(0, (self.heads, -1))  # (b, heads, n, width)
        offsets = (keys @ self.q_proj.bias.unflatten(0, (self.heads, -1, 1))).flatten(1)  # (b, heads*n)
        scores = q @ vectors.flatten(1, 2).transpose(1, 2) + offsets.unsqueeze(1)  # (b, m, heads*n)
        weights = scores.unflatten(2, (self.heads, -1)).softmax(-1).flatten(2)
        told = values @ self.out_proj.weight.T.unflatten(0, (self.heads, -1))  # (b, heads, n, width)
        return weights @ told.flatten(1, 2) + self.out_proj.bias

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)  # (b, heads, n, d)


class TwoWayBlock(nn.Module):
    """Tokens attend to each other, to the image, and the image to the tokens."""

    def __init__(self, config: DecoderConfig, first: bool) -> None:
        super().__init__()
        width, inner, heads = config.width, config.inner, config.heads
        self.first = first
        self.self_attn = Attention(width, width, heads)
        self.norm1 = nn.LayerNorm(width)
        self.cross_attn_token_to_image = Attention(width, inner, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = MLPBlock(width, config.hidden, nn.ReLU)
        self.norm3 = nn.LayerNorm(width)
        self.norm4 = nn.LayerNorm(width)
        self.cross_attn_image_to_token = Attention(width, inner, heads)

    def forward(self, tokens: Tensor, image: Tensor, token_pe: Tensor, pe: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens ``(b, n, width)`` and image ``(1 or b, h*w, width)``, both updated, the image then b."""
        if self.first:
            tokens = self.self_attn(tokens, tokens, tokens)
        else:
            q = tokens + token_pe
            tokens = tokens + self.self_attn(q, q, tokens)
        tokens = self.norm1(tokens)
        tokens = tokens + self.cross_attn_token_to_image(tokens + token_pe, image + pe, image)
        tokens = self.norm2(tokens)
        tokens = self.norm3(tokens + self.mlp(tokens))
        image = image + self.cross_attn_image_to_token(image + pe, tokens + token_pe, tokens)
        return tokens, self.norm4(image)


class TwoWayTransformer(nn.Module):
    """The decoder's trunk."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TwoWayBlock(config, first=i == 0) for i in range(config.depth))
        self.final_attn_token_to_image = Attention(config.width, config.inner, config.heads)
        self.norm_final_attn = nn.LayerNorm(config.width)

    def forward(self, image: Tensor, pe: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Image and its positions ``(1 or b, h*w, width)``, tokens ``(b, n, width)``: tokens, image."""
        token_pe = tokens
        for layer in self.layers:
            tokens, image = layer(tokens, image, token_pe, pe)
        tokens = tokens + self.final_attn_token_to_image(tokens + token_pe, image + pe, image)
        return self.norm_final_attn(tokens), image


class MLP(nn.Module):
    """Three linear layers with ReLU between."""

    def __init__(self, width: int, hidden: int, out: int) -> None:
        super().__init__()
        sizes = [width, hidden, hidden, out]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:], strict=True))

    def forward(self, x: Tensor) -> Tensor:
        """``(..., width)`` to ``(..., out)``."""
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


class MaskDecoder(nn.Module):
    """From an image embedding and an encoded prompt to masks and their predicted IoU."""

    def __init__(self, config: DecoderConfig, mask_width: int | None = None) -> None:
        super().__init__()
        width = config.width
        self.transformer = TwoWayTransformer(config)
        self.iou_token = nn.Embedding(1, width)
        self.mask_tokens = nn.Embedding(MASK_TOKENS, width)
        self.output_upscaling = self.make_upscaling(width)
        self.output_hypernetworks_mlps = nn.ModuleList(
            MLP(width, width, mask_width or width // 8) for _ in range(MASK_TOKENS)
        )
        self.iou_prediction_head = MLP(width, config.iou_hidden, MASK_TOKENS)

    def make_upscaling(self, width: int) -> nn.Module:
        """Fourfold upscaling, as in SAM."""
        return nn.Sequential(
            nn.ConvTranspose2d(width, width // 4, 2, 2),
            LayerNorm2d(width // 4),
            nn.GELU(),
            nn.ConvTranspose2d(width // 4, width // 8, 2, 2),
            nn.GELU(),
        )

    def upscale(self, image: Tensor, skips: tuple[Tensor, ...], fine: tuple[Tensor, ...]) -> Tensor:
        """Image tokens ``(b, width, h, w)`` to pixel features ``(b, c, H, W)``; SAM has no skips."""
        return self.output_upscaling(image)

    def decode(
        self, features: Tensor, pe: Tensor, sparse: Tensor, dense: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run the transformer.

        Parameters
        ----------
        features : Tensor, shape (1 or b, width, h, w)
            Image embedding.
        pe : Tensor, shape (1 or b, width, h, w)
            Position encoding of its cells.
        sparse, dense : Tensor, shapes (b, n, width) and (1 or b, width, h, w)
            The encoded prompt. Where both image and dense prompt are one for all, so is their part of the
            work.

        Returns
        -------
        mask_tokens : Tensor, shape (b, 4, width)
        image : Tensor, shape (b, width, h, w)
        iou : Tensor, shape (b, 4)
        """
        b, h, w = len(sparse), features.shape[2], features.shape[3]
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight]).expand(b, -1, -1)
        tokens = torch.cat([own, sparse], dim=1)
        image = (features + dense).flatten(2).transpose(1, 2)  # (b, h*w, width)
        tokens, image = self.transformer(image, pe.flatten(2).transpose(1, 2), tokens)
        iou = self.iou_prediction_head(tokens[:, 0])
        return tokens[:, 1 : 1 + MASK_TOKENS], image.transpose(1, 2).unflatten(2, (h, w)), iou

    def draw(self, mask_tokens: Tensor, pixels: Tensor, which: slice) -> Tensor:
        """Masks ``(b, n, H, W)`` of the chosen tokens: a dot product with every pixel's features."""
        chosen = range(MASK_TOKENS)[which]
        heads = [self.output_hypernetworks_mlps[i](mask_tokens[:, i]) for i in chosen]
        weights = torch.stack(heads, dim=2)  # (b, c, n)
        # Pixels first: so the gradient comes back channels-last as well, and what lies below stays fast.
        logits = pixels.flatten(2).transpose(1, 2) @ weights  # (b, h*w, n)
        return logits.transpose(1, 2).contiguous().unflatten(2, pixels.shape[2:])

    def estimate(self, iou: Tensor, logits: Tensor) -> Tensor:
        """Predicted IoU ``(b, n)`` of masks ``(b, n, H, W)`` from the IoU head's output: itself, in SAM."""
        return iou
