"""Reading and writing of states."""

from __future__ import annotations

from torch import Tensor

from edgevlm.runtimes.coreml.mil_state import Cell
from edgevlm.runtimes.coreml.ops.forms import Handler

__all__ = ["OPS"]


def read_state(input: Cell) -> Tensor:
    """What is there now; a later write leaves it as it is."""
    return input.value


def write_state(input: Cell, data: Tensor) -> tuple[()]:
    input.value = data
    return ()


OPS: dict[str, Handler] = {"read_state": read_state, "write_state": write_state}
