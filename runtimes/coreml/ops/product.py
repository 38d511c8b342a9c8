"""Products of matrices, with float32 accumulators; attention as one op."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from edgevlm.runtimes.coreml.ops.forms import MOST_GIVEN, Handler, Refused, Tensors, room

__all__ = ["OPS"]


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [.., i], weight [o, i], bias [o] -> [.., o]."""
    if not x.is_floating_point():
        y = torch.matmul(x, weight.t())
        return y if bias is None else y + bias
    return F.linear(x, weight, bias)


def matmul(x: Tensor, y: Tensor, transpose_x: bool = False, transpose_y: bool = False) -> Tensor:
    """Turning round has no effect on a row."""
    x = x.transpose(-1, -2) if transpose_x and x.dim() > 1 else x
    y = y.transpose(-1, -2) if transpose_y and y.dim() > 1 else y
    room(_of_matmul(x.shape, y.shape), MOST_GIVEN)
    return torch.matmul(x, y)


def _of_matmul(x: torch.Size, y: torch.Size) -> tuple[int, ...]:
    """Sizes of the product; nobody's concern where there is none."""
    batch = torch.broadcast_shapes(x[:-2], y[:-2])
    return (*batch, *x[-2:-1], *(y[-1:] if len(y) > 1 else ()))


def einsum(values: Tensors, equation: str) -> Tensor:
    """The sizes of letters are those of the operands; one of size 1 is broadcast."""
    if len(equation) > 200 or len(values) != 2:
        raise Refused(f"an equation of {len(equation)} letters, {len(values)} operands")
    sizes = {}
    for letters, value in zip(equation.split("->")[0].split(","), values, strict=False):
        for letter, size in zip(letters.strip(), value.shape, strict=False):
            sizes[letter] = max(size, sizes.get(letter, 1))
    given = equation.split("->")[-1]
    room([size for letter, size in sizes.items() if letter in given], MOST_GIVEN)
    return torch.einsum(equation, *values)


def attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None) -> Tensor:
    """q [B.., L, E], k [B.., S, E], v [B.., S, V] -> [B.., L, V].

    A mask of bool says what is looked at; another one is added to the scores. What is between the
    products is not rounded: how a device rounds inside one op is its own affair.
    """
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, float("-inf"))
    elif attn_mask is not None:
        scores = scores + attn_mask
    return torch.softmax(scores, -1) @ value


OPS: dict[str, Handler] = {
    "einsum": einsum,
    "linear": linear,
    "matmul": matmul,
    "scaled_dot_product_attention": attention,
}
