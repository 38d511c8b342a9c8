"""What a graph of the quantised dialect is: QuantizeLinear and DequantizeLinear, no zero point."""

from __future__ import annotations

import onnx_ir as ir

from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.exported_model import ExportedModel

__all__ = ["LINEAR", "check_symmetric", "rounds_activations"]

LINEAR = ("QuantizeLinear", "DequantizeLinear")


def rounds_activations(part: ir.Model) -> bool:
    """Whether values are rounded while the part runs, and not its weights alone."""
    return any(node.op_type == "QuantizeLinear" for node in part.graph)


def check_symmetric(model: ExportedModel) -> None:
    """Raises EV501 for a zero point in any quantisation node."""
    for role, part in model.parts.items():
        for node in part.graph:
            linear = node.op_type in LINEAR
            if linear and len(node.inputs) > 2 and node.inputs[2] is not None:
                raise JobFault(
                    "EV501",
                    f"{role}/{node.name} has a zero point",
                    "this dialect is symmetric",
                    "please report this",
                )
