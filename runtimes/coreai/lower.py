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
from pathlib import Path
from typing import Any

import torch

from edgevlm.compiler.contract import Contract, Role
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.legalise import refused
from edgevlm.compiler.quiet import quietly
from edgevlm.compiler.state_ports import state_ports
from edgevlm.compiler.to_torch.dialect import Dialect
from edgevlm.compiler.to_torch.exported import exported_program
from edgevlm.runtimes.coreai.asset import HASH, METADATA, PROGRAM
from edgevlm.runtimes.coreai.lowerings import KEPT, register
from edgevlm.runtimes.coreai.steady import name_steadily

__all__ = ["COREAI", "lower"]

#: products as linear layers; attention and norms by the names that have composites; no torch.sort
COREAI = Dialect(
    linear=True,
    quantised="coreai",
    attention="sdpa",
    norms="named",
    index="natural",
    top_k="topk",
    fold=True,
)


def lower(model: ExportedModel, path: Path) -> None:
    """Writes the folder `path`. Raises EV303 naming the part, and the node or the op of torch."""
    with quietly():
        from coreai_torch import TorchConverter

        converter = TorchConverter(mode=TorchConverter.Mode.RELEASE)
        register(converter)
        for role, part in model.parts.items():
            _add(converter, role, _exported(role, part, model.contract), model.contract)
        try:
            asset = converter.to_coreai().save_asset(path)
        except (RuntimeError, TypeError, ValueError) as error:
            raise _unconverted("the model", error) from error
        asset.update_metadata(lambda told: _describe(told, model.contract))
    _make_steady(path)


def _exported(role: Role, part: Any, contract: Contract) -> torch.export.ExportedProgram:
    from coreai_torch import get_decomp_table

    try:
        program = exported_program(role, part, contract, COREAI)
    except JobFault as error:
        if error.code != "EV212":
            raise
        raise refused(role, error.what, error.why) from error
    table = get_decomp_table()
    kept = [op for op in table if op.name().split("::")[-1].split(".")[0] in KEPT]
    return program.run_decompositions({op: how for op, how in table.items() if op not in kept})


def _add(
    converter: Any, role: Role, program: torch.export.ExportedProgram, contract: Contract
) -> None:
    ins, outs = state_ports(contract, role)
    signature = program.graph_signature
    held = signature.inputs_to_buffers
    states = [
        held[node.name]
        for node in program.graph.nodes
        if node.op == "placeholder" and held.get(node.name) in signature.buffers_to_mutate.values()
    ]
    try:
        converter.add_exported_program(
            program,
            entrypoint_name=role,
            input_names=[p.name for p in ins],
            output_names=[p.name for p in outs],
            state_names=states,
        )
    except ValueError as error:
        raise _unconverted(f"part {role}", error) from error


def _describe(told: Any, contract: Contract) -> None:
    """What an app asks for (Swift: AIModelAsset.metadata); nothing that differs from run to run."""
    told.creation_date = None
    told.model_description = f"{contract.kind} with static shapes, a function for each part"
    told.set_custom("edgevlm", _constants(contract))


def _make_steady(path: Path) -> None:
    """The same model gives the same bytes; Core AI draws names, and the order of keys."""
    name_steadily(path / PROGRAM)
    with (path / PROGRAM).open("rb") as file:
        (path / HASH).write_bytes(hashlib.file_digest(file, "sha256").digest())
    metadata = path / METADATA
    told = json.loads(metadata.read_text())
    metadata.write_text(json.dumps(told, indent=1, sort_keys=True) + "\n")


def _constants(contract: Contract) -> dict[str, int]:
    sizes = {"image_height": contract.image_height, "image_width": contract.image_width}
    if contract.kind == "vlm":
        sizes |= {
            "image_tokens": contract.kept_image_tokens,
            "kv_capacity": contract.kv_capacity,
            "prompt_capacity": contract.prompt_capacity,
            "vocabulary": contract.vocabulary,
        }
    return sizes


def _unconverted(what: str, error: Exception) -> JobFault:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
    return JobFault(
        "EV303",
        f"{what} cannot be lowered by coreai-torch",
        reason,
        "edgevlm inspect MODEL --ops  lists the ops of every part",
    )
