"""What every rule needs: attributes, constant inputs and the meeting of dimensions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.axes.axis import Term, fail, size_of, unify

if TYPE_CHECKING:
    from edgevlm.compiler.axes.analysis import Analysis, Dims

__all__ = ["Rule", "attribute", "constant", "inputs", "meet", "normal_axis", "sizes"]

Rule = Callable[["Analysis", ir.Node], "list[Dims]"]


def attribute(node: ir.Node, name: str, default: Any = None) -> Any:
    """An attribute's value, or `default` where the node leaves it out."""
    found = node.attributes.get(name)
    return default if found is None else found.value


def constant(node: ir.Node, position: int) -> np.ndarray | None:
    """A constant input as an array; None if absent. Raises EV211 if it is computed at run time."""
    value = node.inputs[position] if position < len(node.inputs) else None
    if value is None:
        return None
    if value.const_value is None:
        raise fail(
            str(node.name),
            f"input {position} ({value.name}) of {node.op_type} is computed "
            "at run time; a static graph needs a constant there",
        )
    return value.const_value.numpy()


def inputs(found: Analysis, node: ir.Node) -> list[Dims]:
    """Terms of all present inputs."""
    dims = (found.input(node, i) for i in range(len(node.inputs)))
    return [d for d in dims if d is not None]


def meet(node: ir.Node, operands: Sequence[Dims]) -> Dims:
    """Numpy broadcasting: right-aligned dimensions are one axis, a dimension of 1 stretches."""
    rank = max(len(d) for d in operands)
    out: Dims = []
    for place in range(rank):
        here: list[Term] = []
        for dims in operands:
            at = place - (rank - len(dims))
            if at >= 0 and size_of(dims[at]) != 1:
                here.append(dims[at])
        for other in here[1:]:
            unify(here[0], other, str(node.name))
        out.append(here[0] if here else ())
    return out


def normal_axis(axis: int, rank: int) -> int:
    return axis + rank if axis < 0 else axis


def sizes(dims: Sequence[Term]) -> np.ndarray:
    """The shape that terms stand for, int64."""
    return np.array([size_of(term) for term in dims], np.int64)
