"""Random small graphs and what the parts of a product or a sum are, for the property tests.

A helper of its own file: conftest.py loads it and hands it over as the fixture `random_graphs`.
"""

from __future__ import annotations

from math import prod

import numpy as np
import onnx_ir as ir
from hypothesis import assume, event
from hypothesis import strategies as st

from edgevlm.compiler.axes import analyse
from edgevlm.compiler.axes.axis import Axis, Term, expand
from edgevlm.compiler.axes.equations import parts_of
from edgevlm.compiler.errors import JobFault

sides = st.sampled_from([1, 2, 3, 4, 6])


def move(net, draw, x, shape, others):
    """One random op that only moves elements; returns the value and its shape."""
    kind = draw(
        st.sampled_from(["merge", "part", "turn", "join", "self", "slice", "split", "unit"])
    )
    dim = draw(st.integers(0, len(shape) - 1))
    size = shape[dim]
    if kind == "merge" and dim + 1 < len(shape):
        to = [*shape[:dim], size * shape[dim + 1], *shape[dim + 2 :]]
    elif kind == "part" and len(shape) < 5:
        outer = draw(st.sampled_from([d for d in range(1, size + 1) if size % d == 0]))
        to = [*shape[:dim], outer, size // outer, *shape[dim + 1 :]]
    elif kind == "unit" and len(shape) < 5:
        return net("Unsqueeze", x, net.ints(dim)), [*shape[:dim], 1, *shape[dim:]]
    elif kind == "turn":
        perm = draw(st.permutations(range(len(shape))))
        return net("Transpose", x, perm=perm), [shape[p] for p in perm]
    elif kind in ("join", "self"):
        pool = others if kind == "join" else [(x, shape)]
        fits = [
            o
            for o in pool
            if len(o[1]) == len(shape)
            and all(a == b for i, (a, b) in enumerate(zip(o[1], shape, strict=True)) if i != dim)
        ]
        assume(fits and prod(shape) < 400)
        other, its = draw(st.sampled_from(fits))
        pair = draw(st.permutations([x, other]))
        return net("Concat", *pair, axis=dim), [*shape[:dim], size + its[dim], *shape[dim + 1 :]]
    elif kind == "slice" and size > 1:
        start = draw(st.integers(0, size - 1))
        stop = draw(st.integers(start + 1, size))
        y = net("Slice", x, net.ints(start), net.ints(stop), net.ints(dim))
        return y, [*shape[:dim], stop - start, *shape[dim + 1 :]]
    elif kind == "split" and size > 1:
        first = draw(st.integers(1, size - 1))
        parts = net("Split", x, net.ints(first, size - first), axis=dim, outputs=2)
        side = draw(st.integers(0, 1))
        return parts[side], [*shape[:dim], (first, size - first)[side], *shape[dim + 1 :]]
    else:
        return net("Identity", x), shape
    return net("Reshape", x, net.ints(*to)), to


def moving_graph(new_net, draw):
    net = new_net()
    shape = draw(st.lists(sides, min_size=1, max_size=4))
    values = [(net.input("x", *shape), shape)]
    other = list(shape)
    other[draw(st.integers(0, len(shape) - 1))] = draw(sides)
    values.append((net.input("z", *other), other))
    for _ in range(draw(st.integers(1, 7))):
        x, shape = draw(st.sampled_from(values[-2:]))
        values.append(move(net, draw, x, shape, values))
    return net.build(*[net("Identity", v) for v, _ in values[-2:]])


def mixing_graph(new_net, draw):
    """Moves, and ops that keep zeros zero: Add and Mul with weights, MatMul, Relu, reductions."""
    net = new_net()
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    shape = draw(st.lists(sides, min_size=2, max_size=3))
    values = [(net.input("x", *shape), shape)]
    for _ in range(draw(st.integers(2, 7))):
        x, shape = values[-1]
        kind = draw(
            st.sampled_from(["move", "add", "mul", "matmul", "relu", "square", "old", "sum"])
        )
        if kind == "move":
            x, shape = move(net, draw, x, shape, values)
        elif kind in ("add", "mul"):
            # a weight that is stretched along the axis would add to what was zeroed
            first = draw(st.integers(0, len(shape) - 1)) if kind == "mul" else 0
            weight = net.weight(rng.normal(size=shape[first:]))
            x = net("Add" if kind == "add" else "Mul", x, weight)
        elif kind == "matmul":
            width = draw(sides)
            x = net("MatMul", x, net.weight(rng.normal(size=(shape[-1], width)) / shape[-1]))
            shape = [*shape[:-1], width]
        elif kind == "relu":
            x = net("Relu", x)
        elif kind == "square" and len(shape) > 1:  # x x^T: one axis twice in one value
            order = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
            x = net("MatMul", x, net("Transpose", x, perm=order))
            shape = [*shape[:-1], shape[-2]]
        elif kind == "old":
            same = [v for v, s in values if s == shape]
            x = net("Add", x, draw(st.sampled_from(same)))
        elif kind == "sum" and len(shape) > 1:
            dim = draw(st.integers(0, len(shape) - 1))
            x = net("ReduceSum", x, net.ints(dim), keepdims=0)
            shape = [s for i, s in enumerate(shape) if i != dim]
        assume(prod(shape) < 600)
        values.append((x, shape))
    return net.build(net("Identity", values[-1][0]))


def analysed(model: ir.Model):
    try:
        return analyse(model.graph)
    except JobFault as fault:
        assert fault.code == "EV211"
        event("refused by the analysis")
        assume(False)


def numbered(model: ir.Model) -> dict[str, np.ndarray]:
    feeds, at = {}, 0
    for value in model.graph.inputs:
        count = prod(value.shape)
        feeds[value.name] = np.arange(at, at + count, dtype=np.float32).reshape(list(value.shape))
        at += count
    return feeds


def leaf(draw, model: ir.Model, found) -> Axis:
    """An axis of the inputs that is neither a product nor a sum."""
    waiting = [term for value in model.graph.inputs for term in found.of(value)]
    atoms: list[Axis] = []
    while waiting:
        for part in parts_of(waiting.pop()):
            for atom in part:
                if atom.summands is None:
                    atoms.append(atom)
                else:
                    waiting.append((atom,))
    assume(atoms)
    return draw(st.sampled_from(atoms))


def same_axis(found, again, axis: Axis) -> Axis:
    """The axis of a second analysis that is in the place of `axis` in the first."""
    for old, new in zip(found.graph.inputs, again.graph.inputs, strict=True):
        pairs = list(zip(found.of(old), again.of(new), strict=True))
        while pairs:
            left, right = pairs.pop()
            for a, b in zip(parts_of(left), parts_of(right), strict=True):
                for x, y in zip(a, b, strict=True):
                    if x is axis:
                        return y
                    if x.summands is not None:
                        pairs.append(((x,), (y,)))
    raise AssertionError("the clone has other axes")


def mask(term: Term, axis: Axis, stay: np.ndarray) -> np.ndarray:
    """Which positions of a dimension stay, from the definition of product and sum."""
    out = np.ones(1, bool)
    for atom in expand(term):
        if atom is axis:
            here = stay
        elif atom.summands is not None:
            here = np.concatenate([mask(part, axis, stay) for part in parts_of((atom,))])
        else:
            here = np.ones(atom.size, bool)
        out = np.logical_and.outer(out, here).reshape(-1)
    return out


def restrict(array: np.ndarray, dims, axis: Axis, stay: np.ndarray) -> np.ndarray:
    for i, term in enumerate(dims):
        array = np.compress(mask(term, axis, stay), array, axis=i)
    return array


def zero(array: np.ndarray, dims, axis: Axis, stay: np.ndarray) -> np.ndarray:
    """The array with zeros where elements of the axis are dropped."""
    array = array.copy()
    for i, term in enumerate(dims):
        np.moveaxis(array, i, 0)[~mask(term, axis, stay)] = 0
    return array
