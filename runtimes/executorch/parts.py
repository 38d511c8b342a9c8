"""A program (.pte) opened on this host: its methods as parts, its caches as state.

The runtime of the wheel has XNNPACK's kernels, those that phones run. Weights are mapped from the
file. https://docs.pytorch.org/executorch/stable/runtime-python-api-reference.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgevlm.compiler.artifact_checks import unusable
from edgevlm.compiler.contract import Contract, Role
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.held_state import StateParts
from edgevlm.compiler.manifest import Artifact
from edgevlm.compiler.ports import Port
from edgevlm.compiler.quiet import quietly
from edgevlm.compiler.state_ports import cache_names, state_ports
from edgevlm.runtimes.executorch.package import installed

__all__ = ["READ", "WRITE", "ProgramParts"]

READ, WRITE = "read_caches", "write_caches"
#: larger files are not opened
MOST_BYTES = 16 * 2**30


class ProgramParts(StateParts):
    """Raises EV302 (no executorch), EV304 (broken, or other methods than the contract's)."""

    def __init__(self, folder: Path, artifacts: Sequence[Artifact], contract: Contract) -> None:
        super().__init__(contract)
        installed()
        self.path = folder / artifacts[0].file
        self.ports = {a.role: state_ports(contract, a.role) for a in artifacts}
        with quietly():
            from executorch.runtime import Runtime, Verification

            try:
                if self.path.stat().st_size > MOST_BYTES:
                    raise ValueError(f"it is larger than {MOST_BYTES} bytes")
                program = Runtime.get().load_program(
                    self.path, verification=Verification.InternalConsistency
                )
            except (OSError, RuntimeError, ValueError) as error:
                raise unusable(self.path, _reason(error)) from error
            wanted = [*self.ports, *([READ, WRITE] if "decode" in self.ports else [])]
            missing = sorted(set(wanted) - set(program.method_names))
            if missing:
                raise unusable(self.path, f"it has no method {missing[0]}")
            try:
                self.methods = {name: program.load_method(name) for name in wanted}
            except RuntimeError as error:
                raise unusable(self.path, _reason(error)) from error
        for role, (ins, _) in self.ports.items():
            self._check(role, ins)

    def run(self, role: Role, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Raises EV307 with ExecuTorch's reason."""
        ins, outs = self.ports[role]
        values = self._execute(role, [np.asarray(feeds[p.name]) for p in ins])
        return {p.name: value for p, value in zip(outs, values, strict=True)}

    def read(self, name: str) -> np.ndarray:
        return self._execute(READ, [])[cache_names(self.contract).index(name)]

    def write(self, caches: Mapping[str, np.ndarray]) -> None:
        self._execute(WRITE, [caches[name] for name in cache_names(self.contract)])

    def _execute(self, method: str, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        import torch

        try:
            given = [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
            # what comes out lies in memory that the next call writes to
            return [np.array(made.numpy()) for made in self.methods[method].execute(given)]
        except (RuntimeError, TypeError, ValueError) as error:
            raise JobFault(
                "EV307",
                f"method {method} of {self.path.name} failed while it ran",
                _reason(error),
                "see whether the bundle is whole: edgevlm verify BUNDLE",
            ) from error

    def _check(self, role: Role, wanted: list[Port]) -> None:
        """What the program says it takes, against the contract."""
        told = self.methods[role].metadata
        found = [tuple(told.input_tensor_meta(i).sizes()) for i in range(told.num_inputs())]
        if found != [p.shape for p in wanted]:
            raise unusable(
                self.path,
                f"method {role} takes {found}, the contract says {[p.shape for p in wanted]}",
            )


def _reason(error: Exception) -> Any:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
