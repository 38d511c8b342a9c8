"""Ops of the CPU, in torch: `aten::add.out` of a program is torch's own, into planned memory.

Only names of this list are called: a program is a stranger's, and torch has ops that read files.
https://github.com/pytorch/executorch/blob/v1.5.1/kernels/portable/functions.yaml
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["ATEN", "QUANTISATION", "Unknown", "aten", "called", "kernel", "quantisation"]

#: of torch's `aten`: what portable kernels and delegates compute with, none of which reads files
_ATEN = """
    _log_softmax _softmax _weight_int8pack_mm abs add addmm alias_copy amax amin any argmax argmin
    bitwise_and bitwise_not bitwise_or bmm cat ceil clamp clone constant_pad_nd convolution copy
    copy_ cos cumsum detach_copy div embedding eq erf exp expand_copy flip floor floor_divide fmod
    full full_like gather ge gelu gt hardtanh index index_put index_select le linear log
    logical_and logical_not logical_or logical_xor lt masked_fill max maximum mean min minimum mm
    mul native_group_norm native_layer_norm ne neg permute_copy pow prod reciprocal relu remainder
    repeat round rsqrt scalar_tensor scatter scatter_add select_copy sigmoid sign sin slice_copy
    sort split_copy split_with_sizes_copy sqrt squeeze_copy stack sub sum t_copy tan tanh topk
    transpose_copy trunc unbind_copy unsqueeze_copy view_copy where zeros
"""
ATEN = frozenset(_ATEN.split())
_QUANTISATION = """
    quantize_per_tensor quantize_per_channel quantize_per_token dequantize_per_tensor
    dequantize_per_channel dequantize_per_token choose_qparams
    choose_qparams_per_token_asymmetric quantize_affine dequantize_affine choose_qparams_affine
"""
QUANTISATION = frozenset(_QUANTISATION.split())


class Unknown(ValueError):
    """An op that is not in the list."""


def kernel(name: str) -> Callable[[Sequence[Any]], None]:
    """Of an instruction: its args are as the op's schema has them, then what it returns again."""
    space, _, rest = name.partition("::")
    word, _, overload = rest.partition(".")
    if space == "dim_order_ops" and word in ("_to_dim_order_copy", "_clone_dim_order"):
        return lambda args: _fill(args[-1], args[0])
    if space == "aten" and word in ATEN:
        packet = getattr(torch.ops.aten, word)
        if (overload or "default") in packet.overloads():
            return _into(getattr(packet, overload or "default"))
        raise Unknown(f"op {name}")
    if space in ("quantized_decomposed", "torchao") and word in QUANTISATION:
        form = overload.removesuffix("out").removesuffix("_") or "default"
        packet = getattr(quantisation(space), word)
        if form in packet.overloads():
            return _copied(getattr(packet, form))
    raise Unknown(f"op {name}")


def aten(name: str) -> Callable[[Sequence[Any]], Any]:
    """`aten.add.Tensor` of a delegate, called by the places of its schema."""
    word, _, overload = name.removeprefix("aten.").partition(".")
    packet = getattr(torch.ops.aten, word, None) if word in ATEN else None
    if packet is None or overload not in packet.overloads():
        raise Unknown(f"op {name}")
    return called(getattr(packet, overload))


def quantisation(space: str) -> Any:
    """torch.ops of quantized_decomposed or torchao, whose ops come with a module."""
    if space == "torchao":
        import torchao.quantization.quant_primitives  # noqa: F401
    else:
        from torch.ao.quantization.fx import _decomposed  # noqa: F401
    return getattr(torch.ops, space)


def called(op: Any) -> Callable[[Sequence[Any]], Any]:
    """Its args by the places of its schema."""
    return lambda args: _by_schema(op, args)


def _by_schema(op: Any, args: Sequence[Any]) -> Any:
    """None where a keyword argument of torch has a default of its own."""
    placed, named = [], {}
    for argument, value in zip(op._schema.arguments, args, strict=False):
        if not argument.kwarg_only:
            placed.append(value)
        elif value is not None:
            named[argument.name] = value
    return op(*placed, **named)


def _into(op: Any) -> Callable[[Sequence[Any]], None]:
    def call(args: Sequence[Any]) -> None:
        _by_schema(op, args[: len(op._schema.arguments)])

    return call


def _copied(op: Any) -> Callable[[Sequence[Any]], None]:
    """Of an op that torch has no `out` form of."""

    def call(args: Sequence[Any]) -> None:
        n = len(op._schema.arguments)
        made = _by_schema(op, args[:n])
        results = made if isinstance(made, tuple) else (made,)
        for out, result in zip(args[n:], results, strict=False):
            _fill(out, result)

    return call


def _fill(out: Tensor, result: Tensor) -> None:
    if out.shape != result.shape:
        raise ValueError(f"{list(result.shape)} does not go into {list(out.shape)}")
    out.copy_(result)
