"""What coremltools is told: weights in tables, and weights in blocks of whatever rank.

edgevlm::lut_to_dense(indices uint8 [..], lut [.., P, 1])    constexpr_lut_to_dense, packed
torchao::dequantize_affine(codes, block, scale, zero ...)    constexpr_blockwise_shift_scale; its
                                                             own reader takes matrices alone
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

__all__ = ["register"]


@cache
def register() -> None:
    """Once a process; coremltools keeps one table of what it reads."""
    from coremltools.converters.mil.frontend._utils import (
        _construct_constexpr_dequant_op,
        _construct_constexpr_lut_op,
    )
    from coremltools.converters.mil.frontend.torch.ops import _get_inputs
    from coremltools.converters.mil.frontend.torch.torch_op_registry import register_torch_op

    def edgevlm_lut_to_dense(context: Any, node: Any) -> None:
        indices, lut = _get_inputs(context, node, expected=2)
        places = np.asarray(indices.val).astype(np.uint8)
        table = np.asarray(lut.val)
        context.add(_construct_constexpr_lut_op(places, table, name=node.name), node.name)

    names = ["edgevlm::lut_to_dense", "edgevlm.lut_to_dense"]
    register_torch_op(edgevlm_lut_to_dense, torch_alias=names)

    def dequantize_affine(context: Any, node: Any) -> None:
        """Symmetric: the bridge (to_torch/ops/quantised.py) writes no zero point but zeros."""
        codes, _, scale, *_ = _get_inputs(context, node)
        made = _construct_constexpr_dequant_op(codes.val, None, scale.val, name=node.name)
        context.add(made, node.name)

    names = [f"{space}dequantize_affine" for space in ("torchao::", "torchao.", "quant::")]
    register_torch_op(dequantize_affine, torch_alias=names, override=True)
