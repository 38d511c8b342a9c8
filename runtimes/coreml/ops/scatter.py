"""Writing by index, in place of what is there or combined with it."""

from __future__ import annotations

import torch
from torch import Tensor

from edgevlm.runtimes.coreml.ops.forms import Handler, Refused, inside
from edgevlm.runtimes.coreml.ops.gather import flat_places

__all__ = ["OPS"]

#: mode -> how torch combines; sub and div are add and mul of what is turned round first
COMBINED = {"add": "sum", "sub": "sum", "mul": "prod", "div": "prod", "max": "amax", "min": "amin"}


def _write(data: Tensor, axis: int, places: Tensor, updates: Tensor, mode: str) -> Tensor:
    """All of one rank. Raises Refused where the order of writes would decide."""
    if mode == "update":
        _once(places, axis)
        return data.scatter(axis, places, updates)
    if mode not in COMBINED:
        raise Refused(f"mode {mode!r:.40}")
    if mode == "div" and not data.is_floating_point():
        raise Refused("integers that are divided, whose quotient MIL does not define")
    updates = {"sub": torch.neg, "div": torch.reciprocal}.get(mode, lambda u: u)(updates)
    return data.scatter_reduce(axis, places, updates, COMBINED[mode])


def _once(places: Tensor, axis: int) -> None:
    ordered = places.sort(axis).values
    if bool((ordered.diff(dim=axis) == 0).any()):
        raise Refused("one place that is written twice, where the order is undefined")


def scatter_along_axis(
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool = False,
    ios: int = 17,
) -> Tensor:
    return _write(data, axis, inside(indices, data.shape[axis], ios), updates, mode)


def scatter(
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool = False,
    ios: int = 17,
) -> Tensor:
    """indices [C]: which slices of the axis; updates has C in place of the axis."""
    at = axis % data.dim()
    shape = [-1 if i == at else 1 for i in range(data.dim())]
    places = inside(indices, data.shape[at], ios).reshape(shape).expand(updates.shape)
    return _write(data, at, places, updates, mode)


def scatter_nd(
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    mode: str = "add",
    validate_indices: bool = False,
    ios: int = 17,
) -> Tensor:
    """indices [I.., k]: places in the first k axes; updates [I.., the other axes]."""
    depth = indices.shape[-1]
    inner = data.shape[depth:].numel()
    places = flat_places(indices, data.shape[:depth], ios).reshape(-1, 1).expand(-1, inner)
    rows = data.reshape(-1, inner)
    return _write(rows, 0, places, updates.reshape(-1, inner), mode).reshape(data.shape)


OPS: dict[str, Handler] = {
    "scatter": scatter,
    "scatter_along_axis": scatter_along_axis,
    "scatter_nd": scatter_nd,
}
