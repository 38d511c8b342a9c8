"""Strict validation: every part has exactly the ports its contract states, and static shapes."""

from __future__ import annotations

import onnx_ir as ir

from edgevlm.compiler.contract import Port, Role
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.exported_model import ExportedModel

__all__ = ["validate"]


def validate(model: ExportedModel) -> None:
    """Raises EV106 naming part, tensor and the difference."""
    roles = set(model.contract.roles)
    if set(model.parts) != roles:
        _refuse(
            "parts", f"has {sorted(model.parts)}, a {model.contract.kind} needs {sorted(roles)}"
        )
    for role, part in model.parts.items():
        _ports(role, "input", part.graph.inputs, model.contract.inputs(role))
        _ports(role, "output", part.graph.outputs, model.contract.outputs(role))
        for node in part.graph:
            for value in node.outputs:
                if not value.name:  # an optional output left out
                    continue
                dims = list(value.shape) if value.shape is not None else [None]
                if not all(isinstance(d, int) and d >= 0 for d in dims):
                    _refuse(
                        role,
                        f"value {value.name!r} of {node.op_type} has no static shape "
                        f"({value.shape})",
                    )


def _ports(role: Role, kind: str, values: list[ir.Value], wanted: list[Port]) -> None:
    have, want = [str(v.name) for v in values], [p.name for p in wanted]
    if have != want:
        _refuse(role, f"{kind}s are {have}, the contract says {want}")
    for value, port in zip(values, wanted, strict=True):
        shape = tuple(value.shape) if value.shape is not None else None
        dtype = value.dtype.name if value.dtype is not None else None
        if shape != port.shape or dtype != port.dtype:
            _refuse(
                role,
                f"{kind} {port.name} is {dtype} {shape}, the contract says {port.dtype} "
                f"{port.shape}",
            )


def _refuse(role: str, why: str) -> None:
    raise JobFault(
        "EV106",
        f"part {role} breaks the contract",
        why,
        "export the model again, or pass the original checkpoint",
    )
