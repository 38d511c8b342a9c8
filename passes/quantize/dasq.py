"""DASQ: a dense symmetric part and a few symmetric outliers added (CVPR 2026, no public code).

    W [n,m], a row an output channel     ~  D x dense  +  D x 2^u x sparse       D [n], u [n]
    dense    integers of kD bits, everywhere
    sparse   integers of kS bits, at (1 - p) n m places, 0 elsewhere
    in turns D of what the outliers leave; then the largest residuals, and their scale, to a power
             of two of D; until the scales rest

No zero point: weights look asymmetric for about 1 % of them (without, the midpoint of a row tends
to 0). The printed algorithm takes the mask over the whole matrix; `by_row` takes as many in
every row, which makes the sparse part a table of fixed shape (static ELL) at the same error. Ours:
the best round is kept, since a mask by magnitude and the power of two may each cost more than the
scales gain; and `fold_bits` bounds u so that `folded` fits an integer of so many bits, exactly.
Most u are -2 to 0: the sparse part mends rounding as well as far outliers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgevlm.passes.quantize.grids import Grid, codes, fit_scale

__all__ = ["Dasq", "decompose", "largest_shift"]

ROUNDS = 10  # the error falls by less than 1 % a round from there on


@dataclass(frozen=True)
class Dasq:
    """W ~ scale x (dense + 2^shift x sparse)."""

    dense: np.ndarray  # int16 [n,m]
    sparse: np.ndarray  # int16 [n,m], 0 where no outlier is
    scale: np.ndarray  # float64 [n], each a float32
    shift: np.ndarray  # int64 [n]
    mask: np.ndarray  # bool [n,m]

    def weights(self) -> np.ndarray:
        """float64 [n,m]."""
        ratio = np.exp2(self.shift)[:, None]
        return self.scale[:, None] * (self.dense + ratio * self.sparse)

    def folded(self) -> tuple[np.ndarray, np.ndarray]:
        """(integers [n,m], scale [n]): one tensor that is the same number for number."""
        down = np.minimum(self.shift, 0)
        whole = (self.dense << -down[:, None]) + (self.sparse << (self.shift - down)[:, None])
        return whole, self.scale * np.exp2(down)

    def ell(self) -> tuple[np.ndarray, np.ndarray]:
        """(places int64 [n,r], integers int16 [n,r]): the outliers of each row, r of the longest.

        A shorter row is filled with zeros at place 0.
        """
        places = np.broadcast_to(np.arange(self.mask.shape[1]), self.mask.shape)
        found, values = (_table(x, self.mask)[0] for x in (places, self.sparse))
        return found.astype(np.int64), values.astype(np.int16)


def decompose(
    weights: np.ndarray,
    dense_bits: int = 4,
    sparse_bits: int = 4,
    keep: float = 0.98,
    *,
    power_of_two: bool = True,
    by_row: bool = False,
    fold_bits: int | None = None,
    rounds: int = ROUNDS,
    tolerance: float = 1e-3,
) -> tuple[Dasq, list[float]]:
    """Of weights [n,m], finite; and the error, relative to |W|^2, of each round.

    keep: p, the share that is no outlier; 1 is plain symmetric quantisation. power_of_two: False
    leaves the ratio free, for comparison; `shift` has no meaning then and the scale of outliers is
    not kept, so only the error is of use. Raises ValueError where no shift fits in `fold_bits`.
    """
    w = np.asarray(weights, np.float64)
    dense_grid, sparse_grid = Grid(dense_bits), Grid(sparse_bits)
    limit = None if fold_bits is None else largest_shift(dense_bits, sparse_bits, fold_bits)
    total = float(np.square(w).sum()) or 1.0
    outliers, scale, ratio = np.zeros_like(w), None, None
    best: tuple[float, Dasq] | None = None
    errors: list[float] = []
    for _ in range(rounds):
        before = scale, ratio
        scale = fit_scale(w - outliers, dense_grid, near=scale)
        dense = codes(w - outliers, scale, dense_grid)
        residual = w - scale[:, None] * dense
        mask = _largest(np.abs(residual), keep, by_row)
        ratio, shift = _ratio(residual, mask, scale, sparse_grid, power_of_two, limit)
        sparse = np.where(mask, codes(residual, scale * ratio, sparse_grid), 0)
        outliers = (scale * ratio)[:, None] * sparse
        dense = codes(w - outliers, scale, dense_grid)  # of what they leave now
        error = float(np.square(w - scale[:, None] * dense - outliers).sum()) / total
        errors.append(error)
        if best is None or error < best[0]:
            integers = (x.astype(np.int16) for x in (dense, sparse))
            best = error, Dasq(*integers, scale, shift, mask)
        if keep == 1 or _rests(before, (scale, ratio), tolerance):
            break
    assert best is not None
    return best[1], errors


def largest_shift(dense_bits: int, sparse_bits: int, bits: int) -> int:
    """The largest |u| for which every folded integer fits in `bits` bits; 3 for 4, 4 and 8.

    Raises ValueError where none does.
    """
    dense, sparse = (-Grid(b).low for b in (dense_bits, sparse_bits))
    fits = [
        u
        for u in range(bits)
        if max(dense + sparse * 2**u, dense * 2**u + sparse) <= Grid(bits).high
    ]
    if not fits:
        raise ValueError(f"{dense_bits} and {sparse_bits} bits do not fold into {bits}")
    return max(fits)


def _largest(size: np.ndarray, keep: float, by_row: bool) -> np.ndarray:
    """bool [n,m]: the (1 - keep) n m largest, or ceil((1 - keep) m) of every row; ties by place."""
    flat = size if by_row else size.reshape(1, -1)
    share = (1 - keep) * flat.shape[1]
    count = int(np.ceil(share - 1e-9)) if by_row else round(share)
    mask = np.zeros(flat.shape, bool)
    if count:
        bound = np.partition(flat, -count, axis=1)[:, -count][:, None]
        mask = flat > bound
        open_places = count - mask.sum(1, keepdims=True)
        equal = flat == bound
        mask |= equal & (np.cumsum(equal, axis=1) <= open_places)
    return mask.reshape(size.shape)


def _ratio(
    residual: np.ndarray,
    mask: np.ndarray,
    scale: np.ndarray,
    grid: Grid,
    power_of_two: bool,
    limit: int | None,
) -> tuple[np.ndarray, np.ndarray]:
    """(scale of the outliers over the dense one [n], its exponent [n])."""
    few, there = _table(residual, mask)  # a row of outliers is short
    some = there.any(1)
    free = np.where(some, fit_scale(few, grid, weight=there.astype(np.float64)) / scale, 1)
    if not power_of_two:
        return free, np.zeros(len(scale), np.int64)
    about = np.rint(np.log2(free)).astype(np.int64)
    best, least = np.zeros_like(about), np.full(len(scale), np.inf)
    for step in (0, -1, 1):  # rounding an exponent is not rounding an error
        shift = about + step if limit is None else np.clip(about + step, -limit, limit)
        real = scale * np.exp2(shift)
        error = np.where(there, few - real[:, None] * codes(few, real, grid), 0)
        loss = np.square(error).sum(1)
        best, least = np.where(loss < least, shift, best), np.minimum(least, loss)
    best = np.where(some, best, 0)
    return np.exp2(best), best


def _table(values: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(values at the mask [n,r], whether there): ascending places, r of the longest row."""
    rows, columns = np.nonzero(mask)
    counts = mask.sum(1)
    at = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    table = np.zeros((len(mask), int(counts.max(initial=0))))
    table[rows, at] = values[rows, columns]
    return table, np.arange(table.shape[1]) < counts[:, None]


def _rests(before: tuple, after: tuple, tolerance: float) -> bool:
    """Whether both scales changed by less than `tolerance` in sum, relative."""
    if before[0] is None:
        return False
    change = [np.linalg.norm(b - a) / np.linalg.norm(a) for a, b in zip(before, after, strict=True)]
    return sum(change) < tolerance
