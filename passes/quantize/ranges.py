"""How far a symmetric grid of activations reaches: four ways from one histogram.

    max          the largest |x| seen: nothing is clipped
    percentile   the |x| below which so many per cent lie
    mse          the least expected squared error of rounding and clipping
    entropy      the least Kullback-Leibler divergence between |x| and its quantised form, over
                 clips at every bin from `levels` on (Migacz, GTC 2017; what TensorRT calibrated by)

The scale is the reach over the grid's largest code; entropy is for integers, whose steps are equal.
Constant zero gets scale 1.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgevlm.passes.quantize.grids import TINY, AnyGrid
from edgevlm.passes.quantize.histogram import BINS, Histogram

__all__ = ["RANGES", "activation_scale"]

CLIPS = 200  # candidates of `mse`
STRIDE = 8  # bins between two candidates of `entropy`


def activation_scale(
    seen: Histogram, grid: AnyGrid, how: str = "mse", percentile: float = 99.99
) -> float:
    """A float32 number above 0. Raises ValueError where NaN or infinite numbers came, or none."""
    if seen.odd:
        raise ValueError(f"{seen.odd} numbers are NaN or infinite")
    if not seen.total:
        raise ValueError("no number came")
    if seen.top == 0:
        return 1.0
    reach = min(RANGES[how](seen, grid, percentile), seen.top)
    return float(np.float32(max(reach / grid.high, TINY)))


def _max(seen: Histogram, grid: AnyGrid, percentile: float) -> float:
    return seen.top


def _percentile(seen: Histogram, grid: AnyGrid, percentile: float) -> float:
    below = seen.zeros + np.cumsum(seen.counts)
    last = int(np.searchsorted(below, percentile / 100 * seen.total))
    return (min(last, BINS - 1) + 1) * seen.width


def _mse(seen: Histogram, grid: AnyGrid, percentile: float) -> float:
    centres, counts = seen.centres(), seen.counts
    used = counts > 0
    centres, counts = centres[used], counts[used]
    best, least = seen.top, np.inf
    for reach in seen.top * np.linspace(1, 1 / CLIPS, CLIPS):
        scale = reach / grid.high
        error = centres - grid.nearest(centres / scale) * scale
        loss = float(counts @ np.square(error))
        if loss < least:
            best, least = reach, loss
    return best


def _entropy(seen: Histogram, grid: AnyGrid, percentile: float) -> float:
    levels = grid.high + 1  # of |x|
    counts = seen.counts.astype(np.float64)
    last = int(np.flatnonzero(counts)[-1]) + 1
    if levels >= last:
        return seen.top
    best, least = seen.top, np.inf
    for clip in range(last, levels - 1, -STRIDE):
        kept = counts[:clip].copy()
        target = kept.copy()
        target[-1] += counts[clip:].sum()  # what is clipped is seen at the edge
        level = np.arange(clip) * levels // clip
        used = kept > 0
        sums = np.bincount(level, kept, levels)
        bins = np.bincount(level, used, levels)
        coarse = np.where(used, (sums / np.maximum(bins, 1))[level], 0)
        loss = _divergence(target, coarse)
        if loss < least:
            best, least = clip * seen.width, loss
    return best


def _divergence(target: np.ndarray, coarse: np.ndarray) -> float:
    """KL of two histograms, smoothed where only the coarse one is empty."""
    p, q = target / target.sum(), coarse / max(coarse.sum(), 1.0)
    some = p > 0
    return float((p[some] * np.log(p[some] / np.maximum(q[some], 1e-9))).sum())


RANGES: dict[str, Callable[[Histogram, AnyGrid, float], float]] = {
    "max": _max,
    "percentile": _percentile,
    "mse": _mse,
    "entropy": _entropy,
}
