"""A package as parts, run by our evaluator: for what they compute, not for how fast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edgevlm.compiler.contract import Contract, Role
from edgevlm.compiler.held_state import StateParts
from edgevlm.compiler.manifest import Artifact
from edgevlm.runtimes.coreml.mil_evaluator import MilProgram
from edgevlm.runtimes.coreml.ports import as_promised, promised_outputs

__all__ = ["PackageParts"]


class PackageParts(StateParts):
    """Raises EV302, EV303 (an op that is not known), EV304 (broken, or other functions)."""

    def __init__(self, folder: Path, artifacts: Sequence[Artifact], contract: Contract) -> None:
        super().__init__(contract)
        path = (folder / artifacts[0].file).parent
        self.program = MilProgram(path)
        self.program.check()
        self.outputs = promised_outputs(path, self.program.functions, artifacts, contract)
        self.state = self.program.new_state()

    def run(self, role: Role, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Raises EV307."""
        given = {name: np.asarray(array) for name, array in feeds.items()}
        made = self.program.call(role, given, self.state)
        return {p.name: as_promised(p, made[p.name]) for p in self.outputs[role]}

    def read(self, name: str) -> np.ndarray:
        port = next(p for p in self.contract.inputs("decode") if p.name == f"past_{name}")
        return as_promised(port, self.state[name])

    def write(self, caches: Mapping[str, np.ndarray]) -> None:
        for name, array in caches.items():
            self.state[name] = array
