"""The best narrower pair of matrices for a product of two: A^T B ~ A'^T B' (Eckart and Young).

    scores of a head          A = [W_Q | b_Q] [q,m]     B = [W_K | b_K] [q,m]
    values and their output   A = [W_V | b_V] [v,m]     B = W_O         [v,d]
    grouped queries           those that share a head side by side: A [q,g m], or B [v,g d]

m is the model's width and one more for the bias. A^T B has rank q at most, so its SVD is that of
the core R_A R_B^T [q,q] behind two QR decompositions: the same numbers as of the whole [m,m] in a
fraction of the time. What is lost in Frobenius norm is the sum of the squares of the singular
values that are dropped. NuWa (2504.03118), equations of its MHA pruning; the root of the singular
values goes to both sides, so that neither is large. A head's scores keep the factor they had: with
fewer channels 1 / sqrt(q) no longer follows from the shape, and the graph has to say it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Factors", "Spread", "factors", "rounded_down", "width_for"]

FLOOR = 1e-7  # of the largest eigenvalue of inputs: below it no input ever went


@dataclass(frozen=True)
class Spread:
    """How inputs lie: the root of their second moments [m,m], and its inverse."""

    root: np.ndarray
    inverse: np.ndarray

    @classmethod
    def of(cls, moments: np.ndarray, about_mean: bool = False) -> Spread:
        """Of the sum of x x^T [m,m] over inputs x whose last number is 1.

        about_mean: of x less its mean. That is what counts of keys: softmax does not see what all
        keys have in common.
        """
        moments = np.asarray(moments, np.float64) / max(moments[-1, -1], 1.0)
        if about_mean:
            moments = moments - np.outer(moments[-1], moments[-1])
        values, vectors = np.linalg.eigh(moments)
        root = np.sqrt(np.maximum(values, FLOOR * max(float(values.max(initial=0)), 1e-300)))
        return cls((vectors * root) @ vectors.T, (vectors / root) @ vectors.T)


@dataclass(frozen=True)
class Factors:
    """A^T B = left diag(s) right^T; left [m,q] and right [n,q] with orthonormal columns."""

    left: np.ndarray
    s: np.ndarray  # [q], falling
    right: np.ndarray

    def narrowed(self, width: int) -> tuple[np.ndarray, np.ndarray]:
        """(A' [width,m], B' [width,n]), float64."""
        root = np.sqrt(self.s[:width])
        return (self.left[:, :width] * root).T, (self.right[:, :width] * root).T

    @property
    def energy(self) -> np.ndarray:
        """[q]: the share of the squared norm that the first 1, 2, ... q channels keep."""
        squares = self.s**2
        total = squares.sum()
        return np.cumsum(squares) / total if total > 0 else np.ones(len(squares))


def factors(a: np.ndarray, b: np.ndarray) -> Factors:
    """Of a [q,m] and b [q,n]. Raises ValueError for numbers that are not finite."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("weights of a head are not finite")
    basis_a, core_a = np.linalg.qr(a.T)
    basis_b, core_b = np.linalg.qr(b.T)
    u, s, vt = np.linalg.svd(core_a @ core_b.T, full_matrices=False)
    return Factors(basis_a @ u, s, basis_b @ vt.T)


def width_for(energies: Sequence[np.ndarray], share: float, multiple: int) -> int:
    """The least channels a head that keep `share` of the energy in the mean over heads.

    energies: [q] of each head, of its first 1, 2, ... channels. Rounded down to a multiple, as
    NuWa does, but never to none; where all are needed, all stay.
    """
    energy = np.mean(energies, axis=0)
    least = int(np.searchsorted(energy, share - 1e-12)) + 1
    return rounded_down(least, len(energy), multiple)


def rounded_down(width: int, whole: int, multiple: int) -> int:
    """To a multiple, but never to none; where all `whole` are wanted, all stay."""
    return whole if width >= whole else max(width // multiple * multiple, min(multiple, whole))
