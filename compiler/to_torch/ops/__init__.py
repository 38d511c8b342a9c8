"""The table of what every op is in torch. An op that is not here is refused by name.

    elementwise   arithmetic, comparisons, activations, Cast, Clip, Where
    layout        Reshape, Transpose, Concat, Slice...: numbers move, none is computed
    select        Gather, Scatter, OneHot, TopK, ArgMax: by index
    reduce        reductions, CumSum, Softmax, normalisations
    product       MatMul, Gemm, Einsum, convolutions
    attention     Attention, RotaryEmbedding, both written out
    tables        weights in lookup tables
    quantised     QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear

Defaults and meanings are those of ONNX opset 23: https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

from edgevlm.compiler.to_torch.ops import (
    attention,
    elementwise,
    layout,
    product,
    quantised,
    reduce,
    select,
    tables,
)
from edgevlm.compiler.to_torch.ops.node import Maker

__all__ = ["OPS", "OWN"]

OWN: dict[str, Maker] = {**product.OWN, **quantised.OWN, **tables.OWN}
OPS: dict[str, Maker] = {
    **elementwise.OPS,
    **layout.OPS,
    **select.OPS,
    **reduce.OPS,
    **product.OPS,
    **attention.OPS,
    **quantised.OPS,
}
