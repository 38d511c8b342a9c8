"""Choosing the best: TopK and ArgMax as ranks.py has them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.axes.rules.common import attribute
from edgevlm.passes.mobile.choosing import Limits, Refused, is_read, sizes, take_over
from edgevlm.passes.mobile.hot import Hot
from edgevlm.passes.mobile.ranks import Chosen, first_largest, largest_ascending, largest_first

__all__ = ["arg_best", "top_k"]


def top_k(hot: Hot, node: ir.Node, limits: Limits) -> int:
    """Best first, or, where another TopK only sorts the places, ascending at once."""
    score, size = node.inputs
    values, index = node.outputs
    if size.const_value is None:
        raise Refused("how many it keeps is computed")
    keep, largest = (
        int(size.const_value.numpy().reshape(-1)[0]),
        bool(attribute(node, "largest", 1)),
    )
    count, moved, perm = _last(hot, node, score, limits)
    sorting = _sorts(index, keep)
    if sorting is not None and not is_read(values) and perm is None:
        found = largest_ascending(hot, moved, keep, largest)
        _place(hot, sorting.outputs[0], found)
        hot.build.graph.remove([sorting, node], safe=True)
        return count
    found = largest_first(hot, moved, keep, largest)
    if is_read(values):
        best = _values(hot, found, moved, largest)
        take_over(hot, values, _back(hot, best, perm), alone=False)
    if is_read(index):
        if perm is None:
            _place(hot, index, found)
        else:
            hot.bounds.learn(found.index, index)
            take_over(hot, index, _back(hot, found.index, perm), alone=False)
    hot.build.graph.remove(node, safe=True)
    return count


def arg_best(hot: Hot, node: ir.Node, limits: Limits) -> int:
    """ArgMax and ArgMin."""
    score, out = node.inputs[0], node.outputs[0]
    count, moved, _ = _last(hot, node, score, limits)
    largest, last = node.op_type == "ArgMax", bool(attribute(node, "select_last_index", 0))
    found = first_largest(hot, moved, largest, last)
    index = hot.shaped(found.index, sizes(out))  # the axis is one place: no transpose back
    if sizes(out) == [1]:
        hot.rows[index] = hot.shaped(found.hot, [1, count])
    hot.bounds.learn(index, out)
    take_over(hot, out, index)
    return count


def _last(
    hot: Hot, node: ir.Node, score: ir.Value, limits: Limits
) -> tuple[int, ir.Value, list[int] | None]:
    """(N, scores with their axis last, the permutation that was needed)."""
    rank = len(score.shape)
    axis = attribute(node, "axis", 0 if node.op_type.startswith("Arg") else -1) % rank
    count = int(score.shape[axis])
    if count > limits.most:
        raise Refused(f"it ranks {count} tokens, over {limits.most}")
    if rank > 3 and node.op_type == "TopK":
        raise Refused(f"it ranks along one of {rank} axes; pairs would have {rank + 1}")
    if axis == rank - 1:
        return count, score, None
    perm = [*(i for i in range(rank) if i != axis), axis]
    moved = hot.build("Transpose", score, perm=perm)
    moved.shape, moved.dtype = ir.Shape([score.shape[i] for i in perm]), score.dtype
    hot.bounds.learn(moved, score)
    return count, moved, perm


def _back(hot: Hot, value: ir.Value, perm: list[int] | None) -> ir.Value:
    if perm is None:
        return value
    inverse = np.argsort(perm).tolist()
    made = hot.build("Transpose", value, perm=inverse)
    made.shape, made.dtype = ir.Shape([value.shape[i] for i in inverse]), value.dtype
    return made


def _values(hot: Hot, found: Chosen, score: ir.Value, largest: bool) -> ir.Value:
    """max over i of (P_ki ? s_i : lowest): infinities and integers come through as they are."""
    build, (*lead, count), kind = hot.build, sizes(score), score.dtype
    keep = int(found.hot.shape[-2])
    is_it = hot.cast(found.hot, ir.DataType.BOOL)
    limit = -np.inf if kind.is_floating_point() else np.iinfo(kind.numpy()).min
    if not largest:
        limit = np.inf if kind.is_floating_point() else np.iinfo(kind.numpy()).max
    each = build(
        "Where", is_it, hot.shaped(score, [*lead, 1, count]), build.const(limit, kind.numpy())
    )
    each.shape, each.dtype = ir.Shape([*lead, keep, count]), kind
    best = build("ReduceMax" if largest else "ReduceMin", each, build.const([-1]), keepdims=0)
    best.shape, best.dtype = ir.Shape([*lead, keep]), kind
    hot.bounds.learn(best, score)
    return best


def _sorts(index: ir.Value, keep: int) -> ir.Node | None:
    """The node that does nothing but sort these places, ascending."""
    users = list(index.uses())
    if len(users) != 1 or index.is_graph_output() or users[0][1]:
        return None
    node = users[0][0]
    if node.op_type != "TopK" or attribute(node, "largest", 1) or is_read(node.outputs[1]):
        return None
    size, rank = node.inputs[1].const_value, len(index.shape)
    same_axis = attribute(node, "axis", -1) % rank == rank - 1
    whole = size is not None and int(size.numpy().reshape(-1)[0]) == keep
    return node if whole and same_axis and attribute(node, "sorted", 1) else None


def _place(hot: Hot, old: ir.Value, found: Chosen) -> None:
    """The index that was found, and what it is a row of."""
    hot.bounds.learn(found.index, old)
    hot.rows[found.index] = found.hot
    take_over(hot, old, found.index, alone=False)
