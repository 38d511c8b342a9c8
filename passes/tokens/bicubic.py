"""Position tables at other places: bicubic, as transformers' `interpolate_pos_encoding` does it.

torch.nn.functional.interpolate(mode="bicubic", align_corners=False, antialias=False): Keys' cubic
with a = -0.75, four taps, places beyond the border those of the border. It is separable, so rows
and columns of a grid are resampled one after the other. Fewer places than before are therefore
samples and no averages; that is what the checkpoints' own code does for smaller pictures.
"""

from __future__ import annotations

import numpy as np

__all__ = ["bicubic", "bicubic_matrix"]

A = -0.75


def bicubic_matrix(old: int, new: int) -> np.ndarray:
    """float64 [new,old]; rows sum to 1."""
    place = (np.arange(new) + 0.5) * old / new - 0.5
    first = np.floor(place).astype(np.int64)
    matrix = np.zeros((new, old))
    for tap in range(-1, 3):
        column = np.clip(first + tap, 0, old - 1)
        np.add.at(matrix, (np.arange(new), column), _cubic(np.abs(place - first - tap)))
    return matrix


def bicubic(array: np.ndarray, size: int) -> np.ndarray:
    """[n,...] -> float32 [size,...] along the first dimension."""
    made = np.tensordot(bicubic_matrix(len(array), size), array.astype(np.float64), axes=1)
    return made.astype(np.float32)


def _cubic(x: np.ndarray) -> np.ndarray:
    near = ((A + 2) * x - (A + 3)) * x * x + 1
    far = ((A * x - 5 * A) * x + 8 * A) * x - 4 * A
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
