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


def cast_like(node: OpNode) -> Run:
    """To the format of its second input, whose numbers nobody looks at."""
    to = node.dtype(1)
    if to not in DTYPES or to.bitwidth < 8:
        raise Refused(f"torch has no {to.name if to is not None else 'type that is not known'}")
    node.read.add(1)
    return lambda x, _: x.to(DTYPES[to])


def dropout(node: OpNode) -> Run:
    """Of a model that answers: nothing is dropped, and the mask keeps all."""
    if node.has(2) and bool(node.constant(2)):
        raise Refused("training_mode: it would drop numbers at random")
    if node.has(1):
        node.read.add(1)  # the share that training would drop
    masked = len(node.node.outputs) > 1

    def run(x: Tensor, *_: None) -> Tensor | tuple[Tensor, Tensor]:
        return (x, torch.ones_like(x, dtype=torch.bool)) if masked else x

    return run


def is_inf(node: OpNode) -> Run:
    """By comparison: no phone's tool has an op for it."""
    above, below = node.get("detect_positive", 1), node.get("detect_negative", 1)

    def run(x: Tensor) -> Tensor:
        if above and below:
            return torch.abs(x) == torch.inf
        if above or below:
            return x == (torch.inf if above else -torch.inf)
        return torch.zeros_like(x, dtype=torch.bool)

    return run


def mean(node: OpNode) -> Run:
    """Of tensors that broadcast."""
    return lambda *xs: reduce(torch.add, xs) / len(xs)


def gelu(node: OpNode) -> Run:
    by_tanh = node.get("approximate", "none") == "tanh"
    if by_tanh and node.dialect.tanh_gelu == "spelled":
        return lambda x: 0.5 * x * (1 + torch.tanh(GELU * (x + 0.044715 * x**3)))
    return partial(F.gelu, approximate=node.get("approximate", "none"))


OPS: dict[str, Maker] = {
    "Abs": plain(torch.abs),
    "Acos": plain(torch.acos),
    "Acosh": plain(torch.acosh),
    "Add": plain(torch.add),
    "And": plain(torch.logical_and),
    "Asin": plain(torch.asin),
    "Asinh": plain(torch.asinh),
    "Atan": plain(torch.atan),
    "Atanh": plain(torch.atanh),
    "Cast": cast,
    "CastLike": cast_like,
    "Ceil": plain(torch.ceil),
    "Clip": clip,
    "Cos": plain(torch.cos),
    "Cosh": plain(torch.cosh),
    "Div": plain(_div),
    "Dropout": dropout,
    "Equal": plain(torch.eq),
    "Erf": plain(torch.erf),
    "Exp": plain(torch.exp),
    "Floor": plain(torch.floor),
    "Gelu": gelu,
    "Greater": plain(torch.gt),
    "GreaterOrEqual": plain(torch.ge),
    "Identity": plain(lambda x: x),
    "IsInf": is_inf,
    "IsNaN": plain(torch.isnan),
    "Less": plain(torch.lt),
    "LessOrEqual": plain(torch.le),
    "Log": plain(torch.log),
    "Max": variadic(torch.maximum),
    "Mean": mean,
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
    "Sinh": plain(torch.sinh),
    "Sqrt": plain(torch.sqrt),
    "Sub": plain(torch.sub),
    "Sum": variadic(torch.add),
    "Tan": plain(torch.tan),
    "Tanh": plain(torch.tanh),
    "Where": plain(torch.where),
    "Xor": plain(torch.logical_xor),
}
