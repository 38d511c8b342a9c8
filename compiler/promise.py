"""The promise of every selector, held against its choice: exact K, ascending, in range."""

from __future__ import annotations

import numpy as np

from edgevlm.compiler.errors import JobFault

__all__ = ["check_choice"]


def check_choice(where: str, index: np.ndarray, kept: int, count: int) -> np.ndarray:
    """Returns `index` [kept] int64. Raises EV208 naming the part that broke its promise."""
    steps = np.diff(index, prepend=-1, append=count)
    if len(index) != kept or (steps < 1).any():
        raise JobFault(
            "EV208",
            f"{where} kept image tokens {index.tolist()[:20]}",
            f"{kept} ascending places below {count} are promised",
            "please report this with the recipe",
        )
    return index
