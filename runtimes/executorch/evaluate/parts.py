"""A bundle's program as parts, run from the file: for what it computes, and not for how fast."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from edgevlm.compiler.artifact_checks import unusable
from edgevlm.compiler.contract import Contract, Role
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.extras import torch_extra
from edgevlm.compiler.held_state import StateParts
from edgevlm.compiler.manifest import Artifact
from edgevlm.compiler.quiet import quietly
from edgevlm.compiler.state_ports import cache_names, state_ports
from edgevlm.runtimes.executorch.evaluate.file import Delegate, ProgramFile, open_program
from edgevlm.runtimes.executorch.parts import READ, WRITE

with torch_extra("programs for what this host lacks are run in torch"):
    import torch

    from edgevlm.runtimes.executorch.evaluate.kernels import Unknown
    from edgevlm.runtimes.executorch.evaluate.method import Method, Payload, shared_memory

__all__ = ["EvaluatedParts"]


class EvaluatedParts(StateParts):
    """Raises EV303 (an op or a delegate that is not known), EV304 (broken, or other methods)."""

    def __init__(self, folder: Path, artifacts: Sequence[Artifact], contract: Contract) -> None:
        super().__init__(contract)
        self.path = folder / artifacts[0].file
        self.ports = {a.role: state_ports(contract, a.role) for a in artifacts}
        file = open_program(self.path)
        wanted = [*self.ports, *([READ, WRITE] if "decode" in self.ports else [])]
        missing = sorted(set(wanted) - set(file.plans))
        if missing:
            raise unusable(self.path, f"it has no method {missing[0]}")
        try:
            with quietly():
                shared = shared_memory([file.plans[name] for name in wanted])
                self.methods = {name: _method(file, name, shared) for name in wanted}
        except Unknown as error:
            raise JobFault(
                "EV303",
                f"{self.path.name} cannot be run on this host",
                f"{error} is not known to the evaluator",
                "--toolchain xnnpack, whose kernels are here",
            ) from error
        except (ValueError, TypeError, RuntimeError) as error:
            raise unusable(self.path, str(error)[:300]) from error
        for role, (ins, _) in self.ports.items():
            found = self.methods[role].inputs
            if found != [p.shape for p in ins]:
                raise unusable(
                    self.path,
                    f"method {role} takes {found}, the contract says {[p.shape for p in ins]}",
                )

    def run(self, role: Role, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Raises EV307."""
        ins, outs = self.ports[role]
        values = self._execute(role, [np.asarray(feeds[p.name]) for p in ins])
        return {p.name: value for p, value in zip(outs, values, strict=True)}

    def read(self, name: str) -> np.ndarray:
        return self._execute(READ, [])[cache_names(self.contract).index(name)]

    def write(self, caches: Mapping[str, np.ndarray]) -> None:
        self._execute(WRITE, [caches[name] for name in cache_names(self.contract)])

    def _execute(self, method: str, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        given = [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
        try:
            return [made.numpy() for made in self.methods[method](given)]
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            raise JobFault(
                "EV307",
                f"method {method} of {self.path.name} failed while it ran",
                (str(error).strip().splitlines() or [type(error).__name__])[0][:300],
                "see whether the bundle is whole: edgevlm verify BUNDLE",
            ) from error


def _method(file: ProgramFile, name: str, shared: dict[int, torch.Tensor]) -> Method:
    def opened(delegate: Delegate) -> tuple[int, Payload]:
        if delegate.backend not in PAYLOADS:
            raise Unknown(f"a payload for {delegate.backend[:60]!r}")
        return PAYLOADS[delegate.backend](delegate.payload, file)

    return Method(file, file.plans[name], shared, opened)


def _vulkan(payload: bytes, file: ProgramFile) -> tuple[int, Payload]:
    from edgevlm.runtimes.executorch.evaluate.vulkan import opened

    return opened(payload, file.named)


def _coreml(payload: bytes, file: ProgramFile) -> tuple[int, Payload]:
    from edgevlm.runtimes.executorch.evaluate.coreml import opened

    return opened(payload, file.named)


#: id of a backend in a program -> what reads its payloads
PAYLOADS: dict[str, Callable[[bytes, ProgramFile], tuple[int, Payload]]] = {
    "VulkanBackend": _vulkan,
    "CoreMLBackend": _coreml,
}
