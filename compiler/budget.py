"""One choice a layer, the least loss within a budget: a multiple-choice knapsack, solved exactly.

    loss[layer][choice]   what the choice costs the function (any number, added up over layers)
    cost[layer][choice]   what it takes of the budget: bits, bytes or microseconds, whole numbers
    best[l][b]            the least loss of the first l layers at a cost of at most b

Dynamic programme over layers and budget (the pattern of SODA's scheduler, CVPR 2026). Costs are
divided by their greatest common divisor; where more than `bins` are left, each is rounded up to a
bin, so the budget always holds and the outcome is optimal for the rounded costs. Losses are added
up as if layers did not touch each other: measure the joint loss and print both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Allocation", "allocate"]

BINS = 20_000


@dataclass(frozen=True)
class Allocation:
    """Of each layer the place of its choice, and both sums."""

    choices: tuple[int, ...]
    loss: float
    cost: int


def allocate(
    loss: Sequence[Sequence[float]],
    cost: Sequence[Sequence[int]],
    budget: int,
    bins: int = BINS,
) -> Allocation | None:
    """The least loss at a cost of at most `budget`; None where no set of choices fits.

    Costs are not negative. Of equal losses the cheaper wins, then the earlier choice. Raises
    ValueError for tables of other shapes, for NaN and for negative costs.
    """
    _check(loss, cost)
    if budget < 0:
        return None
    step = _step(cost, budget, bins)
    room = budget // step
    needs = [np.array([-(-c // step) for c in layer]) for layer in cost]
    best, taken = np.zeros(room + 1), []
    for losses, need in zip(loss, needs, strict=True):
        options = np.full((len(need), room + 1), np.inf)
        for i, (extra, n) in enumerate(zip(losses, need, strict=True)):
            if n <= room:
                options[i, n:] = best[: room + 1 - n] + extra
        taken.append(options.argmin(0))
        best = options.min(0)
    if not np.isfinite(best[-1]):
        return None
    left = int(np.flatnonzero(best == best[-1])[0])  # the cheapest of those that lose least
    choices = []
    for need, chosen in zip(needs[::-1], taken[::-1], strict=True):
        choices.append(int(chosen[left]))
        left -= int(need[choices[-1]])
    choices.reverse()
    spent = sum(layer[i] for layer, i in zip(cost, choices, strict=True))
    lost = sum(layer[i] for layer, i in zip(loss, choices, strict=True))
    return Allocation(tuple(choices), float(lost), int(spent))


def _check(loss: Sequence[Sequence[float]], cost: Sequence[Sequence[int]]) -> None:
    shapes = [[len(layer) for layer in table] for table in (loss, cost)]
    if shapes[0] != shapes[1] or 0 in shapes[0]:
        raise ValueError("losses and costs need one entry a choice, one choice at least a layer")
    if any(np.isnan(layer).any() for layer in loss):
        raise ValueError("a loss is NaN")
    if any(c < 0 or c != int(c) for layer in cost for c in layer):
        raise ValueError("costs are whole numbers of 0 and more")


def _step(cost: Sequence[Sequence[int]], budget: int, bins: int) -> int:
    """Units of cost in a bin of the programme."""
    common = int(np.gcd.reduce([int(c) for layer in cost for c in layer] or [1])) or 1
    return common * max(1, -(-(budget // common) // bins))
