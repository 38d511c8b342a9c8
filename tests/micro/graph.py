"""Graphs from text, and random weights."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.shapes import infer_shapes

__all__ = ["normal", "parse_graph"]


def parse_graph(text: str, opset: int = 23, **arrays: np.ndarray) -> ir.Model:
    """`(inputs) => (outputs) { nodes }` in ONNX's own text syntax; arrays become initializers."""
    head = f'<ir_version: 10, opset_import: ["" : {opset}]> main_graph'
    tensors = [ir.tensor(np.asarray(array), name=name) for name, array in arrays.items()]
    return infer_shapes(ir.from_onnx_text(f"{head} {text}", initializers=tensors))


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """float32, standard normal."""
    return rng.normal(size=shape).astype(np.float32)
