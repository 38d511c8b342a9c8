"""What a graph of the quantised dialect is: QuantizeLinear and DequantizeLinear, no zero point."""

from __future__ import annotations

import onnx_ir as ir

from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.exported_model import ExportedModel

__all__ = [
    "LINEAR",
    "STORED",
    "check_symmetric",
    "in_half",
    "is_float8",
    "is_port",
    "is_rounded",
    "rounds_activations",
    "unrounded",
    "weights_of",
]

LINEAR = ("QuantizeLinear", "DequantizeLinear")
PRODUCTS = ("MatMul", "Gemm", "Conv", "ConvTranspose")
#: metadata of a DequantizeLinear of weights: JSON of how they were rounded
STORED = "edgevlm.stored"


def weights_of(node: ir.Node) -> ir.Node | None:
    """The DequantizeLinear of the codes a node multiplies with; None where there is none."""
    if node.op_type not in PRODUCTS:
        return None
    maker = node.inputs[1].producer()
    stored = maker is not None and maker.op_type == "DequantizeLinear"
    return maker if stored and maker.inputs[0].is_initializer() else None


def is_float8(maker: ir.Node) -> bool:
    """Whether what a DequantizeLinear reads are not integers, but FP8."""
    return maker.inputs[0].dtype == ir.DataType.FLOAT8E4M3FN


def is_rounded(value: ir.Value) -> bool:
    """Whether it is what a QuantizeLinear left of a number."""
    maker = value.producer()
    if maker is None or maker.op_type != "DequantizeLinear":
        return False
    before = maker.inputs[0].producer()
    return before is not None and before.op_type == "QuantizeLinear"


def unrounded(value: ir.Value) -> ir.Value:
    """What `is_rounded` was before."""
    return value.producer().inputs[0].producer().inputs[0]


def rounds_activations(part: ir.Model) -> bool:
    """Whether values are rounded while the part runs, and not its weights or what it returns."""
    return any(n.op_type == "QuantizeLinear" and not is_port(n.outputs[0]) for n in part.graph)


def in_half(part: ir.Model) -> bool:
    """Whether anything in it is computed in float16."""
    return any(v.dtype == ir.DataType.FLOAT16 for node in part.graph for v in node.outputs)


def is_port(value: ir.Value) -> bool:
    """Whether the caller of a part sees it, and its type is that of the contract."""
    return value.is_graph_input() or value.is_graph_output()


def check_symmetric(model: ExportedModel) -> None:
    """Raises EV501 for a zero point in any quantisation node."""
    for role, part in model.parts.items():
        for node in part.graph:
            linear = node.op_type in LINEAR
            if linear and len(node.inputs) > 2 and node.inputs[2] is not None:
                raise JobFault(
                    "EV501",
                    f"{role}/{node.name} has a zero point",
                    "this dialect is symmetric",
                    "please report this",
                )
