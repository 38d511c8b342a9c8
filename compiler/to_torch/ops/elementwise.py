"""Ops that take numbers one by one, those of several tensors with broadcasting."""

from __future__ import annotations

import math
from functools import partial, reduce

import onnx_ir as ir
import torch
import torch.nn.functional as F
from torch import Tensor

from edgevlm.compiler.to_torch.dtypes import DTYPES
from edgevlm.compiler.to_torch.ops.node import Maker, OpNode, Refused, Run, plain

__all__ = ["OPS"]

GELU = (2 / math.pi) ** 0.5  # of the approximation by a hyperbolic tangent


def _div(x: Tensor, y: Tensor) -> Tensor:
    """Integers are divided towards zero."""
    return x / y if x.is_floating_point() else torch.div(x, y, rounding_mode="trunc")


def _pow(x: Tensor, y: Tensor) -> Tensor:
    return torch.pow(x, y).to(x.dtype)


def variadic(pair: Run) -> Maker:
    return plain(lambda *xs: reduce(pair, xs))


def clip(node: OpNode) -> Run:
    """Either bound may be absent; with low > high everything is high, in both worlds."""

    def run(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
        return x if low is None and high is None else torch.clamp(x, low, high)

    return run


def cast(node: OpNode) -> Run:
    to = ir.DataType(node.get("to"))
    if to not in DTYPES or to.bitwidth < 8:
        raise Refused(f"torch has no {to.name}")
    return lambda x: x.to(DTYPES[to])


def gelu(node: OpNode) -> Run:
    by_tanh = node.get("approximate", "none") == "tanh"
    if by_tanh and node.dialect.tanh_gelu == "spelled":
        return lambda x: 0.5 * x * (1 + torch.tanh(GELU * (x + 0.044715 * x**3)))
    return partial(F.gelu, approximate=node.get("approximate", "none"))


OPS: dict[str, Maker] = {
    "Abs": plain(torch.abs),
    "Add": plain(torch.add),
    "And": plain(torch.logical_and),
    "Cast": cast,
    "Ceil": plain(torch.ceil),
    "Clip": clip,
    "Cos": plain(torch.cos),
    "Div": plain(_div),
    "Equal": plain(torch.eq),
    "Erf": plain(torch.erf),
    "Exp": plain(torch.exp),
    "Floor": plain(torch.floor),
    "Gelu": gelu,
    "Greater": plain(torch.gt),
    "GreaterOrEqual": plain(torch.ge),
    "Identity": plain(lambda x: x),
    "IsNaN": plain(torch.isnan),
    "Less": plain(torch.lt),
    "LessOrEqual": plain(torch.le),
    "Log": plain(torch.log),
    "Max": variadic(torch.maximum),
    "Min": variadic(torch.minimum),
    "Mul": plain(torch.mul),
    "Neg": plain(torch.neg),
    "Not": plain(torch.logical_not),
    "Or": plain(torch.logical_or),
    "Pow": plain(_pow),
    "Reciprocal": plain(torch.reciprocal),
    "Relu": plain(torch.relu),
    "Round": plain(torch.round),  # half to even, in both worlds
    "Sigmoid": plain(torch.sigmoid),
    "Sign": plain(torch.sign),
    "Sin": plain(torch.sin),
    "Sqrt": plain(torch.sqrt),
    "Sub": plain(torch.sub),
    "Tanh": plain(torch.tanh),
    "Where": plain(torch.where),
    "Xor": plain(torch.logical_xor),
}
