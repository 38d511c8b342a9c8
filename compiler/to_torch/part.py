"""A part as a torch module: the same values by the same names, float initializers as parameters."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping

import numpy as np
import onnx_ir as ir
from torch import Tensor, nn

from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.to_torch.dialect import GRADIENTS, Dialect
from edgevlm.compiler.to_torch.dtypes import as_tensor
from edgevlm.compiler.to_torch.linear import as_linears
from edgevlm.compiler.to_torch.palettes import as_tables
from edgevlm.compiler.to_torch.plan import Plan, plan
from edgevlm.compiler.to_torch.rounded_rows import as_rounded_rows

__all__ = ["Tap", "TorchPart"]

#: what is put in the place of a value; of the same shape
Tap = Callable[[Tensor], Tensor]


class TorchPart(nn.Module):
    """Runs a part of static shapes and opset 23. Raises EV212 for a node it cannot run.

    Parameters are the float initializers that are computed with, frozen (`requires_grad` is False);
    one that several nodes read is one parameter. Integer and bool constants are buffers, or Python
    numbers where they are shapes and axes, so that torch.export sees a static list of calls.
    """

    def __init__(self, part: ir.Model, dialect: Dialect = GRADIENTS) -> None:
        super().__init__()
        made = plan(_written(part, dialect), dialect)
        _check(made)
        self.inputs = tuple(str(value.name) for value in part.graph.inputs)
        self.outputs = tuple(str(value.name) for value in part.graph.outputs)
        self.steps = made.steps
        self._names: dict[str, str] = {}
        for name, tensor in made.weights.items():
            self.register_parameter(self._own_name(name), nn.Parameter(tensor, False))
        self._trained = tuple(made.weights)
        # coreai-torch looks for four-bit codes among what a program stores
        stored = dialect.quantised == "coreai"
        for name, tensor in made.constants.items():
            self.register_buffer(self._own_name(name), tensor, persistent=stored)
        computed = {name for step in self.steps for name in step.outputs if name}
        self._values = computed | set(self.inputs) | set(self._names)

    def forward(
        self,
        feeds: Mapping[str, Tensor],
        taps: Mapping[str, Tap] | None = None,
        wanted: Collection[str] = (),
    ) -> dict[str, Tensor]:
        """Outputs by name, and the `wanted` values.

        taps: by the name of a value, what replaces it the moment it is computed or fed; all that
        reads it, an output included, sees what the tap gave.
        """
        taps = taps or {}
        for name in (*taps, *wanted):
            if name not in self._values:
                raise KeyError(f"{name!r} is no value of this part, or one that is never computed")
        seen = {name: feeds[name] for name in self.inputs}
        seen |= {name: self._stored(name) for name in taps if name in self._names}
        seen |= {name: taps[name](value) for name, value in seen.items() if name in taps}
        asked = {*wanted, *self.outputs}
        for step in self.steps:
            inputs = [None if n is None else self._value(n, seen) for n in step.inputs]
            made = step.run(*inputs)
            for name, value in zip(
                step.outputs, made if isinstance(made, tuple) else (made,), strict=False
            ):
                seen[name] = taps[name](value) if name in taps else value
            for name in step.last:
                if name not in asked:
                    seen.pop(name, None)
        return {name: self._value(name, seen) for name in (*self.outputs, *wanted)}

    @property
    def trainable(self) -> tuple[str, ...]:
        """Names of the initializers that are parameters."""
        return self._trained

    def parameter(self, name: str) -> nn.Parameter:
        """The parameter made of the initializer of this name."""
        if name not in self._trained:
            raise KeyError(f"{name!r} is no float initializer that this part computes with")
        return self.get_parameter(self._names[name])

    def store(self, part: ir.Model) -> None:
        """Write the parameters into the initializers of the same names, in place.

        What did not change is left where it is, perhaps in a file.
        """
        for name in self._trained:
            value = part.graph.initializers[name]
            old = value.const_value
            new = as_tensor(self.parameter(name), old.dtype, name)
            if tuple(old.shape) != tuple(new.shape):
                raise ValueError(f"{name!r} is {tuple(old.shape)} there, {tuple(new.shape)} here")
            if not np.array_equal(old.numpy(), new.numpy(), equal_nan=True):
                value.const_value = new

    def _own_name(self, name: str) -> str:
        """torch's name for a stored tensor, which may hold no dots; as like as can be."""
        own = "w_" + re.sub(r"\W", "_", name)
        while own in self._names.values():
            own += "_"
        self._names[name] = own
        return own

    def _stored(self, name: str) -> Tensor:
        return getattr(self, self._names[name])

    def _value(self, name: str, seen: Mapping[str, Tensor]) -> Tensor:
        return seen[name] if name in seen else self._stored(name)


def _written(part: ir.Model, dialect: Dialect) -> ir.Model:
    if dialect.quantised == "decomposed":
        part = as_rounded_rows(part)
    if dialect.tables == "op":
        part = as_tables(part)
    return as_linears(part) if dialect.linear else part


def _check(made: Plan) -> None:
    if made.refused:
        first, more = made.refused[0], len(made.refused) - 1
        raise JobFault(
            "EV212",
            f"node {first.node!r}: {first.op} cannot be run in torch",
            first.why + (f"; and {more} more nodes" if more else ""),
            "add it in compiler/to_torch/ops (CONTRIBUTING.md, 'Add an op')",
        )
