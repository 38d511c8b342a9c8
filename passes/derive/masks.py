"""Masks of hidden units, trained through a frozen model (NuWa's self-knowledge purification).

    k = ceil(sigmoid(beta) e)       beta 5 at first: all but all units
    mask = 1 for the k largest of M [e], else 0;   hidden' = hidden * mask

Gradients pass the choice straight: with G = dL/dmask, dL/dM = G and dL/dbeta = <mask, G>. AdamW
with decay on both; that on beta pulls sigmoid(beta) from 1 towards a half, and is the knob of
sparsity. 2504.03118, equations 3 and 4; its code picks the checkpoint by accuracy on the test
pictures, this by the loss on pictures held out (of a few hundred pictures accuracy says little).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgevlm.passes.derive.course import Course, steps_of

__all__ = ["Mask", "Masks", "Plan", "train_masks"]

BETA = 5.0


class _Straight(torch.autograd.Function):
    """The mask of the k largest; its gradient goes to the scores and to beta as it is."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, beta: Tensor) -> Tensor:
        count = int(torch.ceil(torch.sigmoid(beta) * len(scores)).clamp(1, len(scores)))
        mask = torch.zeros_like(scores)
        mask[torch.topk(scores, count).indices] = 1
        ctx.save_for_backward(mask)
        return mask

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        (mask,) = ctx.saved_tensors
        return gradient, (mask * gradient).sum()


class Mask(nn.Module):
    """Of one MLP's hidden units."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.ones(units))
        self.beta = nn.Parameter(torch.tensor(BETA))

    def forward(self) -> Tensor:
        """float32 [e] of ones and zeros."""
        return _Straight.apply(self.scores, self.beta)


@dataclass(frozen=True, kw_only=True)
class Plan(Course):
    """How masks are trained; `rate` is that of scores."""

    beta_rate: float
    decay: float


@dataclass(frozen=True)
class Masks:
    """What was chosen, and why: the held-out loss before, and at the step that was kept."""

    kept: list[np.ndarray]  # numbers of the units that stay, an MLP each
    step: int
    before: float
    after: float


def train_masks(
    widths: Sequence[int],
    loss: Callable[[Sequence[Tensor], np.ndarray], Tensor],
    held: Callable[[Sequence[Tensor]], float],
    pictures: int,
    plan: Plan,
) -> Masks:
    """The step with the least loss on held-out pictures; of equals, that with fewest units.

    loss: of masks and numbers of pictures (int [batch]). held: of masks, over other pictures.
    """
    masks = [Mask(width) for width in widths]
    optimiser = torch.optim.AdamW(
        [
            {"params": [m.scores for m in masks], "lr": plan.rate},
            {"params": [m.beta for m in masks], "lr": plan.beta_rate},
        ],
        weight_decay=plan.decay,
    )
    before = held([torch.ones(width) for width in widths])
    best = Masks([np.arange(width) for width in widths], 0, before, before)

    def of_masks(some: np.ndarray) -> Tensor:
        return loss([mask() for mask in masks], some)

    for step in steps_of(plan, optimiser, of_masks, pictures):
        with torch.no_grad():
            now = [mask() for mask in masks]
            found = held(now)
        kept = [np.flatnonzero(mask.numpy()) for mask in now]
        fewer = sum(map(len, kept)) < sum(map(len, best.kept))
        if found < best.after or (found == best.after and fewer):
            best = Masks(kept, step, before, found)
    return best
