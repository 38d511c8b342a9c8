"""Parts run by torch, on whatever it runs on: a second executor, and the one for a GPU.

The graphs are those of an artifact or of a model in memory, float16 and rounded numbers included;
kernels are torch's own, so that they prove numbers and say nothing of how TensorRT would run them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
import torch

from edgevlm.compiler.contract import Role
from edgevlm.compiler.to_torch.part import TorchPart

__all__ = ["TorchParts"]


class TorchParts:
    """A PartCaller. device: cpu, cuda. Raises EV212 for an op that torch has not."""

    def __init__(self, parts: Mapping[Role, ir.Model], device: str = "cpu") -> None:
        self.device = torch.device(device)
        self.parts = {role: TorchPart(part).to(self.device) for role, part in parts.items()}

    def call(self, role: Role, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name, back on this host; a GPU has done all of its work by then."""
        given = {
            name: torch.from_numpy(np.ascontiguousarray(array)).to(self.device)
            for name, array in feeds.items()
        }
        with torch.inference_mode():
            made = self.parts[role](given)
        return {name: tensor.cpu().numpy() for name, tensor in made.items()}
