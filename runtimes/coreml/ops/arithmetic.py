"""Ops of two tensors with broadcasting, and select."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from edgevlm.runtimes.coreml.ops.forms import MOST_GIVEN, Handler, Refused, room

__all__ = ["OPS"]


def add(x: Tensor, y: Tensor) -> Tensor:
    return x + y


def sub(x: Tensor, y: Tensor) -> Tensor:
    return x - y


def mul(x: Tensor, y: Tensor) -> Tensor:
    return x * y


def real_div(x: Tensor, y: Tensor) -> Tensor:
    """MIL says that integers give integers, and not how they are rounded."""
    if not x.is_floating_point():
        raise Refused("integers, whose quotient MIL does not define; floor_div does")
    return x / y


def floor_div(x: Tensor, y: Tensor) -> Tensor:
    """Rounded towards negative infinity."""
    return torch.div(x, y, rounding_mode="floor")


def mod(x: Tensor, y: Tensor) -> Tensor:
    """Has the sign of y, as `%` of Python has."""
    return torch.remainder(x, y)


def pow_(x: Tensor, y: Tensor) -> Tensor:
    return torch.pow(x, y)


def maximum(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(x, y)


def minimum(x: Tensor, y: Tensor) -> Tensor:
    return torch.minimum(x, y)


def equal(x: Tensor, y: Tensor) -> Tensor:
    return x == y


def not_equal(x: Tensor, y: Tensor) -> Tensor:
    return x != y


def less(x: Tensor, y: Tensor) -> Tensor:
    return x < y


def less_equal(x: Tensor, y: Tensor) -> Tensor:
    return x <= y


def greater(x: Tensor, y: Tensor) -> Tensor:
    return x > y


def greater_equal(x: Tensor, y: Tensor) -> Tensor:
    return x >= y


def logical_and(x: Tensor, y: Tensor) -> Tensor:
    return x & y


def logical_or(x: Tensor, y: Tensor) -> Tensor:
    return x | y


def logical_xor(x: Tensor, y: Tensor) -> Tensor:
    return x ^ y


def select(cond: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(cond, a, b)


def _in_room(run: Handler) -> Handler:
    """Two rows may make a table that nothing holds."""

    @functools.wraps(run)
    def bounded(*given: Tensor, **named: Tensor) -> Tensor:
        room(torch.broadcast_shapes(*(x.shape for x in (*given, *named.values()))), MOST_GIVEN)
        return run(*given, **named)

    return bounded


BROADCAST: dict[str, Handler] = {
    "add": add,
    "equal": equal,
    "floor_div": floor_div,
    "greater": greater,
    "greater_equal": greater_equal,
    "less": less,
    "less_equal": less_equal,
    "logical_and": logical_and,
    "logical_or": logical_or,
    "logical_xor": logical_xor,
    "maximum": maximum,
    "minimum": minimum,
    "mod": mod,
    "mul": mul,
    "not_equal": not_equal,
    "pow": pow_,
    "real_div": real_div,
    "select": select,
    "sub": sub,
}
OPS: dict[str, Handler] = {name: _in_room(run) for name, run in BROADCAST.items()}
