"""SAM's mask decoder: a two-way transformer, upscaling, and a mask and an IoU per output token.

Kirillov et al. 2023, appendix A ("Lightweight mask decoder").
"""

from __future__ import annotations

import math
from typing import Any

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

    def forward(self, q: Tensor, k: Tensor, v: Tensor, onto: Tensor | None = None) -> Tensor:
        """``(b, n, width)`` queries to ``(b, m, width)`` keys and values: ``(b, n, width)``, plus ``onto``.

        The side of the image, where it is the longer one, may have a batch of 1 that stands for all, and
        half the precision of the tokens: these are few, so only they are converted.
        """
        fewest = self.heads * min(q.shape[1], k.shape[1])
        if fewest <= self.q_proj.out_features and q.shape[1] > k.shape[1]:
            return self._few_keys(q, k, v, onto)
        few = fewest <= self.q_proj.out_features and q.shape[1] < k.shape[1]
        told = self._few_queries(q, k, v) if few else self._plain(q, k, v)
        return told if onto is None else onto + told

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
        # The image on the left: half precision would copy all of it to have it on the right.
        scores = (k @ asked.flatten(1, 2).transpose(1, 2).to(k.dtype)).transpose(1, 2)  # (b, heads*n, m)
        weights = scores.softmax(-1)
        means = (weights @ v).to(q.dtype).unflatten(1, (self.heads, -1))  # (b, heads, n, width)
        values = means @ self.v_proj.weight.unflatten(0, (self.heads, -1)).transpose(1, 2)
        return self.out_proj(values.transpose(1, 2).flatten(2) + self.v_proj.bias)

    def _few_keys(self, q: Tensor, k: Tensor, v: Tensor, onto: Tensor | None) -> Tensor:
        keys, values = self._split(self.k_proj(k)), self._split(self.v_proj(v))  # (b, heads, n, d)
        keys = keys / math.sqrt(keys.shape[-1])
        vectors = keys @ self.q_proj.weight.unflatten(0, (self.heads, -1))  # (b, heads, n, width)
        offsets = (keys @ self.q_proj.bias.unflatten(0, (self.heads, -1, 1))).flatten(1)  # (b, heads*n)
        scores = (q @ vectors.flatten(1, 2).transpose(1, 2).to(q.dtype)).transpose(1, 2)  # (b, heads*n, m)
        scores = scores + offsets.unsqueeze(2).to(q.dtype)
        # Cells last: over the few keys, one cell after the other, torch's softmax takes twenty times as long.
        weights = scores.unflatten(1, (self.heads, -1)).softmax(2).flatten(1, 2).transpose(1, 2)
        told = values @ self.out_proj.weight.T.unflatten(0, (self.heads, -1))  # (b, heads, n, width)
        # The weights of a head sum to one, so each head can bring its share of the bias along.
        told = (told + self.out_proj.bias / self.heads).flatten(1, 2).to(q.dtype)
        return weights @ told if onto is None else _product_onto(onto, weights, told)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)  # (b, heads, n, d)


