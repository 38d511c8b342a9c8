"""Normalisations. Means and variances are sums in float32, whatever the type of x."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from edgevlm.runtimes.coreml.ops.forms import Handler, Ints

__all__ = ["OPS"]


def layer_norm(
    x: Tensor,
    axes: Ints | None = None,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    """gamma and beta have the sizes of the axes, in the order of x."""
    over = sorted(range(x.dim()) if axes is None else {axis % x.dim() for axis in axes})
    centred = x - x.mean(over, keepdim=True)
    y = centred * torch.rsqrt((centred * centred).mean(over, keepdim=True) + epsilon)
    shape = [size if axis in over else 1 for axis, size in enumerate(x.shape)]
    y = y if gamma is None else y * gamma.reshape(shape)
    return y if beta is None else y + beta.reshape(shape)


def batch_norm(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    """By stored mean and variance [C] of axis 1."""
    return F.batch_norm(x, mean, variance, gamma, beta, training=False, eps=epsilon)


def instance_norm(
    x: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None, epsilon: float = 1e-5
) -> Tensor:
    """[n, C, D..]: each channel of each row by its own mean and variance."""
    y = layer_norm(x, tuple(range(2, x.dim())), epsilon=epsilon)
    shape = (-1, *[1] * (x.dim() - 2))
    y = y if gamma is None else y * gamma.reshape(shape)
    return y if beta is None else y + beta.reshape(shape)


def l2_norm(x: Tensor, epsilon: float = 1e-6) -> Tensor:
    """By the length of the last three axes together."""
    return x * torch.rsqrt((x * x).sum((-3, -2, -1), keepdim=True) + epsilon)


OPS: dict[str, Handler] = {
    "batch_norm": batch_norm,
    "instance_norm": instance_norm,
    "l2_norm": l2_norm,
    "layer_norm": layer_norm,
}
