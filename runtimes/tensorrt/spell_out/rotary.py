"""Rotary positions as products with cosines and sines of halves that change places.

    a, b = halves of the channels that turn        y = a cos - b sin, a sin + b cos, what is left

x is [B,H,S,d], or [B,S,H*d] with a count of heads; cosines [P,r/2] are looked up by positions
[B,S], or are [B,S,r/2] as they come. A pair is (i, i + r/2), or (2i, 2i + 1) where interleaved.
https://onnx.ai/onnx/operators/onnx__RotaryEmbedding.html
"""

from __future__ import annotations

import onnx_ir as ir

from edgevlm.compiler.builder import GraphBuilder

__all__ = ["rotary"]


def rotary(build: GraphBuilder, node: ir.Node) -> ir.Value:
    x, cos, sin, *places = node.inputs
    shape = [int(d) for d in x.shape]
    flat = len(shape) == 3
    if flat:  # [B,S,H*d] -> [B,S,H,d]: heads stay behind tokens
        heads = node.attributes.get_int("num_heads", 0)
        x = build("Reshape", x, build.const([*shape[:2], heads, shape[2] // heads]))
    width = int(shape[-1]) // (node.attributes.get_int("num_heads", 0) if flat else 1)
    turns = node.attributes.get_int("rotary_embedding_dim", 0) or width
    if places and places[0] is not None:
        cos, sin = (build("Gather", table, places[0], axis=0) for table in (cos, sin))
    where = build.const([2 if flat else 1])
    cos, sin = (build("Unsqueeze", each, where) for each in (cos, sin))
    axis = 3
    interleaved = bool(node.attributes.get_int("interleaved", 0))
    if interleaved:
        ends = ((0, turns, 2), (1, turns, 2))
    else:
        ends = ((0, turns // 2, 1), (turns // 2, turns, 1))
    a, b = (_cut(build, x, axis, *each) for each in ends)
    pair = (
        build("Sub", build("Mul", a, cos), build("Mul", b, sin)),
        build("Add", build("Mul", a, sin), build("Mul", b, cos)),
    )
    if interleaved:
        last = build.const([-1])
        both = build("Concat", *(build("Unsqueeze", each, last) for each in pair), axis=-1)
        lead = [shape[0], shape[1], heads] if flat else shape[:3]
        y = build("Reshape", both, build.const([*lead, turns]))
    else:
        y = build("Concat", *pair, axis=axis)
    if turns < width:
        y = build("Concat", y, _cut(build, x, axis, turns, width, 1), axis=axis)
    return build("Reshape", y, build.const(shape)) if flat else y


def _cut(build: GraphBuilder, x: ir.Value, axis: int, start: int, stop: int, step: int) -> ir.Value:
    return build("Slice", x, *(build.const([n]) for n in (start, stop, axis, step)))
