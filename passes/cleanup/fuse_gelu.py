"""GELU written out becomes one node.

    before: x -> / sqrt 2 -> Erf -> + 1 -> x x -> x 0.5                     after: Gelu(x)
    before: x -> 0.798 (x + 0.0447 x^3) -> Tanh -> + 1 -> x x -> x 0.5      after: Gelu<tanh>(x)

Paper: 1606.08415. What goes into Erf or Tanh is read as a polynomial of x, and the factors in any
order, so all ways in which exporters write it down are one. Constants must be those of GELU to
1e-6. Refused, with a note: other constants, other types than float32, values that somebody else
reads as well. Expected effect: exact to rounding; five to eight nodes become one.
"""

from __future__ import annotations

import math

import onnx_ir as ir

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.passes.cleanup.fuse_pattern import (
    Found,
    Fusion,
    operands,
    produced,
    reader,
    scalar,
)

__all__ = ["FuseGelu"]

NEAR = 1e-6  # relative; constants are stored as float32
#: op -> (coefficients by power of what goes in, the attribute of Gelu)
FORMS = {
    "Erf": ({1: math.sqrt(0.5)}, "none"),
    "Tanh": ({1: math.sqrt(2 / math.pi), 3: 0.044715 * math.sqrt(2 / math.pi)}, "tanh"),
}
MAX_POWER = 3
Polynomial = dict[int, float]


class FuseGelu(Fusion):
    name = "fuse-gelu"
    summary = "GELU written out becomes one node"
    paper = "1606.08415"
    anchors = frozenset(FORMS)
    becomes = "Gelu"

    def match(self, anchor: ir.Node) -> Found | str | None:
        step = reader(anchor.outputs[0])
        if step is None or step[0].op_type != "Add":
            return None
        plus = step[0]
        if scalar(operands(plus, anchor.outputs[0])) != 1:
            return None
        wanted, form = FORMS[anchor.op_type]
        value, factor, inner = plus.outputs[0], 1.0, [anchor, plus]
        x = None
        while not (x is not None and _near(factor, 0.5)):
            step = reader(value)
            node, position = step if step else (None, 0)
            if node is None or node.op_type not in ("Mul", "Div"):
                return None if x is None else f"it is {factor:.6g} x (1 + ...), not half of it"
            inner.append(node)
            other = operands(node, value)
            number = scalar(other)
            if node.op_type == "Div":
                if not number or position:
                    return None
                factor /= number
            elif number is not None:
                factor *= number
            elif x is None:
                given = _inside(anchor.inputs[0], other)
                if given is None:
                    return None
                x, times, nodes, polynomial = given
                factor *= times
                inner += [n for n in nodes if n not in inner]
                if not _equal(polynomial, wanted):
                    shown = {p: float(f"{c:.6g}") for p, c in sorted(polynomial.items())}
                    return f"{anchor.op_type} of {shown} (coefficients by power) is not GELU's"
            else:
                return "it is multiplied by two values"
            value = node.outputs[0]
        if x.dtype is not ir.DataType.FLOAT:
            return f"it works in {x.dtype.name.lower()}"
        if x.shape != value.shape:
            return f"one of its constants makes {list(x.shape)} into {list(value.shape)}"

        def make(build: GraphBuilder) -> ir.Value:
            return build("Gelu", x, approximate=form)

        return Found(value, inner, make)


def _inside(
    argument: ir.Value, other: ir.Value
) -> tuple[ir.Value, float, list[ir.Node], Polynomial] | None:
    """x, how often the product holds it, what goes with it, and what Erf is given, in powers of x.

    The product may be with x itself or with a multiple of it, such as 0.5 x.
    """
    for x, times, nodes in _multiples(other):
        seen: list[ir.Node] = []
        polynomial = _polynomial(argument, x, seen)
        if polynomial is not None:
            return x, times, [*nodes, *seen], polynomial
    return None


def _multiples(value: ir.Value) -> list[tuple[ir.Value, float, list[ir.Node]]]:
    found: list[tuple[ir.Value, float, list[ir.Node]]] = [(value, 1.0, [])]
    node = produced(value, "Mul", "Div")
    if node is not None:
        a, b = node.inputs
        if number := scalar(b):
            found.append((a, number if node.op_type == "Mul" else 1 / number, [node]))
        elif (number := scalar(a)) and node.op_type == "Mul":
            found.append((b, number, [node]))
    return found


def _polynomial(value: ir.Value, x: ir.Value, seen: list[ir.Node]) -> Polynomial | None:
    """A value as a polynomial of x, coefficients by power; None where it is none."""
    if value is x:
        return {1: 1.0}
    if (number := scalar(value)) is not None:
        return {0: number}
    node = produced(value, "Add", "Sub", "Mul", "Div", "Pow")
    if node is None or len(seen) > 16:
        return None
    seen.append(node)
    a, b = (_polynomial(v, x, seen) for v in node.inputs)
    if a is None or b is None:
        return None
    match node.op_type:
        case "Add" | "Sub":
            sign = 1 if node.op_type == "Add" else -1
            return {p: a.get(p, 0.0) + sign * b.get(p, 0.0) for p in a.keys() | b.keys()}
        case "Mul":
            return _product(a, b)
        case "Div":
            return {p: c / b[0] for p, c in a.items()} if set(b) == {0} and b[0] else None
    power = b.get(0) if set(b) == {0} else None
    if power not in (2, 3):
        return None
    return _product(_product(a, a), a if power == 3 else {0: 1.0})


def _product(a: Polynomial | None, b: Polynomial) -> Polynomial | None:
    out: Polynomial = {}
    for p, left in (a or {}).items():
        for q, right in b.items():
            out[p + q] = out.get(p + q, 0.0) + left * right
    return out if a is not None and max(out, default=0) <= MAX_POWER else None


def _equal(a: Polynomial, wanted: Polynomial) -> bool:
    return all(_near(a.get(p, 0.0), wanted.get(p, 0.0)) for p in a.keys() | wanted.keys())


def _near(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=NEAR, abs_tol=1e-9)
