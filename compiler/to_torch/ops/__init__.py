"""The table of what every op is in torch. An op that is not here is refused by name.

    elementwise   arithmetic, comparisons, Cast, Clip, Where
    activations   Elu, LeakyRelu, Softplus...
    bits          bits of whole numbers, Mod
    layout        Reshape, Transpose, Concat, Slice...: numbers move, none is computed
    select        Gather, Scatter, OneHot, TopK, ArgMax: by index
    reduce        reductions, CumSum, Softmax, normalisations of rows
    normalise     those of pictures: by channel, group, neighbours
    pools         windows of pictures, averaged or their largest
    resize        pictures made larger or smaller
    product       MatMul, Gemm, Einsum, convolutions
    attention     Attention, RotaryEmbedding, both written out
    tables        weights in lookup tables
    quantised     QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear

Defaults and meanings are those of ONNX opset 23: https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

from edgevlm.compiler.to_torch.ops import (
    activations,
    attention,
    bits,
    elementwise,
    layout,
    normalise,
    pools,
    product,
    quantised,
    reduce,
    resize,
    select,
    tables,
)
from edgevlm.compiler.to_torch.ops.node import Maker

__all__ = ["OPS", "OWN"]

OWN: dict[str, Maker] = {**product.OWN, **quantised.OWN, **tables.OWN}
OPS: dict[str, Maker] = {
    **elementwise.OPS,
    **activations.OPS,
    **bits.OPS,
    **layout.OPS,
    **select.OPS,
    **reduce.OPS,
    **normalise.OPS,
    **pools.OPS,
    **resize.OPS,
    **product.OPS,
    **attention.OPS,
    **quantised.OPS,
}
