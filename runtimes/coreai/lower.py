"""All parts as one asset (.aimodel): a function each, weights once, caches as state.

    vision connector embed prefill decode    as the contract has them, by its names of ports;
                                             prefill and decode share key_i, value_i

int64 ports are int32 in the asset, which has no wider integers. Weights are constants by their
content, so those that functions share are stored once.
https://apple.github.io/coreai-torch/
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
from torch.fx.traceback import preserve_node_meta

from edgevlm.compiler.contract import Contract, Role
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.legalise import LIST_OPS, refused
from edgevlm.compiler.quiet import quietly
from edgevlm.compiler.state_ports import state_ports
from edgevlm.compiler.to_torch.dialect import Dialect
from edgevlm.compiler.to_torch.exported import exported_program, origin
from edgevlm.compiler.whole_blocks import whole_blocks
from edgevlm.runtimes.coreai.asset import HASH, METADATA, PROGRAM
from edgevlm.runtimes.coreai.lowerings import decompositions, register
from edgevlm.runtimes.coreai.steady import name_steadily

__all__ = ["COREAI", "Function", "lower", "make_steady", "write_asset"]

#: products as linear layers; attention and norms by the names that have composites; no torch.sort
COREAI = Dialect(
    linear=True,
    quantised="coreai",
    codes="all",
    tables="op",
    attention="sdpa",
    norms="named",
    index="natural",
    top_k="topk",
    fold=True,
)
#: what the converter raises for what it does not take
REFUSALS = (AssertionError, IndexError, KeyError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class Function:
    """One of an asset: a program with the names of what goes in and comes out."""

    program: torch.export.ExportedProgram
    inputs: Sequence[str]
    outputs: Sequence[str]


def lower(model: ExportedModel, path: Path) -> None:
    """Writes the folder `path`. Raises EV303 naming the part, and the node or the op of torch."""
    with quietly():
        functions = {role: _function(role, part, model) for role, part in model.parts.items()}
        asset = write_asset(functions, path)
        asset.update_metadata(lambda told: _describe(told, model.contract))
    make_steady(path)


def write_asset(functions: Mapping[str, Function], path: Path) -> Any:
    """A `coreai.authoring.asset.AIModelAsset`. Raises EV303 with coreai-torch's reason."""
    from coreai_torch import TorchConverter, get_decomp_table

    converter = TorchConverter(mode=TorchConverter.Mode.RELEASE)
    register(converter)
    table, name = decompositions(get_decomp_table()), ""
    program: torch.export.ExportedProgram | None = None
    try:
        for entry, function in functions.items():
            name = f"part {entry}"
            with preserve_node_meta():
                program = function.program.run_decompositions(table)
            converter.add_exported_program(
                program,
                entrypoint_name=entry,
                input_names=function.inputs,
                output_names=function.outputs,
                state_names=_states(program),
            )
        name = "the model"
        return converter.to_coreai().save_asset(path)
    except REFUSALS as error:
        at = _named_in(error, program) or _met_by(error)
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        what = f"{name}: {at} cannot be lowered" if at else f"{name} cannot be lowered"
        raise JobFault("EV303", what, f"coreai-torch: {reason}", LIST_OPS) from error


def _named_in(error: Exception, program: torch.export.ExportedProgram | None) -> str:
    """The first node whose op the converter lists as one that it does not have."""
    for node in program.graph.nodes if program else ():
        if node.op == "call_function" and f"{node.target}" in str(error):
            return origin(node)
    return ""


def _met_by(error: Exception) -> str:
    """The node that the converter was at; it keeps it in a variable of that name, and tells not."""
    at, found = error.__traceback__, ""
    while at is not None:
        node = at.tb_frame.f_locals.get("node")
        found = origin(node) if isinstance(node, torch.fx.Node) else found
        at = at.tb_next
    return found


def _states(program: torch.export.ExportedProgram) -> list[str]:
    """Buffers that the program writes, by their own names, in its order."""
    told = program.graph_signature
    held, written = told.inputs_to_buffers, set(told.buffers_to_mutate.values())
    places = [str(node.name) for node in program.graph.nodes if node.op == "placeholder"]
    return [held[name] for name in places if held.get(name) in written]


def _function(role: Role, part: ir.Model, model: ExportedModel) -> Function:
    try:
        program = exported_program(role, whole_blocks(part), model.contract, COREAI)
    except JobFault as error:
        if error.code != "EV212":
            raise
        raise refused(role, error.what.split(":")[0], error.why) from error
    ins, outs = state_ports(model.contract, role)
    return Function(program, [p.name for p in ins], [p.name for p in outs])


def _describe(told: Any, contract: Contract) -> None:
    """For who looks at the file."""
    told.model_description = f"{contract.kind} with static shapes, a function for each part"


def make_steady(path: Path) -> None:
    """The same model gives the same bytes; Core AI draws names and the order of keys, and dates."""
    name_steadily(path / PROGRAM)
    with (path / PROGRAM).open("rb") as file:
        (path / HASH).write_bytes(hashlib.file_digest(file, "sha256").digest())
    metadata = path / METADATA
    told = json.loads(metadata.read_text())
    told.pop("creationDate", None)
    metadata.write_text(json.dumps(told, indent=1, sort_keys=True) + "\n")
