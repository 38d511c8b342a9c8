"""All parts as one program (.pte): a method each, weights once, caches shared between methods.

    vision connector embed prefill decode     as the contract has them; decode takes cache_position
    read_caches, write_caches                 the rows that prefill and decode hold, out and in
    get_...                                   constants of the contract, for who writes an app

https://docs.pytorch.org/executorch/stable/  (lowering; multi-method programs; memory planning)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, nn

from edgevlm.compiler.contract import Contract
from edgevlm.compiler.errors import EdgeError, JobFault
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.quiet import quietly
from edgevlm.compiler.state_ports import cache_ports
from edgevlm.compiler.to_torch.dtypes import DTYPES
from edgevlm.compiler.to_torch.exported import exported_program
from edgevlm.runtimes.executorch.backends import Backend
from edgevlm.runtimes.executorch.methods import READ, WRITE
from edgevlm.runtimes.executorch.nodes import Nodes, nodes_of, trace
from edgevlm.runtimes.executorch.placed import placed
from edgevlm.runtimes.executorch.written import written

__all__ = ["Lowered", "constants_of", "lower"]


@dataclass(frozen=True)
class Lowered:
    """`data`: the file. Of every part, `placed`: who runs its ops; `nodes`: whose they are."""

    data: bytes
    placed: dict[str, dict[str, Any]]
    nodes: Nodes


def lower(model: ExportedModel, backend: Backend, aims: Mapping[str, str] | None = None) -> Lowered:
    """aims: what `Backend.fits` gave.

    Raises EV212 for an op that torch has not, EV309 where ExecuTorch or the backend refuses.
    """
    contract = model.contract
    programs: dict[str, torch.export.ExportedProgram] = {
        role: exported_program(
            role, written(role, part, backend.portable), contract, backend.dialect
        )
        for role, part in model.parts.items()
    }
    if {"prefill", "decode"} & set(model.parts):
        programs |= _cache_methods(contract)
    try:
        with quietly():
            edge = (
                backend.lowered(programs, constants_of(contract), aims or {})
                if backend.lowered
                else _partitioned(programs, model, backend)
            )
            found = {role: placed(edge.exported_program(role)) for role in model.parts}
            traced = {name: each for name, each in trace(edge).items() if name in model.parts}
            program = _emitted(edge)
    except EdgeError:
        raise
    except Exception as error:  # its passes raise a dozen kinds, AssertionError among them
        raise JobFault(
            "EV309",
            f"ExecuTorch does not lower this for {backend.name}",
            _reason(error),
            "--toolchain xnnpack, or another --quant",
        ) from error
    return Lowered(bytes(program.buffer), found, nodes_of(traced, program))


def _partitioned(programs: Mapping[str, Any], model: ExportedModel, backend: Backend) -> Any:
    """An EdgeProgramManager whose delegates are made."""
    from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

    from edgevlm.runtimes.executorch import partitioners

    found = getattr(partitioners, backend.partitioners)
    return to_edge_transform_and_lower(
        dict(programs),
        # caches are the program's: a delegate that may would take a copy of them into itself
        partitioner={
            name: found(each) if name in model.parts else [] for name, each in programs.items()
        },
        compile_config=EdgeCompileConfig(_check_ir_validity=False),
        constant_methods=constants_of(model.contract),
    )


def _emitted(edge: Any) -> Any:
    from executorch.exir import ExecutorchBackendConfig
    from executorch.exir.passes import MemoryPlanningPass

    return edge.to_executorch(
        config=ExecutorchBackendConfig(
            extract_delegate_segments=True,
            # without it every method has caches of its own
            memory_planning_pass=MemoryPlanningPass(share_mutable_buffers=True),
        )
    )


def _reason(error: BaseException) -> str:
    """The innermost: those around it only say in which pass."""
    while error.__cause__ is not None:
        error = error.__cause__
    words = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {words}"[:300]


def constants_of(contract: Contract) -> dict[str, int]:
    """Methods that return a number; the names are those that apps of ExecuTorch ask for."""
    found = {
        "get_image_height": contract.image_height,
        "get_image_width": contract.image_width,
    }
    if contract.kind == "vlm":
        found |= {
            "get_max_seq_len": contract.kv_capacity,
            "get_max_context_len": contract.kv_capacity,
            "get_vocab_size": contract.vocabulary,
            "get_prompt_capacity": contract.prompt_capacity,
            "get_image_tokens": contract.kept_image_tokens,
            "get_image_places": contract.image_tokens,
            "get_renumbered": int(contract.image_positions == "renumber"),
            "get_vision_width": contract.vision_width,
            "get_width": contract.width,
        }
    return found


class _Caches(nn.Module):
    """Buffers by the names that prefill and decode have theirs by, so that they are the same."""

    def __init__(self, contract: Contract) -> None:
        super().__init__()
        ports = cache_ports(contract)
        self.names = tuple(ports)
        for name, port in ports.items():
            kind = DTYPES[ir.DataType[port.dtype]]
            self.register_buffer(name, torch.zeros(port.shape, dtype=kind))


class _Read(_Caches):
    def forward(self) -> tuple[Tensor, ...]:
        return tuple(self.get_buffer(name).clone() for name in self.names)


class _Write(_Caches):
    def forward(self, *caches: Tensor) -> Tensor:
        for name, cache in zip(self.names, caches, strict=True):
            self.get_buffer(name).copy_(cache)
        return torch.ones(1)  # a method returns something


def _cache_methods(contract: Contract) -> Mapping[str, torch.export.ExportedProgram]:
    read, write = _Read(contract), _Write(contract)
    example = tuple(read.get_buffer(name) for name in read.names)
    return {
        READ: torch.export.export(read, (), strict=False),
        WRITE: torch.export.export(write, example, strict=False),
    }
