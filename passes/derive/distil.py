"""What a narrowed part is taught by: its outputs S against the base's T, as a line plus a rest.

    LIFT     b1 = Cov(T,S) / Var(S), b0 = E[T] - b1 E[S]         T is nearly b0 + b1 S
             coarse = |b0| + |b1 - 1|; fine = |T - (b0 + b1 S)|^2
             loss = coarse + w fine, w = 1 - min(1, coarse), through which no gradient goes
    PLACE    numbers sorted by |T - S| and cut into groups of K; LIFT of each, averaged

A student that is far off first learns offset and scale, which are easy, and the rest when these are
right; in groups those numbers that are far off do not drown in those that are not. Card F2 of
the method notes; `mse` is plain distillation, to compare with. Groups are of K or a few more, so
that no number is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from edgevlm.passes.derive.course import Course, steps_of

__all__ = ["Taught", "lift", "mse", "place", "relative_error", "teach"]

FLAT = 1e-6  # added to Var(S): a student that says the same of everything has none


def lift(teacher: Tensor, student: Tensor) -> Tensor:
    """Of all numbers of two tensors of one shape, as one group."""
    return place(teacher, student, teacher.numel())


def place(teacher: Tensor, student: Tensor, group: int) -> Tensor:
    """The mean of LIFT over groups of `group` numbers that are about as far off."""
    t, s = teacher.reshape(-1), student.reshape(-1)
    order = torch.argsort((t - s).detach().abs(), stable=True)
    t, s = t[order], s[order]
    groups = max(1, len(t) // group)
    mine = torch.arange(len(t)) * groups // len(t)
    sizes = torch.bincount(mine, minlength=groups).to(t.dtype)

    def total(x: Tensor) -> Tensor:
        return torch.zeros(groups, dtype=x.dtype).index_add(0, mine, x)

    mean_t, mean_s = total(t) / sizes, total(s) / sizes
    off_t, off_s = t - mean_t[mine], s - mean_s[mine]
    slope = total(off_t * off_s) / (total(off_s.square()) + FLAT * sizes)
    offset = mean_t - slope * mean_s
    coarse = offset.abs() + (slope - 1).abs()
    fine = total((t - (offset[mine] + slope[mine] * s)).square())
    weight = 1 - coarse.detach().clamp(max=1)
    return (coarse + weight * fine).mean()


def mse(teacher: Tensor, student: Tensor) -> Tensor:
    """The mean squared difference."""
    return (teacher - student).square().mean()


def relative_error(teacher: Tensor, student: Tensor) -> float:
    """The squared difference over the power of what is wanted."""
    power = float(teacher.square().sum())
    return float((teacher - student).square().sum()) / max(power, 1e-30)


@dataclass(frozen=True)
class Taught:
    """The step that was kept, and how far off held-out pictures were before and then."""

    step: int
    before: float
    after: float


def teach(
    weights: Sequence[nn.Parameter],
    loss: Callable[[np.ndarray], Tensor],
    held: Callable[[], float],
    pictures: int,
    course: Course,
) -> Taught:
    """AdamW on `weights`, which end as they were at the best look: perhaps as they began.

    loss: of numbers of pictures (int [batch]). held: over other pictures, the less the better.
    """
    for weight in weights:
        weight.requires_grad_()
    optimiser = torch.optim.AdamW(weights, lr=course.rate, weight_decay=0.0)
    fading = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, course.steps)
    before = _look(held)
    best, kept = Taught(0, before, before), [w.detach().clone() for w in weights]
    for step in steps_of(course, optimiser, loss, pictures, fading):
        found = _look(held)
        if found < best.after:  # never for one that is not a number
            best = Taught(step, before, found)
            kept = [w.detach().clone() for w in weights]
    with torch.no_grad():
        for weight, good in zip(weights, kept, strict=True):
            weight.copy_(good)
            weight.requires_grad_(False)
    return best


def _look(held: Callable[[], float]) -> float:
    with torch.no_grad():
        return held()
