"""A program as it is in the package: functions, their inputs, states and outputs, and their ops.

Nothing is computed and no weight is read; the evaluator and the lint both start here.

    %y = topk(x=%scores, k=%k)[name="topk_0"]     Op("topk", "topk_0", {"x": ("scores",), ...})

An argument is a tuple, since some are lists of values (`values` of concat).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgevlm.runtimes.coreml.mil_types import TensorType, Unreadable, tensor_type
from edgevlm.runtimes.coreml.mlpackage import Mlpackage, broken

__all__ = ["Argument", "Function", "Op", "read_functions"]

#: opset of a function -> iOS version whose meaning its ops have
OPSETS = {"CoreML5": 15, "CoreML6": 16, "CoreML7": 17, "CoreML8": 18, "CoreML9": 26}
MOST_OPS = 1_000_000  # of one function

#: the name of a value, or a constant in place (a Value protobuf)
Argument = Any


@dataclass(frozen=True)
class Op:
    """takes: input -> its arguments. gives: (name, type) of each output; None: a type not known."""

    type: str
    name: str
    takes: Mapping[str, tuple[Argument, ...]]
    gives: tuple[tuple[str, TensorType | None], ...]
    blocks: int = 0


@dataclass(frozen=True)
class Function:
    """types: of every value that has one. constants: name -> Value protobuf."""

    name: str
    ios: int
    inputs: Mapping[str, TensorType]
    states: Mapping[str, TensorType]
    outputs: Mapping[str, TensorType]
    ops: tuple[Op, ...]
    constants: Mapping[str, Any]
    types: Mapping[str, TensorType]


def read_functions(package: Mlpackage) -> dict[str, Function]:
    """By name. Raises EV304 for what is no program."""
    found = {}
    for name, proto in sorted(package.spec.mlProgram.functions.items()):
        try:
            found[name] = _function(name, proto)
        except Unreadable as error:
            raise broken(package.folder, f"function {name}: {error}") from error
    if not found:
        raise broken(package.folder, "its program has no function")
    return found


def _function(name: str, proto: Any) -> Function:
    if proto.opset not in OPSETS or proto.opset not in proto.block_specializations:
        raise Unreadable(f"opset {proto.opset!r:.40}; known are {', '.join(OPSETS)}")
    block = proto.block_specializations[proto.opset]
    if len(block.operations) > MOST_OPS:
        raise Unreadable(f"more than {MOST_OPS} ops")
    inputs, states = {}, {}
    for value in proto.inputs:
        if value.type.WhichOneof("type") == "stateType":
            states[value.name] = tensor_type(value.type.stateType.wrappedType)
        else:
            inputs[value.name] = tensor_type(value.type)
    types, constants, ops = inputs | states, {}, []
    for told in block.operations:
        op = _op(told)
        types.update((given, type_) for given, type_ in op.gives if type_ is not None)
        if op.type == "const":
            constants[op.gives[0][0]] = _value_of(told)
        else:
            ops.append(op)
    if missing := [output for output in block.outputs if output not in types]:
        raise Unreadable(f"output {missing[0]!r:.100} is given by no op")
    outputs = {output: types[output] for output in block.outputs}
    return Function(
        name, OPSETS[proto.opset], inputs, states, outputs, tuple(ops), constants, types
    )


def _op(told: Any) -> Op:
    takes: dict[str, tuple[Argument, ...]] = {
        # in opsets before iOS 18, arguments of constexpr ops are attributes
        name: (value,)
        for name, value in told.attributes.items()
        if name not in ("name", "val")
    }
    for name, argument in told.inputs.items():
        takes[name] = tuple(
            bound.name if bound.WhichOneof("binding") == "name" else bound.value
            for bound in argument.arguments
        )
    gives = tuple((value.name, _type_of(value.type)) for value in told.outputs)
    if told.type == "const" and len(gives) != 1:
        raise Unreadable(f"a constant with {len(gives)} outputs")
    return Op(told.type, _name_of(told), takes, gives, len(told.blocks))


def _type_of(proto: Any) -> TensorType | None:
    """None for lists and dictionaries, which only ops have that are refused by name later."""
    return tensor_type(proto) if proto.WhichOneof("type") == "tensorType" else None


def _name_of(told: Any) -> str:
    if "name" in told.attributes:
        said = told.attributes["name"].immediateValue.tensor.strings.values
        if said:
            return said[0][:200]
    return told.outputs[0].name if told.outputs else told.type


def _value_of(told: Any) -> Any:
    if "val" not in told.attributes:
        raise Unreadable("a constant without a value")
    return told.attributes["val"]
