"""The payload of a Vulkan delegate: a chain of ops over numbered values, read and run in torch.

    [header "VH00": where the rest lies] [flatbuffer "VK00"] [constants that are not named]

Schema: backends/vulkan/serialization/schema.fbs of executorch 1.5.1. Constants are named data of
the program, so that methods share them. How tensors lie on the GPU (storage, layout) is left out:
it changes no number here, and there it is Vulkan's to get right.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from edgevlm.runtimes.executorch.evaluate.kernels import Unknown
from edgevlm.runtimes.executorch.evaluate.method import Payload
from edgevlm.runtimes.executorch.evaluate.vulkan_ops import vulkan_op
from edgevlm.runtimes.executorch.flatbuffer import BadFlatbuffer, Table, root

__all__ = ["VulkanGraph", "graph_of", "opened"]

HEADER = struct.Struct("<4xHIIIQ")  # behind the magic: length, graph at, bytes, constants at, bytes
MAGIC, IDENTIFIER = b"VH00", b"VK00"
NAMED = 2**64 - 1
MOST_VALUES = 1_000_000
DTYPES = {
    0: torch.bool,
    1: torch.uint8,
    2: torch.int8,
    3: torch.int32,
    4: torch.float16,
    5: torch.float32,
    6: torch.float64,
    7: torch.int64,
}


class Spec(NamedTuple):
    """A tensor: constant: its place in the list of constants, or negative."""

    dtype: torch.dtype
    dims: tuple[int, ...]
    constant: int


class Values(NamedTuple):
    """A list of values by their numbers."""

    items: tuple[int, ...]


class Op(NamedTuple):
    name: str
    args: tuple[int, ...]


@dataclass(frozen=True)
class VulkanGraph:
    """`constants`: bytes by the number of the value that holds them."""

    ops: tuple[Op, ...]
    values: tuple[Any, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    constants: Mapping[int, bytes]

    @property
    def takes(self) -> int:
        return len(self.inputs)


def graph_of(payload: bytes, named: Mapping[str, bytes]) -> VulkanGraph:
    """named: constants of the program, by key. Raises ValueError."""
    if payload[4:8] != MAGIC or len(payload) < 30:
        raise BadFlatbuffer("it does not begin as a payload of Vulkan")
    _, at, size, rest_at, rest_size = HEADER.unpack_from(payload, 4)
    if at + size > len(payload) or rest_at + rest_size > len(payload):
        raise BadFlatbuffer("a payload of Vulkan is cut off")
    table = root(payload[at : at + size], IDENTIFIER)
    if table.count(2) > MOST_VALUES:
        raise BadFlatbuffer(f"more than {MOST_VALUES} values")
    values = tuple(_value(each) for each in table.tables(2))
    rest = payload[rest_at : rest_at + rest_size]
    data = [_constant(each, rest, named) for each in table.tables(5)]
    held = {}
    for number, value in enumerate(values):
        if isinstance(value, Spec) and value.constant >= 0:
            if value.constant >= len(data):
                raise BadFlatbuffer(f"no constant {value.constant}")
            held[number] = data[value.constant]
    ops = tuple(Op(each.text(1) or "", each.numbers(2, "i")) for each in table.tables(1))
    graph = VulkanGraph(ops, values, table.numbers(3, "I"), table.numbers(4, "I"), held)
    for number in (*graph.inputs, *graph.outputs, *(i for op in ops for i in op.args)):
        if not 0 <= number < len(values):
            raise BadFlatbuffer(f"no value {number}")
    return graph


def opened(payload: bytes, named: Mapping[str, bytes]) -> tuple[int, Payload]:
    """How many tensors it takes, and what it computes. Raises ValueError, Unknown."""
    graph = graph_of(payload, named)
    constants = {n: _tensor(graph.values[n], data) for n, data in graph.constants.items()}
    steps = [(_step(graph, op)) for op in graph.ops]

    def run(given: Sequence[Tensor]) -> list[Tensor]:
        found: dict[int, Tensor] = dict(constants)
        for number, tensor in zip(graph.inputs, given, strict=True):
            spec = graph.values[number]
            if tuple(tensor.shape) != spec.dims:
                raise ValueError(f"a delegate takes {list(spec.dims)}, not {list(tensor.shape)}")
            found[number] = tensor.to(spec.dtype)
        for step in steps:
            step(found)
        return [_found(found, number) for number in graph.outputs]

    return graph.takes, run


def _step(graph: VulkanGraph, op: Op) -> Callable[[dict[int, Tensor]], None]:
    compute = vulkan_op(op.name)
    *args, result = op.args
    results = graph.values[result]
    outs = results.items if isinstance(results, Values) else (result,)

    def step(found: dict[int, Tensor]) -> None:
        made = compute([_given(graph, found, number) for number in args])
        for number, tensor in zip(outs, made if isinstance(made, tuple) else (made,), strict=False):
            spec = graph.values[number]
            if not isinstance(spec, Spec) or tuple(tensor.shape) != spec.dims:
                raise ValueError(f"{op.name} gives {list(tensor.shape)}, its graph says {spec}")
            found[number] = tensor.to(spec.dtype)

    return step


def _given(graph: VulkanGraph, found: Mapping[int, Tensor], number: int) -> Any:
    value = graph.values[number]
    if isinstance(value, Spec):
        return _found(found, number)
    if isinstance(value, Values):
        if any(isinstance(graph.values[i], Values) for i in value.items):
            raise BadFlatbuffer(f"value {number} is a list of lists")
        return [_given(graph, found, i) for i in value.items]
    return value


def _found(found: Mapping[int, Tensor], number: int) -> Tensor:
    if number not in found:
        raise BadFlatbuffer(f"value {number} is used before it is made")
    return found[number]


def _tensor(spec: Spec, data: bytes) -> Tensor:
    if len(data) != math.prod(spec.dims) * spec.dtype.itemsize:
        raise BadFlatbuffer(f"{len(data)} bytes are no {list(spec.dims)} of {spec.dtype}")
    if not data:
        return torch.zeros(spec.dims, dtype=spec.dtype)
    return torch.frombuffer(bytearray(data), dtype=spec.dtype).view(spec.dims)


def _constant(table: Table, rest: bytes, named: Mapping[str, bytes]) -> bytes:
    offset, length, key = table.number(0, "Q"), table.number(1, "Q"), table.text(2)
    if offset == NAMED:
        if key not in named:
            raise BadFlatbuffer(f"no constant {key!r:.80}")
        data = named[key]
    else:
        data = rest[offset : offset + length]
    if len(data) < length:
        raise BadFlatbuffer(f"a constant of {length} bytes is cut off")
    return data[:length]


def _value(table: Table) -> Any:
    kind, made = table.number(0, "B"), table.table(1)
    if made is None or kind in (0, 1):
        return None
    match kind:  # GraphTypes of the schema, by number
        case 2:
            return made.number(0, "q")
        case 3:
            return made.number(0, "d")
        case 4:
            return bool(made.number(0, "B"))
        case 5:
            return _spec(made)
        case 6:
            return list(made.numbers(0, "q"))
        case 7:
            return list(made.numbers(0, "d"))
        case 8:
            return [bool(each) for each in made.numbers(0, "B")]
        case 9:
            return Values(made.numbers(0, "i"))
        case 10:
            return made.text(0) or ""
    raise Unknown(f"a value of kind {kind} in a payload of Vulkan")


def _spec(table: Table) -> Spec:
    kind = table.number(0, "b")
    if kind not in DTYPES:
        raise Unknown(f"numbers of type {kind} in a payload of Vulkan")
    return Spec(DTYPES[kind], table.numbers(1, "I"), table.number(2, "i"))
