"""A program (.pte) opened on this host: its methods as parts, its caches as state.

The runtime of the wheel has XNNPACK's kernels, those that phones run. Weights are mapped from the
file. https://docs.pytorch.org/executorch/stable/runtime-python-api-reference.html
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgevlm.compiler.artifact_checks import unusable
from edgevlm.compiler.contract import Contract
from edgevlm.compiler.manifest import Artifact
from edgevlm.compiler.quiet import quietly
from edgevlm.runtimes.executorch.methods import MethodParts, reason
from edgevlm.runtimes.executorch.package import installed

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ProgramParts"]

#: larger files are not opened
MOST_BYTES = 16 * 2**30


class ProgramParts(MethodParts):
    """Raises EV302 (no executorch), EV304 (broken, or other methods than the contract's)."""

    def __init__(self, folder: Path, artifacts: Sequence[Artifact], contract: Contract) -> None:
        super().__init__(folder, artifacts, contract)
        installed()
        with quietly():
            from executorch.runtime import Runtime, Verification

            try:
                if self.path.stat().st_size > MOST_BYTES:
                    raise ValueError(f"it is larger than {MOST_BYTES} bytes")
                program = Runtime.get().load_program(
                    self.path, verification=Verification.InternalConsistency
                )
            except (OSError, RuntimeError, ValueError) as error:
                raise unusable(self.path, reason(error)) from error
            wanted = self.wanted(program.method_names)
            try:
                self.methods = {name: program.load_method(name) for name in wanted}
            except RuntimeError as error:
                raise unusable(self.path, reason(error)) from error
        for role in self.ports:
            told = self.methods[role].metadata
            try:
                sizes = [told.input_tensor_meta(i).sizes() for i in range(told.num_inputs())]
            except RuntimeError as error:  # an input that is no tensor
                raise unusable(self.path, f"an input of {role}: {reason(error)}") from error
            self.check_inputs(role, [tuple(each) for each in sizes])

    def execute(self, method: str, given: list[Tensor]) -> list[np.ndarray]:
        # what comes out lies in memory that the next call writes to
        return [np.array(made.numpy()) for made in self.methods[method].execute(given)]
