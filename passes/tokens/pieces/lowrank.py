"""q k^T by few channels: both projections cut to rank R, the factor between them multiplied in.

    Wq ~ Vq Uq^T,  Wk ~ Vk Uk^T   (truncated SVD, the singular values shared as square roots)
    q k^T ~ (X Vq) (Uq^T Uk) (X Vk)^T = (X Vq Uq^T Uk) (X Vk)^T = (X left) (X right)^T

`left` and `right` are constants [D,R]. This only works where nothing stands between the two
projections: a rotary embedding does, so what is left is the product without positions.
"""

from __future__ import annotations

import numpy as np

from edgevlm.passes.tokens.projections import Projection

__all__ = ["folded", "truncated"]


def truncated(weight: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """(V [D,R], U [C,R]), weight [D,C] ~ V U^T: the nearest of that rank; R = min(rank, D, C)."""
    left, singular, right = np.linalg.svd(weight.astype(np.float64), full_matrices=False)
    root = np.sqrt(singular[:rank])
    return left[:, :rank] * root, right[:rank].T * root


def folded(q: Projection, k: Projection, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """(left, right) float32 [D + 1, R] for rows [x, 1]: their product is (x Wq + bq)(x Wk + bk)^T.

    Biases are one more input row. For the whole rank the product is exact.
    """
    (vq, uq), (vk, uk) = (truncated(np.concatenate([p.weight, p.bias[None]]), rank) for p in (q, k))
    return (vq @ (uq.T @ uk)).astype(np.float32), vk.astype(np.float32)
