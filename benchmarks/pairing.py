"""Is a method better than chance? Compared question by question on the same pictures (T11).

Questions about one picture are not independent, so pictures are what is resampled: each gives one
difference, method minus the mean of the random seeds. Signs of these differences are flipped at
random under the hypothesis that there is none.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["against_random"]

DRAWS = 9_999


def against_random(
    right: np.ndarray, seeds: Sequence[np.ndarray], group: np.ndarray
) -> dict[str, float | int]:
    """Accuracies, their difference, its standard error and p (two-sided sign-flip test).

    right: bool [n]; seeds: bool [n] each; group: int [n], the picture of a question. p is at least
    1 / (DRAWS + 1), the resolution of the test.
    """
    chance = np.stack([s.astype(float) for s in seeds])
    single = chance.mean(1)
    difference = right.astype(float) - chance.mean(0)
    sums = np.bincount(group, weights=difference)
    rng = np.random.Generator(np.random.PCG64(0))
    observed = abs(sums.sum())
    beyond = 0
    for _ in range(0, DRAWS, 333):
        signs = rng.integers(0, 2, size=(333, len(sums)), dtype=np.int8) * 2 - 1
        beyond += int((np.abs(signs @ sums) >= observed - 1e-9).sum())
    draws = -(-DRAWS // 333) * 333
    return {
        "random_mean": float(single.mean()),
        "random_sd": float(single.std(ddof=1)),
        "difference": float(difference.mean()),
        "standard_error": float(np.sqrt((sums**2).sum()) / len(right)),
        "p": (beyond + 1) / (draws + 1),
        "better_than_seeds": int((right.mean() > single).sum()),
    }
