"""A grid cut into exactly K cells: bands of rows, each band cut across into cells.

    8 x 8, K = 10     bands of 3, 3 and 2 rows, cut into 4, 3 and 3 cells

As many bands as keep cells about square, never more cells in a band than it has columns, so that
every K from 1 to the number of places works and every place belongs to one cell.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgevlm.passes.tokens.keys import ascending, keys
from edgevlm.passes.tokens.view import View

__all__ = ["best_of_each", "cut_grid"]


def cut_grid(rows: int, columns: int, cells: int) -> list[np.ndarray]:
    """Places (int64, ascending) of each cell; 1 <= cells <= rows x columns."""
    square = round((cells * rows / columns) ** 0.5)
    bands = min(max(square, -(-cells // columns), 1), rows, cells)
    lattice = np.arange(rows * columns).reshape(rows, columns)
    shares = [len(part) for part in np.array_split(np.arange(cells), bands)]
    return [
        cell.reshape(-1)
        for band, share in zip(np.array_split(lattice, bands), shares, strict=True)
        for cell in np.array_split(band, share, axis=1)
    ]


def best_of_each(view: View, score: ir.Value, cells: list[np.ndarray]) -> ir.Value:
    """The place of largest score of each cell, int64 [K], ascending. One table, one ArgMax."""
    build, longest = view.build, max(len(cell) for cell in cells)
    # padded by the cell's first place: it is there already, and of equals the first one wins
    table = np.stack([np.pad(c, (0, longest - len(c)), constant_values=c[0]) for c in cells])
    order = keys(build, view.form, score, view.count)
    worth = build("Gather", order, build.const(table), axis=0)  # [K,M]
    winner = build("ArgMax", worth, axis=1, keepdims=0)
    slot = build("Add", winner, build.const(np.arange(len(cells)) * longest))
    picked = build("Gather", build.const(table.reshape(-1)), slot, axis=0)
    return ascending(build, picked, len(cells))
