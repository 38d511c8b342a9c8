"""Write attention out: two products and a softmax, heads that share keys in one product.

    before: q [1,H,S,d], k [1,H/g,T,d], v -> Attention -> y [1,H,S,e]
    after:  q -> x scale -> Reshape [1,H/g,gS,d] -> MatMul k' -> + bias -> Softmax -> MatMul v -> y

OpenVINO reads Attention, but repeats keys and values for each of the g heads that share them, and
looks for rows of scores that are not a number to make them zero. With g heads' queries as rows of
one product neither is needed, and all of it is one kernel: a step of a decoder of 4 layers takes
0.7 of the time. Causal attention of many rows is cut into blocks of rows, each against the keys
that any of its rows may look at: 0.6 of the time for 1100 rows. Its bias is computed from two rows
of numbers when the part is opened, and takes no place in the file.

Left as it is: a mask that is computed, as a row that may look at nothing must give zeros then (the
masks of a contract have none), scores that are capped or read, caches inside, types but float32 and
float16. `plain_attention` writes those with masks and caps out as well (masked_attention.py), for
targets that know no Attention at all; nothing has more than four axes, and no key is repeated.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.masked_attention import NEVER, masked_attention

__all__ = ["grouped_attention", "plain_attention"]

TYPES = (ir.DataType.FLOAT, ir.DataType.FLOAT16)
#: of one block of causal attention; cutting pays from some more on
BLOCK_ROWS = 256
MASK = 3


def grouped_attention(
    part: ir.Model, block_rows: int | None = BLOCK_ROWS, never: float = NEVER
) -> ir.Model:
    """A copy of the part with no Attention but those that are left as they are.

    block_rows: of causal attention; None cuts nothing. never: what is added to the score of a key
    that must not be looked at.
    """
    part = part.clone()
    build, biases = GraphBuilder(part, "attention"), {}
    for node in list(part.graph):
        if node.op_type == "Attention" and _plain(node):
            new = _written_out(build, node, biases, block_rows, never)
            build.take_over(node.outputs[0], new, [node])
    build.finish()
    return part


def plain_attention(part: ir.Model, never: float = NEVER) -> ir.Model:
    """A copy of the part with no Attention but those with caches inside, or whose scores are read.

    No rows are cut into blocks: that is for processors with caches of their own.
    """
    part = grouped_attention(part, None, never)
    build = GraphBuilder(part, "masked")
    for node in [n for n in part.graph if n.op_type == "Attention"]:
        if (new := masked_attention(build, node, never)) is not None:
            build.take_over(node.outputs[0], new, [node])
    build.finish()
    return part


def _plain(node: ir.Node) -> bool:
    values, mask = node.inputs[:MASK], _mask(node)
    if any(v.shape is None or len(v.shape) != 4 for v in values):
        return False
    if len({v.dtype for v in values}) > 1 or values[0].dtype not in TYPES:
        return False
    if any(v is not None for v in node.inputs[MASK + 1 :]):
        return False
    if any(v.uses() or v.is_graph_output() for v in node.outputs[1:]):
        return False
    if mask is not None:
        for_all = mask.shape is not None and set(mask.shape[:-1]) <= {1}
        given = mask.is_graph_input() and mask.dtype == ir.DataType.BOOL
        if not (for_all and given) or _causal(node):
            return False
    return not node.attributes.get_float("softcap", 0.0)


def _mask(node: ir.Node) -> ir.Value | None:
    return node.inputs[MASK] if len(node.inputs) > MASK else None


def _causal(node: ir.Node) -> bool:
    return bool(node.attributes.get_int("is_causal", 0))


def _written_out(
    build: GraphBuilder,
    node: ir.Node,
    biases: dict[object, ir.Value | None],
    block_rows: int | None,
    never: float,
) -> ir.Value:
    q, k, v = node.inputs[:MASK]
    rows, keys, mask = int(q.shape[2]), int(k.shape[2]), _mask(node)
    scale = node.attributes.get_float("scale", 0.0) or int(q.shape[3]) ** -0.5
    q = build("Mul", q, build.const(scale, q.dtype.numpy()))
    k = build("Transpose", k, perm=[0, 1, 3, 2])
    blocks = -(-rows // block_rows) if _causal(node) and block_rows else 1
    found = []
    for low, high in pairwise(rows * i // blocks for i in range(blocks + 1)):
        seen = min(high, keys) if _causal(node) else keys
        kind = node.inputs[0].dtype
        key = (kind, mask or (_causal(node), low, high, seen, _group(node)))
        if key not in biases:  # layers of one size share it
            biases[key] = _bias(build, node, low, high, seen, never)
        some = [
            _cut(build, value, axis, *ends)
            for value, axis, ends in (
                (q, 2, (low, high, rows)),
                (k, 3, (0, seen, keys)),
                (v, 2, (0, seen, keys)),
            )
        ]
        found.append(_attend(build, node, high - low, *some, biases[key]))
    return found[0] if blocks == 1 else build("Concat", *found, axis=2)


def _attend(
    build: GraphBuilder,
    node: ir.Node,
    rows: int,
    q: ir.Value,
    k: ir.Value,
    v: ir.Value,
    bias: ir.Value | None,
) -> ir.Value:
    """y [1,H,rows,e]; q [1,H,rows,d], k [1,H/g,d,T], v [1,H/g,T,e]."""
    (batch, heads, _, width), group = (int(d) for d in node.inputs[0].shape), _group(node)
    if group > 1:
        q = build("Reshape", q, build.const([batch, heads // group, group * rows, width]))
    score = build("MatMul", q, k)
    if bias is not None:
        score = build("Add", score, bias)
    y = build("MatMul", build("Softmax", score, axis=-1), v)
    if group == 1:
        return y
    return build("Reshape", y, build.const([batch, heads, rows, int(node.inputs[2].shape[3])]))


def _group(node: ir.Node) -> int:
    """How many heads share keys and values."""
    return int(node.inputs[0].shape[1]) // int(node.inputs[1].shape[1])


def _bias(
    build: GraphBuilder, node: ir.Node, low: int, high: int, seen: int, never: float
) -> ir.Value | None:
    """0 where a row may look, `never` elsewhere; [g x rows,T], or of the mask's shape."""
    looks = _mask(node)
    if _causal(node):  # row r looks at keys 0 to r
        row = build.const(np.tile(np.arange(low, high), _group(node))[:, None])
        looks = build("GreaterOrEqual", row, build.const(np.arange(seen)[None]))
    if looks is None:
        return None
    kind = node.inputs[0].dtype
    ends = (build.const(number, kind.numpy()) for number in (0, never))
    return build("Where", looks, *ends)


def _cut(
    build: GraphBuilder, value: ir.Value, axis: int, start: int, stop: int, size: int
) -> ir.Value:
    if (start, stop) == (0, size):
        return value
    return build("Slice", value, *(build.const([n]) for n in (start, stop, axis)))
