"""In which order hidden units go: each time the one whose loss the others can make up for best.

    loss of unit i   |W_i|^2 / (G^-1)_ii        W [d,e] the next matrix, G = H^T H over all tokens
    then             W and G^-1 as if unit i had never been: least squares on those that are left

The optimal brain surgeon (Hassibi and Stork, 1992) with whole units in the place of weights, as
SparseGPT (2301.00774) and ZipLM (2302.04089) have it. NuWa takes those with the smallest |sum of
activations| out at once; this order loses less at every width (docs/derivation.md). The order is
nested: whatever the budget, the units that stay are a prefix of it, and what is lost is known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Order", "eliminate"]

RIDGE = 1e-6  # of the mean diagonal: units that are the same would have no inverse
STEPS = 64  # at most: wider layers lose several units at a time; 128 and 256 are no better
SPARSE = 7 / 8  # with fewer left, what is gone is taken out of the matrices: copies take time too


@dataclass(frozen=True)
class Order:
    """Units [e], those that stay longest first; lost[k] is the squared error with k of them."""

    units: np.ndarray
    lost: np.ndarray  # [e+1]

    def keep(self, count: int) -> np.ndarray:
        """Numbers of the units that stay, rising."""
        return np.sort(self.units[:count])


def eliminate(weights: np.ndarray, gram: np.ndarray) -> Order:
    """weights [d,e]; gram [e,e], or [e+1,e+1] with a column of ones, which always stays.

    lost is a sum over the rows that the Gram matrix is of, less what a bias makes up for.
    """
    units = weights.shape[1]
    left = np.zeros((len(weights), len(gram)))
    left[:, :units] = weights
    ridge = RIDGE * np.trace(gram) / len(gram) or 1.0
    inverse = np.linalg.inv(gram + ridge * np.eye(len(gram)))
    here, stays = np.arange(len(gram)), np.ones(len(gram), bool)
    gone, lost = [], [0.0]
    while len(gone) < units:
        price = (left**2).sum(0) / np.diagonal(inverse)
        price[(here >= units) | ~stays] = np.inf
        out = np.argsort(price, kind="stable")[: min(-(-units // STEPS), units - len(gone))]
        core, rows = np.linalg.inv(inverse[np.ix_(out, out)]), inverse[out]
        taken = left[:, out] @ core
        lost.append(lost[-1] + float(np.einsum("di,di->", taken, left[:, out])))
        lost += [lost[-1]] * (len(out) - 1)
        left -= taken @ rows
        inverse -= rows.T @ (core @ rows)
        inverse[out, out] = 1.0  # all else in their rows and columns is nought now
        gone += here[out].tolist()
        stays[out] = False
        if stays.mean() < SPARSE:
            inverse, left = inverse[np.ix_(stays, stays)], left[:, stays]
            here, stays = here[stays], stays[stays]
    return Order(np.array(gone[::-1]), np.array(lost[::-1]))
