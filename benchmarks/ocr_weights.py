"""How the weights of a layer are rounded, and what each way costs: DASQ and what it is against.

The opponent is asymmetric quantisation at its best: for every zero point of a channel the best of
100 scales, then the least squares of its codes. The best of all is kept; the symmetric grid is one
of them. Card A2 of the paper (CVPR 2026) counts work as bit operations, of f products with
activations of a bits: (k + 1) a f with a zero point, since a difference of k-bit codes has k + 1
bits; k a f without; (kD + (1 - p) kS) a f for DASQ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from onnxruntime.quantization.quant_utils import compute_scale_zp

from edgevlm.passes.quantize.dasq import Dasq, decompose
from edgevlm.passes.quantize.dasq_joint import search
from edgevlm.passes.quantize.grids import Grid, codes, fit_scale

__all__ = ["WAYS", "Rounded", "asymmetric", "int8", "relative_error", "scan"]

SCALES = np.linspace(0.2, 1.05, 100)  # of the one that clips nothing at this zero point
REFINED = 8
SCALE_BITS = 32  # a float a channel, in every way
SHIFT_BITS = 4
SPARSE_BITS = 4  # the default of `decompose` and `search`


@dataclass(frozen=True)
class Rounded:
    weights: np.ndarray  # float64 [n,m]
    product_bits: float  # mean bits of the weights' side of a product
    stored_bits: float  # a weight, with scales and what else a channel needs
    zero_points: int = 0  # channels whose zero point is not zero


def relative_error(w: np.ndarray, rounded: np.ndarray) -> float:
    return float(np.square(w - rounded).sum() / np.square(w).sum())


def int8(w: np.ndarray) -> np.ndarray:
    return _on_grid(w, 8, "max")


def symmetric(w: np.ndarray, bits: int) -> Rounded:
    return Rounded(_on_grid(w, bits, "mse"), bits, bits + SCALE_BITS / w.shape[1])


def asymmetric(w: np.ndarray, bits: int) -> Rounded:
    best, scale, zero = np.full(len(w), np.inf), np.ones(len(w)), np.zeros(len(w))
    for z in range(2**bits):
        error, d = _at_zero_point(w, z, bits)
        new = error < best
        best, scale, zero = (np.where(new, a, b) for a, b in ((error, best), (d, scale), (z, zero)))
    return _with_zero_points(w, scale, zero, bits)


def scan(w: np.ndarray, bits: int) -> float:
    """The least squared error of one channel [1,m] over every zero point and 2000 scales."""
    least = np.inf
    for z in range(2**bits):
        for d in np.abs(w).max() * np.geomspace(0.02, 2, 2000):
            q = np.clip(np.rint(w / d), -z, 2**bits - 1 - z)
            least = min(least, float(np.square(w - q * d).sum()))
    return least


def from_range(w: np.ndarray, bits: int) -> Rounded:
    """Asymmetric as onnxruntime.quantization has it: from the least to the largest."""
    zero, scale = np.zeros(len(w)), np.ones(len(w))
    for i, row in enumerate(w):
        ends = (f(row).astype(np.float32) for f in (np.min, np.max))
        z, d = compute_scale_zp(*ends, np.array(0), np.array(2**bits - 1))
        zero[i], scale[i] = np.asarray(z).item(), np.asarray(d).item()
    return _with_zero_points(w, scale, zero, bits)


def dasq(w: np.ndarray, bits: int) -> Rounded:
    return _of(decompose(w, bits)[0], bits, by_row=False)


def dasq_by_row(w: np.ndarray, bits: int) -> Rounded:
    return _of(decompose(w, bits, by_row=True, fold_bits=8)[0], bits, by_row=True)


def joint(w: np.ndarray, bits: int) -> Rounded:
    return _of(search(w, bits), bits, by_row=False)


def joint_by_row(w: np.ndarray, bits: int) -> Rounded:
    return _of(search(w, bits, by_row=True, fold_bits=8), bits, by_row=True)


WAYS: dict[str, Callable[[np.ndarray, int], Rounded]] = {
    "symmetric": symmetric,
    "asymmetric, range": from_range,
    "asymmetric": asymmetric,
    "dasq": dasq,
    "dasq, by row": dasq_by_row,
    "joint": joint,
    "joint, by row": joint_by_row,
}


def _on_grid(w: np.ndarray, bits: int, how: str) -> np.ndarray:
    scale = fit_scale(w, Grid(bits), how)
    return codes(w, scale, Grid(bits)) * scale[:, None]


def _at_zero_point(w: np.ndarray, z: int, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """(least error, its scale) of each row, codes in [-z, 2^bits - 1 - z]."""
    high = 2**bits - 1 - z
    above = w.max(1) / high if high else np.zeros(len(w))
    below = -w.min(1) / z if z else np.zeros(len(w))
    whole = np.maximum(above, below)
    whole = np.where(whole > 0, whole, 1)
    least, best = np.full(len(w), np.inf), whole
    for step in range(len(SCALES) + REFINED):
        if step < len(SCALES):
            d = whole * SCALES[step]
        else:
            q = np.clip(np.rint(w / best[:, None]), -z, high)
            fit = (q * w).sum(1) / np.maximum(np.square(q).sum(1), 1e-30)
            d = np.where(fit > 0, fit, best)
        q = np.clip(np.rint(w / d[:, None]), -z, high)
        error = np.square(w - q * d[:, None]).sum(1)
        best, least = np.where(error < least, d, best), np.minimum(error, least)
    return least, best


def _with_zero_points(w: np.ndarray, scale: np.ndarray, zero: np.ndarray, bits: int) -> Rounded:
    z, d = zero[:, None], scale[:, None]
    q = np.clip(np.rint(w / d) + z, 0, 2**bits - 1) - z
    stored = bits + (SCALE_BITS + bits) / w.shape[1]
    off = int((zero != 2 ** (bits - 1)).sum())  # where signed codes have their 0
    return Rounded(q * d, bits + 1, stored, off)


def _of(found: Dasq, bits: int, by_row: bool) -> Rounded:
    """Stored: 4 bits and a column for each outlier, a shift a row, and how many it has.

    By row the table is of one width, that of the longest row.
    """
    m = found.mask.shape[1]
    share = found.mask.sum(1).max() / m if by_row else found.mask.mean()
    column, number = (int(np.ceil(np.log2(x))) for x in (m, m + 1))
    row = SCALE_BITS + SHIFT_BITS + (0 if by_row else number)
    stored = bits + share * (SPARSE_BITS + column) + row / m
    return Rounded(found.weights(), bits + SPARSE_BITS * share, stored)
