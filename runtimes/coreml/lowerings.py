"""What coremltools is told of ours: weights in lookup tables are constexpr_lut_to_dense.

edgevlm::lut_to_dense(indices uint8 [..], lut [.., P, 1])    ->    of 2 to 8 bits, packed
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

__all__ = ["register"]


@cache
def register() -> None:
    """Once a process; coremltools keeps one table of what it reads."""
    from coremltools.converters.mil.frontend._utils import _construct_constexpr_lut_op
    from coremltools.converters.mil.frontend.torch.ops import _get_inputs
    from coremltools.converters.mil.frontend.torch.torch_op_registry import register_torch_op

    def edgevlm_lut_to_dense(context: Any, node: Any) -> None:
        indices, lut = _get_inputs(context, node, expected=2)
        places = np.asarray(indices.val).astype(np.uint8)
        table = np.asarray(lut.val)
        context.add(_construct_constexpr_lut_op(places, table, name=node.name), node.name)

    names = ["edgevlm::lut_to_dense", "edgevlm.lut_to_dense"]
    register_torch_op(edgevlm_lut_to_dense, torch_alias=names)
