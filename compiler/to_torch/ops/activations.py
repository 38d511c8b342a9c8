"""Activations: numbers one by one, by the formulas of ONNX and its defaults.

What torch has under a name of its own is called by it, so that tools find their kernels; the rest
is written with ops that every tool has.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from edgevlm.compiler.to_torch.ops.node import Maker, OpNode, Run, plain

__all__ = ["OPS"]

#: of Selu, as the specification writes them: the float32 nearest to those of the paper (1706.02515)
SELU_ALPHA, SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875


def _elu(x: Tensor, alpha: float, scale: float = 1.0) -> Tensor:
    """x above zero, alpha * (exp(x * scale) - 1) below; torch's own op is unknown to Core AI."""
    below = torch.clamp(x, max=0)
    return torch.relu(x) + alpha * torch.expm1(below if scale == 1 else below * scale)


def celu(node: OpNode) -> Run:
    alpha = node.get("alpha", 1.0)
    return lambda x: _elu(x, alpha, 1 / alpha)


def elu(node: OpNode) -> Run:
    alpha = node.get("alpha", 1.0)
    return lambda x: _elu(x, alpha)


def selu(node: OpNode) -> Run:
    alpha, gamma = node.get("alpha", SELU_ALPHA), node.get("gamma", SELU_GAMMA)
    return lambda x: gamma * _elu(x, alpha)


def leaky_relu(node: OpNode) -> Run:
    alpha = node.get("alpha", 0.01)
    return lambda x: F.leaky_relu(x, alpha)


def _prelu(x: Tensor, slope: Tensor) -> Tensor:
    """The slope broadcasts to x from the right, as in ONNX; torch's own wants one a channel."""
    return torch.where(x < 0, x * slope, x)


def hard_sigmoid(node: OpNode) -> Run:
    alpha, beta = node.get("alpha", 0.2), node.get("beta", 0.5)
    return lambda x: torch.clamp(alpha * x + beta, 0, 1)


def shrink(node: OpNode) -> Run:
    """Towards zero by `bias` outside of [-lambd, lambd], and zero within."""
    bias, edge = node.get("bias", 0.0), node.get("lambd", 0.5)

    def run(x: Tensor) -> Tensor:
        within = torch.zeros_like(x)
        above = torch.where(x > edge, x - bias, within)
        return torch.where(x < -edge, x + bias, above)

    return run


def thresholded_relu(node: OpNode) -> Run:
    edge = node.get("alpha", 1.0)
    return lambda x: torch.where(x > edge, x, torch.zeros_like(x))


def swish(node: OpNode) -> Run:
    """x * sigmoid(alpha * x), of opset 24."""
    alpha = node.get("alpha", 1.0)
    return F.silu if alpha == 1 else lambda x: x * torch.sigmoid(alpha * x)


OPS: dict[str, Maker] = {
    "Celu": celu,
    "Elu": elu,
    "HardSigmoid": hard_sigmoid,
    "HardSwish": plain(F.hardswish),
    "LeakyRelu": leaky_relu,
    "Mish": plain(lambda x: x * torch.tanh(F.softplus(x))),
    "PRelu": plain(_prelu),
    "Selu": selu,
    "Shrink": shrink,
    "Softplus": plain(F.softplus),  # x itself above 20, where exp(-x) is no float32 beside it
    "Softsign": plain(lambda x: x / (1 + torch.abs(x))),
    "Swish": swish,
    "ThresholdedRelu": thresholded_relu,
}
