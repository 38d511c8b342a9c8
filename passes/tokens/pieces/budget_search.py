"""Which group of tokens deserves how much of the budget: an offline search over whole numbers.

Prune2Drive looks for the shares of six camera views by TPE on 500 samples. This is the plain form
of it, for any objective: vectors drawn at random (Dirichlet, rounded to whole tokens), then from
the best of them tokens are moved from one group to another as long as that pays, fewer and fewer at
a time. The total never changes, so an objective needs no penalty for size. Each vector is scored
once; the same seed gives the same answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from edgevlm.passes.tokens.pieces.quota import quotas

__all__ = ["search_budgets"]

Vector = tuple[int, ...]


def search_budgets(
    objective: Callable[[Vector], float],
    total: int,
    sizes: Sequence[int],
    *,
    trials: int = 64,
    seed: int = 0,
) -> tuple[Vector, float]:
    """The best budgets found, one a group, and what the objective says of them; larger is better.

    total: tokens, 0 to the sum of `sizes`, the most each group can have. trials: vectors that are
    scored at most; the equal shares are always the first, so the answer is never worse than they.
    """
    rng, groups = np.random.default_rng(seed), len(sizes)
    known: dict[Vector, float] = {}

    def worth(vector: Vector) -> float:
        if vector not in known:
            known[vector] = float(objective(vector))
        return known[vector]

    best = tuple(quotas(total, [1.0] * groups, sizes))
    worth(best)
    for _ in range(trials):
        if len(known) < trials // 2:
            drawn = tuple(quotas(total, rng.dirichlet(np.ones(groups)), sizes))
            best = max(best, drawn, key=worth)
    step = max(1, total // (2 * groups))
    while step and len(known) < trials:
        moves = (m for m in _moves(best, step, sizes) if m in known or len(known) < trials)
        better = next((m for m in moves if worth(m) > known[best]), None)
        best, step = (better, step) if better else (best, step // 2)
    return best, known[best]


def _moves(vector: Vector, step: int, sizes: Sequence[int]) -> list[Vector]:
    """Every vector with `step` tokens moved from one group to another."""
    found = []
    for giver, has in enumerate(vector):
        for taker, gets in enumerate(vector):
            if giver != taker and has >= step and gets + step <= sizes[taker]:
                moved = list(vector)
                moved[giver], moved[taker] = has - step, gets + step
                found.append(tuple(moved))
    return found
