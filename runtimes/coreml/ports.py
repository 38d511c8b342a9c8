"""What a contract promises of a package's functions, and what they have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edgevlm.compiler.artifact_checks import check_ports
from edgevlm.compiler.contract import Contract, Role
from edgevlm.compiler.manifest import Artifact
from edgevlm.compiler.ports import Port
from edgevlm.compiler.state_ports import cache_ports, state_ports
from edgevlm.runtimes.coreml.mil_functions import Function
from edgevlm.runtimes.coreml.mil_types import TensorType

__all__ = ["as_promised", "promised_outputs"]

#: parts that have the caches
HOLD = ("prefill", "decode")
#: of a contract -> as the package has it
HELD = {"FLOAT": "fp16", "FLOAT16": "fp16", "INT64": "int32", "INT32": "int32"}
NUMPY = {"FLOAT": np.float32, "FLOAT16": np.float16, "INT64": np.int64, "INT32": np.int32}


def promised_outputs(
    path: Path,
    functions: Mapping[str, Function],
    artifacts: Sequence[Artifact],
    contract: Contract,
) -> dict[Role, list[Port]]:
    """Outputs of each part, once its function is seen to have these ports. Raises EV304."""
    promised = {}
    for artifact in artifacts:
        ins, outs = state_ports(contract, artifact.role)
        function = functions.get(artifact.role)
        check_ports(path, "input", _found(function, "inputs", ins), _held(ins))
        check_ports(path, "output", _found(function, "outputs", outs), _held(outs))
        caches = list(cache_ports(contract).values()) if artifact.role in HOLD else []
        check_ports(path, "state", _found(function, "states", caches), _held(caches))
        promised[artifact.role] = outs
    return promised


def as_promised(port: Port, array: np.ndarray) -> np.ndarray:
    """In the type of the contract."""
    return np.asarray(array).astype(NUMPY[port.dtype])


def _held(ports: Sequence[Port]) -> list[Port]:
    return [port.model_copy(update={"dtype": HELD[port.dtype]}) for port in ports]


def _found(
    function: Function | None, side: str, wanted: Sequence[Port]
) -> list[tuple[str, str, tuple[int, ...]]]:
    """In the order of the contract where names agree: a package names its ports, and no order."""
    told: Mapping[str, TensorType] = getattr(function, side) if function else {}
    names = [p.name for p in wanted if p.name in told]
    names += [name for name in told if name not in names]
    return [(name, told[name].dtype.name, tuple(told[name].shape)) for name in names]
