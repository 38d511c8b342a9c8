"""An op on many axes as the same op on at most four: axes that it treats alike are one.

    Mul([1,4,2,9,8], [1,1,1,9,8])     Mul([8,72], [72])            what both have, or one alone
    Softmax axis 3 of [1,4,2,9,8]     Softmax axis 1 of [8,9,8]    in front, along, behind
    ReduceMean axes 2,4               [4,2,9,8] axes 1,3           runs that go, runs that stay
    MatMul [2,3,4,9,8]                MatMul [24,9,8]              products side by side

Every op has a rule that names how its tensors are seen with fewer axes; no numbers are moved.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.axes.rules.common import attribute
from edgevlm.compiler.axes.rules.elementwise import BROADCAST, UNARY
from edgevlm.compiler.axes.rules.reduce import REDUCTIONS
from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.quantised import LINEAR
from edgevlm.passes.mobile.layout import MAX_AXES

__all__ = ["Fewer", "fewer_axes", "with_fewer"]

Shape = list[int]


@dataclass
class Fewer:
    """Shapes of inputs (by place) and outputs, and what else changes."""

    inputs: dict[int, Shape]
    outputs: list[Shape]
    attributes: dict[str, object] = field(default_factory=dict)
    constants: dict[int, np.ndarray] = field(default_factory=dict)


def fewer_axes(node: ir.Node) -> Fewer | str:
    """A sentence where there is no such form. All shapes must be known."""
    rule = RULES.get(node.op_type) if node.domain in ("", "ai.onnx") else None
    if rule is None:
        return f"{node.op_type} has no form with fewer axes"
    found = rule(node)
    shapes = [*found.inputs.values(), *found.outputs]
    if any(len(shape) > MAX_AXES for shape in shapes):
        return f"{node.op_type} treats {max(map(len, shapes))} axes each in its own way"
    return found


def with_fewer(build: GraphBuilder, node: ir.Node, found: Fewer) -> None:
    """That node in the place of the old one, with reshapes around it."""
    inputs = list(node.inputs)
    for place, shape in found.inputs.items():
        inputs[place] = _shaped(build, inputs[place], shape)
    for place, array in found.constants.items():
        inputs += [None] * (place + 1 - len(inputs))  # axes that were implied
        inputs[place] = build.const(array, array.dtype)
    attributes = {name: a.value for name, a in node.attributes.items()} | found.attributes
    made = build(node.op_type, *inputs, outputs=len(node.outputs), **attributes)
    made = made if isinstance(made, tuple) else (made,)
    made[0].producer().metadata_props.update(node.metadata_props)
    for old, new, shape in zip(node.outputs, made, found.outputs, strict=True):
        new.shape, new.type = ir.Shape(shape), old.type
        back = build("Reshape", new, build.const([int(d) for d in old.shape]))
        back.shape, back.type = old.shape, old.type
        name, old.name = old.name, f"{old.name}/wide"
        back.name = name
        ir.convenience.replace_all_uses_with(old, back, replace_graph_outputs=True)
    build.graph.remove(node, safe=True)


def _shaped(build: GraphBuilder, value: ir.Value, shape: Shape) -> ir.Value:
    if list(value.shape) == shape:
        return value
    if value.const_value is not None:
        array = value.const_value.numpy().reshape(shape)
        return build.const(array, array.dtype)
    made = build("Reshape", value, build.const(shape))
    made.shape, made.type = ir.Shape(shape), value.type
    return made


def _dims(value: ir.Value) -> Shape:
    return [int(d) for d in value.shape]


def _meeting(shapes: Sequence[Shape], out: Shape) -> tuple[list[Shape], Shape]:
    """Broadcast operands with as few axes as can be; the shape of what comes out."""
    rank = len(out)
    wide = [[1] * (rank - len(s)) + s for s in shapes]
    columns = [(size, tuple(s[i] > 1 for s in wide)) for i, size in enumerate(out) if size > 1]
    runs = [[size for size, _ in run] for _, run in groupby(columns, key=lambda c: c[1])]
    kinds = [kind for kind, _ in groupby(kind for _, kind in columns)]
    sizes = list(map(math.prod, runs))
    made = [
        [size if kind[i] else 1 for size, kind in zip(sizes, kinds, strict=True)]
        for i in range(len(shapes))
    ]
    return made, sizes


def _pointwise(node: ir.Node) -> Fewer:
    places = [i for i, v in enumerate(node.inputs) if v is not None]
    if node.op_type in UNARY:
        places = places[:1]  # the others are numbers
    out = _dims(node.outputs[0])
    made, sizes = _meeting([_dims(node.inputs[i]) for i in places], out)
    return Fewer(dict(zip(places, made, strict=True)), [sizes])


def _three(shape: Shape, axis: int) -> Shape:
    """[in front, along, behind]."""
    axis %= len(shape)
    return [math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])]


def _along(node: ir.Node) -> Fewer:
    """One axis apart: a softmax, a concatenation, scales of one axis."""
    axis = attribute(node, "axis", 1 if node.op_type in LINEAR else -1)
    axis %= len(node.outputs[0].shape)
    places = range(len(node.inputs)) if node.op_type == "Concat" else [0]
    return Fewer(
        {i: _three(_dims(node.inputs[i]), axis) for i in places},
        [_three(_dims(v), axis) for v in node.outputs],
        {"axis": 1},
    )


def _rounded(node: ir.Node) -> Fewer:
    if math.prod(_dims(node.inputs[1])) == 1:
        return Fewer({0: [math.prod(_dims(node.inputs[0]))]}, [[math.prod(_dims(node.outputs[0]))]])
    found = _along(node)
    return found if len(node.inputs[1].shape) == 1 else Fewer({}, [_dims(node.outputs[0])])


def _chosen(node: ir.Node) -> Fewer:
    """ArgMax, ArgMin, TopK and CumSum: one axis apart."""
    axis = attribute(node, "axis", 0 if node.op_type.startswith("Arg") else -1)
    constants = {}
    if node.op_type == "CumSum":
        axis, constants = int(node.inputs[1].const_value.numpy().reshape(())), {1: np.array(1)}
    shape = _three(_dims(node.inputs[0]), axis)
    behind = shape[1]
    if node.op_type.startswith("Arg"):
        behind = 1
    elif node.op_type == "TopK":
        behind = _dims(node.outputs[0])[axis]
    changed = {} if node.op_type == "CumSum" else {"axis": 1}
    if node.op_type.startswith("Arg"):
        changed["keepdims"] = 1
    return Fewer({0: shape}, [[shape[0], behind, shape[2]]] * len(node.outputs), changed, constants)


def _gathered(node: ir.Node) -> Fewer:
    axis = attribute(node, "axis", 0)
    shape, count = _three(_dims(node.inputs[0]), axis), math.prod(_dims(node.inputs[1]))
    return Fewer({0: shape, 1: [count]}, [[shape[0], count, shape[2]]], {"axis": 1})


def _reduced(node: ir.Node) -> Fewer:
    shape = _dims(node.inputs[0])
    given = node.inputs[1] if len(node.inputs) > 1 else None
    axes = attribute(node, "axes") if given is None else given.const_value.numpy().tolist()
    if not axes and attribute(node, "noop_with_empty_axes", 0):
        return Fewer({0: [math.prod(shape)]}, [[math.prod(shape)]])
    gone = {a % len(shape) for a in axes} if axes else set(range(len(shape)))
    runs = [
        (kind, math.prod(size for _, size in run))
        for kind, run in groupby(
            ((i in gone, size) for i, size in enumerate(shape) if size > 1), key=lambda c: c[0]
        )
    ]
    runs = runs or [(True, 1)]
    where = np.array([i for i, (kind, _) in enumerate(runs) if kind], np.int64)
    sizes = [size for _, size in runs]
    out = [1 if kind else size for kind, size in runs]
    if not len(where):  # only axes of 1 go
        return Fewer({0: [*sizes, 1]}, [[*sizes, 1]], {"keepdims": 1}, {1: np.array([len(sizes)])})
    return Fewer({0: sizes}, [out], {"keepdims": 1}, {1: where})


def _normed(node: ir.Node) -> Fewer:
    shape = _dims(node.inputs[0])
    axis = attribute(node, "axis", -1) % len(shape)
    inner = math.prod(shape[axis:])
    sizes = [math.prod(shape[:axis]), inner]
    weights = {i: [inner] for i in range(1, len(node.inputs)) if node.inputs[i] is not None}
    plain = all(math.prod(_dims(node.inputs[i])) == inner for i in weights)
    rest = [[_three(_dims(v), axis)[0], 1] for v in node.outputs[1:]]
    return Fewer({0: sizes, **weights}, [sizes, *rest] if plain else [shape], {"axis": -1})


def _product(node: ir.Node) -> Fewer:
    a, b, out = _dims(node.inputs[0]), _dims(node.inputs[1]), _dims(node.outputs[0])
    if min(len(a), len(b)) < 2:
        return Fewer({0: a, 1: b}, [out])
    if len(b) == 2:
        lines = math.prod(a[:-1])
        return Fewer({0: [lines, a[-1]]}, [[lines, out[-1]]])
    (left, right), batch = _meeting([a[:-2], b[:-2]], out[:-2])
    return Fewer({0: [*left, *a[-2:]], 1: [*right, *b[-2:]]}, [[*batch, *out[-2:]]])


RULES: dict[str, Callable[[ir.Node], Fewer]] = {
    **dict.fromkeys([*UNARY, *BROADCAST, "Where"], _pointwise),
    **dict.fromkeys(["Softmax", "LogSoftmax", "Hardmax", "Concat"], _along),
    **dict.fromkeys(LINEAR, _rounded),
    **dict.fromkeys(["ArgMax", "ArgMin", "TopK", "CumSum"], _chosen),
    **dict.fromkeys(REDUCTIONS, _reduced),
    **dict.fromkeys(["LayerNormalization", "RMSNormalization"], _normed),
    "MatMul": _product,
    "Gather": _gathered,
}
