"""Inputs of one node in two types where its definition asks for one: no strongly typed network."""

from __future__ import annotations

from collections.abc import Collection

import onnx
import onnx_ir as ir

from edgevlm.compiler.errors import JobFault

__all__ = ["check_types", "mixed"]


def mixed(node: ir.Node, opset: int) -> str | None:
    """What does not fit together at a node; None where all does, and for ops ONNX does not know."""
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
    except onnx.defs.SchemaError:
        return None
    seen: dict[str, tuple[str, ir.DataType]] = {}
    allowed = {each.type_param_str: each.allowed_type_strs for each in schema.type_constraints}
    for values, formals in ((node.inputs, schema.inputs), (node.outputs, schema.outputs)):
        for i, value in enumerate(values):
            if value is None or value.dtype is None or not formals:
                continue
            formal = formals[min(i, len(formals) - 1)]
            if not _takes(value, allowed.get(formal.type_str, (formal.type_str,))):
                return f"{value.name} is {value.dtype.name}, which {node.op_type} does not take"
            if not formal.is_homogeneous:
                continue
            name, kind = seen.setdefault(formal.type_str, (str(value.name), value.dtype))
            if kind != value.dtype:
                return f"{name} is {kind.name} and {value.name} is {value.dtype.name}"
    return None


def _takes(value: ir.Value, kinds: Collection[str]) -> bool:
    """kinds: as ONNX writes them, tensor(float16)."""
    return (
        not isinstance(value.type, ir.TensorType) or f"tensor({value.dtype.name.lower()})" in kinds
    )


def check_types(role: str, part: ir.Model) -> None:
    """Raises EV501: what made such a graph is one of ours."""
    opset = part.opset_imports.get("", 23)
    for node in part.graph:
        if why := mixed(node, opset):
            raise JobFault(
                "EV501", f"{role}/{node.name} has inputs of two types", why, "please report this"
            )
