"""What masks themselves say about how good they are: `nano` predicts IoU from it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Opinion(nn.Module):
    """What to make of three signs of each of the three masks' quality; fitted after all else was trained."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, 1.0, 0.0]))
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, signs: Tensor) -> Tensor:
        """From own certainty, IoU head and agreement, all in logits, ``(b, 3, 3)``: the IoU's, ``(b, 3)``."""
        return signs @ self.weight + self.bias


def agreement(logits: Tensor) -> Tensor:
    """Mean IoU of each of n masks ``(b, n, h, w)`` with the others, pixels counted by their chances."""
    chances = logits[..., ::2, ::2].float().sigmoid().flatten(2)
    both = chances @ chances.transpose(1, 2)
    size = chances.sum(2)
    iou = both / (size.unsqueeze(1) + size.unsqueeze(2) - both).clamp(min=1)
    own = torch.eye(iou.shape[1], dtype=torch.bool, device=iou.device)
    return iou.masked_fill(own, 0).sum(2) / (iou.shape[1] - 1)


def expected_iou(logits: Tensor) -> Tensor:
    """IoU of masks ``(b, n, h, w)`` with an object whose pixels have these logits as chances: ``(b, n)``."""
    coarse = logits[..., ::2, ::2].float()
    chances, inside = coarse.sigmoid(), coarse > 0
    both = (chances * inside).sum((2, 3))
    return both / (inside.sum((2, 3)) + chances.sum((2, 3)) - both).clamp(min=1)
