"""Make every shape a number: one picture of one size, and what follows from shapes computed.

    before: x [B,3,H,W] -> Shape -> Gather -> Mul -> Concat -> Reshape(y, .)
            table -> Resize(., from Shape(x)) -> Add(y, .)
    after:  Reshape(y, constant), Add(y, constant)

Shapes are inferred, Shape nodes of static values become constants, and what then depends on
constants alone is computed by ONNX Runtime, which would have computed it at run time with the same
kernels; then again, since a Reshape that has its target gives more static shapes. Two or three
rounds do.
"""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.errors import EdgeError, JobFault
from edgevlm.compiler.executor import open_session
from edgevlm.compiler.shapes import infer_shapes

__all__ = ["make_static"]

MAX_ROUNDS = 64
#: of one computed constant; a hostile Expand would ask for any amount
MAX_BYTES = 256 * 2**20
#: random numbers, and what ties a scale to its integers
KEPT = frozenset(
    {"Bernoulli", "DequantizeLinear", "Dropout", "DynamicQuantizeLinear", "Multinomial"}
    | {"QuantizeLinear", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)


def make_static(path: Path, model: ir.Model) -> None:
    """In place, at the opset the model has; its inputs have static shapes. Raises EV142."""
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    RemoveUnusedNodesPass()(model)
    for node in model.graph:
        for value in node.outputs:
            value.shape = None  # what an exporter wrote down may hold for another batch
    for _ in range(MAX_ROUNDS):
        _infer(model)
        if not _name_shapes(model.graph) + _compute(path, model):
            break
    RemoveUnusedNodesPass()(model)
    for node in model.graph:
        for value in node.outputs:
            if value.name and not _static(value):
                raise _refused(
                    path,
                    f"{value.name}, which {node.op_type} {node.name} gives, has shape "
                    f"{value.shape if value.shape is not None else 'unknown'}",
                )


def _infer(model: ir.Model) -> None:
    """Shapes of all values; onnx lacks a rule for GroupNormalization, and a neighbour's fits."""
    groups = [node for node in model.graph if node.op_type == "GroupNormalization"]
    for node in groups:
        node.op_type = "InstanceNormalization"
    try:
        infer_shapes(model)
    finally:
        for node in groups:
            node.op_type = "GroupNormalization"


def _static(value: ir.Value) -> bool:
    return value.shape is not None and all(isinstance(d, int) for d in value.shape)


def _name_shapes(graph: ir.Graph) -> int:
    """Shape and Size of a static value are constants; returns how many there were."""
    found = [n for n in graph if n.op_type in ("Shape", "Size") and _static(n.inputs[0])]
    for node in found:
        shape = np.array(list(node.inputs[0].shape), np.int64)
        if node.op_type == "Size":
            said = np.array(shape.prod(), np.int64)
        else:
            attributes = node.attributes
            said = shape[attributes.get_int("start", 0) : attributes.get_int("end", len(shape))]
        _replace(graph, node.outputs[0], said)
        graph.remove(node, safe=True)
    return len(found)


def _compute(path: Path, model: ir.Model) -> int:
    """Compute what depends on constants alone; returns how many nodes that were."""
    known = set(model.graph.initializers.values())
    inside: dict[ir.Node, None] = {}
    for node in model.graph:
        constant = node.op_type not in KEPT and all(v is None or v in known for v in node.inputs)
        if constant and all(_small(v) for v in node.outputs if v.name):
            inside[node] = None
            known.update(node.outputs)
    wanted = [
        v
        for node in inside
        for v in node.outputs
        if v.is_graph_output() or any(user not in inside for user, _ in v.uses())
    ]
    for value, array in zip(wanted, _run(path, model, wanted), strict=True):
        _replace(model.graph, value, array)
    model.graph.remove(inside, safe=True)
    return len(inside)


def _small(value: ir.Value) -> bool:
    return (
        _static(value)
        and value.dtype is not None
        and value.dtype is not ir.DataType.STRING
        and prod(value.shape) * value.dtype.itemsize <= MAX_BYTES
    )


def _run(path: Path, model: ir.Model, wanted: list[ir.Value]) -> list[np.ndarray]:
    """The values of `wanted`, which no input reaches."""
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    if not wanted:
        return []
    alone = model.clone()
    places = {v.name: v for node in alone.graph for v in node.outputs}
    alone.graph.outputs.clear()
    alone.graph.outputs.extend(places[v.name] for v in wanted)
    RemoveUnusedNodesPass()(alone)
    alone.graph.inputs.clear()
    try:
        return open_session(alone).run([v.name for v in wanted], {})
    except EdgeError as fault:
        raise _refused(path, fault.why) from fault
    except Exception as error:  # ONNX Runtime has a class of its own for each status
        raise _refused(path, (str(error).strip().splitlines() or ["no reason"])[0][:300]) from error


def _replace(graph: ir.Graph, value: ir.Value, array: np.ndarray) -> None:
    """Let all readers of a value read a constant of its name."""
    name, is_output = str(value.name), value.is_graph_output()
    value.name = f"{name}/computed"
    tensor = ir.tensor(np.ascontiguousarray(array).reshape(array.shape), name=name)
    constant = ir.Value(
        name=name,
        const_value=tensor,
        shape=ir.Shape(array.shape),
        type=ir.TensorType(tensor.dtype),
    )
    graph.register_initializer(constant)
    ir.convenience.replace_all_uses_with(value, constant, replace_graph_outputs=is_output)


def _refused(path: Path, why: str) -> JobFault:
    return JobFault(
        "EV142",
        f"{path.name} cannot be made static",
        why,
        "export the model again for one picture of a fixed size, without dynamic axes",
    )
