"""Muon: steps of equal length in all directions of a weight matrix (Jordan et al. 2024).

The gradient's average is replaced by the nearest matrix whose singular values are about one, so that what few
examples ask for is learned as fast as what most ask for.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # the quintic of Jordan et al.: fast, singular values end near one
RMS = 0.2  # of an update at a rate of one, as AdamW's usually is (Liu et al. 2025, section 2.2)
NARROW = 4  # channels; what has no more of them on either side is no matrix to speak of


class Muon(torch.optim.Optimizer):
    """Momentum whose updates are made orthogonal.

    Parameters
    ----------
    params : iterable of Parameter
        With two or more axes; all after the first are taken as one.
    lr : float
        Comparable with AdamW's.
    momentum : float
        Nesterov's.
    weight_decay : float
        Times the rate.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, momentum: float = 0.9, weight_decay: float = 0.02
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Change all weights that have a gradient."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._change(weight, group["lr"], group["momentum"], group["weight_decay"])

    def _change(self, weight: nn.Parameter, lr: float, momentum: float, weight_decay: float) -> None:
        grad: Tensor = weight.grad  # type: ignore[assignment]
        state = self.state[weight]
        if "average" not in state:
            state["average"] = torch.zeros_like(weight)
        average = state["average"].lerp_(grad, 1 - momentum)
        update = orthogonal(grad.lerp(average, momentum).reshape(len(weight), -1))
        length = RMS * max(update.shape) ** 0.5
        weight.mul_(1 - lr * weight_decay).add_(update.view_as(weight), alpha=-lr * length)


def orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    """About the nearest matrix with orthonormal rows, or columns if these are fewer.

    Parameters
    ----------
    matrix : Tensor, shape (n, m)
    steps : int
        Of the Newton-Schulz iteration; after five, singular values lie between about 0.7 and 1.2.

    Returns
    -------
    Tensor, shape (n, m)
    """
    a, b, c = NEWTON_SCHULZ
    x = matrix.bfloat16()
    x = x / (x.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(steps):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return (x.T if tall else x).to(matrix.dtype)


def is_matrix(weight: Tensor) -> bool:
    """Whether a weight mixes many channels: no bias, no token, no first or last layer of few channels."""
    return weight.ndim > 1 and min(weight.shape[:2]) > NARROW
