"""What the networks look like, as frozen values, and how to read that off a checkpoint's shapes.

Nothing but names and shapes is used: a checkpoint of the family needs no description beside it
(attention heads, the one thing shapes do not show, follow SAM's fixed rules).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class ViTConfig:
    """SAM's image encoder (Kirillov et al. 2023, appendix A; ViTDet, Li et al. 2022)."""

    image_size: int
    patch_size: int
    width: int
    heads: int
    hidden: int
    windows: tuple[int, ...]  # one per block; 0 means global attention
    out_channels: int


@dataclass(frozen=True)
class DecoderConfig:
    """SAM's prompt encoder and mask decoder (appendix A)."""

    width: int
    heads: int
    hidden: int
    inner: int  # width inside the cross-attention
    depth: int
    iou_hidden: int


def count(shapes: Shapes, pattern: str) -> int:
    """Return one more than the largest index that ``pattern`` (with one group) finds among the keys."""
    found = [int(m.group(1)) for key in shapes if (m := re.match(pattern, key))]
    return max(found) + 1 if found else 0


def text_width(shapes: Shapes) -> int:
    """Width of the text embeddings that the prompt encoder takes; 0 where it has no projection for them."""
    return shapes.get("prompt_encoder.text_projection.weight", (0, 0))[1]


def vit_config(shapes: Shapes) -> ViTConfig:
    """Infer the ViT from shapes; a block whose relative positions span the whole grid is global.

    Raises
    ------
    KeyError, IndexError
        If a key is missing or has another number of dimensions.
    """
    prefix = "image_encoder."
    _, grid, _, width = shapes[prefix + "pos_embed"]
    patch = shapes[prefix + "patch_embed.proj.weight"][2]
    depth = count(shapes, r"image_encoder\.blocks\.(\d+)\.")
    spans = [(shapes[f"{prefix}blocks.{i}.attn.rel_pos_h"][0] + 1) // 2 for i in range(depth)]
    return ViTConfig(
        image_size=grid * patch,
        patch_size=patch,
        width=width,
        heads=width // shapes[prefix + "blocks.0.attn.rel_pos_h"][1],
        hidden=shapes[prefix + "blocks.0.mlp.lin1.weight"][0],
        windows=tuple(0 if span == grid else span for span in spans),
        out_channels=shapes[prefix + "neck.0.weight"][0],
    )


def decoder_config(shapes: Shapes) -> DecoderConfig:
    """Infer the mask decoder; SAM's attention heads are 32 wide (8 heads of a width of 256)."""
    prefix = "mask_decoder."
    width = shapes[prefix + "iou_token.weight"][1]
    layer = prefix + "transformer.layers.0."
    return DecoderConfig(
        width=width,
        heads=max(1, width // 32),
        hidden=shapes[layer + "mlp.lin1.weight"][0],
        inner=shapes[layer + "cross_attn_token_to_image.q_proj.weight"][0],
        depth=count(shapes, r"mask_decoder\.transformer\.layers\.(\d+)\."),
        iou_hidden=shapes[prefix + "iou_prediction_head.layers.0.weight"][0],
    )
