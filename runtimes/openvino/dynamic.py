"""int8 inputs with a scale a block, found at run time: a property of OpenVINO's plugin, not nodes.

    MatMul(Deq(Quant(x, t), t), Deq(Wq, s))  ->  MatMul(x, Deq(Wq, s))
                                                 DYNAMIC_QUANTIZATION_GROUP_SIZE = block

The frontend does not read scales that are computed. The plugin rounds the inputs of every product
with integer weights that are float yet, in groups of that many: a part must want one size for all.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.quantised import is_rounded, unrounded, weights_of

__all__ = ["by_group"]


def by_group(part: ir.Model) -> tuple[ir.Model, int]:
    """The part without such nodes, and the size of its groups; itself and 0 where it has none.

    Raises EV303 where the products of a part do not all want the same.
    """
    sizes = {_group(node) for node in part.graph if _rounds(node)}
    if not any(sizes):
        return part, 0
    if len(sizes) > 1:
        raise JobFault(
            "EV303",
            "products with other inputs beside those with a scale a block cannot be lowered",
            f"blocks of {', '.join(str(s) for s in sorted(sizes))} in one part (0: none); "
            "openvino rounds the inputs of all products of a part alike",
            "--quant w4a8, or one block for all layers",
        )
    part = part.clone()
    for node in part.graph:
        if _group(node):
            node.replace_input_with(0, unrounded(node.inputs[0]))
    RemoveUnusedNodesPass()(part)
    return part, sizes.pop()


def _rounds(node: ir.Node) -> bool:
    """Whether the plugin would round its inputs: those of a static scale are integers already."""
    if node.op_type not in ("MatMul", "Gemm") or weights_of(node) is None:
        return False
    return _group(node) > 0 or not is_rounded(node.inputs[0])


def _group(node: ir.Node) -> int:
    """Inputs of a product that share a scale of run time; 0 where they are float or static."""
    if weights_of(node) is None or not is_rounded(node.inputs[0]):
        return 0
    return node.inputs[0].producer().attributes.get_int("block_size", 0)
