"""Write a view as reshapes, slices, transposes and repeats of at most four axes.

    source [1,16,9,8]  view offset 24, 1 | (3,8) | (16,72) | (8,1)
    Slice 3:6 -> [1,16,3,8]   Transpose 0,2,1,3 -> [1,3,16,8]

Any order of runs is reached by transposes that move whole blocks of neighbours; the fewest are
found by search. Runs that stay neighbours are one axis, and an axis of 1 is none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx_ir as ir

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.passes.mobile.turns import MAX_AXES, Order, fewest
from edgevlm.passes.mobile.view import View

__all__ = ["MAX_AXES", "Step", "plan", "write"]

MAX_RUNS = 7  # of a search; a permutation of more is refused
Step = tuple[str, tuple[int, ...]]  # op, and its shape, permutation, or (axis, start, stop)


def plan(view: View, source: Sequence[int]) -> list[Step] | None:
    """Steps from a tensor of shape `source` to the view; None for what no such steps reach."""
    shape, steps = list(source), []
    runs = [(s, t, d) for d, dim in enumerate(view.dims) for s, t in dim if t and s > 1]
    by_stride = sorted(range(len(runs)), key=lambda i: -runs[i][1])
    cuts = _sections([runs[i][:2] for i in by_stride], view.offset, math.prod(source))
    if cuts is None:
        return None
    lengths = [full for full, _, _ in cuts]
    for i, (full, start, count) in enumerate(cuts):
        if full != count:
            outer, inner = math.prod(lengths[:i]), math.prod(lengths[i + 1 :])
            shape, axis, unit = _axis_of(shape, outer, full, inner, steps)
            steps.append(("Slice", (axis, start * unit, (start + count) * unit)))
            shape[axis], lengths[i] = count * unit, count
    order = [by_stride.index(i) for i in range(len(runs))]  # the view's order, numbered as stored
    sizes = [runs[i][0] for i in by_stride]
    path = _path(order)
    if path is None:
        return None
    dims = [[order[i] for i, run in enumerate(runs) if run[2] == d] for d in range(len(view.dims))]
    repeats = any(t == 0 for dim in view.dims for _, t in dim)
    at = list(range(len(order)))
    for blocks, perm in path:
        last = not repeats and [b for i in perm for b in blocks[i]] == order
        aligned = _aligned(at, dims) if last else None
        blocks, perm = aligned or (blocks, perm)
        shape = _reshape(shape, [math.prod(sizes[i] for i in block) for block in blocks], steps)
        steps.append(("Transpose", tuple(perm)))
        shape = [shape[i] for i in perm]
        at = [run for i in perm for run in blocks[i]]
    if repeats:
        shape = _repeat(view, shape, steps)
    _reshape(shape, list(view.shape), steps)
    return steps


def write(
    build: GraphBuilder,
    source: ir.Value,
    steps: Sequence[Step],
    made: dict[tuple[ir.Value, Step], ir.Value] | None = None,
) -> ir.Value:
    """Nodes for the steps; the source itself where there are none. made: steps that are shared."""
    made = {} if made is None else made
    value = source
    for step in steps:
        if (value, step) not in made:
            made[value, step] = _written(build, value, *step)
        value = made[value, step]
    return value


def _written(build: GraphBuilder, value: ir.Value, op: str, to: tuple[int, ...]) -> ir.Value:
    shape = [int(d) for d in value.shape]
    if op == "Slice":
        axis, start, stop = to
        new = build(op, value, *(build.const([n]) for n in (start, stop, axis)))
        shape[axis] = stop - start
    elif op == "Transpose":
        new = build(op, value, perm=list(to))
        shape = [shape[i] for i in to]
    else:
        new, shape = build(op, value, build.const(to)), to
    new.shape, new.dtype = ir.Shape(shape), value.dtype
    return new


def _sections(
    runs: Sequence[tuple[int, int]], offset: int, total: int
) -> list[tuple[int, int, int]] | None:
    """(whole length, start, length) of every axis of the source, outer first; the last may be cut
    to one place, which is no run of the view any more."""
    found, above = [], total
    for size, stride in runs:
        if above % stride or size > above // stride:
            return None
        whole = above // stride
        start = offset // stride % whole
        if start + size > whole:
            return None
        found.append((whole, start, size))
        above = stride
    if above > 1:
        found.append((above, offset % above, 1))
    return found


def _axis_of(
    shape: list[int], outer: int, full: int, inner: int, steps: list[Step]
) -> tuple[list[int], int, int]:
    """(shape, axis, places a place is long): the axis to cut as it is, or made by a Reshape."""
    for axis, size in enumerate(shape if len(shape) <= MAX_AXES else ()):
        if math.prod(shape[:axis]) == outer and size > 1 and size % full == 0:
            return shape, axis, size // full
    return _reshape(shape, [outer, full, *([inner] if inner > 1 else [])], steps), 1, 1


def _reshape(shape: list[int], wanted: list[int], steps: list[Step]) -> list[int]:
    if shape != wanted:
        steps.append(("Reshape", tuple(wanted)))
    return wanted


def _repeat(view: View, shape: list[int], steps: list[Step]) -> list[int]:
    """What lies in the view's order, with every factor of stride 0 repeated."""
    factors = [f for dim in view.dims for f in dim]
    for i, (size, stride) in enumerate(factors):
        if stride == 0:
            outer = math.prod(s for s, _ in factors[:i])
            inner = math.prod(s for s, t in factors[i + 1 :] if t)
            _reshape(shape, [outer, 1, inner], steps)
            shape = [outer, size, inner]
            steps.append(("Expand", tuple(shape)))
    return shape


def _aligned(at: list[int], dims: list[list[int]]) -> tuple[list[list[int]], Order] | None:
    """The last transpose by the axes of the result, so that no reshape follows; None if it cannot.

    at: runs as they lie; dims: those of each axis of the result, none of an axis of 1.
    """
    if len(dims) > MAX_AXES:
        return None
    places = {}
    for d, runs in enumerate(dims):
        if runs:
            first = at.index(runs[0])
            if at[first : first + len(runs)] != runs:
                return None
            places[d] = first
    order = sorted(places, key=places.get)
    for d, runs in enumerate(dims):
        if not runs:
            order.insert(min(d, len(order)), d)
    return [dims[d] for d in order], tuple(order.index(d) for d in range(len(dims)))


def _path(order: list[int]) -> list[tuple[list[list[int]], Order]] | None:
    """[(blocks of runs, permutation of the blocks)], from 0, 1, 2 ... to `order`."""
    groups: list[list[int]] = []
    for run in order:
        if groups and groups[-1][-1] + 1 == run:
            groups[-1].append(run)
        else:
            groups.append([run])
    stored = sorted(groups)
    if len(groups) > MAX_RUNS:
        return None
    found = fewest(tuple(stored.index(g) for g in groups))
    return [([[r for g in b for r in stored[g]] for b in blocks], perm) for blocks, perm in found]
