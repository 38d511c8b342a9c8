"""A tensor seen as a strided window on another: what reshapes, transposes and slices do to numbers.

    source [1,16,72]    Reshape [1,16,3,3,8]  Transpose 2,0,3,1,4  Slice 1:2  Squeeze
    view [1,3,16,8]     offset 24, dims 1 | (3,8) | (16,72) | (8,1)        factors (size, stride)

A dimension is a product of factors, outer first, since a reshape may merge what is not adjacent in
the source. Nothing here knows ONNX, and no number is moved. A stride of 0 repeats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Factor", "View", "merged"]

Factor = tuple[int, int]  # size, and stride in elements of the source
Dim = tuple[Factor, ...]


@dataclass(frozen=True)
class View:
    """`offset` and strides count elements of a dense, row-major source."""

    dims: tuple[Dim, ...]
    offset: int = 0

    @classmethod
    def of(cls, shape: Sequence[int]) -> View:
        """The whole of a source of this shape."""
        strides = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
        return cls(tuple(merged([f]) for f in zip(shape, strides, strict=True)))

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(math.prod(size for size, _ in dim) for dim in self.dims)

    @property
    def factors(self) -> Dim:
        """Of all dimensions, outer first; neighbours that are one run are one factor."""
        return merged(f for dim in self.dims for f in dim)

    def reshape(self, shape: Sequence[int]) -> View | None:
        """None where a new dimension would need numbers that no stride reaches."""
        if math.prod(shape) != math.prod(self.shape) or not math.prod(shape):
            return None
        waiting, dims = list(reversed(self.factors)), []
        for wanted in shape:
            dim: list[Factor] = []
            while wanted > 1:
                size, stride = waiting.pop()
                if size > wanted:
                    if size % wanted:
                        return None
                    waiting.append((size // wanted, stride))
                    size, stride = wanted, stride * (size // wanted)
                if wanted % size:
                    return None
                wanted //= size
                dim.append((size, stride))
            dims.append(merged(dim))
        return View(tuple(dims), self.offset)

    def transpose(self, perm: Sequence[int]) -> View:
        return View(tuple(self.dims[i] for i in perm), self.offset)

    def pick(self, axis: int, start: int, count: int, step: int = 1) -> View | None:
        """`count` places from `start` on; None where the axis is several factors, cut across."""
        if not self.dims[axis]:
            return self if (start, count) == (0, 1) else None
        picked = _picked(self.dims[axis], start, count, step)
        if picked is None:
            return None
        offset, dim = picked
        dims = (*self.dims[:axis], dim, *self.dims[axis + 1 :])
        return View(dims, self.offset + offset)

    def tile(self, repeats: Sequence[int]) -> View:
        """Every dimension so many times behind itself."""
        dims = zip(self.dims, repeats, strict=True)
        return View(tuple(merged([(many, 0), *dim]) for dim, many in dims), self.offset)

    def expand(self, shape: Sequence[int]) -> View:
        """Dimensions of 1, and those that are not there, repeat."""
        dims = ((),) * (len(shape) - len(self.dims)) + self.dims
        return View(
            tuple(
                dim if dim or size == 1 else ((size, 0),)
                for dim, size in zip(dims, shape, strict=True)
            ),
            self.offset,
        )


def merged(factors: Sequence[Factor]) -> Dim:
    """Neighbours that are one run become one; what is 1 long goes."""
    out: list[Factor] = []
    for size, stride in factors:
        if size == 1:
            continue
        if out and out[-1][1] == size * stride:
            size *= out.pop()[0]
        out.append((size, stride))
    return tuple(out)


def _picked(dim: Dim, start: int, count: int, step: int) -> tuple[int, Dim] | None:
    """(offset, what is left of the dimension)."""
    (size, stride), *inner = dim
    within = math.prod(n for n, _ in inner)
    last = start + (count - 1) * step
    if not (0 <= start <= last < size * within and step > 0):
        return None
    if start // within == last // within and inner:  # all of one outer place
        found = _picked(tuple(inner), start % within, count, step)
        return found and (found[0] + start // within * stride, found[1])
    if step == 1 and start % within == 0 and count % within == 0:
        kept = [(count // within, stride), *inner]
        return start // within * stride, merged(kept)
    return None if inner else (start * stride, merged([(count, stride * step)]))
