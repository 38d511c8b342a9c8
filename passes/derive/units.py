"""Which hidden units of MLPs go, and what the others then do for them: closed forms of NuWa.

    widths     water-filling: blocks are cut to one level, narrow ones first give what they have
    keep       the units with the largest |sum of activations| over images and tokens
    refit      W' = W G[:,r] (G[r,r])^+ with G = H^T H: least squares of H W^T by H[:,r] W'^T

H [T,e] are hidden activations of calibration images, all tokens; only G, their sums and squares are
ever held, so images are seen one at a time. With a last column of ones in H the bias takes part as
well (ours): what is dropped has a mean, which the bias can make up for. NuWa: 2504.03118, Algorithm
1 and the MLP's closed form; its printed pseudo-code has the sign of the units to remove the other
way round, its code and this file have not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgevlm.passes.derive.factors import rounded_down
from edgevlm.passes.quantize.compensation.gram import Gram

__all__ = ["Moments", "Refit", "levelled", "refit"]

Refit = tuple[np.ndarray, np.ndarray | None]  # weights [d,r], bias [d]

SOUND = 1e-8  # of the largest pivot of G: nothing is small then
SMALL = 1e-10  # of the largest eigenvalue: directions of G below it are noise


class Moments(Gram):
    """H [m+1,m+1] of activations [...,m] with a column of ones behind them."""

    def __init__(self, width: int) -> None:
        super().__init__(width + 1)

    @classmethod
    def of(cls, h: np.ndarray) -> Moments:
        """As they were added up before."""
        made = cls(len(h) - 1)
        made.h, made.tokens = h, int(h[-1, -1])
        return made

    def see(self, x: np.ndarray) -> None:
        """Raises ValueError for numbers that are not finite."""
        self.add(np.concatenate([x, np.ones((*x.shape[:-1], 1), x.dtype)], axis=-1))

    def plus(self, other: Moments) -> Moments:
        """Over the rows of both."""
        return Moments.of(self.h + other.h)

    def largest(self, count: int) -> np.ndarray:
        """Numbers, rising, of the units whose activations add up to the most either way."""
        total = np.abs(self.h[:-1, -1])
        return np.sort(np.argsort(-total, kind="stable")[:count])


def refit(weights: np.ndarray, bias: np.ndarray | None, sums: Moments, keep: np.ndarray) -> Refit:
    """(W' [d,r], b' [d]) of W [d,e] and b; without a bias the units alone are fitted."""
    whole = np.asarray(weights, np.float64)
    wide, kept, gram = whole, np.asarray(keep), sums.h
    if bias is None:
        gram = gram[:-1, :-1]
    else:
        wide = np.concatenate([whole, np.asarray(bias, np.float64)[:, None]], axis=1)
        kept = np.append(kept, len(gram) - 1)
    found = _divided(wide @ gram[:, kept], gram[np.ix_(kept, kept)])
    if bias is None:
        return found, None
    return found[:, :-1], found[:, -1]


def _divided(rows: np.ndarray, gram: np.ndarray) -> np.ndarray:
    """rows G^+; without eigenvalues, which take three times as long, where none is near nought."""
    try:
        pivots = np.diagonal(np.linalg.cholesky(gram)) ** 2
    except np.linalg.LinAlgError:
        pivots = np.zeros(1)
    if pivots.min() > SOUND * pivots.max():
        return np.linalg.solve(gram, rows.T).T
    return rows @ np.linalg.pinv(gram, SMALL, hermitian=True)


def levelled(
    widths: Sequence[int], prices: Sequence[float], remove: float, multiple: int
) -> list[int]:
    """Widths that cost `remove` less, as level as can be, in multiples.

    prices: of a unit of each block, in what `remove` is counted in. Rounded down, so that no more
    is left than was asked for; a block keeps `multiple` units, or what it has where that is less.
    """
    wide, price = np.asarray(widths, float), np.asarray(prices, float)
    budget = max(float((wide * price).sum() - max(remove, 0.0)), 0.0)
    level, spent, left = 0.0, 0.0, float(price.sum())
    for i in np.argsort(wide, kind="stable"):  # narrow ones are full first
        more = (wide[i] - level) * left
        if spent + more > budget:
            level += (budget - spent) / left
            break
        spent, level, left = spent + more, wide[i], left - price[i]
    return [rounded_down(int(level + 1e-9), old, multiple) for old in widths]
