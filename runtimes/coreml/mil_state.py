"""States of a program: arrays that functions read and write, and that stay between calls.

    state = program.new_state()          zeros, as Core ML's makeState() gives
    state["k_cache"]                     a copy, of the type that the program says
    state["k_cache"] = array             another content, of the same shape

One state serves all functions of a program that name it, which is how prefill and decode share the
KV cache: https://apple.github.io/coremltools/docs-guides/source/stateful-models.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from edgevlm.runtimes.coreml.constants import HELD, held
from edgevlm.runtimes.coreml.mil_types import TensorType

__all__ = ["Cell", "MilState"]


class Cell:
    """One state while a call runs. Tensors are replaced, never written into."""

    def __init__(self, type_: TensorType) -> None:
        self.type = type_
        self.value: Tensor = torch.zeros(type_.shape, dtype=HELD[type_.dtype.kind])


class MilState:
    """The states of a program, by name."""

    def __init__(self, types: Mapping[str, TensorType]) -> None:
        self._cells = {name: Cell(type_) for name, type_ in types.items()}

    def __iter__(self) -> Iterator[str]:
        return iter(self._cells)

    def __len__(self) -> int:
        return len(self._cells)

    def __getitem__(self, name: str) -> np.ndarray:
        cell = self._cells[name]
        return cell.value.numpy().astype(cell.type.dtype.numpy)

    def __setitem__(self, name: str, array: np.ndarray) -> None:
        """Raises ValueError for another shape."""
        cell = self._cells[name]
        if array.shape != cell.type.shape:
            raise ValueError(f"state {name} is {cell.type}, not {array.dtype}{list(array.shape)}")
        cell.value = held(array.astype(cell.type.dtype.numpy), cell.type)

    def cell(self, name: str) -> Cell:
        return self._cells[name]

    def copy(self) -> MilState:
        """Another one with the same content; what runs on one leaves the other as it is."""
        twin = MilState({name: cell.type for name, cell in self._cells.items()})
        for name, cell in self._cells.items():
            twin._cells[name].value = cell.value
        return twin
