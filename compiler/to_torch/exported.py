"""A part as a torch.export.ExportedProgram, its caches held as state of the program.

    part -> attention written out (or not) -> caches as state -> linear layers -> ExportedProgram

Inputs are those of the contract without masks and caches, in its order: decode has `cache_position`
in their place (compiler/kv_state.py). Outputs are those without caches. The caches are buffers
named as in the contract (key_0 [1,h,C,d], ...), which prefill and decode share by these names.

Every call of the program knows the ONNX node that it is of (`meta["custom"][NODE_KEY]`), so that a
profiler can say whose time it is.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace

import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.fx.traceback import annotate, preserve_node_meta

from edgevlm.compiler.attention import plain_attention
from edgevlm.compiler.contract import Contract, Role
from edgevlm.compiler.kv_names import PAST, PRESENT
from edgevlm.compiler.kv_state import decode_with_state, prefill_with_state
from edgevlm.compiler.node_key import NODE_KEY
from edgevlm.compiler.to_torch.dialect import GRADIENTS, Dialect
from edgevlm.compiler.to_torch.dtypes import DTYPES
from edgevlm.compiler.to_torch.part import TorchPart
from edgevlm.compiler.to_torch.plan import Step

__all__ = [
    "PartWithState",
    "example_of",
    "exported_graph",
    "exported_program",
    "origin",
    "written_for",
]


def written_for(
    role: Role, part: ir.Model, contract: Contract, dialect: Dialect = GRADIENTS
) -> ir.Model:
    """The part as it goes to torch, in ONNX still; ONNX Runtime runs it, if it knows opset 24."""
    if dialect.attention != "sdpa":
        part = plain_attention(part)
    if role == "prefill":
        return prefill_with_state(part, contract)
    return decode_with_state(part, contract) if role == "decode" else part


class PartWithState(nn.Module):
    """Tensors in, tensors out, in order; `present_*` of the graph stays inside, as buffers."""

    def __init__(self, part: ir.Model, dialect: Dialect) -> None:
        super().__init__()
        self.net = TorchPart(part, dialect)
        self.states: dict[str, str] = {}  # buffer -> the output that becomes it
        for value in part.graph.outputs:
            name = str(value.name)
            if name.startswith(PRESENT):
                own = name.removeprefix(PRESENT)
                shape = [int(d) for d in value.shape]
                self.register_buffer(own, torch.zeros(shape, dtype=DTYPES[value.dtype]))
                self.states[own] = name
        held = {PAST + name for name in self.states}
        self.inputs = tuple(n for n in self.net.inputs if n not in held)
        self.outputs = tuple(n for n in self.net.outputs if not n.startswith(PRESENT))

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        feeds = dict(zip(self.inputs, values, strict=True))
        feeds |= {PAST + name: self.get_buffer(name) for name in self.states}
        made = self.net({name: feeds[name] for name in self.net.inputs})
        for name, output in self.states.items():
            self.get_buffer(name).copy_(made[output])
        return tuple(made[name] for name in self.outputs)


def example_of(part: ir.Model, names: Sequence[str]) -> tuple[Tensor, ...]:
    """Zeros for inputs of these names; a graph of static shapes takes no more from an example."""
    shapes = {str(v.name): ([int(d) for d in v.shape], v.dtype) for v in part.graph.inputs}
    return tuple(torch.zeros(shapes[n][0], dtype=DTYPES[shapes[n][1]]) for n in names)


def exported_program(
    role: Role, part: ir.Model, contract: Contract, dialect: Dialect
) -> torch.export.ExportedProgram:
    """Its nodes say which of the graph they came from (`origin`).

    Raises EV212 for a node that torch, or this dialect, has not; EV501 as kv_state.py.
    """
    return exported_graph(written_for(role, part, contract, dialect), dialect)


def exported_graph(graph: ir.Model, dialect: Dialect) -> torch.export.ExportedProgram:
    """The same of a graph as it is: it holds what it calls `present_...`, and nothing else."""
    net = PartWithState(graph, dialect).eval().requires_grad_(False)
    net.net.steps = [_named(step) for step in net.net.steps]
    with warnings.catch_warnings(), preserve_node_meta():
        warnings.simplefilter("ignore")  # of torch about itself
        return torch.export.export(net, example_of(graph, net.inputs), strict=False)


def _named(step: Step) -> Step:
    """The same call; what torch makes of it while it is traced carries the node's name."""

    def run(*values: Tensor | None) -> Tensor | tuple[Tensor, ...]:
        with annotate({NODE_KEY: step.node}):
            return step.run(*values)

    return replace(step, run=run)


def origin(node: torch.fx.Node) -> str:
    """Of a node of such a program: "node NAME" of the graph, or nothing."""
    name = node.meta.get("custom", {}).get(NODE_KEY)
    return f"node {name}" if name else ""
