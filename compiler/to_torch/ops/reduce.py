"""Ops that fold an axis away, sum along it or normalise along it."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from edgevlm.compiler.to_torch.ops.node import Maker, OpNode, Refused, Run

__all__ = ["OPS"]


def _prod(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    """torch multiplies along one axis at a time."""
    for axis in axes:
        x = x.prod(axis, keepdim=True)
    return x if keep else x.squeeze(axes)


def reduction(fold: Run) -> Maker:
    """fold(x, axes, keepdims); without axes it is all of them."""

    def make(node: OpNode) -> Run:
        rank = len(node.shape(0))
        axes = tuple(node.ints(1)) if node.has(1) else ()
        if not axes and node.get("noop_with_empty_axes", 0):
            raise Refused("noop_with_empty_axes: it reduces nothing")
        axes, keep = axes or tuple(range(rank)), bool(node.get("keepdims", 1))

        def run(x: Tensor, *_: Tensor | None) -> Tensor:
            made = fold(x, axes, keep)
            # torch counts in 64 bits, and has no means of integers
            return made if made.dtype == x.dtype else made.to(x.dtype)

        return run

    return make


def mean(node: OpNode) -> Run:
    kind = node.dtype(0)
    if kind is not None and not kind.is_floating_point():
        raise Refused("means of integers, which torch does not have")
    return reduction(torch.mean)(node)


def cum_sum(node: OpNode) -> Run:
    axis, reverse, exclusive = node.ints(1)[0], node.get("reverse", 0), node.get("exclusive", 0)

    def run(x: Tensor, _: None) -> Tensor:
        x = x.flip(axis) if reverse else x
        y = torch.cumsum(x, axis, dtype=x.dtype)
        if exclusive:
            nothing = torch.zeros_like(x.narrow(axis, 0, 1))
            y = torch.cat([nothing, y.narrow(axis, 0, x.shape[axis] - 1)], axis)
        return y.flip(axis) if reverse else y

    return run


def softmax(fold: Run) -> Maker:
    def make(node: OpNode) -> Run:
        axis = node.get("axis", -1)
        return lambda x: fold(x, axis)

    return make


def hardmax(node: OpNode) -> Run:
    """One at the first of the largest, zeros elsewhere."""
    axis = node.get("axis", -1)

    def run(x: Tensor) -> Tensor:
        along = [-1] + [1] * (x.dim() - 1 - axis % x.dim())
        at = torch.arange(x.shape[axis], device=x.device).reshape(along)
        return (at == x.argmax(axis, keepdim=True)).to(x.dtype)

    return run


def _mean(node: OpNode) -> Run:
    """Over the last axis, which is kept; as a product where the dialect says so."""
    if node.dialect.norms != "product":
        return lambda x: x.mean(-1, keepdim=True)
    width = node.shape(0)[-1]
    ones = torch.full((1, width), 1 / width)
    return lambda x: F.linear(x, ones)


def layer_norm(node: OpNode) -> Run:
    node.first_output_only()
    node.refuse(stash_type=1)
    axis, epsilon = node.get("axis", -1), node.get("epsilon", 1e-5)
    if node.dialect.norms == "product" and axis in (-1, len(node.shape(0)) - 1):
        return layer_norm_by_products(node, epsilon)

    def run(x: Tensor, gain: Tensor, bias: Tensor | None = None) -> Tensor:
        over = x.shape[axis:]
        if gain.shape == over and (bias is None or bias.shape == over):
            return F.layer_norm(x, over, gain, bias, epsilon)
        y = F.layer_norm(x, over, eps=epsilon) * gain  # ONNX lets both broadcast
        return y if bias is None else y + bias

    return run


def layer_norm_by_products(node: OpNode, epsilon: float) -> Run:
    mean = _mean(node)

    def run(x: Tensor, gain: Tensor, bias: Tensor | None = None) -> Tensor:
        away = x - mean(x)
        y = away * torch.rsqrt(mean(away * away) + epsilon) * gain
        return y if bias is None else y + bias

    return run


def rms_norm_as_layer_norm(node: OpNode, epsilon: float) -> Run:
    """LayerNorm of (x, -x), whose mean is zero and whose variance is the mean of squares.

    Squares of what is above 256 are no float16; the op keeps them to itself. So do Apple's own and
    other ports of language models to the Neural Engine: https://github.com/Anemll/Anemll
    """
    width = node.shape(0)[-1]

    def run(x: Tensor, gain: Tensor) -> Tensor:
        both = F.layer_norm(torch.cat((x, -x), -1), (2 * width,), eps=epsilon)
        return both[..., :width] * gain

    return run


def rms_norm(node: OpNode) -> Run:
    node.refuse(stash_type=1)
    axis, epsilon = node.get("axis", -1), node.get("epsilon", 1e-5)
    last = axis in (-1, len(node.shape(0)) - 1)
    if node.dialect.norms == "named" and last and node.shape(1) == node.shape(0)[-1:]:
        return lambda x, gain: F.rms_norm(x, gain.shape, gain, epsilon)
    if last:
        if node.dialect.norms == "layer":
            return rms_norm_as_layer_norm(node, epsilon)
        mean = _mean(node)
        return _stashed(lambda x: x * torch.rsqrt(mean(x * x) + epsilon))

    def normalised(x: Tensor) -> Tensor:
        over = tuple(range(axis % x.dim(), x.dim()))
        return x * torch.rsqrt(x.pow(2).mean(over, keepdim=True) + epsilon)

    return _stashed(normalised)


def _stashed(normalised: Callable[[Tensor], Tensor]) -> Run:
    """stash_type 1: what is of float16 is normalised in float32; its squares have no room in 16."""

    def run(x: Tensor, gain: Tensor) -> Tensor:
        if x.dtype != torch.float16:
            return normalised(x) * gain
        return normalised(x.float()).to(x.dtype) * gain

    return run


OPS: dict[str, Maker] = {
    "CumSum": cum_sum,
    "Hardmax": hardmax,
    "LayerNormalization": layer_norm,
    "LogSoftmax": softmax(torch.log_softmax),
    "RMSNormalization": rms_norm,
    "ReduceL1": reduction(lambda x, axes, keep: x.abs().sum(axes, keep)),
    "ReduceL2": reduction(lambda x, axes, keep: x.pow(2).sum(axes, keep).sqrt()),
    "ReduceLogSum": reduction(lambda x, axes, keep: x.sum(axes, keep).log()),
    "ReduceLogSumExp": reduction(torch.logsumexp),
    "ReduceMax": reduction(torch.amax),
    "ReduceMean": mean,
    "ReduceMin": reduction(torch.amin),
    "ReduceProd": reduction(_prod),
    "ReduceSum": reduction(torch.sum),
    "ReduceSumSquare": reduction(lambda x, axes, keep: x.pow(2).sum(axes, keep)),
    "Softmax": softmax(torch.softmax),
}
