"""SAM's prompt encoder: points, boxes and texts to sparse tokens, masks to a dense map (appendix A, D.5).

Points are (x, y) in pixels of the shown picture.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from napari_samscape.errors import InputError
from napari_samscape.model.layers import LayerNorm2d

BACKGROUND, FOREGROUND, BOX_START, BOX_END = range(4)
PADDING = -1  # the label of a point that says nothing


class PositionEncoding(nn.Module):
    """Random Fourier features of a position (Tancik et al. 2020)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, width // 2))

    def forward(self, unit: Tensor) -> Tensor:
        """Encode (x, y) in 0..1: ``(..., 2)`` to ``(..., width)``."""
        matrix: Tensor = self.positional_encoding_gaussian_matrix  # type: ignore[assignment]
        signed = (2 * unit - 1).to(matrix.dtype)
        # Spelled out, not as a matrix product, which autocast would round to 8 bits: a phase needs more.
        phase = 2 * math.pi * (signed[..., :1] * matrix[0] + signed[..., 1:] * matrix[1])
        return torch.cat([phase.sin(), phase.cos()], dim=-1)


class PromptEncoder(nn.Module):
    """Prompts to tokens.

    Parameters
    ----------
    width : int
        Width of a token.
    image_size : int
        Side in pixels by which coordinates are normalised.
    grid : int
        Cells of the image embedding along ``image_size``.
    mask_channels : int
        Width of the mask prompt's last hidden layer.
    """

    def __init__(self, width: int, image_size: int, grid: int, mask_channels: int = 16) -> None:
        super().__init__()
        self.width, self.image_size, self.grid = width, image_size, grid
        self.pe_layer = PositionEncoding(width)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, width) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, width)
        self.mask_downscaling: nn.Module = nn.Sequential(
            nn.Conv2d(1, mask_channels // 4, 2, 2),
            LayerNorm2d(mask_channels // 4),
            nn.GELU(),
            nn.Conv2d(mask_channels // 4, mask_channels, 2, 2),
            LayerNorm2d(mask_channels),
            nn.GELU(),
            nn.Conv2d(mask_channels, width, 1),
        )
        self.no_mask_embed = nn.Embedding(1, width)
        self._whole: tuple[Any, Tensor] | None = None  # positions of the grid that was last asked for
        self.text_projection: nn.Linear | None = None  # SAM as published has none

    @property
    def text_width(self) -> int:
        """Width of the text embeddings that are taken; 0 where none are."""
        return 0 if self.text_projection is None else self.text_projection.in_features

    def add_text(self, text_width: int) -> None:
        """Take text embeddings of this width from now on, by a projection that has learnt nothing yet."""
        projection = nn.Linear(text_width, self.width, device=self.no_mask_embed.weight.device)
        # Embeddings have a length of 1: so their token is as large as those of points.
        nn.init.normal_(projection.weight)
        nn.init.zeros_(projection.bias)
        self.text_projection = projection

    def projection_for(self, text_width: int) -> nn.Linear:
        """Give the projection of text embeddings of this width.

        Raises
        ------
        InputError
            If there is none.
        """
        if self.text_projection is None:
            raise InputError(
                "This model takes no text: its checkpoint has no 'prompt_encoder.text_projection'; "
                "samscape train --text adds one."
            )
        if text_width != self.text_width:
            raise InputError(
                f"The text has an embedding of {text_width} numbers, but this model learnt from a CLIP "
                f"with {self.text_width}."
            )
        return self.text_projection

    def embed_texts(self, texts: Tensor) -> Tensor:
        """Tokens ``(b, 1, width)`` of CLIP's embeddings ``(b, text_width)``, each of length 1."""
        return self.projection_for(texts.shape[1])(texts)[:, None]

    def mask_prompt_size(self, grid: tuple[int, int]) -> tuple[int, int]:
        """(h, w) that a mask prompt has for an embedding of ``grid`` cells."""
        return 4 * grid[0], 4 * grid[1]

    def dense_pe(self, grid: tuple[int, int], origin: Tensor | None = None) -> Tensor:
        """Position encoding of every cell of the embedding.

        Parameters
        ----------
        grid : tuple of int
            (h, w) of the embedding.
        origin : Tensor, shape (b, 2), optional
            (x, y) in cells where each embedding starts, if not at the picture's corner.

        Returns
        -------
        Tensor, shape (1 or b, width, h, w)
        """
        if origin is not None:
            return self._encoded_cells(grid, origin)
        matrix: Tensor = self.pe_layer.positional_encoding_gaussian_matrix  # type: ignore[assignment]
        # The same for every prompt; but what inference has made, training may not use.
        version = 0 if matrix.is_inference() else matrix._version
        key = (grid, matrix.device, matrix.data_ptr(), version, torch.is_inference_mode_enabled())
        if self._whole is None or self._whole[0] != key:
            self._whole = (key, self._encoded_cells(grid, None))
        return self._whole[1]

    def _encoded_cells(self, grid: tuple[int, int], origin: Tensor | None) -> Tensor:
        device = self.no_mask_embed.weight.device
        y = torch.arange(grid[0], device=device) + 0.5
        x = torch.arange(grid[1], device=device) + 0.5
        cells = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)[None]  # (1, h, w, 2)
        if origin is not None:
            cells = cells + origin[:, None, None, :]
        return self.pe_layer(cells / self.grid).permute(0, 3, 1, 2)

    def embed_points(self, points: Tensor, labels: Tensor, origin: Tensor | None = None) -> Tensor:
        """Tokens of points ``(b, n, 2)`` with labels ``(b, n)``: ``(b, n, width)``.

        Labels 0..3 are background, foreground and the two corners of a box; -1 is padding.
        """
        unit = (points + 0.5) / self.image_size
        tokens = self.pe_layer(unit if origin is None else unit + origin[:, None] / self.grid)
        embeddings: list[nn.Embedding] = [self.not_a_point_embed, *self.point_embeddings]
        kinds = torch.cat([e.weight for e in embeddings])
        padding = (labels == PADDING).unsqueeze(-1)
        return torch.where(padding, torch.zeros_like(tokens), tokens) + kinds[labels + 1]

    def embed_masks(self, masks: Tensor | None, grid: tuple[int, int]) -> Tensor:
        """Dense map ``(b, width, h, w)`` of logits ``(b, 1, 4h, 4w)``; one for all where there are none."""
        if masks is not None:
            return self.mask_downscaling(masks)
        return self.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(-1, -1, *grid)

    def forward(
        self,
        points: Tensor,
        labels: Tensor,
        masks: Tensor | None,
        grid: tuple[int, int],
        origin: Tensor | None = None,
        picture: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Encode one prompt per item of the batch.

        Parameters
        ----------
        points : Tensor, shape (b, n, 2)
            (x, y) of points and box corners.
        labels : Tensor of int, shape (b, n)
            See `embed_points`.
        masks : Tensor, shape (b, 1, h', w'), optional
            Mask logits of `mask_prompt_size`.
        grid : tuple of int
            (h, w) of the image embedding.
        origin : Tensor, shape (b, 2), optional
            See `dense_pe`.
        picture : Tensor, optional
            What a dense head says of the picture; SAM has none.

        Returns
        -------
        sparse : Tensor, shape (b, n, width)
        dense : Tensor, shape (1 or b, width, h, w)
        fine : tuple of Tensor
            Finer dense maps for the decoder's upscaling; none in SAM.
        """
        sparse = self.embed_points(points, labels, origin)
        return sparse, self.embed_masks(masks, grid), ()


def join_prompts(points: Tensor, labels: Tensor, boxes: Tensor | None) -> tuple[Tensor, Tensor]:
    """Put points ``(b, n, 2)`` and boxes ``(b, 4)`` into one list, as SAM orders them.

    Points come first, then the box's corners; where there is no box, one padding point follows the
    points (that is how the published weights were trained).
    """
    b = len(points)
    if boxes is not None:
        corners = boxes.reshape(b, 2, 2)
        kinds = labels.new_tensor([BOX_START, BOX_END]).expand(b, 2)
        return torch.cat([points, corners], 1), torch.cat([labels, kinds], 1)
    if points.shape[1] == 0:
        return points, labels
    nothing = points.new_full((b, 1, 2), -0.5)
    return torch.cat([points, nothing], 1), torch.cat([labels, labels.new_full((b, 1), PADDING)], 1)
