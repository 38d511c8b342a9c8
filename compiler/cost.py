"""What a part costs, counted from its shapes: multiply-accumulates, weight bytes, KV bytes.

Counted, not measured: these are facts of the graph. A time made from them would be `predicted`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import onnx_ir as ir

__all__ = ["Cost", "count"]


@dataclass(frozen=True)
class Cost:
    """MACs of one run, bytes of all initializers, nodes."""

    macs: int
    weight_bytes: int
    nodes: int


def count(part: ir.Model) -> Cost:
    """MatMul, Gemm, Conv and Attention are counted; element-wise work is not."""
    weights = sum(v.const_value.nbytes for v in part.graph.initializers.values())
    return Cost(sum(_macs(node) for node in part.graph), weights, len(part.graph))


def _macs(node: ir.Node) -> int:
    shape = [list(v.shape) if v is not None and v.shape is not None else [] for v in node.inputs]
    out = list(node.outputs[0].shape)
    match node.op_type:
        case "MatMul" | "Gemm":
            contracted = shape[0][-2 if node.attributes.get_int("transA", 0) else -1]
            return prod(out) * contracted
        case "Conv":
            return prod(out) * prod(shape[1][1:])
        case "Attention":
            q, k, v = shape[:3]
            if len(q) == 3:
                return prod(q) * k[1] + prod(out) * k[1]
            past = shape[4][2] if len(shape) > 4 and shape[4] else 0
            return prod(q) * (k[2] + past) + prod(out) * (v[2] + past)
    return 0
