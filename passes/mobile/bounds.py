"""What a number can be, from the graph alone: the least and the greatest, and that it is a number.

    TopK(x, k) on N rows -> places 0 to N-1          Add(places, start 0 to T) -> 0 to N-1+T
    Clip(Where(IsNaN(x), a, x), a, b) -> a to b, and no NaN, whatever x is

None where nothing is known: then it may be NaN, and an integer of any size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.axes.rules.common import attribute
from edgevlm.compiler.contract import Contract
from edgevlm.passes.mobile.moves import known_shape

__all__ = ["Bounds", "Range", "ranges_of_ports"]

Range = tuple[float, float]
LARGEST = {ir.DataType.FLOAT16: 65504.0, ir.DataType.FLOAT: 3e38}  # beyond it may be infinite
#: give numbers of their first input; TopK's values among them
PASS_ON = frozenset(
    {"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Transpose", "Expand", "Slice"}
    | {"Split", "Gather", "GatherElements", "GatherND", "TopK", "ReduceMax", "ReduceMin", "Tile"}
)
SEARCHED = 2**20  # elements of a constant that are looked at
FAR = 64  # nodes behind a value that are looked at, one behind the other; a stream is longer


def ranges_of_ports(contract: Contract, role: str) -> dict[str, Range]:
    """Of the integer inputs of a part."""
    rows = contract.prefill_length
    last = contract.image_tokens + contract.prompt_capacity + contract.kv_capacity
    known = {
        "position_ids": (0, last),
        "last_index": (0, rows - 1),
        "image_start": (0, rows - 1),
        "input_ids": (0, contract.vocabulary - 1),
    }
    return {p.name: known[p.name] for p in contract.inputs(role) if p.name in known}


class Bounds:
    """`of(value)`, remembered."""

    def __init__(self, ports: Mapping[str, Range]) -> None:
        self.ports = ports
        self._known: dict[ir.Value, Range | None] = {}
        self._deep = 0

    def of(self, value: ir.Value) -> Range | None:
        if value in self._known:
            return self._known[value]
        if self._deep == FAR:
            return None
        self._deep += 1
        self._known[value] = found = _held(self._found(value), value)
        self._deep -= 1
        return found

    def learn(self, new: ir.Value, old: ir.Value) -> None:
        """`new` holds numbers of `old`."""
        if (found := self.of(old)) is not None:
            self._known[new] = found

    def _found(self, value: ir.Value) -> Range | None:
        if value.const_value is not None:
            return _of_constant(value)
        if value.dtype == ir.DataType.BOOL:
            return 0, 1
        node = value.producer()
        if node is None:
            return self.ports.get(str(value.name)) or _of_type(value)
        if node.op_type in ("ArgMax", "ArgMin") or (node.op_type, value.index()) == ("TopK", 1):
            axis = attribute(node, "axis", -1 if node.op_type == "TopK" else 0)
            return (0, int(node.inputs[0].shape[axis]) - 1) if known_shape(node.inputs[0]) else None
        if node.op_type == "Where" and _is_cleaned(node):
            return -math.inf, math.inf
        rule = RULES.get(node.op_type)
        given = [self.of(v) for v in node.inputs if v is not None] if rule else []
        found = rule(node, given) if rule else None
        return found if found is not None and not any(map(math.isnan, found)) else _of_type(value)


def _held(found: Range | None, value: ir.Value) -> Range | None:
    """Beyond what its type has, a float is infinite and an integer anything."""
    if found is None or value.dtype is None:
        return None
    low, high = found
    if value.dtype.is_floating_point():
        most = LARGEST.get(value.dtype, 0.0)
        return (low if low >= -most else -math.inf), (high if high <= most else math.inf)
    return found if max(-low, high) < 2**62 else None


def _of_constant(value: ir.Value) -> Range | None:
    if value.dtype.is_string() or not 0 < value.const_value.size <= SEARCHED:
        return None
    array = value.const_value.numpy().astype(np.float64)
    return None if np.isnan(array).any() else (float(array.min()), float(array.max()))


def _of_type(value: ir.Value) -> Range | None:
    """Of a narrow integer its type says enough."""
    if value.dtype in (ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT16, ir.DataType.UINT16):
        info = np.iinfo(value.dtype.numpy())
        return int(info.min), int(info.max)
    return None


def _is_cleaned(node: ir.Node) -> bool:
    """Where(IsNaN(x), number, x)."""
    asked, number, x = node.inputs
    maker = asked.producer()
    is_number = number.const_value is not None and not np.isnan(number.const_value.numpy()).any()
    return maker is not None and maker.op_type == "IsNaN" and maker.inputs[0] is x and is_number


def _first(node: ir.Node, given: list[Range | None]) -> Range | None:
    return given[0]


def _any_of(node: ir.Node, given: list[Range | None]) -> Range | None:
    """One of the values; the index or the question among the inputs is none."""
    values = given[1:] if node.op_type == "Where" else given
    if node.op_type == "ScatterElements":
        if attribute(node, "reduction", "none") != "none":
            return None
        values = [given[0], given[2]]
    if None in values:
        return None
    return min(low for low, _ in values), max(high for _, high in values)


def _corners(combine: Callable[[float, float], float]) -> Callable[..., Range | None]:
    def rule(node: ir.Node, given: list[Range | None]) -> Range | None:
        if None in given or any(math.isinf(end) for pair in given for end in pair):
            return None  # infinities may cancel, and then it is no number
        a, b = given
        ends = [combine(x, y) for x in a for y in b]
        return min(ends), max(ends)

    return rule


def _divided(node: ir.Node, given: list[Range | None]) -> Range | None:
    if None in given or given[1][0] <= 0 or not node.outputs[0].dtype.is_floating_point():
        return None
    return _corners(lambda x, y: x / y)(node, given)


def _clipped(node: ir.Node, given: list[Range | None]) -> Range | None:
    if None in given:
        return None
    ends = iter(given[1:])
    present = [v is not None for v in (*node.inputs[1:], None, None)[:2]]
    low = next(ends)[0] if present[0] else -math.inf
    high = next(ends)[1] if present[1] else math.inf
    return min(max(given[0][0], low), high), max(min(given[0][1], high), low)


def _summed(node: ir.Node, given: list[Range | None]) -> Range | None:
    if given[0] is None or any(map(math.isinf, given[0])):
        return None  # as in _corners
    if not known_shape(node.inputs[0]) or not known_shape(node.outputs[0]):
        return None
    many = math.prod(node.inputs[0].shape) // math.prod(node.outputs[0].shape)
    return given[0][0] * many, given[0][1] * many


def _cast(node: ir.Node, given: list[Range | None]) -> Range | None:
    if given[0] is None or any(map(math.isinf, given[0])):
        return None
    whole = not node.outputs[0].dtype.is_floating_point()
    return tuple(map(math.trunc, given[0])) if whole else given[0]


def _remainder(node: ir.Node, given: list[Range | None]) -> Range | None:
    divisor = given[1]
    plain = divisor is not None and divisor[0] == divisor[1] > 0 and not attribute(node, "fmod", 0)
    return (0, divisor[0] - 1) if plain and not node.outputs[0].dtype.is_floating_point() else None


RULES: dict[str, Callable[[ir.Node, list[Range | None]], Range | None]] = {
    **dict.fromkeys(PASS_ON, _first),
    **dict.fromkeys(["Where", "Concat", "ScatterElements"], _any_of),
    "Max": lambda node, given: None if None in given else tuple(max(e) for e in zip(*given)),  # noqa: B905
    "Min": lambda node, given: None if None in given else tuple(min(e) for e in zip(*given)),  # noqa: B905
    "Add": _corners(lambda x, y: x + y),
    "Sub": _corners(lambda x, y: x - y),
    "Mul": _corners(lambda x, y: x * y),
    "Div": _divided,
    "Neg": lambda node, given: given[0] and (-given[0][1], -given[0][0]),
    "OneHot": lambda node, given: given[2],
    "ReduceSum": _summed,
    "Clip": _clipped,
    "Cast": _cast,
    "Mod": _remainder,
}
