"""A convolution of patches becomes the patches, unfolded, times a matrix.

    before: pixels [1,3,H,W] -> Conv p x p, stride p -> [1,D,h,w] -> Reshape -> Transpose [1,hw,D]
    after:  pixels -> Reshape [3,h,p,W] -> Transpose [h,W,3,p] -> Reshape [1,hw,3pp] -> MatMul, +

Windows that lie side by side share nothing, so each is a row. The rows of the matrix are put into
the order (column in the patch, channel, line) in which one transpose of four axes unfolds; and what
turned [1,D,h,w] into tokens goes, since the product gives tokens. Stored integers stay integers,
and a picture that is rounded is unfolded as codes. An Ethos-U85 runs a convolution of 16 x 16 in
dozens of tiles at 0.88 % of its rate: 4.30 of 5.54 million cycles of a block, and 0.167 unfolded. A
runtime that wants the patches at the input of its part cuts there (compiler/boundary.py,
`split_front`). Refused, with a note: padding, dilation, groups, windows that overlap or leave a
border, weights that are computed or rounded in blocks, what reads no input of the part.
Expected effect: exact to rounding, the same sums in another order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import permutations

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.axes.rules.common import attribute, who
from edgevlm.compiler.axes.rules.elementwise import BROADCAST, UNARY
from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.pass_base import Effect, Note, Pass, PassResult
from edgevlm.compiler.quantised import LINEAR, is_rounded, weights_of
from edgevlm.passes.mobile.columns import is_stored
from edgevlm.passes.mobile.layout import Step, plan, write
from edgevlm.passes.mobile.moves import (
    drop_unread,
    follow,
    is_mover,
    is_one_scale,
    known_shape,
    put,
    replayed,
)
from edgevlm.passes.mobile.view import Factor, View

__all__ = ["UnfoldPatches"]


class UnfoldPatches(Pass):
    name = "unfold-patches"
    summary = "a convolution of patches becomes their unfolding and a product"
    effect = Effect.EXACT
    after = ("fold-constants", "fold-batch-norm", "resize-image")

    def run(self, model: ExportedModel) -> PassResult:
        changed, notes = {}, []
        for role, part in model.parts.items():
            clone = part.clone()
            build, count = GraphBuilder(clone, "unfold_patches"), 0
            for node in [n for n in clone.graph if n.op_type == "Conv"]:
                where = f"{role}/{who(node)}"
                if reason := _why_not(node):
                    notes.append(Note("skipped", where, reason))
                    continue
                rows, wide = _unfold(build, node)
                notes.append(Note("matched", where, f"{rows} patches of {wide} numbers"))
                count += 1
            if count:
                build.finish()
                changed[role] = clone
        return PassResult(model.with_parts(**changed), bool(changed), tuple(notes))


def _why_not(conv: ir.Node) -> str:
    """Empty: windows side by side over an input of the part."""
    x, weight = conv.inputs[:2]
    if not all(map(known_shape, (x, weight, conv.outputs[0]))):
        return "a shape is not known"
    kernel = _sizes(weight)[2:]
    plain = [1] * len(kernel)
    if list(attribute(conv, "strides", plain)) != kernel:
        return f"its windows of {_by(kernel)} do not lie side by side"
    if attribute(conv, "group", 1) != 1 or any(d != 1 for d in attribute(conv, "dilations", plain)):
        return "it has groups or dilation"
    if any(attribute(conv, "pads", [0])) or attribute(conv, "auto_pad", "NOTSET") not in (
        "NOTSET",
        "VALID",
    ):
        return "its input is padded"
    if any(size % k for size, k in zip(_sizes(x)[2:], kernel, strict=True)):
        return f"windows of {_by(kernel)} leave a border of {_by(_sizes(x)[2:])}"
    if not _from_port(x):
        return f"{x.name} is computed, and no input of the part"
    stored = weights_of(conv)
    if stored is None and not weight.is_initializer():
        return "its weights are computed"
    if stored is not None and len(stored.inputs[1].shape) > 1:
        return "its weights are rounded in blocks"
    if len(conv.inputs) > 2 and conv.inputs[2] is not None and not is_stored(conv.inputs[2]):
        return "its bias is computed"
    (batch, channels, *inside), grid = _sizes(x), _sizes(conv.outputs[0])[2:]
    found = _unfolding(batch, channels, grid, [i // g for i, g in zip(inside, grid, strict=True)])
    return "" if found else "no transposes of four axes unfold it"


def _from_port(value: ir.Value) -> bool:
    """Whether nothing but scaling, rounding and moving lies between an input and a value."""
    node = value.producer()
    while node is not None:
        varies = [v for v in node.inputs if v is not None and v.const_value is None]
        pointwise = node.op_type in UNARY or node.op_type in BROADCAST or node.op_type in LINEAR
        if len(varies) != 1 or not (pointwise or is_mover(node)):
            return False
        value = varies[0]
        node = value.producer()
    return value.is_graph_input()


def _unfold(build: GraphBuilder, conv: ir.Node) -> tuple[int, int]:
    """Rows and columns of the product that takes the place of a convolution."""
    (batch, channels, *inside), x = _sizes(conv.inputs[0]), conv.inputs[0]
    width, _, *kernel = _sizes(conv.inputs[1])
    grid = [size // k for size, k in zip(inside, kernel, strict=True)]
    rows, columns = math.prod(grid), channels * math.prod(kernel)
    order, steps = _unfolding(batch, channels, grid, kernel)
    matrix = _matrix(build, conv.inputs[1], order)
    rounding = [x.producer()] if is_rounded(x) and is_one_scale(x.producer()) else []
    source = rounding[0].inputs[0] if rounding else x
    patches = replayed(build, write(build, source, steps), rounding)
    y = build("MatMul", patches, matrix)
    y.dtype = conv.outputs[0].dtype
    if len(conv.inputs) > 2 and conv.inputs[2] is not None:
        y = build("Add", y, conv.inputs[2])
    shape = [1, batch * rows, width]
    y.shape, y.dtype = ir.Shape(shape), conv.outputs[0].dtype
    seen = _as_seen(batch, grid, width)
    leaves, between = follow(conv.outputs[0], seen, lambda view: plan(view, shape) is not None)
    taken: set[ir.Value] = set()
    for leaf in leaves:
        new = replayed(build, write(build, y, plan(leaf.view, shape)), leaf.then)
        put(build, leaf.value, new, new if new in taken else None)
        taken.add(new)
    makers = [v.producer() for v in conv.inputs if v is not None]
    drop_unread(build.graph, [conv, *between, *(m for m in makers if m is not None)])
    return batch * rows, columns


def _unfolding(
    batch: int, channels: int, grid: Sequence[int], kernel: Sequence[int]
) -> tuple[tuple[int, ...], list[Step]] | None:
    """(order of [channel, window ...] in a row, steps), of all orders the one with fewest steps."""
    source = [batch, channels, *(g * k for g, k in zip(grid, kernel, strict=True))]
    strides = [math.prod(source[i + 1 :]) for i in range(len(source))]
    places: list[Factor] = [(g, s * k) for g, k, s in zip(grid, kernel, strides[2:], strict=True)]
    within = [(channels, strides[1]), *zip(kernel, strides[2:], strict=True)]
    found = []
    for order in permutations(range(len(within))):
        dims = (), [(batch, strides[0]), *places], [within[i] for i in order]
        steps = plan(View(tuple(map(tuple, dims))), source)
        if steps is not None:
            found.append((sum(op == "Transpose" for op, _ in steps), len(steps), order, steps))
    return min(found)[-2:] if found else None


def _as_seen(batch: int, grid: Sequence[int], width: int) -> View:
    """What the convolution gives, [batch,width,*grid], in the product's [1,rows,width]."""
    strides = [math.prod(grid[i + 1 :]) * width for i in range(len(grid))]
    dims = [(batch, math.prod(grid) * width), (width, 1), *zip(grid, strides, strict=True)]
    return View(tuple(((size, stride),) if size > 1 else () for size, stride in dims))


def _matrix(build: GraphBuilder, weight: ir.Value, order: Sequence[int]) -> ir.Value:
    """Weights [D,C,*kernel] as [rows in this order, D]; integers as integers."""
    maker = weight.producer()
    stored = weight if maker is None else maker.inputs[0]
    array = stored.const_value.numpy()
    array = array.transpose([*(i + 1 for i in order), 0]).reshape(-1, array.shape[0])
    made = build.const(np.ascontiguousarray(array), array.dtype)
    if maker is None:
        return made
    attributes = {name: a.value for name, a in maker.attributes.items()} | {"axis": 1}
    real = build("DequantizeLinear", made, *maker.inputs[1:], **attributes)
    real.producer().metadata_props.update(maker.metadata_props)
    real.shape, real.dtype = made.shape, weight.dtype
    return real


def _sizes(value: ir.Value) -> list[int]:
    return [int(d) for d in value.shape]


def _by(sizes: Sequence[int]) -> str:
    return " x ".join(map(str, sizes))
