"""A method of a program: its instructions one after the other, in memory as it was planned.

    memory 1      of the method: values that are done with make room for others, as on the device
    memory 2, ..  of all methods: caches, which lie at the same place for each

So a plan that gives two living values one place is seen here, and so is a cache that a delegate
has taken a copy of for itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from edgevlm.runtimes.executorch.evaluate.file import (
    Call,
    Delegate,
    Indices,
    Plan,
    ProgramFile,
    TensorSpec,
)
from edgevlm.runtimes.executorch.evaluate.kernels import Unknown, kernel
from edgevlm.runtimes.executorch.flatbuffer import BadFlatbuffer

__all__ = ["SHARED", "Method", "Payload", "shared_memory"]

#: arenas from here on are those of all methods (MemoryPlanningPass(share_mutable_buffers=True))
SHARED = 2
ET_VIEW = "executorch_prim::et_view.default"
#: torch's ScalarType -> dtype
DTYPES = {
    0: torch.uint8,
    1: torch.int8,
    2: torch.int16,
    3: torch.int32,
    4: torch.int64,
    5: torch.float16,
    6: torch.float32,
    7: torch.float64,
    11: torch.bool,
    15: torch.bfloat16,
}
#: what a delegate's payload computes: tensors in, tensors out
Payload = Callable[[Sequence[Tensor]], Sequence[Tensor]]


def shared_memory(plans: Sequence[Plan]) -> dict[int, Tensor]:
    """Arenas of all methods, zeros."""
    sizes: dict[int, int] = {}
    for plan in plans:
        for number, size in enumerate(plan.memory):
            if number >= SHARED:
                sizes[number] = max(size, sizes.get(number, 0))
    return {number: torch.zeros(size, dtype=torch.uint8) for number, size in sizes.items()}


class Method:
    """inputs: shapes. Raises ValueError (a broken plan), Unknown (an op that is not listed)."""

    def __init__(
        self,
        file: ProgramFile,
        plan: Plan,
        shared: dict[int, Tensor],
        opened: Callable[[Delegate], tuple[int, Payload]],
    ) -> None:
        """opened: of a delegate, how many tensors it takes and what it computes."""
        self.plan = plan
        self._arenas = dict(shared)
        if len(plan.memory) > 1:
            self._arenas[1] = torch.zeros(plan.memory[1], dtype=torch.uint8)
        self._values = [self._held(file, value) for value in plan.values]
        self._delegates = [opened(each) for each in plan.delegates]
        self._steps = [self._step(call) for call in plan.calls]
        self.inputs = [tuple(self._value(i).shape) for i in plan.inputs]

    def __call__(self, given: Sequence[Tensor]) -> list[Tensor]:
        """Copies of its outputs."""
        if len(given) != len(self.plan.inputs):
            raise ValueError(f"it takes {len(self.plan.inputs)} tensors, not {len(given)}")
        with torch.inference_mode():
            for at, tensor in zip(self.plan.inputs, given, strict=True):
                _copy(self._value(at), tensor)
            for step in self._steps:
                step()
            return [self._value(at).clone() for at in self.plan.outputs]

    def _step(self, call: Call) -> Callable[[], None]:
        args = call.args
        for at in args:
            self._known(at)
        if call.does == "move":
            return lambda: self._values.__setitem__(args[1], self._value(args[0]))
        if call.does == ET_VIEW:
            return lambda: self._view(args)
        if isinstance(call.does, str):
            run = kernel(call.does)
            return lambda: run([self._value(at) for at in args])
        if not 0 <= call.does < len(self._delegates):
            raise BadFlatbuffer(f"an instruction calls delegate {call.does}")
        takes, payload = self._delegates[call.does]
        if takes > len(args):
            raise BadFlatbuffer(f"a delegate takes {takes} tensors and is given {len(args)}")
        return lambda: self._delegate(takes, payload, args)

    def _delegate(self, takes: int, payload: Payload, args: Sequence[int]) -> None:
        made = payload([self._value(at) for at in args[:takes]])
        # outputs go where they are planned when all of it has run: inputs may lie there
        for at, tensor in zip(args[takes:], made, strict=True):
            _copy(self._value(at), tensor)

    def _view(self, args: Sequence[int]) -> None:
        """The same memory in another shape."""
        self._values[args[2]] = self._value(args[0]).reshape(self._value(args[1]))

    def _known(self, at: int) -> None:
        if not 0 <= at < len(self._values):
            raise BadFlatbuffer(f"no value {at}")

    def _value(self, at: int) -> Any:
        self._known(at)
        value = self._values[at]
        if isinstance(value, Indices):
            return [None if i < 0 else self._element(i) for i in value.items]
        if isinstance(value, TensorSpec):
            raise BadFlatbuffer(f"value {at} has no memory, and nothing has been put there")
        return value

    def _element(self, at: int) -> Any:
        self._known(at)
        if isinstance(self._values[at], Indices):
            raise BadFlatbuffer(f"value {at} is a list in a list")
        return self._value(at)

    def _held(self, file: ProgramFile, value: Any) -> Any:
        """A tensor in its memory; what has none yet stays a spec."""
        if not isinstance(value, TensorSpec):
            return value
        if value.scalar not in DTYPES:
            raise Unknown(f"numbers of type {value.scalar}")
        dtype = DTYPES[value.scalar]
        size = math.prod(value.sizes) * dtype.itemsize
        if value.memory is None:
            if not value.buffer:
                return value
            data = bytearray(file.constant(value, size))
            return _laid(torch.frombuffer(data, dtype=torch.uint8) if size else EMPTY, dtype, value)
        number, offset = value.memory
        arena = self._arenas.get(number, EMPTY)
        if offset + size > len(arena):
            raise BadFlatbuffer(f"a tensor lies outside memory {number}")
        held = _laid(arena[offset : offset + size], dtype, value)
        if value.buffer:  # the state that it begins with
            first = torch.frombuffer(bytearray(file.constant(value, size)), dtype=torch.uint8)
            arena[offset : offset + size] = first
        return held


EMPTY = torch.zeros(0, dtype=torch.uint8)


def _laid(data: Tensor, dtype: torch.dtype, spec: TensorSpec) -> Tensor:
    """Bytes as a tensor; `order`: its axes from the outermost in memory to the innermost."""
    inner = data.view(dtype).view([spec.sizes[axis] for axis in spec.order])
    return inner.permute([spec.order.index(axis) for axis in range(len(spec.sizes))])


def _copy(held: Tensor, tensor: Tensor) -> None:
    if held.shape != tensor.shape:
        raise ValueError(f"{list(tensor.shape)} does not go into {list(held.shape)}")
    held.copy_(tensor)
