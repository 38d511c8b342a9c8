"""The numbers of a lookup table, chosen for rows of weights: least square error, in one dimension.

    rows [n,m] -> n / group groups of numbers -> of each a table of 2^bits, and an index a number

Lloyd's steps (1982, doi:10.1109/TIT.1982.1056489) from two starts, quantiles and the best even grid
of as many steps: no step makes the error larger, so a table is never worse than that grid. Sorted
once, a step is a few searches and sums. No chance is drawn: the same weights have the same tables.
Numbers that are no more than the table has places are kept exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgevlm.passes.quantize.grids import Grid, fit_scale

__all__ = ["Palettised", "group_of", "palettise"]

STEPS = 40


@dataclass(frozen=True)
class Palettised:
    """indices uint8 [n,m]; tables float32 [G,2^bits], ascending: rows i n/G to (i+1) n/G have i."""

    indices: np.ndarray
    tables: np.ndarray

    def weights(self) -> np.ndarray:
        """float64 [n,m]."""
        of = np.arange(len(self.indices)) // (len(self.indices) // len(self.tables))
        return self.tables[of[:, None], self.indices].astype(np.float64)


def group_of(channels: int, least: int) -> int:
    """How many share a table so that all groups are whole: `least` or a few more; 0: all."""
    sizes = (g for g in range(least or channels, channels) if channels % g == 0)
    return next(sizes, channels)


def palettise(rows: np.ndarray, bits: int, least: int) -> Palettised:
    """rows float [n,m], finite; least: rows that share a table, at the least; 0: all of them."""
    n, group = len(rows), group_of(len(rows), least)
    tables, indices = [], []
    for start in range(0, n, group):
        mine = np.asarray(rows[start : start + group], np.float64)
        tables.append(_table(mine.ravel(), bits))
        indices.append(_nearest(mine, tables[-1].astype(np.float64)))
    return Palettised(np.concatenate(indices).astype(np.uint8), np.stack(tables))


def _table(numbers: np.ndarray, bits: int) -> np.ndarray:
    """float32 [2^bits], ascending."""
    size, ordered = 2**bits, np.sort(numbers)
    distinct = np.unique(ordered)
    if len(distinct) <= size:
        return np.append(distinct, np.repeat(distinct[-1:], size - len(distinct))).astype("f4")
    grid = Grid(bits)
    even = np.arange(-(2 ** (bits - 1)), 2 ** (bits - 1)) * fit_scale(numbers[None], grid)[0]
    starts = np.quantile(ordered, (np.arange(size) + 0.5) / size), even
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    found = [_settled(ordered, sums, start) for start in starts]
    return min(found, key=lambda table: _error(ordered, table)).astype(np.float32)


def _settled(ordered: np.ndarray, sums: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Each number of the table becomes the mean of those that are nearest to it, until it stays."""
    for _ in range(STEPS):
        edges = np.searchsorted(ordered, (table[1:] + table[:-1]) / 2)
        edges = np.concatenate([[0], edges, [len(ordered)]])
        count = np.diff(edges)
        new = np.where(count > 0, np.diff(sums[edges]) / np.maximum(count, 1), table)
        if np.array_equal(new, table):
            break
        table = new
    return table


def _nearest(numbers: np.ndarray, table: np.ndarray) -> np.ndarray:
    return np.searchsorted((table[1:] + table[:-1]) / 2, numbers)


def _error(numbers: np.ndarray, table: np.ndarray) -> float:
    return float(np.square(numbers - table[_nearest(numbers, table)]).sum())
