"""Round columns one after the other; those that are left make up for the error (GPTQ, ICLR 2023).

    Hinv = (X^T X + damping)^-1 = L L^T
    column j:  q = round(w_j);  e = (w_j - q) / L_jj;  the columns behind: W -= e L[j:,j]^T

Where the float model's inputs X~ differ from the quantised model's X, what is wanted is W X~:

    gptaq     W += w_j P[j,j:],  P = a striu(D L) L^T                    (GPTAQ, ICML 2025; a .25)
    vlm-ptq   and the column itself aims at w_j (1 + a C_j),  C = diag(D L) diag(L)   (CVPR 2026)
    full      W (I + a D Hinv) once, then plain GPTQ: all of it, for comparison (ours)

D = (X~ - X)^T X. Scales are fitted to the columns of a block when their turn comes, weighted by
`importance` where it is given. `by_size`: columns of large X^T X first ("act-order").
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from edgevlm.passes.quantize.compensation.gram import Gram
from edgevlm.passes.quantize.grids import AnyGrid, Rounded, codes, fit_scale

__all__ = ["gptq"]

LAZY = 128  # columns that are finished before the rest of the matrix hears of them
HARDER = (1, 10, 100, 1000)  # times the damping, until the matrix can be inverted

Aim = Literal["plain", "gptaq", "vlm-ptq", "full"]


def gptq(
    weights: np.ndarray,
    gram: Gram,
    grid: AnyGrid,
    *,
    block: int | None = None,
    aim: Aim = "plain",
    shrink: float = 0.25,
    damping: float = 0.01,
    by_size: bool = False,
    importance: np.ndarray | None = None,
    how: Literal["max", "mse"] = "mse",
    scales: np.ndarray | None = None,
) -> Rounded:
    """Of weights [n,m], m the channels of `gram`.

    shrink: a, of what X~ asks for; taken from few samples it fits their noise. by_size: act-order;
    with blocks, columns keep the block of their place and scales are fitted before. scales
    [n,blocks]: known already, and kept. Raises ValueError where X^T X cannot be inverted with a
    thousand times the damping.
    """
    w = np.array(weights, np.float64)
    m = w.shape[1]
    block = m if block is None else min(block, m)
    order = np.argsort(-np.diagonal(gram.h), kind="stable") if by_size else np.arange(m)
    lower, h = _factor(gram, damping, order)
    drift = np.zeros((m, m)) if gram.d is None else shrink * gram.d[np.ix_(order, order)]
    weight = None if importance is None else np.asarray(importance, np.float64)
    if aim == "full":
        w[:, order] += w[:, order] @ drift @ np.linalg.solve(h, np.eye(m))
    propagated, pull = _towards_float(drift, lower, aim)

    def fitted(at: int, columns: np.ndarray) -> np.ndarray:
        mine = None if weight is None else weight[at * block : at * block + columns.shape[1]]
        return fit_scale(columns, grid, how, weight=None if how == "max" else mine)

    count = -(-m // block)
    known = scales is not None
    scales = np.array(scales, np.float64) if known else np.zeros((len(w), count))
    if by_size and not known:
        for at in range(count):
            scales[:, at] = fitted(at, w[:, at * block : (at + 1) * block])
    w, found = w[:, order], np.zeros(w.shape)
    for start, end in _stretches(m, block):
        seen, errors = np.zeros((2, len(w), end - start))
        for j in range(start, end):
            at, first = divmod(int(order[j]), block)
            if first == 0 and not by_size and not known:
                scales[:, at] = fitted(at, w[:, j : j + block])
            column, scale = w[:, j].copy(), scales[:, at]
            q = codes(column[:, None] * (1 + pull[j]), scale, grid)[:, 0]
            error = (column - q * scale) / lower[j, j]
            if propagated is not None:
                w[:, j:end] += np.outer(column, propagated[j, j:end])
            w[:, j:end] -= np.outer(error, lower[j:end, j])
            found[:, j], seen[:, j - start], errors[:, j - start] = q, column, error
        w[:, end:] -= errors @ lower[end:, start:end].T
        if propagated is not None:
            w[:, end:] += seen @ propagated[start:end, end:]
    back = np.empty_like(found)
    back[:, order] = found
    return Rounded(back.astype(grid.dtype), scales, block)


def _factor(gram: Gram, damping: float, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(L of the inverse, lower; damped X^T X), both in this order."""
    for harder in HARDER:
        h = gram.damped(damping * harder)[np.ix_(order, order)]
        try:
            inverse = np.linalg.inv(h)
            return np.linalg.cholesky((inverse + inverse.T) / 2), h
        except np.linalg.LinAlgError:
            continue
    raise ValueError("X^T X of the calibration inputs cannot be inverted")


def _towards_float(
    drift: np.ndarray, lower: np.ndarray, aim: Aim
) -> tuple[np.ndarray | None, np.ndarray]:
    """(P [m,m], or None for zeros; C [m]): nothing where inputs are taken as they are."""
    nothing = np.zeros(len(lower))
    if aim in ("plain", "full") or not drift.any():
        return None, nothing
    product = drift @ lower
    pull = np.diagonal(product) * np.diagonal(lower) if aim == "vlm-ptq" else nothing
    return np.triu(product, 1) @ lower.T, pull


def _stretches(m: int, block: int) -> list[tuple[int, int]]:
    """Columns finished together; a block of scales begins with one or lies within one."""
    if block <= LAZY:
        step = block * (LAZY // block)
        return [(start, min(start + step, m)) for start in range(0, m, step)]
    return [
        (start, min(start + LAZY, at + block, m))
        for at in range(0, m, block)
        for start in range(at, min(at + block, m), LAZY)
    ]
