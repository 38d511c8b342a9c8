"""What a graph is but for its numbers: ops, attributes, shapes and types, and what reads what.

Two graphs with one digest take the same time on one machine. Names and weights do not count, nor
the order of initializers; small integer constants do, since they are shapes, axes and pads.
"""

from __future__ import annotations

import hashlib
import json

import onnx_ir as ir

__all__ = ["structure_digest"]

SMALL = 64  # elements


def structure_digest(part: ir.Model) -> str:
    """sha256, hexadecimal."""
    places: dict[ir.Value, int] = {}

    def place(value: ir.Value | None) -> int:
        return -1 if value is None else places.setdefault(value, len(places))

    rows: list[object] = [sorted(part.opset_imports.items())]
    rows.append([place(value) for value in part.graph.inputs])
    for node in part.graph:
        attributes = sorted((name, _attribute(a)) for name, a in node.attributes.items())
        wires = [[place(value) for value in side] for side in (node.inputs, node.outputs)]
        rows.append([node.domain, node.op_type, attributes, wires])
    rows.append([place(value) for value in part.graph.outputs])
    rows += [_value(value) for value in places]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _attribute(attribute: ir.Attr) -> str:
    if attribute.type == ir.AttributeType.TENSOR:
        return _tensor(attribute.value)
    return f"{attribute.type}: {attribute.value}"


def _value(value: ir.Value) -> str:
    if value.const_value is not None:
        return _tensor(value.const_value)
    return f"{value.dtype} {value.shape}"


def _tensor(tensor: ir.TensorProtocol) -> str:
    said = f"{tensor.dtype} {list(tensor.shape)}"
    if tensor.dtype == ir.DataType.INT64 and tensor.size <= SMALL:
        said += f" {tensor.numpy().tolist()}"
    return said
