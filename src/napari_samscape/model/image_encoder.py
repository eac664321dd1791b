"""SAM's image encoder: a plain ViT with windowed and global attention.

Kirillov et al. 2023, appendix A ("Image encoder"); Li et al. 2022 (ViTDet) for the backbone and
Li et al. 2022 (MViTv2) for the decomposed relative positions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_samscape.model.config import ViTConfig
from napari_samscape.model.layers import LayerNorm2d, MLPBlock

#: Bytes that one block's attention bias may take; more queries than that are handled in turn.
BIAS_BYTES = 40 * 2**20


class PatchEmbed(nn.Module):
    """Cut the picture into patches: ``(b, 3, H, W)`` to ``(b, h, w, width)``."""

    def __init__(self, patch_size: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch_size, patch_size)

    def forward(self, images: Tensor) -> Tensor:
        """Project every patch to one token."""
        return self.proj(images).permute(0, 2, 3, 1)


class Attention(nn.Module):
    """Multi-head self-attention with decomposed relative positions, ``(b, h, w, width)`` in and out."""

    def __init__(self, width: int, heads: int, span: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * span - 1, width // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * span - 1, width // heads))

    def forward(self, x: Tensor) -> Tensor:
        """Attend within each item of the batch."""
        b, h, w, width = x.shape
        qkv = self.qkv(x).reshape(b, h * w, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)  # (b, heads, h*w, d)
        rows = self._rows_at_once(b, h, w, q.element_size())
        parts = [self._attend(q, k, v, (h, w), slice(i, min(i + rows, h))) for i in range(0, h, rows)]
        out = torch.cat(parts, dim=2) if len(parts) > 1 else parts[0]
        return self.proj(out.transpose(1, 2).reshape(b, h, w, width))

    def _rows_at_once(self, b: int, h: int, w: int, itemsize: int) -> int:
        """How many rows of queries fit the memory set aside for the bias."""
        return max(1, min(h, BIAS_BYTES // (b * self.heads * w * h * w * itemsize)))

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, size: tuple[int, int], rows: slice) -> Tensor:
        """Attention of the queries in ``rows`` to everything: ``(b, heads, rows*w, d)``."""
        h, w = size
        part = q[:, :, rows.start * w : rows.stop * w]
        grid = part.unflatten(2, (-1, w))  # (b, heads, rows, w, d)
        by_row = torch.einsum("bnhwd,hkd->bnhwk", grid, _relative(self.rel_pos_h, h)[rows])
        by_column = torch.einsum("bnhwd,wkd->bnhwk", grid, _relative(self.rel_pos_w, w))
        bias = by_row.unsqueeze(-1) + by_column.unsqueeze(-2)  # (b, heads, rows, w, h, w)
        return F.scaled_dot_product_attention(part, k, v, attn_mask=bias.flatten(4).flatten(2, 3))


def _relative(table: Tensor, size: int) -> Tensor:
    """Spread a table of offsets ``(2*size-1, d)`` over all pairs: ``(size, size, d)``, query first."""
    index = torch.arange(size, device=table.device)
    return table[index[:, None] - index[None, :] + size - 1]


class Block(nn.Module):
    """A transformer block; ``window`` 0 means attention over the whole grid."""

    def __init__(self, config: ViTConfig, window: int) -> None:
        super().__init__()
        self.window = window
        self.norm1 = nn.LayerNorm(config.width, eps=1e-6)
        self.attn = Attention(config.width, config.heads, window or config.image_size // config.patch_size)
        self.norm2 = nn.LayerNorm(config.width, eps=1e-6)
        self.mlp = MLPBlock(config.width, config.hidden)

    def forward(self, x: Tensor) -> Tensor:
        """``(b, h, w, width)`` in and out."""
        y = self.norm1(x)
        if self.window:
            windows, padded = to_windows(y, self.window)
            y = from_windows(self.attn(windows), padded, (x.shape[1], x.shape[2]))
        else:
            y = self.attn(y)
        x = x + y
        return x + self.mlp(self.norm2(x))


def to_windows(x: Tensor, window: int) -> tuple[Tensor, tuple[int, int]]:
    """Cut ``(b, h, w, c)`` into ``(b*n, window, window, c)``, zeros added on the right and below."""
    _, h, w, c = x.shape
    x = F.pad(x, (0, 0, 0, -w % window, 0, -h % window))
    padded = (x.shape[1], x.shape[2])
    x = x.unflatten(1, (-1, window)).unflatten(3, (-1, window))  # (b, rows, window, columns, window, c)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, window, window, c), padded


def from_windows(windows: Tensor, padded: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Undo `to_windows` and cut the padding off: ``(b, *size, c)``."""
    window, c = windows.shape[1], windows.shape[3]
    rows, columns = padded[0] // window, padded[1] // window
    x = windows.reshape(-1, rows, columns, window, window, c).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(-1, *padded, c)[:, : size[0], : size[1]]


class ImageEncoder(nn.Module):
    """SAM's ViT: normalised pictures to the embedding that the decoder asks."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.image_size = config.image_size
        grid = config.image_size // config.patch_size
        self.patch_embed = PatchEmbed(config.patch_size, config.width)
        self.pos_embed = nn.Parameter(torch.zeros(1, grid, grid, config.width))
        self.blocks = nn.ModuleList(Block(config, window) for window in config.windows)
        self.neck = nn.Sequential(
            nn.Conv2d(config.width, config.out_channels, 1, bias=False),
            LayerNorm2d(config.out_channels),
            nn.Conv2d(config.out_channels, config.out_channels, 3, padding=1, bias=False),
            LayerNorm2d(config.out_channels),
        )

    def forward(self, images: Tensor) -> Tensor:
        """``(b, 3, image_size, image_size)`` to ``(b, out_channels, grid, grid)``."""
        x = self.patch_embed(images) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.neck(x.permute(0, 3, 1, 2))
