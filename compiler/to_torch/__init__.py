"""The one bridge from an exported part to torch: for gradients, and for what takes torch.export.

    net = to_torch(part)                     float initializers are its parameters, frozen
    net({"x": tensor})                       -> {"y": tensor}, by the names of the graph
    net(feeds, taps={"h": mask}, wanted=("q",))
    net.parameter("layers.0.weight").requires_grad_()
    net.store(part)                          trained numbers back into the graph

    part.py       TorchPart, the module
    plan.py       a graph as a list of calls, constants set apart
    ops/          the table of what every op is in torch, a file for each family
    dialect.py    what differs with who takes the module: gradients, or one of the runtimes
    linear.py     products with stored weights as linear layers
    exported.py   a part, with its caches as state, as a torch.export.ExportedProgram

Importing this package does not import torch; calling it does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgevlm.compiler.extras import torch_extra
from edgevlm.compiler.to_torch.dialect import GRADIENTS, Dialect

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgevlm.compiler.to_torch.part import TorchPart

__all__ = ["GRADIENTS", "Dialect", "TorchPart", "missing_ops", "to_torch"]

NEEDS = "a part as a torch module needs torch"


def to_torch(part: ir.Model, dialect: Dialect = GRADIENTS) -> TorchPart:
    """A module that computes what the part does. Raises EV190 (no torch), EV212 (unknown op)."""
    with torch_extra(NEEDS):
        from edgevlm.compiler.to_torch.part import TorchPart
    return TorchPart(part, dialect)


def missing_ops(part: ir.Model, dialect: Dialect = GRADIENTS) -> list[str]:
    """A line for each node that `to_torch` cannot take: its name, its op and why. Raises EV190."""
    with torch_extra(NEEDS):
        from edgevlm.compiler.to_torch.plan import plan
    return [
        f"{refused.node}: {refused.op}: {refused.why}" for refused in plan(part, dialect).refused
    ]


def __getattr__(name: str) -> Any:
    if name != "TorchPart":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with torch_extra(NEEDS):
        from edgevlm.compiler.to_torch.part import TorchPart
    return TorchPart
