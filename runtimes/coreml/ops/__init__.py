"""The table of what every MIL op computes. An op that is not here is refused by name.

    arithmetic    of two tensors: add, less, logical_and..., select
    elementwise   of one: exp, gelu, cast...
    layout        reshape, transpose, concat, pad, depth_to_space...: numbers move
    slices        slice_by_index, slice_by_size, slice_update
    gather        gather, gather_along_axis, gather_nd
    scatter       scatter, scatter_along_axis, scatter_nd
    order         topk, argsort, reduce_argmax, one_hot, non_zero: by index
    reduce        reductions, cumsum, softmax
    normalise     layer_norm, batch_norm, instance_norm, l2_norm
    product       linear, matmul, einsum, scaled_dot_product_attention
    window        conv, conv_transpose, pools
    resize        upsample_*, resize_*
    make          fill, range_1d, shape
    quantised     quantize, dequantize
    compressed    constexpr_*: weights unpacked, once
    state         read_state, write_state

A handler is a function with the inputs of the op as its parameters, under the names and with the
defaults that MIL gives them; their annotations say what a parameter is handed as (forms.py). What
it has no parameter for, and what it raises Refused about, ends in EV303 and never in a guess.

Meanings: https://apple.github.io/coremltools/source/coremltools.converters.mil.mil.ops.defs.html
"""

from __future__ import annotations

from edgevlm.runtimes.coreml.ops import (
    arithmetic,
    compressed,
    elementwise,
    gather,
    layout,
    make,
    normalise,
    order,
    product,
    quantised,
    reduce,
    resize,
    scatter,
    slices,
    state,
    window,
)
from edgevlm.runtimes.coreml.ops.forms import Handler

__all__ = ["OPS"]

OPS: dict[str, Handler] = {
    **arithmetic.OPS,
    **elementwise.OPS,
    **layout.OPS,
    **slices.OPS,
    **gather.OPS,
    **scatter.OPS,
    **order.OPS,
    **reduce.OPS,
    **normalise.OPS,
    **product.OPS,
    **window.OPS,
    **resize.OPS,
    **make.OPS,
    **quantised.OPS,
    **compressed.OPS,
    **state.OPS,
}
