"""What all handlers share: how parameters are annotated, what is refused, bounds of memory.

    Tensor               float32, int32 or bool (mil_types.py); computed or constant
    int float bool str   one number or word
    Ints Floats Bools    a row of them
    Tensors              a list of tensors (`values` of concat)
    Cell                 a state
    ios                  not an input: the iOS version whose meaning the op has

A handler returns a tensor, or a tuple of as many as the op has outputs. It may return float32 in
place of float16: what is stored is rounded by who called it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from edgevlm.runtimes.coreml.mil_types import MOST_ELEMENTS

__all__ = ["MOST_GIVEN", "Bools", "Floats", "Handler", "Ints", "Refused", "Tensors", "inside",
           "room"]  # fmt: skip

MOST_MADE = 2**28  # elements of a tensor that an op makes of sizes
MOST_GIVEN = MOST_ELEMENTS  # of one that it makes of tensors: no program can say that it has more

Handler = Callable[..., Any]
Ints = tuple[int, ...]
Floats = tuple[float, ...]
Bools = tuple[bool, ...]
Tensors = list[Tensor]


class Refused(Exception):
    """A form of an op that is not computed here; the text says which."""


def room(sizes: Sequence[int], most: int = MOST_MADE) -> tuple[int, ...]:
    """The sizes of a tensor that is about to be made. Raises Refused where it could not be held."""
    total = 1
    for size in sizes:
        total *= size
        if size < 0 or total > most:
            raise Refused(f"a tensor of {list(sizes)}")
    return tuple(sizes)


def inside(index: Tensor, size: int, ios: int = 17) -> Tensor:
    """Places as int64 in [0, size). Before iOS 17 they may count from the end.

    From iOS 17 on a place that is negative or too large is undefined in Core ML, so it is an
    IndexError here: https://apple.github.io/coremltools/source/coremltools.converters.mil.mil.ops.defs.html
    """
    index = index.long()
    if ios < 17:
        index = index.where(index >= 0, index + size)
    low, high = (int(index.min()), int(index.max())) if index.numel() else (0, -1)
    if low < 0 or high >= size:
        raise IndexError(f"places {low} to {high} of {size}, which Core ML leaves undefined")
    return index
