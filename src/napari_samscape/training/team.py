"""Processes that learn from a step's crops together: each takes a share, and their gradients are averaged.

On two cores, two processes of one thread each make more steps than one of two threads: docs/training.md.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn

from napari_samscape.errors import InputError


@dataclass(frozen=True)
class Team:
    """One process among those that train one model.

    Attributes
    ----------
    rank : int
        The process of rank 0 leads: it keeps the time, validates and writes.
    size : int
        Processes.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def join(cls) -> Team:
        """The team that ``torchrun`` has started this process for; of one where it has not."""
        if int(os.environ.get("WORLD_SIZE", 1)) < 2:
            return cls()
        dist.init_process_group("gloo")
        return cls(dist.get_rank(), dist.get_world_size())

    @property
    def leads(self) -> bool:
        """Whether this process keeps the time, validates and writes."""
        return self.rank == 0

    def leave(self) -> None:
        """Part from the others, who must do so as well."""
        if self.size > 1:
            dist.destroy_process_group()

    def share(self, crops: int) -> int:
        """How many of a step's crops are this process's.

        Raises
        ------
        InputError
            If they cannot be shared evenly.
        """
        if crops % self.size:
            raise InputError(f"{self.size} processes cannot share batch = {crops} crops evenly.")
        return crops // self.size

    def average_gradients(self, model: nn.Module) -> None:
        """Replace each gradient by its mean over the team; a weight has one in all processes or in none."""
        if self.size == 1:
            return
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        parts = (flat / self.size).split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view(gradient.shape))

    def as_leader(self, value: float) -> float:
        """The leader's value, in all processes."""
        if self.size == 1:
            return value
        told = torch.tensor([value], dtype=torch.float64)
        dist.broadcast(told, 0)
        return float(told)
