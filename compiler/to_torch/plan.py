"""A graph as a static list of calls: constants set apart, refusals gathered.

Float initializers are what may be trained and stay tensors by name. All else that hangs on no
input (shapes, indices, integer weights) is a constant, and what is computed from constants alone
is computed here, once.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import onnx_ir as ir
from torch import Tensor

from edgevlm.compiler.axes.rules.common import who
from edgevlm.compiler.to_torch.dialect import GRADIENTS, Dialect
from edgevlm.compiler.to_torch.dtypes import DTYPES, as_torch
from edgevlm.compiler.to_torch.linear import DOMAIN
from edgevlm.compiler.to_torch.ops import OPS, OWN
from edgevlm.compiler.to_torch.ops.node import OpNode, Refused, Run

__all__ = ["Plan", "RefusedNode", "Step", "plan"]

TABLES = {"": OPS, "ai.onnx": OPS, DOMAIN: OWN}


@dataclass(frozen=True)
class Step:
    """One call. `inputs`: names of values, None for one that is absent or was read already."""

    node: str  # that it is of, by its name in the graph
    run: Run
    inputs: tuple[str | None, ...]
    outputs: tuple[str, ...]
    #: values that nobody reads after it
    last: tuple[str, ...] = ()


@dataclass(frozen=True)
class RefusedNode:
    node: str
    op: str
    why: str


@dataclass
class Plan:
    steps: list[Step] = field(default_factory=list)
    #: float initializers that a step reads or that are outputs
    weights: dict[str, Tensor] = field(default_factory=dict)
    #: everything else that is known; those that a step reads or that are outputs
    constants: dict[str, Tensor] = field(default_factory=dict)
    refused: list[RefusedNode] = field(default_factory=list)


def plan(part: ir.Model, dialect: Dialect = GRADIENTS) -> Plan:
    """Never raises for what it cannot run: see `refused`."""
    made, stored = Plan(), _Stored(dialect)
    for node in part.graph:
        try:
            step = _step(node, stored)
        except Refused as error:
            op = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
            made.refused.append(RefusedNode(who(node), op, str(error)))
            continue
        if step is not None:
            made.steps.append(step)
    read = [name for step in made.steps for name in step.inputs if name is not None]
    outputs = [str(v.name) for v in part.graph.outputs]
    for name in dict.fromkeys(read + outputs):
        if name in stored.constants:
            made.constants[name] = stored.constants[name]
        elif name in part.graph.initializers:
            found = stored.find(part.graph.initializers[name])
            (made.weights if found.is_floating_point() else made.constants)[name] = found
    made.steps = _freeing(made.steps, set(outputs))
    return made


class _Stored:
    """Tensors that no input reaches, as far as they were asked for."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self.constants: dict[str, Tensor] = {}
        self._initializers: dict[str, Tensor] = {}

    def find(self, value: ir.Value) -> Tensor | None:
        """A stored tensor, of whichever kind; None for one that is computed."""
        name = str(value.name)
        if name in self.constants:
            return self.constants[name]
        if not value.is_initializer():
            return None
        if name not in self._initializers:
            if value.const_value.dtype not in DTYPES:
                raise Refused(f"its input {name!r} holds {value.const_value.dtype.name}")
            self._initializers[name] = as_torch(value.const_value)
        return self._initializers[name]

    def constant(self, value: ir.Value) -> Tensor | None:
        """One that cannot be trained, and so may be computed with once."""
        found = self.find(value)
        trained = value.is_initializer() and found.is_floating_point() and not self.dialect.fold
        return None if trained else found


def _step(node: ir.Node, stored: _Stored) -> Step | None:
    """None for a node whose outputs are constants."""
    table = TABLES.get(node.domain, {})
    if node.op_type not in table:
        raise Refused("there is no such op in the table")
    view = OpNode(node, stored.find, stored.dialect)
    run = table[node.op_type](view)
    values = [None if i in view.read else value for i, value in enumerate(node.inputs)]
    outputs = tuple(str(value.name or "") for value in node.outputs)
    if isinstance(run, Tensor):
        stored.constants[outputs[0]] = run
        return None
    known = [None if value is None else stored.constant(value) for value in values]
    all_known = all(k is not None or v is None for k, v in zip(known, values, strict=True))
    if node.inputs and all_known and not _kept(node, stored.dialect):
        found = run(*known)
        found = found if isinstance(found, tuple) else (found,)
        stored.constants.update(zip(outputs, found, strict=False))
        return None
    for value in values:
        if value is not None:
            stored.find(value)  # refuses a format that torch has not
    inputs = tuple(None if v is None else str(v.name) for v in values)
    return Step(who(node), run, inputs, outputs)


def _kept(node: ir.Node, dialect: Dialect) -> bool:
    """Stored codes stay codes for products of integers; a float one has no kernel for them."""
    if node.op_type == "LutToDense":
        return True
    if dialect.quantised == "spelled" or node.op_type != "DequantizeLinear":
        return False
    if dialect.codes == "all":
        return True
    return any(_rounds(user, position) for user, position in node.outputs[0].uses())


def _rounds(node: ir.Node, position: int) -> bool:
    """Whether it multiplies a rounded input with these weights."""
    maker = node.inputs[0].producer()
    rounded = maker is not None and maker.op_type in ("DequantizeLinear", "RoundRows")
    return position == 1 and rounded


def _freeing(steps: list[Step], outputs: set[str]) -> list[Step]:
    """The same steps, each with the values it is the last to read or that nobody does."""
    later, found = set(outputs), []
    for step in reversed(steps):
        last = {name for name in (*step.inputs, *step.outputs) if name} - later
        later |= last
        found.append(replace(step, last=tuple(sorted(last))))
    return found[::-1]
