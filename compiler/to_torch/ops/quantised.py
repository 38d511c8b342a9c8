"""Rounding to integers and back; a scale a tensor, a channel or a block. Gradients end here.

Spelled out it is arithmetic. Tools that have integer kernels look for ops by name instead:
quantized_decomposed (torch's, of PT2E) for a scale a tensor or a channel, torchao's affine ones for
blocks; or those of coreai-torch, one for what is stored and two for what is computed. All compute
the same numbers.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor

from edgevlm.compiler.quiet import quietly
from edgevlm.compiler.to_torch.dtypes import DTYPES
from edgevlm.compiler.to_torch.ops.node import Maker, OpNode, Refused, Run

__all__ = ["OPS", "OWN"]

RANGES = {
    ir.DataType.INT4: (-8, 7),
    ir.DataType.UINT4: (0, 15),
    ir.DataType.INT8: (-128, 127),
    ir.DataType.UINT8: (0, 255),
    ir.DataType.INT16: (-(2**15), 2**15 - 1),
}


def _spread(scale: Tensor, x: Tensor, axis: int, block: int) -> Tensor:
    """A scale or zero point so that it broadcasts with x."""
    if block:
        return scale.repeat_interleave(block, axis).narrow(axis, 0, x.shape[axis])
    if scale.numel() == 1:
        return scale.reshape(())
    return scale.reshape([-1 if i == axis % x.dim() else 1 for i in range(x.dim())])


def quantize(node: OpNode) -> Run:
    return QUANTIZE[node.dialect.quantised](node)


def dequantize(node: OpNode) -> Run:
    if node.peek(1) is None:  # rows of a table with their scales: looked up, and multiplied
        return dequantize_spelled(node)
    return DEQUANTIZE[node.dialect.quantised](node)


def quantize_spelled(node: OpNode) -> Run:
    axis, block = node.get("axis", 1), node.get("block_size", 0)
    node.refuse(precision=0)
    to = node.dtype(2) or ir.DataType(node.get("output_dtype", 0) or ir.DataType.UINT8)
    if to not in RANGES:
        raise Refused(f"rounding to {to.name}")
    low, high = RANGES[to]

    def run(x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        y = torch.round(x / _spread(scale, x, axis, block))
        if zero is not None:
            y = y + _spread(zero, x, axis, block)
        return y.clamp(low, high).to(DTYPES[to])

    return run


def dequantize_spelled(node: OpNode) -> Run:
    axis, block = node.get("axis", 1), node.get("block_size", 0)
    node.refuse(output_dtype=0)

    def run(x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        y = x.to(scale.dtype)
        if zero is not None:
            y = y - _spread(zero, x, axis, block)
        return y * _spread(scale, x, axis, block)

    return run


def _rounded_to(node: OpNode) -> ir.DataType:
    """What is computed is rounded by one static scale, or one a channel, and to int8 or int16."""
    node.refuse(precision=0, block_size=0)
    to, zero = ir.DataType(node.get("output_dtype", 0) or ir.DataType.UINT8), node.has(2)
    to = node.dtype(2) or to
    if to not in RANGES or to.bitwidth < 8 or zero:
        raise Refused(f"rounding to {to.name}{' with a zero point' if zero else ''}")
    return to


def _codes_of(node: OpNode) -> ir.DataType:
    """Of what is made numbers again; there is no zero point."""
    node.refuse(output_dtype=0)
    of = node.dtype(0)
    if node.has(2) or of not in RANGES:
        raise Refused(f"numbers of {of.name}{' with a zero point' if node.has(2) else ''}")
    return of


def quantize_decomposed(node: OpNode) -> Run:
    to = _rounded_to(node)
    limits = (*RANGES[to], DTYPES[to])
    scale = node.constant(1)
    if scale.numel() == 1:
        step = float(scale)
        return lambda x, _: decomposed_ops().quantize_per_tensor(x, step, 0, *limits)
    axis, none = node.get("axis", 1), torch.zeros(scale.shape, dtype=torch.int64)
    return lambda x, _: decomposed_ops().quantize_per_channel(x, scale, none, axis, *limits)


def dequantize_decomposed(node: OpNode) -> Run:
    of = _codes_of(node)
    limits = (*RANGES[of], DTYPES[of])
    scale, shape = node.constant(1), node.shape(0)
    if scale.numel() == 1:
        step = float(scale)
        return lambda x, _: decomposed_ops().dequantize_per_tensor(x, step, 0, *limits)
    axis, none = node.get("axis", 1), torch.zeros(scale.shape, dtype=torch.int64)
    if not node.get("block_size", 0):
        return lambda x, _: decomposed_ops().dequantize_per_channel(x, scale, none, axis, *limits)
    _check_blocks(node)
    blocks = [whole // parts for whole, parts in zip(shape, scale.shape, strict=True)]
    low, high, dtype = limits
    return lambda x, _: affine_ops().dequantize_affine(x, blocks, scale, none, dtype, low, high)


def round_rows(node: OpNode) -> Run:
    """Ours (rounded_rows.py): x [..,K], each row by its own range, as torchao writes it."""
    block, limits = [1] * (len(node.shape(0)) - 1) + [node.shape(0)[-1]], (torch.int8, -128, 127)

    def run(x: Tensor) -> Tensor:
        ops = affine_ops()
        chosen = (*limits, None, None, torch.int8)
        scale, zero = ops.choose_qparams_affine(x, "ASYMMETRIC", block, *chosen)
        codes = ops.quantize_affine(x, block, scale, zero, *limits)
        return ops.dequantize_affine(codes, block, scale, zero, *limits)

    return run


def quantize_coreai(node: OpNode) -> Run:
    to = _rounded_to(node)
    scale, axis = node.constant(1), node.get("axis", 1)
    if to not in COREAI:
        raise Refused(f"rounding to {to.name}")
    scale = scale.reshape(()) if scale.numel() == 1 else scale
    return lambda x, _: coreai_ops().quantize(x, scale, COREAI[to], axis=axis)


def dequantize_coreai(node: OpNode) -> Run:
    """Stored codes have a scale of their own rank; blocks are whole ones."""
    of, stored = _codes_of(node), node.peek(0) is not None
    scale, shape, axis = node.constant(1), node.shape(0), node.get("axis", 1)
    if of not in COREAI:
        raise Refused(f"numbers of {of.name}")
    kind = COREAI[of]
    if not stored:
        node.refuse(block_size=0)
        scale = scale.reshape(()) if scale.numel() == 1 else scale
        return lambda x, _: coreai_ops().dequantize(x, scale, axis=axis, input_dtype=kind)
    if not node.get("block_size", 0):
        scale = _spread(scale, torch.empty(shape, device="meta"), axis, 0)
        scale = scale.reshape([1] * len(shape)) if scale.dim() == 0 else scale
    else:
        _check_blocks(node)
    ops = coreai_ops()
    return lambda x, _: ops.constexpr_blockwise_shift_scale(x, scale, input_dtype=kind)


def _check_blocks(node: OpNode) -> None:
    """Where all are of one size, tools find it from the shapes. Raises Refused."""
    block, axis, shape = node.get("block_size", 0), node.get("axis", 1), node.shape(0)
    if shape[axis] > block and shape[axis] % block:
        raise Refused(f"blocks of {block} along {shape[axis]}: the last one is shorter")


#: what coreai-torch knows codes of
COREAI = {
    ir.DataType.INT4: torch.int4,
    ir.DataType.INT8: torch.int8,
    ir.DataType.UINT8: torch.uint8,
}


def coreai_ops() -> Any:
    """The ops that coreai-opt writes and coreai-torch reads, which are there once this is imported.

    https://github.com/apple/coreai-optimization  (src/coreai_opt/quantization)
    """
    import coreai_torch._compression.custom_layers  # noqa: F401

    return torch.ops.coreai


def decomposed_ops() -> Any:
    """The ops of torch's own quantised graphs, which are there once this is imported."""
    from torch.ao.quantization.fx import _decomposed  # noqa: F401

    return torch.ops.quantized_decomposed


