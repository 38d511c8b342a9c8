"""Slices with begin, end and stride, and writing into them.

Both share numpy's meaning of `x[begin:end:stride]`, an axis each, where a mask leaves a bound open
and squeeze_mask takes the one at `begin` and drops the axis. torch goes forwards only, so an axis
that is walked backwards is turned around first.
"""

from __future__ import annotations

from torch import Tensor

from edgevlm.runtimes.coreml.ops.forms import Bools, Handler, Ints, Refused

__all__ = ["OPS"]


def _ranges(
    sizes: tuple[int, ...],
    begin: Ints,
    end: Ints,
    stride: Ints | None,
    masks: tuple[Bools | None, Bools | None, Bools | None],
) -> tuple[list[range], list[int]]:
    """Places along each axis, and the axes that are dropped. Raises Refused, IndexError."""
    rank = len(sizes)
    steps = stride or (1,) * rank
    open_begin, open_end, drop = (mask or (False,) * rank for mask in masks)
    if not rank == len(begin) == len(end) == len(steps) == len(drop):
        raise Refused(f"bounds for {len(begin)} axes of {rank}")
    ranges = []
    for axis, size in enumerate(sizes):
        if drop[axis]:
            place = begin[axis] % size if -size <= begin[axis] < size else -1
            if open_begin[axis] or place < 0:
                raise IndexError(f"place {begin[axis]} of an axis of {size}")
            ranges.append(range(place, place + 1))
            continue
        if steps[axis] == 0:
            raise Refused("a stride of 0")
        low = None if open_begin[axis] else begin[axis]
        high = None if open_end[axis] else end[axis]
        ranges.append(range(*slice(low, high, steps[axis]).indices(size)))
    return ranges, [axis for axis in range(rank) if drop[axis]]


def _forwards(places: range) -> slice:
    """The same places in rising order."""
    places = places[::-1] if places.step < 0 else places
    return slice(places.start, max(places.stop, places.start), places.step)


def _backwards(ranges: list[range]) -> list[int]:
    return [axis for axis, places in enumerate(ranges) if places.step < 0]


def slice_by_index(
    x: Tensor,
    begin: Ints,
    end: Ints,
    stride: Ints | None = None,
    begin_mask: Bools | None = None,
    end_mask: Bools | None = None,
    squeeze_mask: Bools | None = None,
) -> Tensor:
    masks = begin_mask, end_mask, squeeze_mask
    ranges, dropped = _ranges(tuple(x.shape), begin, end, stride, masks)
    x = x[tuple(_forwards(places) for places in ranges)]
    if turned := _backwards(ranges):
        x = x.flip(turned)
    return x.squeeze(dropped) if dropped else x


def slice_update(
    x: Tensor,
    update: Tensor,
    begin: Ints,
    end: Ints,
    stride: Ints | None = None,
    begin_mask: Bools | None = None,
    end_mask: Bools | None = None,
    squeeze_mask: Bools | None = None,
) -> Tensor:
    masks = begin_mask, end_mask, squeeze_mask
    ranges, dropped = _ranges(tuple(x.shape), begin, end, stride, masks)
    for axis in dropped:
        update = update.unsqueeze(axis)
    if list(update.shape) != [len(places) for places in ranges]:
        raise Refused(f"an update {list(update.shape)} for {[len(p) for p in ranges]} places")
    if turned := _backwards(ranges):
        update = update.flip(turned)
    y = x.clone()
    y[tuple(_forwards(places) for places in ranges)] = update
    return y


def slice_by_size(x: Tensor, begin: Ints, size: Ints) -> Tensor:
    """A size of -1 goes to the end."""
    if not x.dim() == len(begin) == len(size):
        raise Refused(f"bounds for {len(begin)} axes of {x.dim()}")
    for axis, (first, count) in enumerate(zip(begin, size, strict=True)):
        first = first + x.shape[axis] if first < 0 else first
        x = x.narrow(axis, first, x.shape[axis] - first if count == -1 else count)
    return x


OPS: dict[str, Handler] = {
    "slice_by_index": slice_by_index,
    "slice_by_size": slice_by_size,
    "slice_update": slice_update,
}
