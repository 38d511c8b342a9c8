"""Ops that pick or write numbers by index. In ONNX an index may count from the end."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from edgevlm.compiler.to_torch.ops.node import Maker, OpNode, Refused, Run

__all__ = ["OPS"]


def _never_negative(node: OpNode, position: int) -> bool:
    """Whether an index is stored and counts from the front; it is read as a tensor all the same.

    A dialect may say that no index which is computed is negative.
    """
    if (stored := node.peek(position)) is None:
        return node.dialect.index == "natural"
    return bool((stored >= 0).all())


def _from_front(index: Tensor, size: int) -> Tensor:
    return torch.where(index < 0, index + size, index)


def gather(node: OpNode) -> Run:
    axis = node.get("axis", 0)
    stored = node.peek(1)
    if stored is not None and stored.dim() == 0:
        place = node.ints(1)[0]
        return lambda x, _: x.select(axis, place)
    plain = _never_negative(node, 1)
    if plain and axis == 0 and len(node.shape(0)) == 2:
        return lambda x, index: F.embedding(index, x)  # the name under which tools know it

    def run(x: Tensor, index: Tensor) -> Tensor:
        at = axis % x.dim()
        flat = index.reshape(-1)
        if not plain:
            flat = _from_front(flat, x.shape[at])
        picked = x.index_select(at, flat)
        return picked.reshape((*x.shape[:at], *index.shape, *x.shape[at + 1 :]))

    return run


def gather_elements(node: OpNode) -> Run:
    axis, plain = node.get("axis", 0), _never_negative(node, 1)

    def run(x: Tensor, index: Tensor) -> Tensor:
        index = index.long()
        return torch.gather(x, axis, index if plain else _from_front(index, x.shape[axis]))

    return run


def scatter_elements(node: OpNode) -> Run:
    axis, how = node.get("axis", 0), node.get("reduction", "none")
    plain = _never_negative(node, 1)
    known = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}

    def run(x: Tensor, index: Tensor, updates: Tensor) -> Tensor:
        index = index.long()
        index = index if plain else _from_front(index, x.shape[axis])
        if how == "none":
            return x.scatter(axis, index, updates)
        return x.scatter_reduce(axis, index, updates, known[how])

    return run


def scatter_nd(node: OpNode) -> Run:
    how = node.get("reduction", "none")
    if how not in ("none", "add"):
        raise Refused(f"reduction = {how!r}: torch writes or adds")

    def run(x: Tensor, index: Tensor, updates: Tensor) -> Tensor:
        columns = zip(index.long().unbind(-1), x.shape, strict=False)
        places = tuple(_from_front(column, size) for column, size in columns)
        return x.index_put(places, updates, accumulate=how == "add")

    return run


def tensor_scatter(node: OpNode) -> Run:
    """A row of a cache [B,h,C,d] put in its place; B = 1, as parts have it.

    As a product with a one-hot column where the dialect has no scatter: row * keep + hot * new.
    """
    node.refuse(mode="linear")
    axis, rank = node.get("axis", -2), len(node.shape(0))
    rows, new_rows = node.shape(0)[axis], node.shape(1)[axis]
    if not node.has(2):
        raise Refused("it writes from the first row on; Pad does that")
    if node.shape(2) != [1]:
        raise Refused(f"{node.shape(2)} places to write to, and only one is taken")
    axis %= rank

    def by_index(x: Tensor, new: Tensor, place: Tensor) -> Tensor:
        places = place if new_rows == 1 else place + torch.arange(new_rows, device=place.device)
        return x.index_copy(axis, places, new)

    def by_mask(x: Tensor, new: Tensor, place: Tensor) -> Tensor:
        all_rows = torch.arange(rows, dtype=place.dtype).reshape([-1] + [1] * (rank - 1 - axis))
        hot = (all_rows == place).to(x.dtype)
        return x * (1 - hot) + new * hot

    if node.dialect.cache == "index":
        return by_index
    if new_rows != 1:
        raise Refused(f"{new_rows} rows are written at once, and a mask takes one")
    return by_mask


def one_hot(node: OpNode) -> Run:
    """An index that is out of range is nowhere."""
    depth, axis = node.ints(1)[0], node.get("axis", -1)

    def run(index: Tensor, _: None, values: Tensor) -> Tensor:
        at = axis % (index.dim() + 1)
        places = torch.arange(depth, device=index.device, dtype=index.dtype)
        places = places.reshape(depth, *[1] * (index.dim() - at))
        hot = _from_front(index, depth).unsqueeze(at) == places
        return torch.where(hot, values[1], values[0])

    return run


def top_k(node: OpNode) -> Run:
    """By a stable sort: of equal numbers ONNX takes the first, and torch.topk any."""
    count, axis, largest = node.ints(1)[0], node.get("axis", -1), bool(node.get("largest", 1))
    if node.dialect.top_k == "topk":
        return lambda x, _: tuple(torch.topk(x, count, axis, largest))

    def run(x: Tensor, _: None) -> tuple[Tensor, Tensor]:
        values, places = torch.sort(x, dim=axis, descending=largest, stable=True)
        return values.narrow(axis, 0, count), places.narrow(axis, 0, count)

    return run


def arg(best: Run) -> Maker:
    """The first of equal numbers."""

    def make(node: OpNode) -> Run:
        node.refuse(select_last_index=0)
        axis, keep = node.get("axis", 0), bool(node.get("keepdims", 1))
        return lambda x: best(x, dim=axis, keepdim=keep)

    return make


OPS: dict[str, Maker] = {
    "ArgMax": arg(torch.argmax),
    "ArgMin": arg(torch.argmin),
    "Gather": gather,
    "GatherElements": gather_elements,
    "OneHot": one_hot,
    "ScatterElements": scatter_elements,
    "ScatterND": scatter_nd,
    "TensorScatter": tensor_scatter,
    "TopK": top_k,
}
