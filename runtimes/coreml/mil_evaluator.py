"""MilProgram: what was emitted, run where Core ML is not.

    program = MilProgram("model.mlpackage")
    program.functions["decode"].inputs           {"token": int32[1,1], ...}
    state = program.new_state()
    program.call("prefill", {"x": ...}, state)   -> {"logits": array}; the state is written
    state["k_cache"]

It reads the protobuf and the weights file of the package, and nothing from what the converter had
in memory: graph, constants, compression of weights, states and sharing between functions are all
proven by the numbers that come out. What it does not prove is how one device rounds: values are
stored in the types of the program with float32 accumulators, which is what Core ML's CPU and
Neural Engine are believed to do, and no device is bit-exact to it.

`rounding="float32"` stores nothing in float16, so that what remains of a difference is no rounding.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.extras import torch_extra
from edgevlm.runtimes.coreml.mil_functions import Function, read_functions
from edgevlm.runtimes.coreml.mil_types import TensorType
from edgevlm.runtimes.coreml.mlpackage import broken, open_mlpackage

with torch_extra("the evaluator of Core ML programs computes in torch"):
    import torch
    from torch import Tensor

    from edgevlm.runtimes.coreml.constants import Constants, held
    from edgevlm.runtimes.coreml.mil_plan import Plan, Planner, compute
    from edgevlm.runtimes.coreml.mil_state import MilState
    from edgevlm.runtimes.coreml.stored import Rounding, round_to

__all__ = ["MilProgram", "MilState"]


class MilProgram:
    """A .mlpackage, opened. functions: inputs, states and outputs of each, by name."""

    def __init__(self, folder: Path | str, rounding: Rounding = "stored") -> None:
        """Raises EV302 (no coremltools), EV190 (no torch), EV304 (a broken package)."""
        package = open_mlpackage(folder)
        self.folder = package.folder
        self.functions: dict[str, Function] = read_functions(package)
        self._rounding: Rounding = rounding
        self._planner = Planner(package.folder, Constants(package), rounding)
        self._plans: dict[str, Plan] = {}
        self.states = self._one_type_each()
        held = sum(p.stat().st_size for p in package.beside.rglob("*.bin") if p.is_file())
        self._threads = 1 if held < SHARED_BYTES else torch.get_num_threads()

    def check(self) -> None:
        """Opens every function to its last constant. Raises EV303, EV304."""
        for name in self.functions:
            self._plan(name)

    def new_state(self) -> MilState:
        """Zeros, for all functions together."""
        return MilState(self.states)

    def call(
        self,
        function: str,
        feeds: Mapping[str, np.ndarray],
        state: MilState | None = None,
        also: Collection[str] = (),
    ) -> dict[str, np.ndarray]:
        """Outputs by name, in the types of the program, and the values named in `also`.

        Raises EV303 (an op that is not known), EV304 (a broken program), EV307 (it failed).
        """
        plan = self._plan(function)
        values = self._taken(plan.function, feeds)
        if plan.function.states:
            if state is None:
                raise self._unfit(function, "it has states, and none was given: new_state()")
            values.update((name, state.cell(name)) for name in plan.function.states)
        wanted = dict.fromkeys((*plan.function.outputs, *also))
        with torch.inference_mode(), _threads(self._threads):
            for step in plan.steps:
                made = compute(plan.function, step, values, self._rounding)
                values.update(zip((name for name, _ in step.op.gives), made, strict=True))
                for name in step.done_with:
                    if name not in wanted:
                        del values[name]
        found = plan.constants | values
        if missing := [name for name in wanted if name not in found]:
            raise self._unfit(function, f"no op gives {missing[0]!r}")
        types = plan.function.types
        return {name: _array(found[name], types[name]) for name in wanted}

    def _plan(self, function: str) -> Plan:
        if function not in self.functions:
            raise self._unfit(function, f"it has {', '.join(self.functions)}")
        if function not in self._plans:
            self._plans[function] = self._planner.plan(self.functions[function])
        return self._plans[function]

    def _taken(self, function: Function, feeds: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Feeds as they are held: of the right names and shapes, rounded to the right types."""
        if set(feeds) != set(function.inputs):
            want, got = sorted(function.inputs), sorted(feeds)
            raise self._unfit(function.name, f"its inputs are {want}, not {got}")
        values = {}
        for name, type_ in function.inputs.items():
            array = np.asarray(feeds[name])
            fits = len(array.shape) == len(type_.shape) and all(
                want in (None, size) for want, size in zip(type_.shape, array.shape, strict=True)
            )
            if not fits or array.dtype.kind not in KINDS[type_.dtype.kind]:
                said = f"{array.dtype}{list(array.shape)}"
                raise self._unfit(function.name, f"input {name} is {type_}, not {said}")
            values[name] = round_to(held(array, type_), type_, self._rounding)
        return values

    def _one_type_each(self) -> dict[str, TensorType]:
        """The states of all functions, which agree about those that they share. Raises EV304."""
        found: dict[str, TensorType] = {}
        for function in self.functions.values():
            for name, type_ in function.states.items():
                if found.setdefault(name, type_) != type_ or type_.elements is None:
                    why = f"state {name} is {found[name]} and, in {function.name}, {type_}"
                    raise broken(self.folder, why)
        return found

    def _unfit(self, function: str, why: str) -> JobFault:
        return JobFault(
            "EV307",
            f"function {function} of {self.folder.name} cannot be run",
            why,
            "compile it again; `edgevlm verify BUNDLE` names files that were changed",
        )


#: of weights from which a second thread pays; below, threads wait for each other at every op
SHARED_BYTES = 64 << 20


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


#: kind of MIL type -> kinds of numpy that are taken for it
KINDS = {"float": "f", "int": "iu", "bool": "b", "string": ""}


def _array(value: Tensor, type_: TensorType) -> np.ndarray:
    return value.numpy().astype(type_.dtype.numpy)
