"""Write products with blocks of four-bit weights as ONNX Runtime's CPU provider runs them fast.

    MatMul(x, Deq(int4 [K,N], s [K/b,N]))  ->  com.microsoft::MatMulNBits(x, [N,K/b,b/2], s [N,K/b])

Its kernels read four bits a weight from memory, which is what a decode step waits for; as the graph
stands, the weights would be made float when the session is opened. They are stored plus 8, as it
wants them: the same numbers. `accuracy_level` 1 multiplies in float, as the graph does. Where the
graph rounds the inputs to int8 with a scale a block (quantize-dynamically), the kernel does that
itself at level 4, about twice as fast for one row.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.quantised import is_rounded, unrounded, weights_of

__all__ = ["as_nbits"]

FLOAT_SUMS, INTEGER_SUMS = 1, 4  # levels
DOMAIN = "com.microsoft"


def as_nbits(part: ir.Model) -> ir.Model:
    """A copy of the part, or the part itself where it has no such product."""
    if not any(_maker(node) for node in part.graph):
        return part
    part = part.clone()
    build, packed = GraphBuilder(part, "nbits"), {}
    for node in list(part.graph):
        maker = _maker(node)
        if maker is None:
            continue
        codes, scale = maker.inputs
        block = maker.attributes.get_int("block_size", 0)
        if codes not in packed:
            packed[codes] = _packed(build, codes, scale, block)
        _replace(part.graph, node, packed[codes], block)
    part.opset_imports[DOMAIN] = 1
    RemoveUnusedNodesPass()(part)
    build.finish()
    return part


def _maker(node: ir.Node) -> ir.Node | None:
    """The DequantizeLinear of a product's weights, where the kernel takes them."""
    maker = weights_of(node)
    if maker is None or node.op_type != "MatMul" or node.inputs[0].dtype != ir.DataType.FLOAT:
        return None
    block = maker.attributes.get_int("block_size", 0)
    fits = block >= 16 and block & (block - 1) == 0 and maker.attributes.get_int("axis", 1) == 0
    return maker if fits and maker.inputs[0].dtype == ir.DataType.INT4 else None


def _packed(
    build: GraphBuilder, codes: ir.Value, scale: ir.Value, block: int
) -> tuple[ir.Value, ir.Value]:
    """uint8 [N,blocks,block / 2], the lower half first; float [N,blocks]."""
    q = codes.const_value.numpy().astype(np.int8).T + np.int8(8)
    n, k = q.shape
    count = -(-k // block)
    padded = np.full((n, count * block), 8, np.uint8)
    padded[:, :k] = q
    pairs = padded.reshape(n, count, block // 2, 2)
    both = pairs[..., 0] | pairs[..., 1] << 4
    return build.const(both, np.uint8), build.const(scale.const_value.numpy().T, np.float32)


def _replace(graph: ir.Graph, node: ir.Node, packed: tuple[ir.Value, ir.Value], block: int) -> None:
    k, n = (int(d) for d in node.inputs[1].shape)
    x, level = node.inputs[0], FLOAT_SUMS
    if is_rounded(x) and x.producer().attributes.get_int("block_size", 0) == block:
        x, level = unrounded(x), INTEGER_SUMS
    sizes = {"K": k, "N": n, "bits": 4, "block_size": block, "accuracy_level": level}
    made = ir.node("MatMulNBits", [x, *packed], attributes=sizes, domain=DOMAIN, name=node.name)
    out, new = node.outputs[0], made.outputs[0]
    new.name, new.shape, new.type = out.name, out.shape, out.type
    graph.insert_before(node, made)
    ir.convenience.replace_all_uses_with(out, new, replace_graph_outputs=True)
    graph.remove(node, safe=True)
