"""DASQ's form with scales, shifts and places sought together; `dasq` takes them in turns.

In turns is a descent: each scale is the best for what the other leaves, and it rests far from the
best pair. Together it is a search of two numbers a row, because for a given scale D and shift u
nothing is left to choose:

    dense       the nearest of kD bits times D                                error e
    outlier     the nearest dense + 2^u sparse: a multiple of D 2^min(u,0)    error o <= e
    r outliers  where e - o is largest; they leave  sum e - (the r largest of e - o)

So a row has a curve, error by r, the least over all (D, u). Every row takes as many outliers
(`by_row`), or the budget of the matrix goes where the curves fall fastest: each row minimises
error + price x r, and the price is bisected. Ours; the paper has the form and the descent.
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from edgevlm.passes.quantize.dasq import Dasq, largest_shift
from edgevlm.passes.quantize.grids import CHUNK, TINY, Grid, codes, usable

__all__ = ["search"]

RATIO = 1.07  # of a scale to the next that is tried; finer gains less than 1 % of the error
WIDEST = 3  # |u| where no fold bounds it: what a fold of 4 and 4 bits into 8 allows
SPREAD = 4  # a row may take so many times its even share of outliers, and 8 more
REFINED = 4  # steps of D = <w,q> / <q,q>

Bits = tuple[int, int]  # dense, sparse


def search(
    weights: np.ndarray,
    dense_bits: int = 4,
    sparse_bits: int = 4,
    keep: float = 0.98,
    *,
    by_row: bool = False,
    fold_bits: int | None = None,
) -> Dasq:
    """Of weights [n,m], finite; (1 - keep) n m outliers at most, or by row ceil((1 - keep) m).

    Raises ValueError where no shift fits in `fold_bits`.
    """
    w = np.asarray(weights, np.float64)
    n, m = w.shape
    bits = dense_bits, sparse_bits
    bound = WIDEST if fold_bits is None else largest_shift(*bits, fold_bits)
    shifts = range(-min(bound, sparse_bits), min(bound, dense_bits) + 1)  # more would leave gaps
    each = int(np.ceil((1 - keep) * m - 1e-9))
    most = each if by_row else min(m, SPREAD * each + 8) if each else 0
    step = max(1, CHUNK // max(1, m))
    chunks = [slice(i, i + step) for i in range(0, n, step)]
    curves = [_curves(w[c], shifts, bits, most) for c in chunks]
    error, scale, shift = (np.concatenate(x) for x in zip(*curves, strict=True))
    count = np.full(n, each) if by_row else _spend(error, round((1 - keep) * n * m))
    scale, shift = (x[np.arange(n), count] for x in (scale, shift))
    parts = [_fitted(w[c], scale[c], shift[c], count[c], bits) for c in chunks]
    return Dasq(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Dasq)))


def _curves(
    w: np.ndarray, shifts: range, bits: Bits, most: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(least error, its scale, its shift), each [n, most + 1]: by the number of outliers."""
    dense, sparse = map(Grid, bits)
    top = np.abs(w).max(1, initial=0) / (dense.high + 0.5)  # of it nothing is clipped
    reach = (dense.high + 2 ** shifts[-1] * sparse.high) / (dense.high + 0.5)  # nor by an outlier
    tried = int(np.ceil(np.log(1.05 * reach) / np.log(RATIO)))
    least = np.full((len(w), most + 1), np.inf)
    scale, shift = np.ones_like(least), np.zeros(least.shape, np.int64)
    for share in np.geomspace(1 / reach, 1.05, tried):
        d = usable(top * share)
        x = w / d[:, None]
        plain = np.square(x - dense.nearest(x))
        whole = plain.sum(1, keepdims=True)
        for u in shifts if most else (0,):
            gain = plain - np.square(x - _reached(x, u, bits))
            left = np.hstack([whole, whole - np.cumsum(_falling(gain, most), 1)])
            left *= np.square(d)[:, None]
            new = left < least
            least, shift = np.where(new, left, least), np.where(new, u, shift)
            scale = np.where(new, d[:, None], scale)
    return least, scale, shift


