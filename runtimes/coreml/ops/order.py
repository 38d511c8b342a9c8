"""Which is the largest, and where: sorting, argmax, one-hot rows.

Of equal numbers Core ML may take any ("the identity of the return value is not guaranteed"); here
it is the first, as everywhere in this package.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edgevlm.runtimes.coreml.ops.forms import Handler, Refused, inside, room

__all__ = ["OPS"]


def topk(
    x: Tensor,
    k: int = 1,
    axis: int = -1,
    ascending: bool = False,
    sort: bool = True,
    return_indices: bool = True,
    output_indices_dtype: str = "int32",
) -> Tensor | tuple[Tensor, Tensor]:
    """Sorted even where `sort` leaves it open."""
    if not 0 <= k <= x.shape[axis]:
        raise Refused(f"{k} of an axis of {x.shape[axis]}")
    values, places = torch.sort(x, dim=axis, descending=not ascending, stable=True)
    values = values.narrow(axis, 0, k)
    return (values, places.narrow(axis, 0, k).int()) if return_indices else values


def argsort(x: Tensor, axis: int = -1, ascending: bool = False) -> Tensor:
    return torch.sort(x, dim=axis, descending=not ascending, stable=True).indices.int()


def reduce_argmax(
    x: Tensor, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32"
) -> Tensor:
    return torch.argmax(x, axis, keep_dims).int()


def reduce_argmin(
    x: Tensor, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32"
) -> Tensor:
    return torch.argmin(x, axis, keep_dims).int()


def one_hot(
    indices: Tensor,
    one_hot_vector_size: int,
    axis: int = -1,
    on_value: Tensor | int = 1,
    off_value: Tensor | int = 0,
) -> Tensor:
    """indices [D..] -> a new axis of that size. A place outside of it is an IndexError."""
    at = axis % (indices.dim() + 1)
    room([*indices.shape, one_hot_vector_size])
    places = inside(indices, one_hot_vector_size).unsqueeze(at)
    columns = torch.arange(one_hot_vector_size).reshape(-1, *[1] * (indices.dim() - at))
    on, off = (torch.as_tensor(v, dtype=torch.int32) if isinstance(v, int) else v
               for v in (on_value, off_value))  # fmt: skip
    return torch.where(places == columns, on, off)


def non_zero(x: Tensor) -> Tensor:
    """[count, rank]: the place of each number that is not zero."""
    return torch.nonzero(x).int()


OPS: dict[str, Handler] = {
    "argsort": argsort,
    "non_zero": non_zero,
    "one_hot": one_hot,
    "reduce_argmax": reduce_argmax,
    "reduce_argmin": reduce_argmin,
    "topk": topk,
}
