"""What is asked at one site, and the steps all kinds of site share."""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx_ir as ir

from edgevlm.compiler.axes import analyse, resize
from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.contract import Contract
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.pass_base import Note
from edgevlm.passes.tokens.forms import Form
from edgevlm.passes.tokens.method import Method
from edgevlm.passes.tokens.positions import run_end_pad
from edgevlm.passes.tokens.sites import Site
from edgevlm.passes.tokens.view import Choice, View

__all__ = ["Request", "as_output", "builder", "chosen", "follow"]

PREFIX = "keep_tokens"  # of the names of all nodes that are added


@dataclass
class Request:
    """One method at one site with one budget."""

    model: ExportedModel
    site: Site
    method: Method
    keep: int  # K
    form: Form
    position: str = "original"
    notes: list[Note] = field(default_factory=list)

    @property
    def image_positions(self) -> str:
        """What the contract says to those who lay out prompts."""
        if self.position == "renumber":
            return "renumber"
        return self.model.contract.image_positions

    def note(self, kind: str, where: str, why: str) -> None:
        self.notes.append(Note(kind, where, why))


def chosen(request: Request, view: View) -> Choice:
    """Let the method choose; what it noted goes into the record."""
    pad = request.position == "run-end-pad"
    choice = run_end_pad(request.method, view) if pad else request.method.choose(view)
    for text in view.notes:
        request.note("info", str(request.site), text)
    return choice


def as_output(graph: ir.Graph, old: ir.Value | None, new: ir.Value, name: str) -> None:
    """Make `new` the graph output called `name`, in the place of `old` or behind the others."""
    for node in graph:
        for value in node.outputs:
            if value.name == name and value is not new:
                value.name = f"{name}/all"
    new.name = name
    if old is None:
        graph.outputs.append(new)
    else:
        graph.outputs[list(graph.outputs).index(old)] = new


def follow(model: ExportedModel, contract: Contract) -> tuple[dict[str, ir.Model], list[Note]]:
    """prefill and decode for a contract with other image tokens in front of the first layer."""
    changed, notes = {}, []
    for role, port, dim, size in (
        ("prefill", "inputs_embeds", 1, contract.prefill_length),
        ("decode", "past_key_0", 2, contract.kv_capacity),
    ):
        part = model.parts[role].clone()
        axes = analyse(part.graph, model.contract.signature(role))
        value = next(v for v in part.graph.inputs if v.name == port)
        log = resize(axes, axes.of(value)[dim], size)
        notes.append(Note("matched", role, f"{len(log)} constants follow the token axis"))
        changed[role] = part
    return changed, notes


def builder(part: ir.Model) -> GraphBuilder:
    """For the nodes of one site."""
    return GraphBuilder(part, PREFIX)
