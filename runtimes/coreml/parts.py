"""A package as parts, run by our evaluator: for what they compute, not for how fast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edgevlm.compiler.artifact_checks import check_ports
from edgevlm.compiler.contract import Contract, Role
from edgevlm.compiler.held_state import StateParts
from edgevlm.compiler.manifest import Artifact
from edgevlm.compiler.ports import Port
from edgevlm.compiler.state_ports import state_ports
from edgevlm.runtimes.coreml.mil_evaluator import MilProgram
from edgevlm.runtimes.coreml.mil_functions import Function
from edgevlm.runtimes.coreml.mil_types import TensorType

__all__ = ["PackageParts"]

#: of a contract -> as the package has it
HELD = {"FLOAT": "fp16", "FLOAT16": "fp16", "INT64": "int32", "INT32": "int32"}
NUMPY = {"FLOAT": np.float32, "FLOAT16": np.float16, "INT64": np.int64, "INT32": np.int32}


class PackageParts(StateParts):
    """Raises EV302, EV303 (an op that is not known), EV304 (broken, or other functions)."""

    def __init__(self, folder: Path, artifacts: Sequence[Artifact], contract: Contract) -> None:
        super().__init__(contract)
        path = (folder / artifacts[0].file).parent
        self.program = MilProgram(path)
        self.program.check()
        self.outputs = {}
        for artifact in artifacts:
            ins, outs = state_ports(contract, artifact.role)
            function = self.program.functions.get(artifact.role)
            check_ports(path, "input", _found(function, "inputs", ins), _held(ins))
            check_ports(path, "output", _found(function, "outputs", outs), _held(outs))
            self.outputs[artifact.role] = outs
        self.state = self.program.new_state()

    def run(self, role: Role, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Raises EV307."""
        given = {name: np.asarray(array) for name, array in feeds.items()}
        made = self.program.call(role, given, self.state)
        return {p.name: made[p.name].astype(NUMPY[p.dtype]) for p in self.outputs[role]}

    def read(self, name: str) -> np.ndarray:
        port = next(p for p in self.contract.inputs("decode") if p.name == f"past_{name}")
        return self.state[name].astype(NUMPY[port.dtype])

    def write(self, caches: Mapping[str, np.ndarray]) -> None:
        for name, array in caches.items():
            self.state[name] = array


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
