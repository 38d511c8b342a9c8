"""Which nodes of the ONNX file are matrix products and convolutions, asked of the parsed network.

A builder merges and splits them: three projections become one kernel, one step of a decoder becomes
an elementwise kernel that multiplies and adds up. Their names stay in the metadata of the engine's
layers, so with this list it can be told what became of each.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Mapping

__all__ = ["ONNX_NAME", "Products", "products_of"]

#: "[ONNX Layer: /a/MatMul]", several one after the other
ONNX_NAME = re.compile(r"\[ONNX Layer: ([^\]]+)\]")


@dataclass
class Products:
    """ONNX node names; both are empty where no network was parsed: an engine that was kept."""

    gemm: set[str] = field(default_factory=set)
    conv: set[str] = field(default_factory=set)

    def as_json(self) -> dict[str, list[str]]:
        return {"gemm": sorted(self.gemm), "conv": sorted(self.conv)}

    @classmethod
    def of_json(cls, told: Mapping[str, Any]) -> Products:
        return cls(set(map(str, told.get("gemm", ()))), set(map(str, told.get("conv", ()))))


def products_of(network: Any) -> Products:
    """Names as the parser gave them; a layer without metadata goes by its own name."""
    found = Products()
    for i in range(network.num_layers):
        layer = network.get_layer(i)
        kind = getattr(layer.type, "name", "")
        if kind in ("MATRIX_MULTIPLY", "EINSUM", "CONVOLUTION", "DECONVOLUTION"):
            told = ONNX_NAME.findall(getattr(layer, "metadata", "") or "")
            names = found.conv if "CONV" in kind else found.gemm
            names.update(told or [str(layer.name)])
    return found
