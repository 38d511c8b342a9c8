"""Normalisations over pictures: by stored statistics, of groups, of neighbours; and of a vector.

LayerNormalization and RMSNormalization are in reduce.py.
"""

from __future__ import annotations

from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from edgevlm.compiler.to_torch.ops.node import Maker, OpNode, Refused, Run

__all__ = ["OPS"]


def batch_norm(node: OpNode) -> Run:
    """By the statistics that it is given: torch's op where they are stored, which has no gradient
    for them, and written out where they are computed."""
    node.refuse(training_mode=0)
    node.first_output_only()
    epsilon, rank = node.get("epsilon", 1e-5), len(node.shape(0))
    if rank < 2:
        raise Refused("its input has no axis of channels")
    along = [-1] + [1] * (rank - 2)

    def known(x: Tensor, gain: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        return F.batch_norm(x, mean, variance, gain, bias, False, 0.0, epsilon)

    def computed(x: Tensor, *four: Tensor) -> Tensor:
        gain, bias, mean, variance = (v.reshape(along) for v in four)
        return (x - mean) * torch.rsqrt(variance + epsilon) * gain + bias

    stored = node.peek(3) is not None and node.peek(4) is not None
    return known if stored else computed


def group_norm(node: OpNode) -> Run:
    """Scale and bias are of channels, as from opset 21 on; those of opset 18 were of groups."""
    node.refuse(stash_type=1)
    groups, epsilon, channels = node.get("num_groups"), node.get("epsilon", 1e-5), node.shape(0)[1]
    if node.shape(1) != [channels]:
        raise Refused(f"its scale is {node.shape(1)}, and there are {channels} channels")
    # F.group_norm refuses a group of one number, as of a picture of one pixel
    return lambda x, gain, bias: torch.group_norm(x, groups, gain, bias, epsilon)


def instance_norm(node: OpNode) -> Run:
    """Groups of one channel."""
    channels, epsilon = node.shape(0)[1], node.get("epsilon", 1e-5)
    return lambda x, gain, bias: torch.group_norm(x, channels, gain, bias, epsilon)


def local_response(node: OpNode) -> Run:
    """x / (bias + alpha / size * sum of squares of channels c - (size-1)//2 ... c + size//2)^beta.

    An even size reaches one further behind than before; torch's own op has it the other way round.
    """
    size, bias = node.get("size"), node.get("bias", 1.0)
    alpha, beta = node.get("alpha", 1e-4), node.get("beta", 0.75)
    shape = node.shape(0)
    around = [0, 0] * (len(shape) - 2) + [(size - 1) // 2, size // 2]

    def run(x: Tensor) -> Tensor:
        squares = F.pad(x * x, around)
        total = reduce(torch.add, (squares.narrow(1, i, shape[1]) for i in range(size)))
        return x / torch.pow(bias + alpha / size * total, beta)

    return run


def lp_norm(node: OpNode) -> Run:
    """A vector of zeros stays one."""
    axis, p = node.get("axis", -1), node.get("p", 2)
    if p not in (1, 2):
        raise Refused(f"p = {p}: the specification has 1 and 2")

    def run(x: Tensor) -> Tensor:
        total = (x.abs() if p == 1 else x * x).sum(axis, keepdim=True)
        length = total if p == 1 else total.sqrt()
        return x / torch.where(length == 0, torch.ones_like(length), length)

    return run


OPS: dict[str, Maker] = {
    "BatchNormalization": batch_norm,
    "GroupNormalization": group_norm,
    "InstanceNormalization": instance_norm,
    "LRN": local_response,
    "LpNormalization": lp_norm,
}
