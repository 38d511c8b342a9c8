"""Weights in lookup tables (palettes.py of the bridge), as the op that Apple's tools have for them.

Both take indices of the weight's shape and lut [1.., G at the axis of channels, ..1, P, 1].
coreai-torch brings its own op; coremltools is told of ours (runtimes/coreml/lowerings.py).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from edgevlm.compiler.to_torch.ops.node import Maker, OpNode, Run

__all__ = ["OWN", "dense"]


def lut_to_dense(node: OpNode) -> Run:
    if node.dialect.quantised == "coreai":
        import coreai_torch._compression.custom_layers  # noqa: F401  (makes the op)

        return lambda indices, lut: torch.ops.coreai.lut_to_dense(indices, lut, 0)
    return table_op()


def dense(indices: Tensor, lut: Tensor) -> Tensor:
    """indices uint8 [..]; lut [.., P, 1], whose other axes divide those of the indices."""
    groups = torch.arange(lut.shape[:-2].numel()).reshape(lut.shape[:-2])
    for axis, size in enumerate(indices.shape):
        groups = groups.repeat_interleave(size // groups.shape[axis], axis)
    return lut.reshape(-1)[groups * lut.shape[-2] + indices.long()]


@cache
def table_op() -> Any:
    """torch.ops.edgevlm.lut_to_dense, which exported programs keep as it is."""
    library = torch.library.Library("edgevlm", "FRAGMENT")
    library.define("lut_to_dense(Tensor indices, Tensor lut) -> Tensor")
    library.impl("lut_to_dense", dense, "CompositeExplicitAutograd")
    torch.library.register_fake(
        "edgevlm::lut_to_dense", lambda x, lut: lut.new_empty(x.shape), lib=library
    )
    table_op.library = library  # ops go when their library does
    return torch.ops.edgevlm.lut_to_dense.default


#: ops that are ours and no part's: palettes.py writes them
OWN: dict[str, Maker] = {"LutToDense": lut_to_dense}
