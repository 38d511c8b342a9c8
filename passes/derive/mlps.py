"""The MLPs of an encoder: hidden units, each made by a row of weights and read by another.

    x -> W_up -> GELU -> hidden [...,e] -> W_down        or silu(x W_gate) * (x W_up) -> hidden

Found by the axis analysis alone: an axis that it calls `hidden`, and the product that contracts it
with a constant matrix. Whatever lies in front (a gate, a norm over something else, several
matrices side by side) is the analysis' business when the axis is cut.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.axes import Analysis, carries, resize, single, size_of
from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.cost import macs
from edgevlm.compiler.errors import JobFault
from edgevlm.passes.derive.units import Refit

__all__ = ["Mlp", "find_mlps"]


@dataclass(frozen=True)
class Mlp:
    """Hidden units and the product that reads them."""

    down: ir.Node  # MatMul or Gemm
    bias: tuple[ir.Node, int] | None  # Add or Gemm, and which of its inputs
    macs_a_unit: int  # of all products that make it or read it

    @property
    def hidden(self) -> ir.Value:
        """[...,e]"""
        return self.down.inputs[0]

    @property
    def width(self) -> int:
        return int(self.hidden.shape[-1])

    def weights(self) -> tuple[np.ndarray, np.ndarray | None]:
        """(W [d,e], b [d]), float64."""
        array = self.down.inputs[1].const_value.numpy().astype(np.float64)
        bias = self.bias and self.bias[0].inputs[self.bias[1]].const_value.numpy()
        return (array if self._transposed else array.T), bias

    def narrow(self, build: GraphBuilder, axes: Analysis, keep: np.ndarray, refit: Refit) -> None:
        """Units `keep` stay; refit: (W' [d,r], b' [d]). Raises EV211 where they cannot be cut."""
        resize(axes, axes.of(self.hidden)[-1], len(keep), keep=keep)
        weights, bias = refit
        build.put(self.down, 1, weights if self._transposed else weights.T)
        if self.bias is not None:
            build.put(*self.bias, bias)

    @property
    def _transposed(self) -> bool:
        return self.down.op_type == "Gemm" and bool(self.down.attributes.get_int("transB", 0))


def find_mlps(axes: Analysis) -> list[Mlp]:
    """In the order of the graph; only those whose units are single and read by one product."""
    found = [
        Mlp(node, _bias(node), _macs_a_unit(axes, node))
        for node in axes.graph
        if _contracts_hidden(axes, node)
    ]
    return [mlp for mlp in found if len(list(mlp.hidden.uses())) == 1]


def _contracts_hidden(axes: Analysis, node: ir.Node) -> bool:
    if node.op_type not in ("MatMul", "Gemm") or node.attributes.get_int("transA", 0):
        return False
    weights = node.inputs[1].const_value
    if weights is None or len(weights.shape) != 2 or node.inputs[1].dtype != ir.DataType.FLOAT:
        return False
    try:
        return single(axes.of(node.inputs[0])[-1], str(node.name)).label == "hidden"
    except JobFault:  # folded, or a sum
        return False


def _macs_a_unit(axes: Analysis, node: ir.Node) -> int:
    term = axes.of(node.inputs[0])[-1]
    axis = single(term, str(node.name))
    products = {
        user
        for (user, position), dims in axes.weights.items()
        if position == 1 and any(carries(dim, axis) for dim in dims)
    }
    return sum(macs(user) for user in products) // size_of(term)


def _bias(node: ir.Node) -> tuple[ir.Node, int] | None:
    if node.op_type == "Gemm":
        has = len(node.inputs) > 2 and node.inputs[2] is not None
        return (node, 2) if has and node.inputs[2].const_value is not None else None
    users = list(node.outputs[0].uses())
    if len(users) == 1 and users[0][0].op_type == "Add":
        user, position = users[0]
        other = user.inputs[1 - position]
        if other.const_value is not None and list(other.shape) == [node.outputs[0].shape[-1]]:
            return user, 1 - position
    return None
