"""Multiplications of an op, from the shapes that the program declares."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgevlm.runtimes.coreml.mil_functions import Function, Op
from edgevlm.runtimes.coreml.mil_types import TensorType

__all__ = ["macs_of"]

Shapes = Mapping[str, tuple[int, ...]]


def macs_of(function: Function, op: Op) -> int:
    """0 for ops without products, and where a size is known to a run only."""
    count = MACS.get(op.type)
    if count is None:
        return 0
    shapes = {}
    for name, arguments in op.takes.items():
        types = [function.types.get(a) if isinstance(a, str) else None for a in arguments]
        shapes[name] = _static(types[0]) if types and types[0] is not None else None
        if name == "values":  # of einsum
            shapes.update((f"values{i}", _static(t)) for i, t in enumerate(types) if t is not None)
    shapes["out"] = _static(op.gives[0][1]) if op.gives and op.gives[0][1] else None
    try:
        return count({name: shape for name, shape in shapes.items() if shape is not None})
    except (KeyError, IndexError, ZeroDivisionError):
        return 0


def _static(type_: TensorType) -> tuple[int, ...] | None:
    return None if None in type_.shape else tuple(n for n in type_.shape if n is not None)


def _size(shape: tuple[int, ...]) -> int:
    total = 1
    for n in shape:
        total *= n
    return total


def _linear(s: Shapes) -> int:
    return _size(s["out"]) * s["weight"][1]


def _matmul(s: Shapes) -> int:
    """x [.., i, k] or [.., k, i]: what is neither of the batch nor of the result is summed."""
    rows = s["out"][-2] if len(s["out"]) > 1 else 1
    return _size(s["out"]) * (_size(s["x"][-2:]) // rows)


def _conv(s: Shapes) -> int:
    return _size(s["out"]) * _size(s["weight"][1:])


def _conv_transpose(s: Shapes) -> int:
    return _size(s["x"]) * _size(s["weight"][1:])


def _einsum(s: Shapes) -> int:
    """The only forms that MIL has: [.., c, h, k] with [.., k, h, u]."""
    return _size(s["out"]) * s["values0"][-1]


def _attention(s: Shapes) -> int:
    *batch, rows, width = s["query"]
    keys, out = s["key"][-2], s["value"][-1]
    return _size(tuple(batch)) * rows * keys * (width + out)


MACS: dict[str, Callable[[Shapes], int]] = {
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "einsum": _einsum,
    "linear": _linear,
    "matmul": _matmul,
    "scaled_dot_product_attention": _attention,
}
