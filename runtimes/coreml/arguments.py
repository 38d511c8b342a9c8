"""How the arguments of an op become the parameters of its handler.

A handler's annotations say what it is handed: a tensor, a number, a row of numbers, a list of
tensors. What is constant becomes that when a program is opened, and what is computed when it runs.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

from torch import Tensor

from edgevlm.runtimes.coreml.mil_state import Cell
from edgevlm.runtimes.coreml.ops.forms import Bools, Floats, Handler, Ints, Refused, Tensors

__all__ = ["CONVERT", "Computed", "Convert", "Parameter", "mixed", "parameters"]

Convert = Callable[[list[Any]], Any]


class Computed(str):
    """The name of a value that is computed, apart from a constant that is a word."""


@dataclass(frozen=True)
class Parameter:
    kind: Any
    needed: bool


@functools.cache
def parameters(run: Handler) -> dict[str, Parameter]:
    """What a handler takes, by its annotations; `X | None` is X."""
    hints = get_type_hints(run)
    found = {}
    for name, parameter in inspect.signature(run).parameters.items():
        kind = hints[name]
        if isinstance(kind, types.UnionType):
            kind = next(arg for arg in get_args(kind) if arg is not type(None))
        found[name] = Parameter(kind, parameter.default is inspect.Parameter.empty)
    return found


def _one(values: list[Any]) -> Any:
    if len(values) != 1:
        raise Refused(f"{len(values)} values where one is taken")
    return values[0]


def _row(number: Callable[[Any], Any]) -> Convert:
    """A tensor as a tuple; several tensors of one number each likewise."""
    return lambda values: tuple(number(n) for v in values for n in v.reshape(-1).tolist())


def _tensor(values: list[Any]) -> Tensor:
    value = _one(values)
    if not isinstance(value, Tensor):
        raise Refused(f"{value!r:.40} where a tensor is taken")
    return value


def _cell(values: list[Any]) -> Cell:
    if not isinstance(value := _one(values), Cell):
        raise Refused("a value where a state is taken")
    return value


def _word(values: list[Any]) -> str:
    value = _one(values)
    if not isinstance(value, str) or isinstance(value, Computed):
        raise Refused("a tensor where a word is taken")
    return value


#: annotation of a parameter -> how the values of an argument are handed over
CONVERT: dict[Any, Convert] = {
    Tensor: _tensor,
    Tensors: list,
    Cell: _cell,
    str: _word,
    int: lambda values: int(_tensor(values).item()),
    float: lambda values: float(_tensor(values).item()),
    bool: lambda values: bool(_tensor(values).item()),
    Ints: _row(int),
    Floats: _row(float),
    Bools: _row(bool),
}


def mixed(sources: list[Any], convert: Convert) -> Convert:
    """For a list of which some are constants: those that are computed are filled in between."""

    def run(values: list[Any]) -> Any:
        left = iter(values)
        return convert([next(left) if isinstance(s, Computed) else s for s in sources])

    return run