def affine_ops() -> Any:
    """The same of torchao, for scales of blocks."""
    with quietly():  # it tells of libraries that it does not need
        import torchao.quantization.quant_primitives  # noqa: F401

    return torch.ops.torchao


def quantize_dynamically(node: OpNode) -> Run:
    """uint8, by the range of what comes; zero is always in the range."""

    def run(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        low, high = x.amin().clamp(max=0), x.amax().clamp(min=0)
        scale = (high - low) / 255
        zero = torch.round((-low / scale).clamp(0, 255))
        y = (torch.round(x / scale) + zero).clamp(0, 255)
        return y.to(torch.uint8), scale, zero.to(torch.uint8)

    return run


QUANTIZE: dict[str, Maker] = {
    "spelled": quantize_spelled,
    "decomposed": quantize_decomposed,
    "coreai": quantize_coreai,
}
DEQUANTIZE: dict[str, Maker] = {
    "spelled": dequantize_spelled,
    "decomposed": dequantize_decomposed,
    "coreai": dequantize_coreai,
}
OPS: dict[str, Maker] = {
    "DequantizeLinear": dequantize,
    "DynamicQuantizeLinear": quantize_dynamically,
    "QuantizeLinear": quantize,
}
#: ops that are ours and no part's: rounded_rows.py writes them
OWN: dict[str, Maker] = {"RoundRows": round_rows}
