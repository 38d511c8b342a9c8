"""Blocks of weights that do not divide the inputs, which few tools read: ONNX Runtime does.

    MatMul(x, W), the last block short  ->  MatMul(x[:k], W[:k]) + MatMul(x[k:], W[k:])

The same numbers but for the order of one sum, and both products keep four bits a weight.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.quantised import weights_of

__all__ = ["whole_blocks"]


def whole_blocks(part: ir.Model) -> ir.Model:
    """A copy of the part, or the part itself where all blocks are whole.

    Raises EV303 for a short block of a product that cannot be cut in two.
    """
    if not any(_short(node) for node in part.graph):
        return part
    part = part.clone()
    build, halves = GraphBuilder(part, "blocks"), {}
    for node in list(part.graph):
        if not _short(node):
            continue
        maker = weights_of(node)
        block, inputs = _sizes(maker)
        if node.op_type != "MatMul" or _axis(maker) != 0:
            raise JobFault(
                "EV303",
                f"{node.name} has blocks of {block} for {inputs} inputs",
                "this target reads whole blocks, and only those along the inputs of a MatMul are "
                "cut in two",
                f"a block that divides {inputs}, or a scale a channel: --quant w4a16:block=0",
            )
        codes = maker.inputs[0]
        if codes not in halves:
            halves[codes] = _halves(build, maker)
        _replace(build, node, halves[codes])
    RemoveUnusedNodesPass()(part)
    build.finish()
    return part


def _sizes(maker: ir.Node) -> tuple[int, int]:
    """(inputs that share a scale, inputs)"""
    block = maker.attributes.get_int("block_size", 0)
    return block, int(maker.inputs[0].shape[_axis(maker)])


def _axis(maker: ir.Node) -> int:
    return maker.attributes.get_int("axis", 1) % len(maker.inputs[0].shape)


def _short(node: ir.Node) -> bool:
    maker = weights_of(node)
    if maker is None:
        return False
    block, inputs = _sizes(maker)
    return 0 < block < inputs and inputs % block > 0


def _halves(build: GraphBuilder, maker: ir.Node) -> list[tuple[int, int, ir.Value]]:
    """(first input, behind the last, weights) of what has whole blocks and of the rest."""
    codes, scale = (value.const_value.numpy() for value in maker.inputs)
    block, inputs = _sizes(maker)
    cut, found = inputs // block, []
    for low, high, steps in ((0, cut * block, scale[:cut]), (cut * block, inputs, scale[cut:])):
        part = build.const(codes[low:high], codes.dtype.type), build.const(steps, steps.dtype.type)
        size = min(block, high - low)
        weights = build("DequantizeLinear", *part, axis=0, block_size=size)
        found.append((low, high, weights))
    return found


def _replace(build: GraphBuilder, node: ir.Node, halves: list[tuple[int, int, ir.Value]]) -> None:
    x, products = node.inputs[0], []
    for low, high, weights in halves:
        ends = (build.const([n]) for n in (low, high, -1))
        products.append(build("MatMul", build("Slice", x, *ends), weights))
    build.take_over(node.outputs[0], build("Add", *products), [node])
