"""Products whose columns are divided become a product a division: q, k and v of a fused one.

    before: x -> MatMul [D,3D] -> + -> Reshape [1,N,3,H,d] -> Transpose 2,0,3,1,4 -> Split: q, k, v
    after:  x -> MatMul [D,D] -> + -> Reshape [1,N,H,d] -> Transpose 0,2,1,3: q;  k, v alike

Whatever the exporter divides with (Split, Slice, Gather, Squeeze) and however columns lie (q, k, v
in a row, or a head's q, k and v next to each other; q wider than k and v; gate and up of an MLP) is
read off the graph: every reader sees a strided window of the columns. Stored integers are sliced
with their scales, a rounded input is rounded once and made float for each product. Why: on an
Ethos-U85 the transposes of five axes were 0.95 of 5.5 million cycles of a block, and 0.055 after.
Refused, with a note: an output that somebody reads whole as well, or in divisions that overlap;
columns of no constant stride; weights that are computed. Expected effect: exact, the same sums of
products; ranks of at most 4.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.axes.rules.common import who
from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.pass_base import Effect, Note, Pass, PassResult
from edgevlm.passes.mobile.columns import Columns, climb, stored_matrix
from edgevlm.passes.mobile.layout import plan, write
from edgevlm.passes.mobile.moves import Leaf, drop_unread, follow, known_shape, put, replayed
from edgevlm.passes.mobile.view import Factor, View

__all__ = ["SeparateQkv"]

Division = tuple[np.ndarray, View]  # columns, ascending, and the view of a product of only these


class SeparateQkv(Pass):
    name = "separate-qkv"
    summary = "a product whose columns are divided becomes a product for each division"
    effect = Effect.EXACT
    after = ("fold-constants",)

    def run(self, model: ExportedModel) -> PassResult:
        changed, notes = {}, []
        for role, part in model.parts.items():
            clone = part.clone()
            build, count = GraphBuilder(clone, "separate_qkv"), 0
            for node in [n for n in clone.graph if n.op_type in ("MatMul", "Gemm")]:
                done = _separate(build, node) if node.graph is clone.graph else None
                if done is not None:
                    notes.append(Note(done[0], f"{role}/{who(node)}", done[1]))
                    count += done[0] == "matched"
            if count:
                build.finish()
                changed[role] = clone
        return PassResult(model.with_parts(**changed), bool(changed), tuple(notes))


def _separate(build: GraphBuilder, product: ir.Node) -> tuple[str, str] | None:
    """What was done, and how; None for an ordinary product."""
    root = climb(product)
    if not known_shape(root):
        return None
    *lines, width = (int(d) for d in root.shape)
    rows = math.prod(lines)
    leaves, between = follow(
        root, View.of([*lines, width]), lambda view: _division(view, rows, width) is not None
    )
    divisions = [_division(leaf.view, rows, width) for leaf in leaves]
    if all(len(columns) == width for columns, _ in divisions):
        return None
    if stored_matrix(product) is None:
        return "skipped", "its columns are divided, but what it multiplies with is computed"
    if refused := _why_not(leaves, divisions, width):
        return "skipped", refused
    made, columns_of = {}, Columns(build, width)
    used: set[ir.Value] = set()
    for leaf, (columns, view) in zip(leaves, divisions, strict=True):
        key = columns.tobytes()
        if key not in made:
            made[key] = columns_of(root, columns)
        steps = plan(view, [int(d) for d in made[key].shape])
        new = replayed(build, write(build, made[key], steps), leaf.then)
        put(build, leaf.value, new, new if new in used else None)
        used.add(new)
    drop_unread(build.graph, [*between, *columns_of.copied])
    sizes = ", ".join(str(len(np.frombuffer(key, np.int64))) for key in made)
    return "matched", f"{width} columns became products of {sizes}"


def _why_not(leaves: list[Leaf], divisions: list[Division], width: int) -> str:
    """Why the divisions are not a product each; empty where they can be."""
    for leaf, (columns, view) in zip(leaves, divisions, strict=True):
        if len(columns) == width:
            return f"{leaf.value.name} has all of its columns, and others are divided from them"
        lines = [width, math.prod(view.shape) // len(columns), len(columns)]
        if plan(view, lines[1:]) is None:
            return f"{leaf.value.name} is no order of its rows and columns that transposes reach"
    each = {columns.tobytes(): columns for columns, _ in divisions}
    together = np.concatenate(list(each.values()))
    if len(np.unique(together)) < len(together):
        return "two readers have some of its columns in common, and others not"
    return ""


def _division(view: View, rows: int, width: int) -> Division | None:
    """Of a view of [rows,width] that has every row; None for any other."""
    dims: list[list[Factor]] = []
    across: list[Factor] = []
    seen = 1
    for dim in view.dims:
        dims.append([])
        for size, stride in dim:
            pieces = _apart(size, stride, width)
            if pieces is None:
                return None
            dims[-1] += pieces
            across += [p for p in pieces if 0 < p[1] < width]
            seen *= math.prod(n for n, t in pieces if t >= width)
    if seen != rows or view.offset >= width:
        return None
    columns, strides = np.array([view.offset]), {}
    for size, stride in sorted(across, key=lambda f: -f[1]):
        columns = (columns[:, None] + np.arange(size) * stride).reshape(-1)
    if len(np.unique(columns)) < len(columns) or columns.max() >= width:
        return None
    below = 1
    for size, stride in sorted(across, key=lambda f: f[1]):
        strides[stride] = below
        below *= size
    alone = [
        tuple((n, t // width * below if t >= width else strides.get(t, 0)) for n, t in dim)
        for dim in dims
    ]
    return columns, View(tuple(alone))


def _apart(size: int, stride: int, width: int) -> list[Factor] | None:
    """A factor as one over rows and one over columns."""
    if stride >= width:
        return [(size, stride)] if stride % width == 0 else None
    if size * stride <= width:
        return [(size, stride)]
    if width % stride or size * stride % width:
        return None
    return [(size * stride // width, width), (width // stride, stride)]
