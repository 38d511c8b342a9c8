"""Symmetric grids: a number becomes a code times a scale, and nothing is added.

    Grid    Q(w; d, k) = d x clip(round(w / d), low, high)        low = -2^(k-1), high = 2^(k-1) - 1
    E4M3    Q(w; d)    = d x the nearest float of 4 exponent and 3 mantissa bits, within 448

Weights are looked at as rows [n,m], a row an output channel or one block of it. Eight bits leave
-128 out, so that the largest magnitude is the same on both sides and no product of two int8 numbers
needs the one value that overflows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import ml_dtypes
import numpy as np

__all__ = [
    "E4M3",
    "AnyGrid",
    "Grid",
    "Rounded",
    "blocks_of",
    "codes",
    "fit_scale",
    "grid_of",
    "rows_of_blocks",
    "usable",
]

CANDIDATES = 100  # DASQ searches so many scales over the range of a row (CVPR 2026)
REFINED = 4  # steps of d = <w,q> / <q,q>
LOCAL = 21  # candidates within 10 % of a scale that is known already
CHUNK = 1 << 22  # elements that are searched at once, 32 MB in float64
TINY = float(np.finfo(np.float32).tiny)  # below it a float32 scale has too few digits


@dataclass(frozen=True)
class Grid:
    """Integers of `bits` bits, 2 to 16."""

    bits: int
    dtype: ClassVar[type] = np.int16  # that holds the codes of weights

    @property
    def high(self) -> int:
        return 2 ** (self.bits - 1) - 1

    @property
    def low(self) -> int:
        return -self.high if self.bits >= 8 else -self.high - 1

    def nearest(self, x: np.ndarray) -> np.ndarray:
        """Of each x, in steps of the scale, its code as float64."""
        return np.clip(np.rint(x), self.low, self.high)


@dataclass(frozen=True)
class E4M3:
    """FP8 as NVIDIA multiplies it: 2^-9 (subnormal) to 448, no infinity; ties to even."""

    high: ClassVar[float] = 448.0
    dtype: ClassVar[type] = ml_dtypes.float8_e4m3fn

    def nearest(self, x: np.ndarray) -> np.ndarray:
        """Of each x, in units of the scale, its code as float64."""
        # beyond 464 the conversion itself gives NaN, and a scale in float32 may lie a little low
        held = np.clip(x, -self.high, self.high).astype(self.dtype)
        return held.astype(np.float64)


AnyGrid = Grid | E4M3


def grid_of(number: str, bits: int = 8) -> AnyGrid:
    """number: int or e4m3, as options of passes say it."""
    return E4M3() if number == "e4m3" else Grid(bits)


@dataclass(frozen=True)
class Rounded:
    """W ~ codes x scales, by block of columns."""

    codes: np.ndarray  # of the grid's dtype [n,m]
    scales: np.ndarray  # float64 [n,blocks], each a float32
    block: int  # columns that share a scale; m where a row has one

    def weights(self) -> np.ndarray:
        """float64 [n,m]."""
        scale = np.repeat(self.scales, self.block, axis=1)[:, : self.codes.shape[1]]
        return self.codes.astype(np.float64) * scale


def codes(rows: np.ndarray, scale: np.ndarray, grid: AnyGrid) -> np.ndarray:
    """Those of rows [n,m] under scale [n], as float64."""
    return grid.nearest(rows / scale[:, None])


def fit_scale(
    rows: np.ndarray,
    grid: AnyGrid,
    how: Literal["max", "mse"] = "mse",
    *,
    weight: np.ndarray | None = None,
    near: np.ndarray | None = None,
) -> np.ndarray:
    """float64 [n]: a scale a row of rows [n,m].

    max: nothing is clipped. mse: the least sum of `weight` x error^2, by a search over the range
    (or, with `near`, around scales known already, which are never made worse) and then by
    d = <w,q> / <q,q>, which cannot be worse for the codes it is taken for. weight: float [n,m] or
    [m], not negative. A row of zeros gets scale 1.
    """
    rows = np.asarray(rows, np.float64)
    if how == "max":
        return usable(np.abs(rows).max(1, initial=0) / grid.high)
    step = max(1, CHUNK // max(1, rows.shape[1]))
    parts = []
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        mine = None if weight is None else np.broadcast_to(weight, rows.shape)[part]
        parts.append(_search(rows[part], grid, mine, None if near is None else near[part]))
    return np.concatenate(parts) if parts else np.ones(0)


def _search(
    rows: np.ndarray, grid: AnyGrid, weight: np.ndarray | None, near: np.ndarray | None
) -> np.ndarray:
    shown = rows if weight is None else np.where(weight > 0, rows, 0)
    if near is None:
        top = np.abs(shown).max(1, initial=0)[:, None]
        shares = np.linspace(0.2, 1.2, CANDIDATES) / (grid.high + 0.5)
        tried = top * np.append(1 / grid.high, shares)  # the first clips nothing
    else:
        tried = near[:, None] * np.concatenate([[1.0], np.linspace(0.9, 1.1, LOCAL)])
    best, least = np.ones(len(rows)), np.full(len(rows), np.inf)
    for scale in tried.T:
        best, least, _ = _better(rows, usable(scale), grid, weight, best, least)
    for _ in range(REFINED):
        scale = best
        q = codes(rows, scale, grid)
        seen = q if weight is None else q * weight
        power = (seen * q).sum(1)
        scale = np.where(power > 0, (seen * rows).sum(1) / np.maximum(power, TINY), 0)
        best, least, changed = _better(rows, usable(scale), grid, weight, best, least)
        if not changed:
            break
    return best


def _better(
    rows: np.ndarray,
    scale: np.ndarray,
    grid: AnyGrid,
    weight: np.ndarray | None,
    best: np.ndarray,
    least: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, bool]:
    """(scales, their losses, whether any is new): of each row the one of smaller loss."""
    error = _loss(rows - codes(rows, scale, grid) * scale[:, None], weight)
    new = error < least
    return np.where(new, scale, best), np.where(new, error, least), bool(new.any())


def _loss(error: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    return np.square(error).sum(1) if weight is None else (np.square(error) * weight).sum(1)


def usable(scale: np.ndarray) -> np.ndarray:
    """As float32 holds it exactly; 1 where there is nothing to scale."""
    return np.where(scale > 0, np.maximum(scale, TINY), 1).astype(np.float32).astype(np.float64)


def blocks_of(rows: np.ndarray, block: int) -> np.ndarray:
    """rows [n,m] -> [n x ceil(m / block), block], each block a row; the last is padded with 0."""
    n, m = rows.shape
    count = -(-m // block)
    padded = np.zeros((n, count * block), rows.dtype)
    padded[:, :m] = rows
    return padded.reshape(n * count, block)


def rows_of_blocks(blocks: np.ndarray, n: int, m: int) -> np.ndarray:
    """Undoes `blocks_of`."""
    return blocks.reshape(n, -1)[:, :m]
