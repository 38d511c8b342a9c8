"""Change the size of one axis, everywhere it occurs.

    analysis = analyse(graph, signature)
    resize(analysis, analysis.of(value)[1], 16)             # sizes only: nothing stored lies along it
    resize(analysis, analysis.of(value)[1], 16, keep=idx)   # and these are the elements that stay

Weights that lie along the axis are cut to `keep`, whatever product or sum the axis is part of; every
constant that follows from sizes (reshape targets, slice ends, split sizes, k) is computed anew; the
shapes of all values are set. Other uses of a shared weight keep the old one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.axes.analysis import Analysis, Dims
from edgevlm.compiler.axes.axis import Axis, Term, expand, fail, size_of

__all__ = ["carries", "resize", "single"]


def single(term: Term, what: str) -> Axis:
    """The one atom of a term. Raises EV211 where the axis was folded into a product or a sum."""
    atoms = expand(term)
    if len(atoms) != 1:
        raise fail(
            what, f"the axis is folded into {atoms}; its elements are not single tokens there"
        )
    if atoms[0].summands is not None:
        raise fail(
            what, f"the axis is a concatenation of {atoms[0].summands}; name the part to cut"
        )
    return atoms[0]


def carries(term: Term, axis: Axis) -> bool:
    """Whether `axis` occurs in a term, inside products and sums too."""
    return any(
        atom is axis.root or any(carries(part, axis) for part in atom.summands or ())
        for atom in expand(term)
    )


def resize(
    found: Analysis, term: Term, size: int, keep: Sequence[int] | np.ndarray | None = None
) -> list[str]:
    """Give an axis `size` elements; returns what was rewritten, a sentence each.

    keep: ascending indices (int) of the elements that stay; needed if any initializer lies along the
    axis. Raises EV211 if the axis is pinned, folded, or if `keep` is needed and missing.
    """
    axis = single(term, "resize")
    if axis.size == size:
        return []
    if axis.pinned:
        raise fail("resize", f"{axis!r} cannot change: {axis.pinned}")
    if keep is not None and (len(keep) != size or not 0 <= min(keep) <= max(keep) < axis.size):
        raise fail("resize", f"{len(keep)} indices for {size} of {axis.size} elements")

    cuts = [
        (node, position, [_kept(t, axis, keep, str(node.inputs[position].name)) for t in dims])
        for (node, position), dims in found.weights.items()
        if (node, position) not in found.constants and any(carries(t, axis) for t in dims)
    ]
    axis.size = size
    log = [_cut(found, node, position, kept) for node, position, kept in cuts]
    log += [
        line for key, compute in found.constants.items() if (line := _renew(found, key, compute))
    ]
    for value, dims in found.terms.items():
        value.shape = ir.Shape([size_of(t) for t in dims])
    _drop_unused(found.graph)
    return log


def _kept(term: Term, axis: Axis, keep: Sequence[int] | None, name: str) -> np.ndarray | None:
    """Old positions along one dimension that stay; None for all of them."""
    if not carries(term, axis):
        return None
    if keep is None:
        raise fail(
            name,
            f"this stored tensor lies along {axis!r}; which elements stay must be known "
            "when compiling",
        )
    return _positions(term, axis, np.asarray(keep, np.int64))


def _positions(term: Term, axis: Axis, keep: np.ndarray) -> np.ndarray:
    out = np.zeros(1, np.int64)
    for atom in expand(term):
        if atom is axis.root:
            here = keep
        elif atom.summands is not None:
            starts = np.cumsum([0] + [size_of(part) for part in atom.summands])
            here = np.concatenate(
                [
                    s + _positions(part, axis, keep)
                    for s, part in zip(starts, atom.summands, strict=False)
                ]
            )
        else:
            here = np.arange(atom.size)
        out = (out[:, None] * atom.size + here[None, :]).reshape(-1)
    return out


def _cut(found: Analysis, node: ir.Node, position: int, kept: list[np.ndarray | None]) -> str:
    old = node.inputs[position]
    array = old.const_value.numpy()
    for dimension, index in enumerate(kept):
        if index is not None:
            array = np.take(array, index, axis=dimension)
    _replace(found.graph, node, position, np.ascontiguousarray(array))
    return f"{node.name}: {old.name} {list(old.shape)} -> {list(array.shape)}"


def _renew(found: Analysis, key: tuple[ir.Node, int], compute: object) -> str | None:
    node, position = key
    old = node.inputs[position].const_value.numpy()
    new = np.asarray(compute(), old.dtype).reshape(old.shape)
    if node.op_type == "Reshape":  # keep the wildcards 0 and -1 where they still hold
        target = [size_of(t) for t in found.of(node.outputs[0])]
        source = [size_of(t) for t in found.input(node, 0)]
        if _resolves(old.tolist(), source, bool(node.attributes.get_int("allowzero", 0))) == target:
            return None
    if np.array_equal(_slice_end(node, position, old, found), new):
        return None
    _replace(found.graph, node, position, new)
    return f"{node.name}: {node.op_type} {old.tolist()} -> {new.tolist()}"


def _resolves(target: list[int], source: list[int], allow_zero: bool) -> list[int]:
    dims = [
        source[i] if d == 0 and not allow_zero and i < len(source) else d
        for i, d in enumerate(target)
    ]
    total = int(np.prod(source))
    known = int(np.prod([d for d in dims if d != -1]))
    return [total // known if d == -1 and known else d for d in dims]


def _slice_end(node: ir.Node, position: int, old: np.ndarray, found: Analysis) -> np.ndarray:
    """An open or negative bound of a Slice as the index it means now."""
    if node.op_type != "Slice" or position not in (1, 2):
        return old
    dims: Dims = found.input(node, 0)
    axes = node.inputs[3].const_value.numpy() if len(node.inputs) > 3 else np.arange(len(old))
    limit = np.array([size_of(dims[int(a)]) for a in axes])
    return np.clip(np.where(old < 0, old + limit, old), 0, limit)


def _replace(graph: ir.Graph, node: ir.Node, position: int, array: np.ndarray) -> None:
    old = node.inputs[position]
    stem = str(old.name).split("~")[0]
    count = 1
    while f"{stem}~{count}" in graph.initializers:
        count += 1
    tensor = ir.tensor(array, name=f"{stem}~{count}")
    value = ir.Value(
        name=tensor.name,
        const_value=tensor,
        shape=ir.Shape(array.shape),
        type=ir.TensorType(tensor.dtype),
    )
    graph.register_initializer(value)
    node.replace_input_with(position, value)


def _drop_unused(graph: ir.Graph) -> None:
    outputs = set(graph.outputs)
    for name, value in list(graph.initializers.items()):
        if not value.uses() and value not in outputs:
            del graph.initializers[name]
