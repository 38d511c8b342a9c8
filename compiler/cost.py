"""What a part costs, counted from its shapes: multiply-accumulates, weight bytes, KV bytes.

Counted, not measured: these are facts of the graph. A time made from them would be `predicted`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import onnx_ir as ir

from edgevlm.compiler.contract import Contract

__all__ = ["Cost", "attention_scores", "count", "image_tokens", "macs"]

#: types of KV caches, as people call them
KV_NAMES = {"FLOAT": "float32", "FLOAT16": "float16", "INT8": "int8"}


@dataclass(frozen=True)
class Cost:
    """MACs of one run, bytes of all initializers, nodes."""

    macs: int
    weight_bytes: int
    nodes: int


def count(part: ir.Model) -> Cost:
    """MatMul, Gemm, Einsum, convolutions and Attention; element-wise work is not counted."""
    weights = sum(v.const_value.nbytes for v in part.graph.initializers.values())
    return Cost(sum(macs(node) for node in part.graph), weights, len(part.graph))


def macs(node: ir.Node) -> int:
    """Multiply-accumulates of one node."""
    shape = [list(v.shape) if v is not None and v.shape is not None else [] for v in node.inputs]
    out = list(node.outputs[0].shape)
    match node.op_type:
        case "MatMul" | "Gemm":
            contracted = shape[0][-2 if node.attributes.get_int("transA", 0) else -1]
            return prod(out) * contracted
        case "MatMulNBits":  # com.microsoft: blocks of few bits, unpacked as they are multiplied
            return prod(out) * node.attributes.get_int("K", 0)
        case "Conv":
            return prod(out) * prod(shape[1][1:])
        case "ConvTranspose":  # every input goes through its whole window
            return prod(shape[0]) * prod(shape[1][1:])
        case "Einsum":
            return _einsum(node.attributes.get_string("equation", ""), shape)
        case "Attention":
            return (prod(shape[0]) + prod(out)) * _keys(shape)
    return 0


def attention_scores(node: ir.Node) -> int:
    """Numbers in the scores of an Attention node: [B,heads,S,keys]."""
    shape = [list(v.shape) if v is not None and v.shape is not None else [] for v in node.inputs]
    q = shape[0]
    heads = q[1] if len(q) == 4 else node.attributes.get_int("q_num_heads", 1)
    return q[0] * heads * q[-2] * _keys(shape)


def _einsum(equation: str, shape: list[list[int]]) -> int:
    """A multiplication for every place of all axes together; one operand multiplies nothing."""
    terms = equation.replace(" ", "").partition("->")[0].split(",")
    sizes: dict[str | int, int] = {}
    for term, dims in zip(terms, shape, strict=True):
        before, _, after = term.partition("...")
        wide = len(dims) - len(before) - len(after)  # axes that the ellipsis stands for
        names = [*before, *range(-wide, 0), *after]  # they meet from the right
        for name, size in zip(names, dims, strict=True):
            sizes[name] = max(size, sizes.get(name, 1))
    return prod(sizes.values()) if len(terms) > 1 else 0


def _keys(shape: list[list[int]]) -> int:
    """Of q, k, v, mask, past: [B,heads,S,head_dim] or [B,S,heads * head_dim]; the past is 4-D."""
    return shape[1][-2] + (shape[4][2] if len(shape) > 4 and shape[4] else 0)


def image_tokens(contract: Contract) -> dict[str, object]:
    """What becomes of the image's tokens, for reports: never one K where layers differ.

    kept: behind the last site; average: over the decoder layers' caches; kv_bytes: of all caches
    at capacity, in their type.
    """
    sites = [{"at": f"llm:{s.layer}", "tokens": s.tokens} for s in contract.sites]
    if contract.kept_image_tokens < contract.given_tokens:
        sites.insert(0, {"at": "connector", "tokens": contract.kept_image_tokens})
    if contract.vision_kept is not None:
        sites.insert(0, {"at": "vision", "tokens": contract.vision_kept})
    if contract.kind != "vlm":
        kept = contract.given_tokens
        return {"kept": kept, "of": contract.image_tokens, "average": kept, "schedule": sites}
    each = [contract.tokens_at(layer) for layer in range(contract.layers)]
    return {
        "kept": min(each),
        "of": contract.image_tokens,
        "average": round(sum(each) / len(each), 2),
        "schedule": sites,
        "kv_dtype": KV_NAMES[contract.kv_dtype],
        "kv_bytes": contract.kv_bytes,
    }
