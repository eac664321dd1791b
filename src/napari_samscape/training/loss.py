"""What training minimises (Kirillov et al. 2023, appendix A, "Losses", with a local BCE for focal loss)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, eq=False)
class Targets:
    """What the prompts of a batch ask for."""

    masks: Tensor  # (n, h, w) coverage 0..1 at the logits' resolution
    weights: Tensor  # (n, h, w) of every pixel in the BCE; sums to 1
    is_object: Tensor  # (n,) bool; False for clicks on background, which have no mask

    def at(self, size: int) -> Targets:
        """The same for masks of this side, which is a whole number of times smaller, or as it is."""
        step = self.masks.shape[-1] // size
        if step == 1:
            return self
        masks, weights = (F.avg_pool2d(maps[None], step)[0] for maps in (self.masks, self.weights))
        return Targets(masks, weights * step**2, self.is_object)


def pixel_weights(masks: Tensor, valid: Tensor, elsewhere: float = 0.03) -> Tensor:
    """Weights of pixels, most in and near the object: its box enlarged by half its size on each side.

    An object is a percent of the picture; a plain mean would be about background, a class-balanced one
    says little about the boundary.

    Parameters
    ----------
    masks : Tensor, shape (n, h, w)
    valid : Tensor, shape (n, h, w)
        0 where nothing is known.
    elsewhere : float
        What the rest of the picture counts, pixel by pixel; a prompt that tells no place wants more.
    """
    rows, columns = masks.amax(2) > 0.5, masks.amax(1) > 0.5  # (n, h), (n, w)
    weights = elsewhere + _enlarged(rows).unsqueeze(2) * _enlarged(columns).unsqueeze(1)
    weights = weights * valid
    return weights / weights.sum((1, 2), keepdim=True).clamp(min=1e-6)


def _enlarged(along: Tensor) -> Tensor:
    """Widen each run of True ``(n, k)`` by half its length and 3 on both sides; as 0 and 1."""
    index = torch.arange(along.shape[1], device=along.device)
    start = torch.where(along, index, along.shape[1]).amin(1, keepdim=True)
    end = torch.where(along, index, -1).amax(1, keepdim=True)
    margin = (end - start) // 2 + 3
    return ((index >= start - margin) & (index <= end + margin)).float()


def mask_losses(logits: Tensor, targets: Targets) -> Tensor:
    """BCE near the object plus dice, of every mask: ``(n, m, h, w)`` logits to ``(n, m)``."""
    logits = logits.float()
    masks = targets.masks.unsqueeze(1).expand_as(logits)
    bce = F.binary_cross_entropy_with_logits(logits, masks, reduction="none")
    bce = (bce * targets.weights.unsqueeze(1)).sum((2, 3))
    chances = logits.sigmoid() * (targets.weights > 0).unsqueeze(1)
    overlap = (chances * masks).sum((2, 3))
    dice = 1 - (2 * overlap + 1) / (chances.sum((2, 3)) + masks.sum((2, 3)) + 1)
    return 2 * bce + dice


def true_iou(logits: Tensor, targets: Targets) -> Tensor:
    """IoU of every thresholded mask with its target: ``(n, m)``; 0 where there is no object."""
    inside = logits > 0
    wanted = (targets.masks > 0.5).unsqueeze(1)
    both = (inside & wanted).sum((2, 3)).float()
    either = (inside | wanted).sum((2, 3)).float()
    return both / either.clamp(min=1)


def prompt_loss(logits: Tensor, iou: Tensor, targets: Targets) -> Tensor:
    """Loss of one round of prompts; the masks are the single one, then the three if they are there.

    Of the three only the best is trained (section 3, "Resolving ambiguity"); the single one always is.
    Every mask's predicted IoU is trained, also of clicks on background, whose answer is 0.
    """
    losses = mask_losses(logits, targets)
    best = losses[:, 0]
    if losses.shape[1] > 1:
        # A little of the others keeps all three alive.
        best = best + losses[:, 1:].amin(1) + 0.05 * losses[:, 1:].mean(1)
    share = targets.is_object.float()
    masks = (best * share).sum() / share.sum().clamp(min=1)
    estimate = F.smooth_l1_loss(iou.float(), true_iou(logits.detach(), targets), beta=0.1)
    return masks + 2 * estimate


def dense_loss(dense: Tensor, wanted: Tensor) -> Tensor:
    """Loss of the dense head, by which all objects of a crop teach the encoder, not only those asked for.

    Parameters
    ----------
    dense : Tensor, shape (b, 4, h, w)
        See `NanoEncoder`.
    wanted : Tensor, shape (b, 6, h, w)
        Inside, centre, the weight of these two; the offsets (y, x), and by how much their error counts: one
        over the object's size, 0 where there is none.
    """
    dense = dense.float()
    bce = F.binary_cross_entropy_with_logits(dense[:, :2], wanted[:, :2], reduction="none")
    weight = wanted[:, 5:]
    error = F.smooth_l1_loss(dense[:, 2:] * weight, wanted[:, 3:5] * weight, beta=0.1, reduction="none")
    share = (weight > 0).float().sum().clamp(min=1)
    return 2 * (bce * wanted[:, 2:3]).mean() + 2 * error.sum() / share
