"""Inputs that any part runs on, for who times it and does not look at what comes out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import DTypeLike

__all__ = ["still_feeds"]


def still_feeds(ports: Iterable[tuple[str, DTypeLike, Sequence[int]]]) -> dict[str, np.ndarray]:
    """Zeros for (name, type, shape); masks let everything through.

    The prompt ends in the last row: where image tokens are dropped on the way, rows move up, and a
    prompt that ended in the first one would end before them.
    """
    shapes = {name: (kind, tuple(shape)) for name, kind, shape in ports}
    feeds = {name: np.zeros(shape, kind) for name, (kind, shape) in shapes.items()}
    for name, (kind, _) in shapes.items():
        if np.dtype(kind) == np.bool_:
            feeds[name][...] = True
    if "last_index" in feeds:
        feeds["last_index"][...] = shapes["inputs_embeds"][1][1] - 1
    return feeds
