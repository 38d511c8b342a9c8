"""Channels of a layer's input divided, its weights multiplied: X W^T = (X / s)(W s)^T.

    SmoothQuant (2211.10438)   s_i = max_t |x_ti|^a / max_j |w_ji|^(1 - a)
    AWQ (2306.00978)           s = t / sqrt(max t min t), t_i = max_t |x_ti|^r, r by the least error
    MASQuant (2603.04800)      s a kind of token: one set of weights, round(W s_text); what tokens
                               of another kind then lack, (W s_kind - round(W s_text)), is made up
                               for by L2^T L1^T, of low rank under the covariance of X / s_kind

1 / s goes into whatever made X, a norm's weights for one; where nothing can take it, it is a
multiplication of its own. Token weights (QIG, 2603.17809, or 0 for class and register tokens,
QVGGT 2605.31124) enter the AWQ search as `token_weight`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["awq_scale", "low_rank", "smooth_scale"]

RATIOS = 20  # exponents tried, k / 20
LEAST = 1e-4  # a scale below it would blow weights up
FLOOR = 1e-6  # of eigenvalues, relative to the largest


def smooth_scale(top_x: np.ndarray, top_w: np.ndarray, alpha: float = 0.5) -> np.ndarray:
    """float64 [m] from the largest |x| and |w| of each channel; 1 where either is zero."""
    x, w = (np.asarray(v, np.float64) for v in (top_x, top_w))
    some = (x > 0) & (w > 0)
    ratio = np.where(some, x, 1) ** alpha / np.where(some, w, 1) ** (1 - alpha)
    return np.where(some, np.maximum(ratio, LEAST), 1)


def awq_scale(
    weights: np.ndarray,
    inputs: np.ndarray,
    rounded: Callable[[np.ndarray], np.ndarray],
    token_weight: np.ndarray | None = None,
    quantised: Callable[[np.ndarray], np.ndarray] = lambda x: x,
    tied: Callable[[np.ndarray], np.ndarray] = lambda top: top,
) -> tuple[np.ndarray, float]:
    """(s [m], its error): of weights [n,m] and inputs [T,m] the exponent that errs least.

    rounded: weights [n,m] -> as they will be stored, in float; quantised: the same of inputs;
    tied: the largest of channels that must have one scale, on each of them. The error is the sum
    over tokens of token_weight x mean |out - wanted|. s of exponent 0 is 1, so it is never worse
    than leaving it.
    """
    w, x = np.asarray(weights, np.float64), np.asarray(inputs, np.float64)
    share = np.ones(len(x)) if token_weight is None else np.asarray(token_weight, np.float64)
    top = tied(np.abs(x[share > 0]).max(0, initial=0))
    wanted = x @ w.T
    best, least = np.ones(w.shape[1]), np.inf
    for k in range(RATIOS):
        scale = np.where(top > 0, top, 1) ** (k / RATIOS)
        scale = np.maximum(scale / np.sqrt(scale.max() * scale.min()), LEAST)
        got = quantised(x / scale) @ rounded(w * scale).T
        error = float(share @ np.abs(got - wanted).mean(1))
        if error < least:
            best, least = scale, error
    return best, least


def low_rank(missing: np.ndarray, inputs: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """(A [n,r], B [r,m]) with inputs @ (missing - A B)^T least in Frobenius norm.

    missing [n,m]: what weights lack. Whitened by the inputs' covariance, the truncated SVD is the
    optimum (Eckart and Young); channels that hardly vary are floored before they are inverted.
    """
    gap, x = np.asarray(missing, np.float64), np.asarray(inputs, np.float64)
    values, vectors = np.linalg.eigh(x.T @ x)
    root = np.sqrt(np.maximum(values, FLOOR * max(float(values.max(initial=0)), 1e-30)))
    u, s, vt = np.linalg.svd((gap @ vectors) * root, full_matrices=False)
    rank = min(rank, len(s))
    return u[:, :rank] * s[:rank], (vt[:rank] / root) @ vectors.T
