"""Random graphs of one tensor shape for property tests: products, sums, views, several readers."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from hypothesis import strategies as st

from micro.graph import parse_graph

__all__ = ["SIDE", "dags"]

SIDE = 4  # every value is float32 [SIDE,SIDE]
UNARY = ("Relu", "Sigmoid", "Transpose", "Identity", "Softmax", "Sin")


@st.composite
def dags(draw: st.DrawFn, most: int = 12) -> ir.Model:
    """A part with one input, up to `most` nodes and one or two outputs; all of it is reached."""
    names, lines = ["x"], []
    for i in range(draw(st.integers(1, most))):
        pick = st.sampled_from(names)
        kind = draw(st.sampled_from(["product", "sum", "unary"]))
        if kind == "product":
            line = f"MatMul({draw(pick)}, w)"
        elif kind == "sum":
            line = f"Add({draw(pick)}, {draw(pick)})"
        else:
            line = f"{draw(st.sampled_from(UNARY))}({draw(pick)})"
        names.append(f"v{i}")
        lines.append(f"v{i} = {line}")
    extra = draw(st.sampled_from(names[1:]))
    outs = dict.fromkeys([extra, names[-1]])
    ports = ", ".join(f"float[{SIDE},{SIDE}] {name}" for name in outs)
    text = f"(float[{SIDE},{SIDE}] x) => ({ports}) {{ {' '.join(lines)} }}"
    weights = {"w": np.eye(SIDE, dtype=np.float32)} if "MatMul" in text else {}
    return parse_graph(text, **weights)
