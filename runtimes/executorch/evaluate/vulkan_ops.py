"""What ops of a Vulkan graph compute: ATen's by torch, fused ones by the reference functions of
ExecuTorch that its passes are checked with (backends/vulkan/custom_ops_lib.py), the rest by ours.

Only names of this file, and of kernels.py, are called.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from edgevlm.runtimes.executorch.evaluate.kernels import (
    QUANTISATION,
    Unknown,
    aten,
    called,
    quantisation,
)

__all__ = ["ET_VK", "vulkan_op"]


#: of et_vk, that ExecuTorch has a reference function of
_REFERENCED = """
    apply_rotary_emb apply_rotary_emb_hf apply_rotary_emb_interleaved conv_with_clamp
    embedding_q4gsw linear_q4gsw linear_q8ta_q8csw linear_qcs4w q8ta_add q8ta_conv2d
    q8ta_conv2d_dw q8ta_conv2d_pw q8ta_linear q8ta_linear_gemv q8ta_relu sdpa
"""
REFERENCED = frozenset(_REFERENCED.split())


def vulkan_op(name: str) -> Callable[[Sequence[Any]], Any]:
    """Raises Unknown."""
    if name in ET_VK:
        function = ET_VK[name]
        return lambda args: function(*args)
    space, _, rest = name.partition(".")
    word, _, overload = rest.partition(".")
    if space in ("quantized_decomposed", "torchao") and word in QUANTISATION:
        packet = getattr(quantisation(space), word)
        if overload in packet.overloads():
            return _typed(getattr(packet, overload))
    if space == "et_vk" and word in REFERENCED and overload == "default":
        return called(getattr(_references(), word).default)
    if space == "aten":
        return aten(name)
    raise Unknown(f"op {name} of Vulkan")


def _typed(op: Any) -> Callable[[Sequence[Any]], Any]:
    """A graph of Vulkan says types by its tensors alone: those of codes are told by their range."""
    names = [argument.name for argument in op._schema.arguments]
    wants = [str(a.type) == "int" and a.name.endswith("dtype") for a in op._schema.arguments]
    call = called(op)

    def run(args: Sequence[Any]) -> Any:
        least = dict(zip(names, args, strict=False)).get("quant_min")
        codes = torch.uint8 if least is not None and least >= 0 else torch.int8
        return call([codes if w and a is None else a for w, a in zip(wants, args, strict=False)])

    return run


def _references() -> Any:
    import executorch.backends.vulkan.custom_ops_lib  # noqa: F401  (registers them)

    return torch.ops.et_vk


def _same(x: Tensor, *_: Any) -> Tensor:
    return x


def _rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon) * weight


def _int4_by_rows(x: Tensor, scale: Tensor, zero: Tensor, weights: Tensor, *more: Any) -> Tensor:
    """Rows of x rounded to 8 bits by scales [rows]; ExecuTorch's reference leaves that out."""
    _, weight_scales, group, bias = more
    by_row = [each.reshape(*x.shape[:-1], 1) for each in (scale, zero)]
    codes = torch.clamp(torch.round(x / by_row[0]) + by_row[1], -128, 127)
    rounded = (codes - by_row[1]) * by_row[0]
    return _references().linear_q4gsw(rounded, weights, weight_scales, group, bias)


#: name -> function of its args, without the output
ET_VK: dict[str, Callable[..., Any]] = {
    "et_vk.prepack.default": _same,  # to the GPU's memory
    "dim_order_ops._to_dim_order_copy.default": _same,  # to the type of its output
    "dim_order_ops._clone_dim_order.default": _same,
    "et_vk.rms_norm.default": _rms_norm,
    "et_vk.linear_dq8ca_q4gsw.default": _int4_by_rows,
}
