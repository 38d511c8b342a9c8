"""A matrix and a scheme -> codes and scales. Every method of rounding in one place."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgevlm.passes.quantize.compensation.gptq import gptq
from edgevlm.passes.quantize.compensation.gram import Gram
from edgevlm.passes.quantize.dasq import Dasq, decompose
from edgevlm.passes.quantize.dasq_joint import search
from edgevlm.passes.quantize.grids import (
    AnyGrid,
    Grid,
    Rounded,
    blocks_of,
    codes,
    fit_scale,
    grid_of,
    rows_of_blocks,
)
from edgevlm.passes.quantize.scheme import FITTED, Scheme

__all__ = ["MIXES", "round_rows", "to_nearest"]

#: share of image tokens in the weights of a grid search; VLM-PTQ takes the best for each layer
MIXES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
FOLDED_BITS = 8  # dasq is folded into integers of so many, exactly


def round_rows(rows: np.ndarray, scheme: Scheme, gram: Gram | None = None) -> Rounded | Dasq:
    """Of a weight [n,m]. gram: of what it is multiplied with; None where nobody saw that.

    A method that needs inputs and has none rounds to nearest by mean square error.
    """
    if scheme.splits:
        return _in_two(rows, scheme, gram)
    grid = grid_of(scheme.number, scheme.bits)
    if scheme.method in FITTED and gram is not None:
        aim = FITTED[scheme.method]
        options = {"block": scheme.block or None, "aim": aim}
        if aim != "vlm-ptq" or len(gram.power) < 2:
            return gptq(rows, gram, grid, **options)
        found = [
            gptq(rows, gram, grid, importance=gram.importance(mix), **options) for mix in MIXES
        ]
        return min(found, key=lambda rounded: gram.loss(rows, rounded.weights()))
    return to_nearest(rows, grid, scheme.block, "max" if scheme.method == "max" else "mse")


def _in_two(rows: np.ndarray, scheme: Scheme, gram: Gram | None) -> Dasq:
    """A few outliers apart; dasq-gptq: the dense part makes up for what the layer would err."""
    bits = rows, scheme.bits, scheme.outlier_bits, 1 - scheme.outliers
    whole = scheme.form == "fold"
    options = {"by_row": scheme.form == "ell", "fold_bits": FOLDED_BITS if whole else None}
    found = search(*bits, **options) if scheme.joint else decompose(*bits, **options)[0]
    if scheme.method == "dasq" or gram is None:
        return found
    scale = found.scale[:, None]
    rest = rows - scale * np.exp2(found.shift)[:, None] * found.sparse
    return replace(found, dense=gptq(rest, gram, Grid(scheme.bits), scales=scale).codes)


def to_nearest(rows: np.ndarray, grid: AnyGrid, block: int, how: str) -> Rounded:
    """Each number to the nearest of its grid; how: as `fit_scale` says."""
    n, m = rows.shape
    size = min(block or m, m)
    parts = blocks_of(rows, size)
    scale = fit_scale(parts, grid, how)
    found = rows_of_blocks(codes(parts, scale, grid), n, m)
    return Rounded(found.astype(grid.dtype), scale.reshape(n, -1), size)
