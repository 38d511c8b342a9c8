"""What every op needs to know of its node: attributes, constants, static shapes, refusals.

An op of the table takes an `OpNode` once and returns what runs: a function of the tensors that the
node is given, in ONNX's order, None for an absent one. What it reads as a constant here (a shape,
an axis) is a Python number from then on and handed over as None, so that the list of calls is
static. An op that returns a tensor in place of a function is a constant altogether.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx_ir as ir
from torch import Tensor

from edgevlm.compiler.to_torch.dialect import Dialect

__all__ = ["Maker", "OpNode", "Refused", "Run", "plain"]

Run = Callable[..., "Tensor | tuple[Tensor, ...]"]
Maker = Callable[["OpNode"], "Run | Tensor"]


class Refused(Exception):
    """An op, or a form of it, that has no counterpart here; the text says why."""


class OpNode:
    """A node while its call is made. `constants`: by value; those read here join `read`."""

    def __init__(
        self,
        node: ir.Node,
        constants: Callable[[ir.Value], Tensor | None],
        dialect: Dialect,
    ) -> None:
        self.node, self._constants, self.dialect = node, constants, dialect
        self.read: set[int] = set()

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute; its default is the one of the ONNX specification."""
        attribute = self.node.attributes.get(name)
        if attribute is None or attribute.value is None:
            return default
        if attribute.type is ir.AttributeType.INTS:
            return [int(n) for n in attribute.value]
        return attribute.value

    def has(self, position: int) -> bool:
        return self.value(position) is not None

    def value(self, position: int) -> ir.Value | None:
        return self.node.inputs[position] if position < len(self.node.inputs) else None

    def shape(self, position: int) -> list[int]:
        """Of an input. Raises Refused where it is not static."""
        shape = self.value(position).shape
        if shape is None or not all(isinstance(d, int) for d in shape):
            raise Refused(f"the shape of its input {position} is not static")
        return [int(d) for d in shape]

    def dtype(self, position: int) -> ir.DataType | None:
        value = self.value(position)
        return value.dtype if value is not None else None

    def peek(self, position: int) -> Tensor | None:
        """A constant input, which is handed over all the same; None for one that is computed."""
        return self._constants(self.value(position))

    def constant(self, position: int) -> Tensor:
        """A constant input. Raises Refused where it is computed at run time."""
        found = self.peek(position)
        if found is None:
            raise Refused(f"its input {position} is computed at run time, and must be a constant")
        self.read.add(position)
        return found

    def ints(self, position: int) -> list[int]:
        return [int(n) for n in self.constant(position).reshape(-1).tolist()]

    def first_output_only(self) -> None:
        """Raises Refused where somebody reads another one."""
        for value in self.node.outputs[1:]:
            if value.uses() or value.is_graph_output():
                raise Refused(f"its output {value.name!r} is read, and only the first is computed")

    def refuse(self, **plain_values: Any) -> None:
        """Raises Refused for an attribute that is other than what is given here, its default."""
        for name, default in plain_values.items():
            if (found := self.get(name, default)) != default:
                raise Refused(f"{name} = {found!r} is not supported, only {default!r}")


def plain(run: Run) -> Maker:
    """An op without attributes."""
    return lambda node: run
