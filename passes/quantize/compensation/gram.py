"""What compensation needs to know of a layer's inputs, added up batch by batch.

    X   [T,m]   what the layer is given in the quantised model
    X~  [T,m]   what it is given in the float model; X where nobody looked
    H = X^T X [m,m]        D = (X~ - X)^T X [m,m]        diagonals of H by kind of token

Memory is two m x m matrices, whatever T is: one layer's inputs are looked at and let go.
"""

from __future__ import annotations

import numpy as np

__all__ = ["Gram"]


class Gram:
    """Sums over all tokens seen; float64."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.h = np.zeros((width, width))
        self.d: np.ndarray | None = None  # None: no float inputs were given
        self.tokens = 0
        self.power: dict[str, np.ndarray] = {}  # diagonal of H over tokens of one kind
        self.counts: dict[str, int] = {}

    def add(
        self,
        x: np.ndarray,
        real: np.ndarray | None = None,
        kinds: np.ndarray | None = None,
    ) -> None:
        """x, real: [...,m], as many tokens each. kinds: str [T], such as "image" and "text".

        Raises ValueError for numbers that are not finite and for another width.
        """
        x = np.asarray(x, np.float64).reshape(-1, x.shape[-1])
        if x.shape[1] != self.width:
            raise ValueError(f"{x.shape[1]} channels, {self.width} are expected")
        if not np.isfinite(x).all():
            raise ValueError("an input is NaN or infinite")
        self.h += x.T @ x
        self.tokens += len(x)
        if real is not None:
            off = np.asarray(real, np.float64).reshape(x.shape) - x
            self.d = (0 if self.d is None else self.d) + off.T @ x
        for kind in () if kinds is None else np.unique(kinds):
            some = x[np.asarray(kinds) == kind]
            self.power[kind] = self.power.get(kind, 0) + np.square(some).sum(0)
            self.counts[kind] = self.counts.get(kind, 0) + len(some)

    def damped(self, damping: float = 0.01) -> np.ndarray:
        """H with a share of its mean diagonal added, and 1 where a channel is always zero."""
        h = self.h.copy()
        diagonal = np.diagonal(h)
        mean = float(diagonal.mean()) if self.width else 0.0
        np.fill_diagonal(h, np.where(diagonal > 0, diagonal, mean or 1.0) + damping * mean)
        return h

    def loss(self, weights: np.ndarray, rounded: np.ndarray) -> float:
        """sum |X~ W^T - X R^T|^2 of weights [n,m] and R, but for what hangs on neither."""
        gap = np.asarray(weights, np.float64) - rounded
        drift = 0.0 if self.d is None else 2 * float(np.sum((weights @ self.d) * gap))
        return drift + float(np.sum((gap @ self.h) * gap))

    def importance(self, mix: float | None = None, first: str = "image") -> np.ndarray:
        """float64 [m]: mean square of each channel.

        mix: of tokens of the kind `first` against all other kinds, each by its own count (VLM-PTQ's
        M_mu); None: all tokens alike.
        """
        if mix is None or first not in self.power or len(self.power) < 2:
            return np.diagonal(self.h) / max(1, self.tokens)
        others = [kind for kind in self.power if kind != first]
        rest = sum(self.power[k] for k in others) / max(1, sum(self.counts[k] for k in others))
        return mix * self.power[first] / max(1, self.counts[first]) + (1 - mix) * rest
