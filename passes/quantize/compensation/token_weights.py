"""How much each token counts in a scale search: integrated gradients of the rounding error (QIG).

    F(x) = mean_c |E x|_c             E = W - round(W), of the products that read x
    dF/dx = E^T sign(E x) / C         closed form: f is linear, so no autograd is needed
    IG_i  = (x - x0)_i mean_alpha dF/dx_i at x0 + alpha (x - x0)        a channel of a token
    w     = mean_i |IG_i|, clipped to [Q1 - 1.5 IQR, Q3 + 1.5 IQR], sum 1

The paper (2603.17809) integrates through a whole transformer block, by autograd; here f is the
group of products that read one value, because torch is no part of the base install. x0 is 0 where
weights alone are rounded, and x rounded where activations are (x0 = x would give zero everywhere).
Completeness: the sum of IG_i over channels is F(x) - F(x0) of each token.
"""

from __future__ import annotations

import numpy as np

__all__ = ["attributions", "token_weights"]

STEPS = 32  # midpoints of [0, 1]
FENCE = 1.5  # interquartile ranges


def attributions(error: np.ndarray, inputs: np.ndarray, start: np.ndarray | None) -> np.ndarray:
    """IG [T,m] of error E [n,m] at inputs [T,m], from start [T,m] (None: 0)."""
    e, x = np.asarray(error, np.float64), np.asarray(inputs, np.float64)
    x0 = np.zeros_like(x) if start is None else np.asarray(start, np.float64)
    gradient = np.zeros_like(x)
    for alpha in (np.arange(STEPS) + 0.5) / STEPS:
        gradient += np.sign((x0 + alpha * (x - x0)) @ e.T) @ e
    return (x - x0) * gradient / (STEPS * len(e))


def token_weights(
    error: np.ndarray, inputs: np.ndarray, start: np.ndarray | None = None
) -> np.ndarray:
    """float64 [T], sum 1; all alike where nothing errs."""
    found = np.abs(attributions(error, inputs, start)).mean(1)
    first, third = np.percentile(found, [25, 75])
    reach = FENCE * (third - first)
    found = np.clip(found, first - reach, third + reach)
    total = found.sum()
    return found / total if total > 0 else np.full(len(found), 1 / max(1, len(found)))
