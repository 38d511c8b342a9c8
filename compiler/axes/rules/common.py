"""What every rule needs: names, attributes, constant inputs, windows, the meeting of dimensions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.axes.axis import Term, expand, fail, fresh_term, pin, size_of
from edgevlm.compiler.axes.equations import unify

if TYPE_CHECKING:
    from edgevlm.compiler.axes.analysis import Analysis, Dims

__all__ = [
    "Rule",
    "attribute",
    "constant",
    "inputs",
    "is_constant",
    "is_stored",
    "meet",
    "normal_axis",
    "sizes",
    "static_shape",
    "who",
    "windows",
]

Rule = Callable[["Analysis", ir.Node], "list[Dims]"]


def who(node: ir.Node) -> str:
    """A node as messages name it; exporters may leave the name out."""
    return node.name or f"{node.op_type} -> {node.outputs[0].name}"


def attribute(node: ir.Node, name: str, default: Any = None) -> Any:
    """An attribute's value, or `default` where the node leaves it out."""
    found = node.attributes.get(name)
    return default if found is None else found.value


def is_constant(value: ir.Value) -> bool:
    """Whether a value is an initializer."""
    return value.const_value is not None and value.producer() is None


def is_stored(value: ir.Value) -> bool:
    """Whether a value is known when compiling: an initializer, or computed from nothing else."""
    waiting, seen = [value], {value}
    while waiting:
        value = waiting.pop()
        node = value.producer()
        if node is None and not is_constant(value):
            return False
        more = {v for v in node.inputs if v is not None} - seen if node is not None else set()
        seen |= more
        waiting.extend(more)
    return True


def constant(node: ir.Node, position: int) -> np.ndarray | None:
    """A constant input as an array; None if absent. Raises EV211 if it is computed at run time."""
    value = node.inputs[position] if position < len(node.inputs) else None
    if value is None:
        return None
    if value.const_value is None:
        raise fail(
            who(node),
            f"input {position} ({value.name}) of {node.op_type} is computed "
            "at run time; a static graph needs a constant there",
        )
    return value.const_value.numpy()


def static_shape(value: ir.Value) -> tuple[int, ...]:
    """The shape as integers. Raises EV211 where a dimension is unknown or empty."""
    dims = list(value.shape) if value.shape is not None else [None]
    producer = value.producer()
    name = str(value.name) if producer is None else f"{who(producer)} (output {value.name})"
    if not all(isinstance(d, int) for d in dims):
        raise fail(name, f"its shape {value.shape} is not static")
    if 0 in dims:
        raise fail(name, f"its shape {dims} has no elements")
    return tuple(int(d) for d in dims)


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
            unify(here[0], other, who(node))
        out.append(here[0] if here else ())
    return out


def windows(
    node: ir.Node, inside: list[Term], kernel: Sequence[int], window: Sequence[Term] | None = None
) -> list[Term]:
    """Spatial axes of the output. A window of one pixel passes its axis on; a wider one makes a new
    axis, and from then on both must keep their sizes.

    window: its own axes, of a convolution. Where its windows lie side by side and fill the axis
    (patches), the axis is the product of patches and pixels in one, and as many patches may go.
    """
    rank = len(inside)
    strides = attribute(node, "strides", [1] * rank)
    pads = attribute(node, "pads", [0] * 2 * rank)
    dilations = attribute(node, "dilations", [1] * rank)
    sizes_out = static_shape(node.outputs[0])[2:]
    out: list[Term] = []
    for i, (term, size) in enumerate(zip(inside, sizes_out, strict=True)):
        if (kernel[i], strides[i], pads[i], pads[i + rank], size_of(term)) == (1, 1, 0, 0, size):
            out.append(term)
            continue
        new = fresh_term(size, who(node))
        side_by_side = (kernel[i], 0, 0, 1, size * kernel[i]) == (
            strides[i], pads[i], pads[i + rank], dilations[i], size_of(term),
        )  # fmt: skip
        whole = all(atom.summands is None for atom in expand(term))
        if window is not None and side_by_side and whole:
            unify(term, (*new, *window[i]), who(node))
            for patch in expand(new):
                patch.label = None  # a patch is no pixel: what it becomes gives it its name
        else:
            for pinned in (term, new):
                pin(pinned, who(node), "a window slides over it")
        out.append(new)
    return out


def normal_axis(axis: int, rank: int) -> int:
    return axis + rank if axis < 0 else axis


def sizes(dims: Sequence[Term]) -> np.ndarray:
    """The shape that terms stand for, int64."""
    return np.array([size_of(term) for term in dims], np.int64)
