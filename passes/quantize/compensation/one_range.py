"""A range a channel becomes one range for all (RepQ-ViT, 2212.08254), in the symmetric dialect.

    x' = (x - centre) / ratio      centre_i = (max_i + min_i) / 2      half_i = (max_i - min_i) / 2
    W x = (W ratio) x' + W centre                                      ratio_i = half_i / mean half

RepQ-ViT's scale s_i and zero point z_i of a channel become those of the layer; with no zero point
the layer's is 0, and what it took care of is the centre. Without a bias to take it, centre is 0.
"""

from __future__ import annotations

import numpy as np

__all__ = ["one_range"]

LEAST = 1e-4  # a ratio below it would blow the channel up


def one_range(
    low: np.ndarray, high: np.ndarray, centred: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """(ratio [m], centre [m]) of channels in [low, high]; 1 where one never moves."""
    low, high = (np.asarray(v, np.float64) for v in (low, high))
    centre = (low + high) / 2 if centred else np.zeros(low.shape)
    half = np.maximum(high - centre, centre - low)
    some = half > 0
    mean = half[some].mean() if some.any() else 1.0
    return np.where(some, np.maximum(half / mean, LEAST), 1.0), centre
