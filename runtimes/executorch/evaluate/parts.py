"""A bundle's program as parts, run from the file: for what it computes, and not for how fast."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from edgevlm.compiler.artifact_checks import unusable
from edgevlm.compiler.contract import Contract
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.extras import torch_extra
from edgevlm.compiler.manifest import Artifact
from edgevlm.compiler.quiet import quietly
from edgevlm.runtimes.executorch.evaluate.file import Delegate, ProgramFile, open_program
from edgevlm.runtimes.executorch.methods import WRONG, MethodParts

with torch_extra("programs for what this host lacks are run in torch"):
    import torch

    from edgevlm.runtimes.executorch.evaluate.kernels import Unknown
    from edgevlm.runtimes.executorch.evaluate.method import Method, Payload, shared_memory

__all__ = ["EvaluatedParts"]


class EvaluatedParts(MethodParts):
    """Raises EV303 (an op or a delegate that is not known), EV304 (broken, or other methods)."""

    def __init__(self, folder: Path, artifacts: Sequence[Artifact], contract: Contract) -> None:
        super().__init__(folder, artifacts, contract)
        file = open_program(self.path)
        wanted = self.wanted(file.plans)
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
        except WRONG as error:
            raise unusable(self.path, str(error)[:300]) from error
        for role in self.ports:
            self.check_inputs(role, self.methods[role].inputs)

    def execute(self, method: str, given: list[torch.Tensor]) -> list[np.ndarray]:
        return [made.numpy() for made in self.methods[method](given)]


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
