"""Reading by index. What an index may be depends on the iOS version: see `inside`."""

from __future__ import annotations

import torch
from torch import Tensor

from edgevlm.runtimes.coreml.ops.forms import Handler, Refused, inside

__all__ = ["OPS", "flat_places"]


def gather(
    x: Tensor,
    indices: Tensor,
    axis: int = 0,
    batch_dims: int = 0,
    validate_indices: bool = False,
    ios: int = 17,
) -> Tensor:
    """x [B.., D.., n, E..], indices [B.., I..] -> [B.., D.., I.., E..]."""
    at = axis % x.dim()
    if not 0 <= batch_dims <= min(at, indices.dim()):
        raise Refused(f"batch_dims {batch_dims} with axis {axis}")
    places = inside(indices, x.shape[at], ios)
    if batch_dims == 0:
        picked = x.index_select(at, places.reshape(-1))
        return picked.reshape(*x.shape[:at], *indices.shape, *x.shape[at + 1 :])
    batch, between, after = x.shape[:batch_dims], x.shape[batch_dims:at], x.shape[at + 1 :]
    rows = x.reshape(batch.numel(), between.numel(), x.shape[at], after.numel())
    places = places.reshape(batch.numel(), 1, -1, 1)
    places = places.expand(-1, rows.shape[1], -1, rows.shape[3])
    picked = torch.gather(rows, 2, places)
    return picked.reshape(*batch, *between, *indices.shape[batch_dims:], *after)


def gather_along_axis(
    x: Tensor, indices: Tensor, axis: int = 0, validate_indices: bool = False, ios: int = 17
) -> Tensor:
    return torch.gather(x, axis, inside(indices, x.shape[axis], ios))


def gather_nd(
    x: Tensor,
    indices: Tensor,
    batch_dims: int = 0,
    validate_indices: bool = False,
    ios: int = 17,
) -> Tensor:
    """x [B.., D.., E..], indices [B.., I.., len(D)] -> [B.., I.., E..]."""
    depth = indices.shape[-1]
    batch, inner = x.shape[:batch_dims], x.shape[batch_dims + depth :]
    places = flat_places(indices, x.shape[batch_dims : batch_dims + depth], ios)
    rows = x.reshape(batch.numel(), -1, inner.numel())
    places = places.reshape(batch.numel(), -1, 1).expand(-1, -1, inner.numel())
    return torch.gather(rows, 1, places).reshape(*indices.shape[:-1], *inner)


def flat_places(indices: Tensor, sizes: torch.Size, ios: int) -> Tensor:
    """[.., k] of places in k axes -> [..] of places in them as one axis."""
    flat = torch.zeros(indices.shape[:-1], dtype=torch.int64)
    for column, size in zip(indices.unbind(-1), sizes, strict=True):
        flat = flat * size + inside(column, size, ios)
    return flat


OPS: dict[str, Handler] = {
    "gather": gather,
    "gather_along_axis": gather_along_axis,
    "gather_nd": gather_nd,
}
