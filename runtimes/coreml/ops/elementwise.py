"""Ops that take the numbers of one tensor one by one: functions, activations, casts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from edgevlm.runtimes.coreml.ops.forms import Handler, Refused

__all__ = ["OPS"]


def plain(function: Callable[[Tensor], Tensor]) -> Handler:
    """An op of one input and no options."""

    def run(x: Tensor) -> Tensor:
        return function(x)

    return run


def clip(x: Tensor, alpha: float, beta: float) -> Tensor:
    return x.clamp(alpha, beta)


def threshold(x: Tensor, alpha: Tensor) -> Tensor:
    return torch.maximum(x, alpha)


def inverse(x: Tensor, epsilon: float = 1e-4) -> Tensor:
    return 1 / (x + epsilon)


def log(x: Tensor, epsilon: float = 1e-45) -> Tensor:
    return torch.log(x + epsilon)


def rsqrt(x: Tensor, epsilon: float = 1e-12) -> Tensor:
    return torch.rsqrt(x + epsilon)


#: type that MIL casts to -> how it is held; fp16 and narrow integers are rounded when stored
CASTS = {
    "fp16": torch.float32,
    "fp32": torch.float32,
    "bool": torch.bool,
    **dict.fromkeys(("int8", "uint8", "int16", "uint16", "int32"), torch.int32),
}


def cast(x: Tensor, dtype: str) -> Tensor:
    """Fractions are cut off. A number that does not fit into integers raises OverflowError."""
    if dtype not in CASTS:
        raise Refused(f"a cast to {dtype!r:.40}")
    if CASTS[dtype] is torch.int32 and x.is_floating_point():
        if not bool(((x > -(2.0**31) - 1) & (x < 2.0**31)).all()):
            raise OverflowError("a cast to integers of a number that is none, or too large")
        return x.trunc().to(torch.int32)
    return x.to(CASTS[dtype])


GELU = {
    "EXACT": F.gelu,
    "TANH_APPROXIMATION": partial(F.gelu, approximate="tanh"),
    "SIGMOID_APPROXIMATION": lambda x: x * torch.sigmoid(1.702 * x),
}


def gelu(x: Tensor, mode: str = "EXACT") -> Tensor:
    if mode not in GELU:
        raise Refused(f"mode {mode!r:.40}")
    return GELU[mode](x)


def clamped_relu(x: Tensor, alpha: float, beta: float) -> Tensor:
    return torch.where(x >= 0, x, alpha * x).clamp(max=beta)


def elu(x: Tensor, alpha: float) -> Tensor:
    return F.elu(x, alpha)


def leaky_relu(x: Tensor, alpha: float) -> Tensor:
    return F.leaky_relu(x, alpha)


def linear_activation(x: Tensor, alpha: float, beta: float) -> Tensor:
    return alpha * x + beta


def prelu(x: Tensor, alpha: Tensor) -> Tensor:
    """alpha [C], of axis 1."""
    return F.prelu(x, alpha)


def scaled_tanh(x: Tensor, alpha: float, beta: float) -> Tensor:
    return alpha * torch.tanh(beta * x)


def sigmoid_hard(x: Tensor, alpha: float, beta: float) -> Tensor:
    return (alpha * x + beta).clamp(0, 1)


def softplus_parametric(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """alpha, beta [C], of axis 1."""
    a, b = (row.reshape(-1, *[1] * (x.dim() - 2)) for row in (alpha, beta))
    return a * torch.logaddexp(b * x, torch.zeros(()))


def thresholded_relu(x: Tensor, alpha: float) -> Tensor:
    return torch.where(x >= alpha, x, 0.0)


OPS: dict[str, Handler] = {
    "abs": plain(torch.abs),
    "acos": plain(torch.acos),
    "asin": plain(torch.asin),
    "atan": plain(torch.atan),
    "atanh": plain(torch.atanh),
    "cast": cast,
    "ceil": plain(torch.ceil),
    "clamped_relu": clamped_relu,
    "clip": clip,
    "cos": plain(torch.cos),
    "cosh": plain(torch.cosh),
    "elu": elu,
    "erf": plain(torch.erf),
    "exp": plain(torch.exp),
    "exp2": plain(torch.exp2),
    "floor": plain(torch.floor),
    "gelu": gelu,
    "identity": plain(lambda x: x),
    "inverse": inverse,
    "leaky_relu": leaky_relu,
    "linear_activation": linear_activation,
    "log": log,
    "logical_not": plain(torch.logical_not),
    "prelu": prelu,
    "relu": plain(torch.relu),
    "relu6": plain(F.relu6),
    "round": plain(torch.round),  # half to even: 0.5 becomes 0
    "rsqrt": rsqrt,
    "scaled_tanh": scaled_tanh,
    "sigmoid": plain(torch.sigmoid),
    "sigmoid_hard": sigmoid_hard,
    "sign": plain(torch.sign),
    "silu": plain(F.silu),
    "sin": plain(torch.sin),
    "sinh": plain(torch.sinh),
    "softplus": plain(lambda x: torch.logaddexp(x, torch.zeros(()))),
    "softplus_parametric": softplus_parametric,
    "softsign": plain(F.softsign),
    "sqrt": plain(torch.sqrt),
    "square": plain(torch.square),
    "tan": plain(torch.tan),
    "tanh": plain(torch.tanh),
    "threshold": threshold,
    "thresholded_relu": thresholded_relu,
}
