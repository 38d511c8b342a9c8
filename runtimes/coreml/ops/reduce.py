"""Ops that fold axes away, sum along one, or divide by such a sum."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from edgevlm.runtimes.coreml.ops.forms import Handler, Ints, Refused

__all__ = ["OPS"]

Fold = Callable[[Tensor, tuple[int, ...]], Tensor]


def reduction(fold: Fold) -> Handler:
    """fold(x, axes) keeps the axes with size 1. Without axes it is all of them."""

    def run(x: Tensor, axes: Ints | None = None, keep_dims: bool = False) -> Tensor:
        over = tuple(range(x.dim())) if axes is None else tuple(axis % x.dim() for axis in axes)
        y = fold(x, over)
        return y if keep_dims else y.squeeze(over)

    return run


def _sum(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    return torch.sum(x, axes, keepdim=True, dtype=x.dtype)


def _prod(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    for axis in axes:
        x = torch.prod(x, axis, keepdim=True, dtype=x.dtype)
    return x


def _fractions(fold: Fold) -> Fold:
    """A fold whose result of integers MIL does not define."""

    def run(x: Tensor, axes: tuple[int, ...]) -> Tensor:
        if not x.is_floating_point():
            raise Refused("integers, for which MIL does not define it")
        return fold(x, axes)

    return run


def softmax(x: Tensor, axis: int = -1) -> Tensor:
    return torch.softmax(x, axis)


def cumsum(x: Tensor, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> Tensor:
    """exclusive: without the number itself. reverse: from the end."""
    x = x.flip(axis) if reverse else x
    y = torch.cumsum(x, axis, dtype=x.dtype)
    y = y - x if exclusive and not x.is_floating_point() else y
    if exclusive and x.is_floating_point():
        nothing = torch.zeros_like(x.narrow(axis, 0, 1))
        y = torch.cat([nothing, y.narrow(axis, 0, x.shape[axis] - 1)], axis)
    return y.flip(axis) if reverse else y


OPS: dict[str, Handler] = {
    "cumsum": cumsum,
    "reduce_l1_norm": reduction(lambda x, axes: _sum(x.abs(), axes)),
    "reduce_l2_norm": reduction(_fractions(lambda x, axes: _sum(x * x, axes).sqrt())),
    "reduce_log_sum": reduction(_fractions(lambda x, axes: _sum(x, axes).log())),
    "reduce_log_sum_exp": reduction(
        _fractions(lambda x, axes: torch.logsumexp(x, axes, keepdim=True))
    ),
    "reduce_max": reduction(lambda x, axes: torch.amax(x, axes, keepdim=True)),
    "reduce_mean": reduction(_fractions(lambda x, axes: torch.mean(x, axes, keepdim=True))),
    "reduce_min": reduction(lambda x, axes: torch.amin(x, axes, keepdim=True)),
    "reduce_prod": reduction(_prod),
    "reduce_sum": reduction(_sum),
    "reduce_sum_square": reduction(lambda x, axes: _sum(x * x, axes)),
    "softmax": softmax,
}