def _falling(values: np.ndarray, most: int) -> np.ndarray:
    """The `most` largest of each row, largest first."""
    if not most:
        return values[:, :0]
    start = values.shape[1] - most
    return np.sort(np.partition(values, start, 1)[:, start:], 1)[:, ::-1]


def _spend(error: np.ndarray, budget: int) -> np.ndarray:
    """Outliers a row [n], `budget` at most in sum. error: float [n,r], by their number."""
    number = np.arange(error.shape[1])
    low, high = -TINY, float((error[:, 0] - error.min(1)).max(initial=0)) + TINY
    for _ in range(60):
        price = (low + high) / 2
        enough = (error + price * number).argmin(1).sum() <= budget
        low, high = (low, price) if enough else (price, high)
    count, more = ((error + price * number).argmin(1) for price in (high, low))
    extra = np.maximum(more - count, 0)  # rows of equal price, as far as the budget goes
    return count + np.where(np.cumsum(extra) <= budget - count.sum(), extra, 0)


def _fitted(
    w: np.ndarray, scale: np.ndarray, shift: np.ndarray, count: np.ndarray, bits: Bits
) -> Dasq:
    """The integers, and scales that fit them better for as long as they do."""
    best = _split(w, scale, shift, count, bits)
    least = np.square(w - best.weights()).sum(1)
    for _ in range(REFINED):
        q = best.weights() / best.scale[:, None]
        power = np.square(q).sum(1)
        fit = np.where(power > 0, (q * w).sum(1) / np.maximum(power, TINY), best.scale)
        found = _split(w, usable(fit), shift, count, bits)
        error = np.square(w - found.weights()).sum(1)
        new = error < least
        if not new.any():
            break
        pairs = ((getattr(found, f.name), getattr(best, f.name)) for f in fields(Dasq))
        best = Dasq(*(np.where(new if a.ndim == 1 else new[:, None], a, b) for a, b in pairs))
        least = np.minimum(least, error)
    return best


def _split(
    w: np.ndarray, scale: np.ndarray, shift: np.ndarray, count: np.ndarray, bits: Bits
) -> Dasq:
    """The best integers for these scales, shifts and counts."""
    x, u = w / scale[:, None], shift[:, None]
    plain, reached = codes(w, scale, Grid(bits[0])), _reached(x, u, bits)
    gain = np.square(x - plain) - np.square(x - reached)
    rank = np.argsort(np.argsort(-gain, 1, kind="stable"), 1)
    mask = (rank < count[:, None]) & (gain > 0)
    dense, sparse = _addends(reached, u, bits)
    integers = (np.where(mask, a, b).astype(np.int16) for a, b in ((dense, plain), (sparse, 0)))
    return Dasq(*integers, scale, shift, mask)


def _reached(x: np.ndarray, u: np.ndarray | int, bits: Bits) -> np.ndarray:
    """The nearest dense + 2^u sparse. They have no gaps while 2^|u| values fit the finer part."""
    dense, sparse = map(Grid, bits)
    unit, ratio = np.exp2(np.minimum(u, 0)), np.exp2(u)
    low, high = dense.low + ratio * sparse.low, dense.high + ratio * sparse.high
    return np.clip(np.rint(x / unit) * unit, low, high)


def _addends(value: np.ndarray, u: np.ndarray, bits: Bits) -> tuple[np.ndarray, np.ndarray]:
    """(dense, sparse) with dense + 2^u sparse == value; the coarser is the nearest it can be."""
    dense, sparse = map(Grid, bits)
    up, step = u >= 0, np.exp2(np.abs(u))
    whole = value / np.exp2(np.minimum(u, 0))
    low, high = np.where(up, sparse.low, dense.low), np.where(up, sparse.high, dense.high)
    most = np.where(up, dense.high, sparse.high)  # half a step down always fits the finer
    low = np.maximum(np.ceil((whole - most) / step), low)
    coarse = np.clip(np.rint(whole / step), low, high)
    fine = whole - step * coarse
    return np.where(up, fine, coarse), np.where(up, coarse, fine)
