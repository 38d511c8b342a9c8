"""What all rewrites of choosing share: limits, reasons to refuse, and taking a value's place."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from edgevlm.passes.mobile.hot import Hot

__all__ = ["Limits", "Refused", "check", "cut", "is_read", "sizes", "take_over"]


class Refused(Exception):
    """The sentence that says why a node stays."""


@dataclass(frozen=True)
class Limits:
    topk: bool  # TopK and ArgMax too
    most: int  # tokens that are ranked
    table_rows: int  # of a stored table


def check(hot: Hot, data: ir.Value, count: int, limits: Limits) -> None:
    """Raises Refused for what a product with ones and zeros would not bring through."""
    if data.const_value is not None and count > limits.table_rows:
        raise Refused(f"a stored table of {count} rows is looked up, over {limits.table_rows}")
    if hot.kind_for(data) is None:
        raise Refused(f"{data.name} may hold integers that float32 has not")
    if not hot.finite(data):
        raise Refused(f"{data.name} is not finite everywhere")


def cut(hot: Hot, data: ir.Value, axis: int, first: int, many: int, step: int) -> ir.Value:
    """`many` places of an axis from `first` on, every `step`th."""
    if many == data.shape[axis]:
        return data
    bounds = first, first + (many - 1) * step + 1, axis, step
    made = hot.build("Slice", data, *(hot.build.const([n]) for n in bounds))
    shape = sizes(data)
    made.shape, made.dtype = ir.Shape([*shape[:axis], many, *shape[axis + 1 :]]), data.dtype
    return made


def take_over(hot: Hot, old: ir.Value, new: ir.Value, alone: bool = True) -> None:
    """`new` in the place of `old`, in its shape; `alone`: the node of the old one goes."""
    hot.bounds.learn(new, old)
    fresh = hot.shaped(new, sizes(old))
    hot.bounds.learn(fresh, new)
    if fresh in hot.named or fresh.const_value is not None or fresh.is_graph_input():
        shared, fresh = fresh, hot.build("Identity", fresh)
        fresh.shape, fresh.type = shared.shape, shared.type
        if shared in hot.rows:
            hot.rows[fresh] = hot.rows[shared]
    hot.named.add(fresh)
    node, name = old.producer(), old.name
    fresh.shape, fresh.type = old.shape, old.type
    ir.convenience.replace_all_uses_with(old, fresh, replace_graph_outputs=True)
    old.name, fresh.name = f"{name}/chosen", name
    if alone:
        hot.build.graph.remove(node, safe=True)


def is_read(value: ir.Value) -> bool:
    """By a node or by the caller."""
    return bool(value.uses()) or value.is_graph_output()


def sizes(value: ir.Value) -> list[int]:
    """Its shape."""
    return [int(d) for d in value.shape]
