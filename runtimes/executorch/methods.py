"""Methods of a program as parts, whoever runs them; caches as the program's state.

read_caches, write_caches    methods that take the rows of all caches out, and put them in
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgevlm.compiler.artifact_checks import unusable
from edgevlm.compiler.contract import Contract, Role
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.held_state import StateParts
from edgevlm.compiler.manifest import Artifact
from edgevlm.compiler.state_ports import cache_names, state_ports

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["READ", "WRITE", "WRONG", "MethodParts", "reason"]

READ, WRITE = "read_caches", "write_caches"
#: what a program that is none of ours ends in, where no reader has looked before
WRONG = (ArithmeticError, AttributeError, LookupError, RuntimeError, StopIteration, TypeError,
         ValueError)  # fmt: skip


class MethodParts(StateParts):
    """Who opens the program calls `wanted`, then `check_inputs` for each part."""

    def __init__(self, folder: Path, artifacts: Sequence[Artifact], contract: Contract) -> None:
        super().__init__(contract)
        self.path = folder / artifacts[0].file
        self.ports = {a.role: state_ports(contract, a.role) for a in artifacts}

    @abstractmethod
    def execute(self, method: str, given: list[Tensor]) -> list[np.ndarray]:
        """One method; what it gives is the caller's to keep."""

    def wanted(self, methods: Collection[str]) -> list[str]:
        """Names of methods to open, of those that the program has. Raises EV304."""
        wanted = [*self.ports, *([READ, WRITE] if "decode" in self.ports else [])]
        missing = sorted(set(wanted) - set(methods))
        if missing:
            raise unusable(self.path, f"it has no method {missing[0]}")
        return wanted

    def check_inputs(self, role: Role, found: list[tuple[int, ...]]) -> None:
        """What the program says it takes, against the contract. Raises EV304."""
        wanted = [p.shape for p in self.ports[role][0]]
        if found != wanted:
            raise unusable(self.path, f"method {role} takes {found}, the contract says {wanted}")

    def run(self, role: Role, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Raises EV307 with the reason of who runs it."""
        ins, outs = self.ports[role]
        values = self._executed(role, [np.asarray(feeds[p.name]) for p in ins])
        self._check_outputs(role, values, [p.shape for p in outs])
        return {p.name: value for p, value in zip(outs, values, strict=True)}

    def read(self, name: str) -> np.ndarray:
        caches = self._executed(READ, [])
        self._check_outputs(READ, caches, [port.shape for port in self._states.values()])
        return caches[list(self._states).index(name)]

    def write(self, caches: Mapping[str, np.ndarray]) -> None:
        self._executed(WRITE, [caches[name] for name in cache_names(self.contract)])

    def _check_outputs(
        self, method: str, made: Sequence[np.ndarray], wanted: list[tuple[int, ...]]
    ) -> None:
        found = [each.shape for each in made]
        if found != wanted:
            raise unusable(self.path, f"method {method} gives {found}, the contract says {wanted}")

    def _executed(self, method: str, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        import torch

        try:
            given = [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
            return self.execute(method, given)
        except WRONG as error:
            raise JobFault(
                "EV307",
                f"method {method} of {self.path.name} failed while it ran",
                reason(error),
                "see whether the bundle is whole: edgevlm verify BUNDLE",
            ) from error


def reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
