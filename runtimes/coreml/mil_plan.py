"""A function as a list of calls: handlers bound, constants decoded, weights unpacked.

Everything that can be refused before numbers come is refused here, so that a program that this
evaluator does not know fails when it is opened and not in the middle of an answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from edgevlm.compiler.errors import JobFault
from edgevlm.runtimes.coreml.arguments import CONVERT, Computed, Convert, mixed, parameters
from edgevlm.runtimes.coreml.constants import Constants
from edgevlm.runtimes.coreml.mil_functions import Function, Op
from edgevlm.runtimes.coreml.mil_types import TensorType, Unreadable
from edgevlm.runtimes.coreml.mlpackage import broken
from edgevlm.runtimes.coreml.ops import OPS
from edgevlm.runtimes.coreml.ops.forms import Handler, Refused
from edgevlm.runtimes.coreml.stored import Rounding, stored

__all__ = ["Plan", "Planner", "Step", "compute"]


#: what a handler or torch raises for arguments that are not what they should be
WRONG = (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError,
         ValueError)  # fmt: skip


@dataclass(frozen=True)
class Step:
    """fixed: parameters that are known. reads: parameter -> (names, how they are handed over)."""

    op: Op
    run: Handler
    fixed: Mapping[str, Any]
    reads: Mapping[str, tuple[tuple[str, ...], Convert]]
    done_with: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """constants: weights that were unpacked, and outputs that are constants."""

    function: Function
    steps: tuple[Step, ...]
    constants: Mapping[str, Tensor]


class Planner:
    """Plans of one package, which share what is decoded."""

    def __init__(self, folder: Path, constants: Constants, rounding: Rounding) -> None:
        self._folder, self._constants, self._rounding = folder, constants, rounding
        self._unpacked: dict[tuple, tuple[Tensor, ...]] = {}

    def plan(self, function: Function) -> Plan:
        """Raises EV303 for an op or a form that is not known, EV304 for what is no program."""
        unpacked: dict[str, Tensor] = {}
        computed = set(function.inputs)
        taken = computed | set(function.states) | set(function.constants)
        steps = []
        for op in function.ops:
            sources = {
                name: [self._source(function, op, a, unpacked, computed) for a in given]
                for name, given in op.takes.items()
            }
            for name, _ in op.gives:
                if name in taken:
                    raise broken(self._folder, f"{function.name}: {name!r:.100} is given twice")
                taken.add(name)
            names = [name for name, _ in op.gives]
            if op.type.startswith("constexpr_"):
                unpacked.update(zip(names, self._unpack(function, op, sources), strict=True))
            else:
                steps.append(self._step(function, op, sources))
                computed.update(names)
        for name in set(function.outputs) & set(function.constants):
            value = self._decoded(function, name, function.constants[name])
            if isinstance(value, Tensor):
                unpacked[name] = value
        return Plan(function, _freeing(steps, function), unpacked)

    def _step(
        self, function: Function, op: Op, sources: Mapping[str, list[Any]], keep: bool = True
    ) -> Step:
        """A call, its constants decoded. keep: see Constants.tensor."""
        if op.type not in OPS or op.blocks:
            raise _refused(function, op, "the op" if not op.blocks else "ops with blocks of ops")
        run = OPS[op.type]
        wanted = parameters(run)
        fixed: dict[str, Any] = {"ios": function.ios} if "ios" in wanted else {}
        reads = {}
        for name, given in sources.items():
            if name not in wanted or name == "ios":
                raise _refused(function, op, f"an input {name!r:.60}, which it does not know")
            values = [
                self._decoded(function, op.name, source.value, keep)
                if isinstance(source, _Stored)
                else source
                for source in given
            ]
            convert = CONVERT[wanted[name].kind]
            if any(isinstance(value, Computed) for value in values):
                if not all(isinstance(value, Computed) for value in values):
                    convert = mixed(values, convert)
                reads[name] = tuple(v for v in values if isinstance(v, Computed)), convert
            else:
                fixed[name] = _handed(function, op, name, values, convert)
        for name, parameter in wanted.items():
            if parameter.needed and name not in fixed and name not in reads:
                raise _refused(function, op, f"no input {name!r}")
        if op.type == "write_state":
            to, what = (_type_of(function, op.takes[name][0]) for name in ("input", "data"))
            if to != what:
                raise _refused(function, op, f"{what} written into a state {to}")
        return Step(op, run, fixed, reads)

    def _source(
        self,
        function: Function,
        op: Op,
        argument: Any,
        unpacked: Mapping[str, Tensor],
        computed: set[str],
    ) -> Computed | Tensor | _Stored:
        """What an argument is: computed by a run, unpacked already, or stored."""
        if not isinstance(argument, str):
            return _Stored(argument)
        if argument in computed or argument in function.states:
            return Computed(argument)
        if argument in unpacked:
            return unpacked[argument]
        if argument in function.constants:
            return _Stored(function.constants[argument])
        why = f"{function.name}: {op.name} reads {argument!r:.100}, which nothing before it gives"
        raise broken(self._folder, why)

    def _decoded(self, function: Function, of: str, value: Any, keep: bool = True) -> Tensor | str:
        try:
            return self._constants.tensor(value, keep)
        except Unreadable as error:
            raise broken(self._folder, f"{function.name}: a constant of {of}: {error}") from error

    def _unpack(
        self, function: Function, op: Op, sources: Mapping[str, list[Any]]
    ) -> tuple[Tensor, ...]:
        """Once for all functions that name the same stored tensors."""
        if any(isinstance(s, Computed) for given in sources.values() for s in given):
            raise _refused(function, op, "an input that is computed")
        read = ((name, tuple(map(_identity, given))) for name, given in sorted(sources.items()))
        key = (op.type, tuple(type_ for _, type_ in op.gives), *read)
        if key not in self._unpacked:
            step = self._step(function, op, sources, keep=False)
            self._unpacked[key] = compute(function, step, {}, self._rounding)
        return self._unpacked[key]


@dataclass(frozen=True)
class _Stored:
    """A constant that is not decoded yet: a Value protobuf."""

    value: Any


def compute(
    function: Function, step: Step, values: Mapping[str, Any], rounding: Rounding
) -> tuple[Tensor, ...]:
    """One op: its outputs as they are stored. Raises EV303, EV307."""
    try:
        given = dict(step.fixed)
        for parameter, (names, convert) in step.reads.items():
            given[parameter] = convert([values[name] for name in names])
        made = step.run(**given)
        outputs = made if isinstance(made, tuple) else (made,)
        if len(outputs) != len(step.op.gives):
            raise Refused(f"{len(step.op.gives)} outputs, where it gives {len(outputs)}")
        return tuple(
            stored(output, type_, rounding)
            for output, (_, type_) in zip(outputs, step.op.gives, strict=True)
        )
    except Refused as error:
        raise _refused(function, step.op, str(error)) from error
    except WRONG as error:
        raise _failed(function, step.op, error) from error


def _refused(function: Function, op: Op, why: str) -> JobFault:
    """EV303: our evaluator does not compute this."""
    return JobFault(
        "EV303",
        f"op {op.type} ({op.name} in function {function.name}) cannot be evaluated here",
        f"not supported: {why}",
        "compile for another target (--target cpu), or report the op with this message",
    )


def _failed(function: Function, op: Op, error: Exception) -> JobFault:
    """EV307: it was computed, and went wrong."""
    return JobFault(
        "EV307",
        f"op {op.type} ({op.name} in function {function.name}) failed",
        f"{str(error).splitlines()[0] if str(error) else type(error).__name__}",
        "compile it again; `edgevlm verify BUNDLE` names files that were changed",
    )


def _handed(function: Function, op: Op, name: str, sources: list[Any], convert: Convert) -> Any:
    try:
        return convert(sources)
    except (Refused, *WRONG) as error:
        raise _refused(function, op, f"input {name!r}: {error}") from error


def _type_of(function: Function, argument: Any) -> TensorType | None:
    return function.types.get(argument) if isinstance(argument, str) else None


def _identity(source: Tensor | _Stored) -> Any:
    """The same for the same constant. A tensor here is one that stays in the memo."""
    if isinstance(source, _Stored):
        return source.value.SerializeToString(deterministic=True)
    return id(source)


def _freeing(steps: list[Step], function: Function) -> tuple[Step, ...]:
    """With the names that nobody reads after a step, so that what they held can go."""
    kept = set(function.outputs) | set(function.states)
    found = []
    for step in reversed(steps):
        touched = {n for names, _ in step.reads.values() for n in names}
        touched |= {name for name, _ in step.op.gives}
        found.append(Step(step.op, step.run, step.fixed, step.reads, tuple(touched - kept)))
        kept |= touched
    return tuple(reversed(found))
