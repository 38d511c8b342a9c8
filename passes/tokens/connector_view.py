"""Taps behind the connector, in front of the language model: features and projector weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgevlm.passes.tokens.view import View

__all__ = ["ConnectorView", "Projector"]

ACTIVATIONS = frozenset({"Gelu", "Relu", "Sigmoid", "Tanh", "Silu", "Swish", "Mul"})


@dataclass(frozen=True)
class Projector:
    """image = W2^T act(W1^T z + b1) + b2, per token."""

    first: np.ndarray  # float32 [features, hidden]
    bias: np.ndarray  # float32 [hidden]
    second: np.ndarray  # float32 [hidden, D]
    hidden: ir.Value  # float32 [N,hidden] W1^T z + b1, in the graph
    approximate: str  # of the GELU: "none" or "tanh"


@dataclass
class ConnectorView(View):
    """No word is seen here, so an image's tokens serve any number of questions."""

    embeds: ir.Value = None  # [1,N,D], what `tokens` are the rows of

    def projector(self) -> Projector:
        """The two layers of a GELU projector. Refused for any other, a linear one above all."""
        layers = self._layers()
        if len(layers) != 2:
            raise self.missing(
                "a projector of two layers with an activation between",
                f"this one has {len(layers)}: its Jacobian would be the same for every token"
                if len(layers) < 2
                else f"this one has {len(layers)} layers",
            )
        (second, _, _), (first, bias, hidden) = layers
        users = [node for node, _ in hidden.uses()]
        if [node.op_type for node in users] != ["Gelu"]:
            has = ", ".join(sorted({node.op_type for node in users}))
            raise self.missing("a GELU projector", f"this one has {has}")
        if int(hidden.shape[1]) != self.count:
            raise self.missing(
                "a projector of the image's tokens alone",
                f"this one is given {hidden.shape[1]} rows for {self.count} tokens",
            )
        flat = self.build("Reshape", hidden, self.build.const([self.count, len(bias)]))
        approximate = users[0].attributes.get_string("approximate", "none")
        return Projector(first, bias, second, flat, approximate)

    def _layers(self) -> list[tuple[np.ndarray, np.ndarray, ir.Value]]:
        """From the output back: (weight [in,out], bias, value) of each matrix product."""
        found, value = [], self.embeds
        while value is not None and value.producer() is not None:
            node, bias, made = value.producer(), None, value
            if node.op_type == "Add":
                stored = [v for v in node.inputs if v.const_value is not None]
                if len(stored) == 1:
                    bias = stored[0].const_value.numpy()
                    value = next(v for v in node.inputs if v is not stored[0])
                    node = value.producer()
            if node is not None and node.op_type == "MatMul":
                weight = node.inputs[1].const_value
                if weight is None:
                    break
                array = weight.numpy().astype(np.float32)
                zero = np.zeros(array.shape[1], np.float32)
                found.append((array, zero if bias is None else bias.astype(np.float32), made))
                value = node.inputs[0]
            elif bias is None and node is not None and node.op_type in ACTIVATIONS | {"Slice"}:
                value = node.inputs[0]
            else:
                break
        return found