def _product_onto(onto: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """``onto + a @ b``: in one pass over the image, but in training, where autocast would round the sum."""
    return onto + a @ b if torch.is_grad_enabled() else torch.baddbmm(onto, a, b)


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
        placed = image + pe
        tokens = tokens + self.cross_attn_token_to_image(tokens + token_pe, placed, image)
        tokens = self.norm2(tokens)
        tokens = self.norm3(tokens + self.mlp(tokens))
        image = self.cross_attn_image_to_token(placed, tokens + token_pe, tokens, onto=image)
        return tokens, self.norm4(image)


class TwoWayTransformer(nn.Module):
    """The decoder's trunk."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TwoWayBlock(config, first=i == 0) for i in range(config.depth))
        self.final_attn_token_to_image = Attention(config.width, config.inner, config.heads)
        self.norm_final_attn = nn.LayerNorm(config.width)

    def forward(self, image: Tensor, pe: Tensor, tokens: Tensor, wanted: int) -> tuple[Tensor, Tensor]:
        """Image and its positions ``(1 or b, h*w, width)``, tokens ``(b, n, width)``: both, updated.

        Of the tokens come back the first ``wanted``.
        """
        token_pe = tokens
        for layer in self.layers:
            tokens, image = layer(tokens, image, token_pe, pe)
        tokens, token_pe = tokens[:, :wanted], token_pe[:, :wanted]
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
    """From an image embedding and an encoded prompt to masks and their predicted IoU.

    Attributes
    ----------
    judges_first : bool
        Whether the predicted IoU of a mask is known before it is drawn.
    """

    judges_first = True

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
        """Fourfold upscaling, as in SAM; these hold the weights that `upscale` multiplies with."""
        return nn.Sequential(
            nn.ConvTranspose2d(width, width // 4, 2, 2),
            LayerNorm2d(width // 4),
            nn.GELU(),
            nn.ConvTranspose2d(width // 4, width // 8, 2, 2),
            nn.GELU(),
        )

    def decode(
        self, features: Tensor, pe: Tensor, sparse: Tensor, dense: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run the transformer.

        Parameters
        ----------
        features : Tensor, shape (1 or b, width, h, w)
            Image embedding. May have half the precision of the prompt; the image's part of the work is then
            done in that.
        pe : Tensor, shape (1 or b, width, h, w)
            Position encoding of its cells.
        sparse, dense : Tensor, shapes (b, n, width) and (1 or b, width, h, w)
            The encoded prompt. Where both image and dense prompt are one for all, so is their part of the
            work.

        Returns
        -------
        mask_tokens : Tensor, shape (b, 4, width)
        image : Tensor, shape (b, h*w, width)
        iou : Tensor, shape (b, 4)
        """
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([own.expand(len(sparse), -1, -1), sparse], dim=1)
        image, added, places = (
            maps.to(features.dtype).flatten(2).transpose(1, 2) for maps in (features, dense, pe)
        )  # (b, h*w, width)
        image, places = image.contiguous() + added, places.contiguous()
        tokens, image = self.transformer(image, places, tokens, len(own))
        return tokens[:, 1:], image, self.iou_prediction_head(tokens[:, 0])

    def upscale(
        self, image: Tensor, grid: tuple[int, int], skips: tuple[Tensor, ...], fine: tuple[Tensor, ...]
    ) -> Tensor:
        """Image tokens ``(b, h*w, width)`` to the features of pixels ``(b, H*W, c)``; SAM has no skips.

        A transposed convolution of 2 x 2 at stride 2 gives each cell four new ones, by a product with one
        matrix. The new ones stay beside each other, cell by cell, which is not their order in the picture:
        `arrange` sees to that when little is left to be moved.
        """
        parts: list[Any] = list(self.output_upscaling.children())
        first, norm, act, second, last = parts
        x = _split_cells(image, first)
        return last(_split_cells(act(norm.over_last(x)), second))

    def arrange(self, values: Tensor, grid: tuple[int, int]) -> Tensor:
        """Values of pixels in the order of `upscale` ``(b, H*W, n)`` to maps ``(b, n, H, W)``."""
        maps = values.unflatten(1, (*grid, 2, 2, 2, 2)).permute(0, 7, 1, 3, 5, 2, 4, 6)
        return maps.reshape(len(values), -1, 4 * grid[0], 4 * grid[1])

    def draw(self, mask_tokens: Tensor, pixels: Tensor, grid: tuple[int, int], which: slice) -> Tensor:
        """Masks ``(b, n, H, W)`` of the chosen tokens: a dot product with every pixel's features."""
        chosen = range(MASK_TOKENS)[which]
        heads = [self.output_hypernetworks_mlps[i](mask_tokens[:, i]) for i in chosen]
        weights = torch.stack(heads, dim=2).to(pixels.dtype)  # (b, c, n)
        return self.arrange(pixels @ weights, grid)

    def estimate(self, iou: Tensor, logits: Tensor) -> Tensor:
        """Predicted IoU ``(b, n)`` of masks ``(b, n, H, W)`` from the IoU head's output: itself, in SAM."""
        return iou


def _split_cells(x: Tensor, convolution: nn.Module) -> Tensor:
    """What a transposed convolution of 2 x 2 at stride 2 makes of cells ``(b, n, c)``: ``(b, 4n, c')``.

    The four come in the order (0, 0), (0, 1), (1, 0), (1, 1), after each other.
    """
    weight: Tensor = convolution.weight  # type: ignore[assignment]  # (c, c', 2, 2)
    bias: Tensor = convolution.bias  # type: ignore[assignment]
    matrix = weight.permute(2, 3, 1, 0).reshape(-1, weight.shape[0])  # (4c', c)
    return F.linear(x, matrix.to(x.dtype), bias.repeat(4).to(x.dtype)).reshape(len(x), -1, len(bias))
