"""Transformer blocks, found by structure: an Attention node and its residual stream.

    entry -+- norm - q, k, v - Attention - projection -(+)- middle -+- norm - MLP -(+)- exit
           `--------------------------------------------'           `---------------'

Nothing is known by name. A block whose MLP is not a second residual (parallel attention) has no
`middle`; callers that need one say so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import onnx_ir as ir

__all__ = ["Block", "find_blocks"]

NORMS = frozenset({"LayerNormalization", "RMSNormalization"})
#: between a projection and Attention, in either direction; each keeps rows apart
ALONG = frozenset(
    {"Reshape", "Transpose", "RotaryEmbedding", "Cast", "Identity", "Split", "Slice", "Gather"}
    | {"Squeeze", "Unsqueeze", "DequantizeLinear", "Concat"}
)
SCALED = frozenset({"Add", "Sub", "Mul", "Div"})  # by a constant: bias, LayerScale, query scale
PROJECTIONS = frozenset({"MatMul", "Gemm"})


@dataclass(frozen=True)
class Block:
    """One block; values are [1,L,D], the residual stream and what its two modules read and add."""

    index: int
    attention: ir.Node
    entry: ir.Value  # the stream before the block
    normed: ir.Value  # what q, k and v are projected from
    attended: ir.Value | None  # what attention adds to the stream
    middle: ir.Value | None  # the stream between attention and MLP
    mlp_normed: ir.Value | None  # what the MLP reads
    mlp_out: ir.Value | None  # what the MLP adds
    exit: ir.Value  # the stream behind the block


def find_blocks(graph: ir.Graph) -> list[Block]:
    """The blocks of a graph in order; what has no residual stream around it is none."""
    found: list[Block] = []
    for node in graph:
        if node.op_type == "Attention":
            block = _block(len(found), node)
            if block is not None:
                found.append(block)
    entries = [*(block.entry for block in found[1:]), None]
    return [_settled(*pair) for pair in zip(found, entries, strict=False)]


def _block(index: int, attention: ir.Node) -> Block | None:
    normed = _projected_from(attention.inputs[0])
    if normed is None:
        return None
    norm = normed.producer()
    entry = norm.inputs[0] if norm is not None and norm.op_type in NORMS else normed
    attended, middle = _added(attention.outputs[0])
    if middle is None:
        return None
    mlp_out, out = _second(middle)
    if out is None:
        return Block(index, attention, entry, normed, attended, None, None, None, middle)
    read = [n for n, _ in middle.uses() if n.op_type in NORMS]
    mlp_normed = read[0].outputs[0] if read else middle
    return Block(index, attention, entry, normed, attended, middle, mlp_normed, mlp_out, out)


def _settled(block: Block, behind: ir.Value | None) -> Block:
    """The block itself where its MLP reads the middle; else attention and MLP are parallel.

    behind: the entry of the next block.
    """
    if block.middle is None:
        return block
    if block.middle is behind:  # the sum that came next is the other block's
        return replace(block, middle=None, mlp_normed=None, mlp_out=None, exit=block.middle)
    if not _reads(block.mlp_out, block.middle, block.entry):
        return replace(block, middle=None, mlp_normed=None, mlp_out=None)
    return block


def _reads(value: ir.Value, middle: ir.Value, entry: ir.Value) -> bool:
    """Whether a value is computed from the middle of its block."""
    seen, waiting = {value, entry}, [value]
    while waiting:
        value = waiting.pop()
        if value is middle:
            return True
        node = value.producer()
        if node is not None and value is not entry and node.op_type != "Attention":
            before = {v for v in node.inputs if v is not None} - seen
            seen |= before
            waiting.extend(before)
    return False


def _projected_from(value: ir.Value) -> ir.Value | None:
    """Back from a query to the value its projection reads."""
    for _ in range(32):
        node = value.producer()
        if node is None:
            return None
        if node.op_type in PROJECTIONS:
            value = node.inputs[0]
            while _moves(value.producer()):  # a row taken early (gather-early) is still that row
                value = value.producer().inputs[0]
            return value
        step = _data_input(node)
        if step is None:
            return None
        value = step
    return None


def _moves(node: ir.Node | None) -> bool:
    return node is not None and node.op_type in {"Gather", "Reshape", "Cast", "Identity"}


def _data_input(node: ir.Node) -> ir.Value | None:
    """The one input that carries the data of a node that keeps rows apart."""
    if node.op_type in ALONG or node.op_type in NORMS:
        return node.inputs[0]
    if node.op_type in SCALED:
        varying = [v for v in node.inputs if v is not None and v.const_value is None]
        return varying[0] if len(varying) == 1 else None
    return None


def _added(value: ir.Value, steps: int = 32) -> tuple[ir.Value | None, ir.Value | None]:
    """Forward from Attention: what is added to the stream, and the stream behind that sum.

    Others may read what lies between, such as a score of tokens; they lead to no sum of streams.
    """
    for node, _ in value.uses():
        if node.op_type == "Add" and all(v.const_value is None for v in node.inputs):
            if _is_stream(node.outputs[0]):
                return value, node.outputs[0]
        elif steps and (node.op_type in PROJECTIONS or _data_input(node) is value):
            found = _added(node.outputs[0], steps - 1)
            if found[1] is not None:
                return found
    return None, None


def _is_stream(value: ir.Value) -> bool:
    """[1,L,D], or not known yet."""
    return value.shape is None or len(value.shape) == 3


def _second(middle: ir.Value) -> tuple[ir.Value | None, ir.Value | None]:
    """The next sum on the stream: what is added, and the stream behind it."""
    for node, _ in middle.uses():
        if node.op_type == "Add" and all(v.const_value is None for v in node.inputs):
            other = [v for v in node.inputs if v is not middle]
            if len(other) == 1:
                return other[0], node.outputs[0]
    return None, None
