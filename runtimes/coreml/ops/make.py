"""Tensors made from sizes and bounds."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from edgevlm.runtimes.coreml.ops.forms import Handler, Ints, Refused, room

__all__ = ["OPS"]


def fill(shape: Ints, value: Tensor | float = 0.0) -> Tensor:
    return torch.as_tensor(value).expand(room(shape))


def fill_like(ref_tensor: Tensor, value: Tensor | float = 0.0) -> Tensor:
    return torch.as_tensor(value).expand(ref_tensor.shape)


def range_1d(end: Tensor, start: Tensor, step: Tensor) -> Tensor:
    """start, start + step, ... before end; of the type of its inputs."""
    first, last, by = start.item(), end.item(), step.item()
    if by == 0 or not all(map(math.isfinite, (first, last, by))):
        raise Refused(f"from {first} to {last} by {by}")
    count = max(0, math.ceil((last - first) / by))
    room([count])
    return start + step * torch.arange(count, dtype=start.dtype)


def shape(x: Tensor) -> Tensor:
    return torch.tensor(x.shape, dtype=torch.int32)


OPS: dict[str, Handler] = {
    "fill": fill,
    "fill_like": fill_like,
    "range_1d": range_1d,
    "shape": shape,
}
