"""Low-rank changes to an encoder's attention (LoRA, Hu et al. 2021): few numbers to train, none left.

The weight of a projection is used as ``W + B A``; ``A`` and ``B`` alone are trained, and `merge_low_rank`
puts their product into ``W``, so that the checkpoint is like any other.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from napari_samscape.errors import InputError

PROJECTIONS = ("qkv", "proj")


class LowRank(nn.Module):
    """What is added to a weight ``(out, into)``; nothing at first."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        out, into = weight.shape
        self.down = nn.Parameter(weight.new_empty(rank, into))
        self.up = nn.Parameter(weight.new_zeros(out, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight that is used."""
        return weight + self.up @ self.down


def add_low_rank(encoder: nn.Module, rank: int) -> None:
    """Let the attention's projections change by matrices of this rank, whose names `is_low_rank` knows.

    `nano` attends in its two blocks at stride 32 only; all else is convolutions, which stay as they are.

    Raises
    ------
    InputError
        If the encoder has no attention.
    """
    found = [
        module
        for name, module in encoder.named_modules()
        if isinstance(module, nn.Linear) and name.rsplit(".", 1)[-1] in PROJECTIONS
    ]
    if not found:
        raise InputError("The model's encoder has no attention that low-rank changes could be made to.")
    for linear in found:
        parametrize.register_parametrization(linear, "weight", LowRank(linear.weight.detach(), rank))


def is_low_rank(name: str) -> bool:
    """Whether a weight of this name is a part of such a change."""
    return ".parametrizations." in name and name.endswith((".down", ".up"))


@torch.no_grad()
def merge_low_rank(encoder: nn.Module) -> None:
    """Put all changes into the weights that they change."""
    for module in encoder.modules():
        if isinstance(module, nn.Linear) and parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight")
